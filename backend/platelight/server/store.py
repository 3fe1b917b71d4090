"""Jobs on disk, so that they outlive a disconnect and the server: SQLite in WAL mode, planes as blobs."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from platelight.client.keys import private_folder
from platelight.protocol.errors import JobFailed
from platelight.protocol.messages import JobState, PlaneInfo
from platelight.protocol.requests import Decompose, Request
from platelight.server.blobs import BlobFolder
from platelight.server.room import Ballast, Room
from platelight.server.schema import lock_folder, open_database

log = logging.getLogger(__name__)
LOG_BYTES = 16 * 1024 * 1024  # how long the table's log gets under load; at rest it is empty
_P = ParamSpec("_P")
_R = TypeVar("_R")
_REQUEST: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_PLANES: msgspec.msgpack.Decoder[tuple[PlaneInfo, ...]] = msgspec.msgpack.Decoder(tuple[PlaneInfo, ...])


def kept(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a method that writes to the table try again without the ballast when the disk is full."""

    @functools.wraps(method)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return method(*args, **kwargs)
        except sqlite3.OperationalError as error:
            store = args[0]
            assert isinstance(store, Store)
            if error.sqlite_errorcode not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE):
                raise
            if not store.ballast.drop():
                raise
            log.error("the disk is full; its reserve keeps the job table")
            return method(*args, **kwargs)

    return wrapped


@dataclass(frozen=True)
class Job:
    """A job as it stands in the table."""

    key: str
    number: int
    state: JobState
    request: Request
    inputs: tuple[PlaneInfo, ...]
    outputs: tuple[PlaneInfo, ...]
    meta: str
    crashes: int
    code: str
    sentence: str
    remedy: str


