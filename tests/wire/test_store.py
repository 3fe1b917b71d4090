"""The job table and the blobs, without a server around them."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from pathlib import Path

import numpy as np
import pytest
from platelight.protocol.errors import InputError, InsecureKeys, StoreFull
from platelight.protocol.frames import Plane, describe, job_key
from platelight.protocol.messages import JobState
from platelight.protocol.requests import Decompose
from platelight.server.blobs import BlobFolder, full
from platelight.server.schema import SCHEMA_VERSION
from platelight.server.store import Store

GIB = 1024**3


def plane_of(value: float, name: str = "plate") -> Plane:
    return describe(name, np.full((10, 10), value, np.float32))


def finished_job(store: Store, value: float, owner: str = "ada") -> str:
    """Put a job with one 400-byte plane in and one out into the store."""
    given, made = plane_of(value), plane_of(value + 0.5)
    key = job_key(Decompose(), [given.info], "1")
    store.blobs.put(given.data)
    store.hold(owner, [given.info.hash])
    store.add(key, Decompose(), [given.info])
    store.own(key, owner)
    store.blobs.put(made.data)
    store.finish(key, [made.info], '{"a": 1}')
    return key


def age(store: Store, seconds: float = 10_000.0) -> None:
    """Make all blobs look old enough to be removed once nothing refers to them."""
    for hash, _, changed in list(store.blobs.all()):
        os.utime(store.blobs.path(hash), (changed - seconds, changed - seconds))


def test_jobs_survive_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", GIB, 1e9)
    key = finished_job(store, 1.0)
    second = store.add("f" * 64, Decompose(fov=50.0), [plane_of(3.0).info])
    assert second.state is JobState.NEED
    for state in (JobState.QUEUED, JobState.LEASED, JobState.RUNNING):
        store.set_state(second.key, state)
    assert store.crashed(second.key) == 1
    store.close()
    store = Store(tmp_path / "s", GIB, 1e9)
    job = store.get(key)
    assert job is not None
    assert (job.state, job.meta, job.outputs) == (JobState.DONE, '{"a": 1}', (plane_of(1.5).info,))
    assert store.owns(key, "ada")
    assert not store.owns(key, "eve")
    again = store.get(second.key)
    assert again is not None
    assert (again.state, again.request, again.crashes) == (JobState.QUEUED, Decompose(fov=50.0), 1)
    assert store.queued() == [second.key]
    assert store.counts() == {JobState.DONE: 1, JobState.QUEUED: 1}
    store.close()


def test_a_hash_alone_gives_no_right_to_a_plane(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", GIB, 1e9)
    finished_job(store, 1.0, "ada")
    for plane in (plane_of(1.0), plane_of(1.5)):
        assert store.holds("ada", plane.info)
        assert not store.holds("eve", plane.info)
    store.close()


def test_quota_evicts_the_oldest_result_and_no_waiting_job(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", 2000, 1e9)
    first, second = finished_job(store, 1.0), finished_job(store, 2.0)
    waiting = plane_of(9.0)
    store.blobs.put(waiting.data)
    store.add("f" * 64, Decompose(), [waiting.info])
    store.set_state("f" * 64, JobState.QUEUED)
    store.touch(first)  # used later than the second
    age(store)
    assert store.room.size() == 2000
    store.room.make("ada", 400)
    assert store.get(first) is not None
    assert store.get(second) is None
    assert not store.blobs.has(plane_of(2.0).info.hash, 400)
    assert store.complete([waiting.info, plane_of(1.5).info])
    with pytest.raises(StoreFull, match="has no room"):
        store.room.make("eve", 2000)
    assert store.get("f" * 64) is not None
    assert store.complete([waiting.info])
    store.close()


def test_results_expire(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", GIB, 60.0)
    old, new = finished_job(store, 1.0), finished_job(store, 2.0)
    with sqlite3.connect(tmp_path / "s" / "jobs.sqlite3") as other:
        other.execute("UPDATE jobs SET used = used - 100 WHERE key = ?", (old,))
    age(store)
    store.room.make("ada", 0)
    assert store.get(old) is None
    assert store.get(new) is not None
    assert store.room.size() == 800
    store.close()


def test_a_plane_that_two_jobs_use_stays(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", GIB, 60.0)
    old = finished_job(store, 1.0)
    store.add("f" * 64, Decompose(), [plane_of(1.0).info])
    with sqlite3.connect(tmp_path / "s" / "jobs.sqlite3") as other:
        other.execute("UPDATE jobs SET used = 0 WHERE key = ?", (old,))
    age(store)
    store.room.make("ada", 0)
    assert store.complete([plane_of(1.0).info])
    assert not store.complete([plane_of(1.5).info])
    store.close()


def test_folder_is_private_and_has_one_owner(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", GIB, 1e9)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700
    with pytest.raises(InputError, match="Another server uses the store"):
        Store(tmp_path / "s", GIB, 1e9)
    store.close()
    (tmp_path / "s").chmod(0o755)
    with pytest.raises(InsecureKeys):
        Store(tmp_path / "s", GIB, 1e9)


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "s", GIB, 1e9).close()
    with sqlite3.connect(tmp_path / "s" / "jobs.sqlite3") as other:
        other.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    with pytest.raises(InputError, match="newer Platelight"):
        Store(tmp_path / "s", GIB, 1e9)


def test_blobs_appear_complete_or_not_at_all(tmp_path: Path) -> None:
    blobs = BlobFolder(tmp_path / "b")
    writer = blobs.writer("a" * 64, 8)
    writer.write(4, b"5678")
    assert not blobs.has("a" * 64, 8)
    writer.write(0, b"1234")
    assert writer.read(2, 6) == b"3456"
    writer.commit()
    assert blobs.read("a" * 64, 2, 100) == b"345678"
    abandoned = blobs.writer("b" * 64, 8)
    abandoned.write(0, b"x")
    blobs.sweep()  # as a server does that starts after a crash
    assert [hash for hash, _, _ in blobs.all()] == ["a" * 64]
    assert len(list((tmp_path / "b").iterdir())) == 1
    abandoned.abort()


@pytest.mark.parametrize("name", ["", "..", "../" * 21 + "x", "/etc/passwd", "A" * 64, "a" * 63, "a" * 65])
def test_only_hashes_are_names_of_blobs(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a hash"):
        BlobFolder(tmp_path / "b").path(name)


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    blobs = BlobFolder(tmp_path / "b")
    with pytest.raises(StoreFull, match="disk is full"):
        blobs.writer("a" * 64, 2**60)
    assert list((tmp_path / "b").iterdir()) == []
    assert isinstance(full(OSError(errno.ENOSPC, "")), StoreFull)
    with pytest.raises(PermissionError):
        raise full(PermissionError(errno.EACCES, ""))
