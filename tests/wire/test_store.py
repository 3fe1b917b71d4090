"""The job table and the blobs, without a server around them."""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import stat
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from platelight.protocol.errors import InputError, InsecureKeys, StoreFull
from platelight.protocol.frames import Plane, describe, job_key
from platelight.protocol.messages import JobState
from platelight.protocol.requests import Decompose
from platelight.server import schema
from platelight.server.blobs import BlobFolder, full
from platelight.server.schema import SCHEMA_VERSION
from platelight.server.store import Store, kept

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
    store.room.make("ada", [plane_of(4.0).info])
    assert store.get(first) is not None
    assert store.get(second) is None
    assert not store.blobs.has(plane_of(2.0).info.hash, 400)
    assert store.complete([waiting.info, plane_of(1.5).info])
    with pytest.raises(StoreFull, match="has no room"):
        store.room.make("eve", [plane_of(value).info for value in range(20, 25)])
    assert store.get("f" * 64) is not None
    assert store.complete([waiting.info])
    store.close()


def test_results_expire(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", GIB, 60.0)
    old, new = finished_job(store, 1.0), finished_job(store, 2.0)
    with sqlite3.connect(tmp_path / "s" / "jobs.sqlite3") as other:
        other.execute("UPDATE jobs SET used = used - 100 WHERE key = ?", (old,))
    age(store)
    store.room.make("ada", [])
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
    store.room.make("ada", [])
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


# ---- what the disk has


def test_planes_are_synced_after_they_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = BlobFolder.sync
    monkeypatch.setattr(BlobFolder, "sync", lambda self, hash: (real(self, hash), synced.append(hash)))
    store = Store(tmp_path / "s", GIB, 1e9)
    key = finished_job(store, 1.0)
    sent = plane_of(3.0)
    store.blobs.put(sent.data)
    store.arrived("ada", sent.info.hash)
    assert store.holds("ada", sent.info)
    expected = {plane_of(1.5).info.hash, sent.info.hash}  # finished_job's input went round ``arrived``
    assert set(store.unsynced()) == expected
    assert synced == []
    store.blobs.remove(sent.info.hash)  # evicted meanwhile
    store.synced(store.checkpoint(store.unsynced()))
    assert set(synced) == expected
    assert store.unsynced() == []
    assert store.get(key) is not None
    store.close()


def test_what_a_power_cut_spoils_is_made_or_sent_again(tmp_path: Path) -> None:
    """Files that had their name and size, but not yet their bytes, when the machine went down."""
    store = Store(tmp_path / "s", GIB, 1e9)
    done, whole = finished_job(store, 1.0), finished_job(store, 2.0)
    waiting = store.add("f" * 64, Decompose(fov=50.0), [plane_of(3.0).info])
    store.blobs.put(plane_of(3.0).data)
    store.arrived("ada", plane_of(3.0).info.hash)
    store.set_state(waiting.key, JobState.QUEUED)
    for value in (1.5, 3.0):
        store.blobs.path(plane_of(value).info.hash).write_bytes(bytes(400))
    store.close()
    store = Store(tmp_path / "s", GIB, 1e9)
    jobs = [store.get(key) for key in (done, whole, waiting.key)]
    assert [job.state for job in jobs if job] == [JobState.DONE, JobState.DONE, JobState.NEED]
    assert [store.complete(job.outputs) for job in jobs[:2] if job] == [False, True]  # submit runs it again
    assert store.queued() == []
    assert not store.holds("ada", plane_of(3.0).info)
    store.close()


def test_a_plane_that_the_disk_refuses_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    blobs = BlobFolder(tmp_path / "b")
    hash = blobs.put(b"1234")
    monkeypatch.setattr(os, "fsync", fail)
    blobs.sync(hash)  # a second sync would find nothing left to write
    assert not blobs.has(hash, 4)


# ---- versions, clocks, room


def old_plane(value: float) -> Plane:
    """A plane with the name it had before protocol 5."""
    plane = plane_of(value)
    old = hashlib.blake2b(plane.data, digest_size=32).hexdigest()
    return Plane(msgspec.structs.replace(plane.info, hash=old), plane.data)


def first_version(folder: Path) -> str:
    """Write a store as version 1 did, with one finished job and one whose plane never came."""
    folder.mkdir(mode=0o700)
    blobs = BlobFolder(folder / "blobs")
    given, made, absent = old_plane(1.0), old_plane(1.5), old_plane(2.0)
    key = job_key(Decompose(), [given.info], "1")
    for plane in (given, made):
        blobs.put(plane.data, plane.info.hash)
    with sqlite3.connect(folder / "jobs.sqlite3") as db:
        for statement in schema._FIRST.split(";"):
            db.execute(statement)
        encode = msgspec.msgpack.encode
        db.execute(
            "INSERT INTO jobs VALUES (?, 7, 'done', ?, ?, ?, '{}', 0, '', '', '', ?)",
            (key, encode(Decompose()), encode((given.info,)), encode((made.info,)), time.time()),
        )
        db.execute(
            "INSERT INTO jobs VALUES (?, 8, 'need', ?, ?, ?, '{}', 0, '', '', '', ?)",
            ("e" * 64, encode(Decompose()), encode((absent.info,)), encode(()), time.time()),
        )
        db.execute("INSERT INTO refs VALUES (?, ?)", ("e" * 64, absent.info.hash))
        for plane in (given, made):
            db.execute("INSERT INTO refs VALUES (?, ?)", (key, plane.info.hash))
            db.execute("INSERT INTO held VALUES (?, 'ada')", (plane.info.hash,))
        db.execute("INSERT INTO owners VALUES (?, 'ada')", (key,))
        db.execute("PRAGMA user_version=1")
    return key


def test_a_store_of_version_1_is_brought_up(tmp_path: Path) -> None:
    key = first_version(tmp_path / "s")
    store = Store(tmp_path / "s", GIB, 1e9)
    job = store.get(key)
    assert job is not None
    assert (job.state, job.number, job.outputs) == (JobState.DONE, 7, (plane_of(1.5).info,))
    assert store.complete((*job.inputs, *job.outputs))
    assert store.holds("ada", plane_of(1.0).info)
    assert store.room.size() == store.room.held_by("ada") == 800
    assert store.get("e" * 64) is None
    assert {hash for hash, _, _ in store.blobs.all()} == {plane_of(value).info.hash for value in (1.0, 1.5)}
    assert set(store.unsynced()) == {plane_of(value).info.hash for value in (1.0, 1.5)}
    store.close()
    with sqlite3.connect(tmp_path / "s" / "jobs.sqlite3") as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION


def test_an_upgrade_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = first_version(tmp_path / "s")

    def fail(db: sqlite3.Connection, folder: Path) -> None:
        schema._named_by_sha256(db, folder)  # which gives files second names
        db.execute("CREATE TABLE half_way (x)")
        raise sqlite3.OperationalError("power cut")

    monkeypatch.setattr(schema, "_STEPS", (*schema._STEPS[:2], fail))
    with pytest.raises(InputError, match="cannot be opened: power cut"):
        Store(tmp_path / "s", GIB, 1e9)
    monkeypatch.undo()
    store = Store(tmp_path / "s", GIB, 1e9)
    job = store.get(key)
    assert job is not None
    assert store.complete((*job.inputs, *job.outputs))
    store.close()


def test_a_damaged_table_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir(mode=0o700)
    (tmp_path / "s" / "jobs.sqlite3").write_bytes(b"no database" * 100)
    with pytest.raises(InputError) as error:
        Store(tmp_path / "s", GIB, 1e9)
    assert str(error.value) == (
        f"The job store {tmp_path / 's'} cannot be opened: file is not a database. "
        "Move it away, or use another --store folder."
    )


@pytest.mark.parametrize("jump", [-1e8, 1e8])
def test_a_jump_of_the_clock_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """The wall clock jumps three years either way while the server runs: no result expires, none stays for ever."""
    store = Store(tmp_path / "s", GIB, 3600.0)
    before = finished_job(store, 1.0)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    after = finished_job(store, 2.0)
    store.room.tidy()
    for key, value in ((before, 1.5), (after, 2.5)):
        assert store.get(key) is not None
        assert store.complete([plane_of(value).info])
    store.close()
    monkeypatch.undo()
    with sqlite3.connect(
        tmp_path / "s" / "jobs.sqlite3"
    ) as db:  # written by a clock that was three years ahead
        db.execute("UPDATE jobs SET used = used + 1e8 WHERE key = ?", (after,))
    store = Store(tmp_path / "s", GIB, 3600.0)
    with sqlite3.connect(tmp_path / "s" / "jobs.sqlite3") as db:
        assert db.execute("SELECT max(used) FROM jobs").fetchone()[0] <= time.time() + 1.0
    store.close()


def test_files_that_no_job_knows_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a start at once; while the server runs only when nobody has wanted them for ten minutes."""
    blobs = BlobFolder(tmp_path / "s" / "blobs")
    (tmp_path / "s").chmod(0o700)
    blobs.put(plane_of(1.0).data)
    store = Store(tmp_path / "s", GIB, 1e9)
    assert list(store.blobs.all()) == []
    store.blobs.put(plane_of(2.0).data)
    clock = time.monotonic()
    for minutes, there in ((2, True), (11, True), (13, False)):  # first seen at two minutes
        monkeypatch.setattr(time, "monotonic", lambda now=clock + 60 * minutes: now)
        store.room.tidy()
        assert store.blobs.has(plane_of(2.0).info.hash, 400) is there
    store.close()


def test_a_job_whose_planes_never_came_goes(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", GIB, 1e9)
    key = store.add("f" * 64, Decompose(), [plane_of(3.0).info]).key
    assert store.room.size() == 400  # its room is kept for it
    with sqlite3.connect(tmp_path / "s" / "jobs.sqlite3") as other:
        other.execute("UPDATE jobs SET used = used - 660 WHERE key = ?", (key,))
    store.room.make("ada", [])
    assert store.get(key) is None
    assert store.room.size() == 0
    store.close()


def test_the_reserve_keeps_the_table_when_the_disk_is_full(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", GIB, 1e9)
    ballast = tmp_path / "s" / "ballast"
    assert ballast.stat().st_size == 8 * 2**20
    calls: list[str] = []

    @kept
    def write(self: Store) -> str:
        calls.append("x")
        if len(calls) == 1:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return "written"

    assert write(store) == "written"
    assert not ballast.exists()
    assert store.ballast.fill()
    assert ballast.stat().st_size == 8 * 2**20
    store.close()