class Store:
    """The job table and the blobs. One server at a time owns a folder; a second is refused.

    Raises:
        InputError: another server uses the folder, or a newer version wrote it.
        InsecureKeys: others can read the folder.
    """

    def __init__(
        self, folder: Path, quota_bytes: int, ttl_seconds: float, client_quota_bytes: int | None = None
    ) -> None:
        private_folder(folder)
        self.folder = folder
        # a clock that does not jump while the server runs, however the wall's is set
        self._clock = time.time() - time.monotonic()
        self._lock = lock_folder(folder)
        try:
            self.blobs = BlobFolder(folder / "blobs")
            self.blobs.sweep()
            self._db = open_database(folder)
        except BaseException:
            os.close(self._lock)
            raise
        self.ballast = Ballast(folder)
        client_quota = quota_bytes if client_quota_bytes is None else client_quota_bytes
        self.room = Room(self._db, self.blobs, quota_bytes, client_quota, ttl_seconds, self._now)
        # what a server that died was doing is to be done again; that is no fault of the job
        self._db.execute("UPDATE jobs SET state='queued' WHERE state IN ('leased', 'running')")
        # a wall clock that was ahead must not make results live longer than the rest
        self._db.execute("UPDATE jobs SET used=? WHERE used>?", (self._now(), self._now()))
        self._check_unsynced()
        self._logged = -1  # pages in the table's log at the last checkpoint
        row = self._db.execute("SELECT coalesce(max(number), 0) FROM jobs").fetchone()
        self._number = int(row[0])

    def close(self) -> None:
        """Close the table and let the folder go."""
        self._db.close()
        os.close(self._lock)

    def checkpoint(self, planes: list[str]) -> list[str]:
        """Sync planes, then move what was written into the table's file; returns the planes, for ``synced``.

        It waits for the disk, so it may be called from another thread.
        """
        for hash in planes:
            self.blobs.sync(hash)
        path = self.folder / "jobs.sqlite3"
        with contextlib.closing(sqlite3.connect(path)) as db:
            _, written, moved = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            # Where something is always written meanwhile, the log would never begin anew, so when it has grown long,
            # writers wait: not long, as the passive pass has left little to sync. At rest nobody has to.
            size = path.with_name(f"{path.name}-wal").stat().st_size
            at_rest = written == moved == self._logged
            self._logged = written
            if size > LOG_BYTES or (size and at_rest):
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return planes

    def unsynced(self, most: int = -1) -> list[str]:
        """Return the planes that may not be on the disk yet, all or at most so many."""
        return [row[0] for row in self._db.execute("SELECT hash FROM unsynced LIMIT ?", (most,))]

    @kept
    def synced(self, planes: Iterable[str]) -> None:
        """Note that planes are on the disk."""
        self._db.executemany("DELETE FROM unsynced WHERE hash=?", ((hash,) for hash in planes))

    def _check_unsynced(self) -> None:
        """Remove planes that a power cut left incomplete. A job that waits for one needs it sent again."""
        for hash in self.unsynced():
            if not self.blobs.intact(hash):
                log.warning(
                    "a plane had not reached the disk when the server ended; it is made or sent again"
                )
                self.blobs.remove(hash)
                self._db.execute(
                    "UPDATE jobs SET state='need', used=? WHERE state='queued' AND key IN"
                    " (SELECT key FROM refs WHERE hash=?)", (self._now(), hash),
                )  # fmt: skip

    def _now(self) -> float:
        return self._clock + time.monotonic()

    # ---- jobs

    def get(self, key: str) -> Job | None:
        """Return a job, or None when there is none of this key."""
        row = self._db.execute(
            "SELECT key, number, state, request, inputs, outputs, meta, crashes, code, sentence, remedy"
            " FROM jobs WHERE key=?",
            (key,),
        ).fetchone()
        if row is None:
            return None
        try:
            return Job(
                row[0], row[1], JobState(row[2]), _REQUEST.decode(row[3]), _PLANES.decode(row[4]),
                _PLANES.decode(row[5]), *row[6:],
            )  # fmt: skip
        except msgspec.DecodeError:
            ended = (JobFailed.code, "The job was written by another version of the server.", "Run it again.")
            self.fail(key, JobState.FAILED, *ended)
            return Job(key, row[1], JobState.FAILED, Decompose(), (), (), "{}", row[7], *ended)

    @kept
    def add(self, key: str, request: Request, inputs: Sequence[PlaneInfo]) -> Job:
        """Return the job of this key, made in state ``need`` if it is new."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._number += 1
            self._db.execute(
                "INSERT INTO jobs VALUES (?, ?, 'need', ?, ?, ?, '{}', 0, '', '', '', ?)"
                " ON CONFLICT (key) DO UPDATE SET used=excluded.used",
                (
                    key,
                    self._number,
                    msgspec.msgpack.encode(request),
                    _encode(inputs),
                    _encode(()),
                    self._now(),
                ),
            )
            self.room.refer(key, inputs)
        job = self.get(key)
        assert job is not None
        return job

    @kept
    def own(self, key: str, owner: str) -> None:
        """Give a client the right to a job and, if it is done, to its planes."""
        self._db.execute("INSERT OR IGNORE INTO owners VALUES (?, ?)", (key, owner))
        job = self.get(key)
        if job is not None and job.state is JobState.DONE:
            self.hold(owner, (plane.hash for plane in job.outputs))
            self.room.trim(key, [owner])

    def owns(self, key: str, owner: str) -> bool:
        """True when this client submitted the job."""
        found = self._db.execute("SELECT 1 FROM owners WHERE key=? AND owner=?", (key, owner)).fetchone()
        return found is not None

    @kept
    def set_state(self, key: str, state: JobState) -> None:
        """Move a job to another state that carries no result."""
        self._db.execute("UPDATE jobs SET state=?, used=? WHERE key=?", (state.value, self._now(), key))

    @kept
    def requeue(self, key: str) -> Job:
        """Forget how a job ended, so that it runs again; returns it."""
        self._db.execute(
            "UPDATE jobs SET state='need', crashes=0, code='', sentence='', remedy='', used=? WHERE key=?",
            (self._now(), key),
        )
        job = self.get(key)
        assert job is not None
        return job

    @kept
    def finish(self, key: str, outputs: Sequence[PlaneInfo], meta: str) -> None:
        """Store a job's result; older ones make room."""
        owners = self.owners(key)
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self.room.refer(key, outputs)
            self._note_unsynced(plane.hash for plane in outputs)
            self._db.execute(
                "UPDATE jobs SET state='done', outputs=?, meta=?, used=? WHERE key=?",
                (_encode(outputs), meta, self._now(), key),
            )
            for owner in owners:
                self.hold(owner, (plane.hash for plane in outputs))
        self.room.trim(key, owners)

    @kept
    def fail(self, key: str, state: JobState, code: str, sentence: str, remedy: str) -> None:
        """Store why a job ended without a result."""
        self._db.execute(
            "UPDATE jobs SET state=?, code=?, sentence=?, remedy=?, used=? WHERE key=?",
            (state.value, code, sentence, remedy, self._now(), key),
        )

    @kept
    def crashed(self, key: str) -> int:
        """Count one more crash of a job's worker and return the count."""
        self._db.execute("UPDATE jobs SET crashes=crashes+1 WHERE key=?", (key,))
        row = self._db.execute("SELECT crashes FROM jobs WHERE key=?", (key,)).fetchone()
        return 0 if row is None else int(row[0])

    @kept
    def touch(self, key: str) -> None:
        """Note that a result was used, which keeps it longer."""
        self._db.execute("UPDATE jobs SET used=? WHERE key=?", (self._now(), key))

    def queued(self) -> list[str]:
        """Return the keys of waiting jobs, oldest first."""
        return [
            row[0] for row in self._db.execute("SELECT key FROM jobs WHERE state='queued' ORDER BY number")
        ]

    def counts(self) -> dict[JobState, int]:
        """Return the number of jobs in each state."""
        rows = self._db.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall()
        return {JobState(state): int(count) for state, count in rows}

    def unfinished_of(self, owner: str) -> int:
        """Return how many jobs of a client wait or run."""
        row = self._db.execute(
            "SELECT count(*) FROM jobs JOIN owners USING (key) WHERE owner=?"
            " AND state IN ('queued', 'leased', 'running')",
            (owner,),
        ).fetchone()
        return int(row[0])

    # ---- planes

    def holds(self, owner: str, plane: PlaneInfo) -> bool:
        """True when the plane is here and this client has sent it or was given it: a hash alone proves nothing."""
        held = self._db.execute("SELECT 1 FROM held WHERE hash=? AND owner=?", (plane.hash, owner)).fetchone()
        return held is not None and self.blobs.has(plane.hash, plane.nbytes)

    @kept
    def arrived(self, owner: str, hash: str) -> None:
        """Note that a client has sent a plane, which is in the store but may not be on the disk yet."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._note_unsynced([hash])
            self.hold(owner, [hash])

    def _note_unsynced(self, hashes: Iterable[str]) -> None:
        self._db.executemany("INSERT OR IGNORE INTO unsynced VALUES (?)", ((hash,) for hash in hashes))

    @kept
    def hold(self, owner: str, hashes: Iterable[str]) -> None:
        """Note that a client has these planes."""
        self._db.executemany("INSERT OR IGNORE INTO held VALUES (?, ?)", ((hash, owner) for hash in hashes))

    def owners(self, key: str) -> list[str]:
        """Return the clients that submitted a job."""
        return [row[0] for row in self._db.execute("SELECT owner FROM owners WHERE key=?", (key,))]

    def complete(self, planes: Iterable[PlaneInfo]) -> bool:
        """True when all planes are on disk."""
        return all(self.blobs.has(plane.hash, plane.nbytes) for plane in planes)


def _encode(planes: Sequence[PlaneInfo]) -> bytes:
    return msgspec.msgpack.encode(tuple(planes))
