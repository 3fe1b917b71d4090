"""The job table's log (SQLite's WAL) stays small, however long there is something to write."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from platelight.protocol.messages import JobState
from platelight.protocol.requests import Decompose
from platelight.server import store as stores
from platelight.server.store import Store
from test_store import GIB, plane_of

LIMIT = 256 * 1024
KEY = "a" * 64


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "s", GIB, 1e9)
    store.add(KEY, Decompose(), [plane_of(1.0).info])
    yield store
    store.close()


def log_of(store: Store) -> int:
    return (store.folder / "jobs.sqlite3-wal").stat().st_size


@pytest.mark.parametrize("limit", [LIMIT, GIB])
def test_the_log_is_bounded_under_constant_load(
    store: Store, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written while the log is moved into the table stays in the log, so that it never begins anew by itself."""
    connect = sqlite3.connect
    path = store.folder / "jobs.sqlite3"

    class Meanwhile(sqlite3.Connection):
        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:  # type: ignore[override]
            if "PASSIVE" not in sql:
                return super().execute(sql, *values)  # type: ignore[arg-type]
            reader = connect(path)  # a checkpoint moves nothing that is newer than what somebody reads
            reader.execute("BEGIN").execute("SELECT count(*) FROM jobs").fetchone()
            store.set_state(KEY, JobState.RUNNING)
            cursor = super().execute(sql)
            reader.close()
            return cursor

    monkeypatch.setattr(sqlite3, "connect", lambda path: connect(path, factory=Meanwhile))
    monkeypatch.setattr(stores, "LOG_BYTES", limit)
    longest = 0
    for _ in range(40):
        for _ in range(10):
            store.set_state(KEY, JobState.QUEUED)
            longest = max(longest, log_of(store))
        store.checkpoint([])
    round_bytes = 11 * 3 * 4200  # at most three pages of 4 KiB for each write
    if limit == LIMIT:
        assert longest <= LIMIT + round_bytes
    else:
        assert longest > 2 * (LIMIT + round_bytes), "the load is not one that needs a bound"
    job = store.get(KEY)
    assert job is not None
    assert job.state is JobState.RUNNING


def test_at_rest_the_log_is_empty(store: Store) -> None:
    assert log_of(store) > 0
    store.checkpoint([])
    store.checkpoint([])
    assert log_of(store) == 0
    job = store.get(KEY)
    assert job is not None
    store.set_state(KEY, JobState.QUEUED)
    assert store.queued() == [KEY]


def test_a_busy_writer_is_no_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "LOG_BYTES", 0)
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path: connect(path, timeout=0.05))
    with store._db:
        store._db.execute("BEGIN IMMEDIATE")
        store.checkpoint([])
        store.set_state(KEY, JobState.QUEUED)
    assert store.queued() == [KEY]
    assert log_of(store) > 0
    store.checkpoint([])
    assert log_of(store) == 0
