"""Jobs on disk, so that they outlive a disconnect and the server: SQLite in WAL mode, planes as blobs."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from platelight.client.keys import private_folder
from platelight.protocol.errors import InputError, StoreFull
from platelight.protocol.messages import JobState, PlaneInfo
from platelight.protocol.requests import Request
from platelight.server.blobs import BlobFolder

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE jobs (
    key TEXT PRIMARY KEY, number INTEGER NOT NULL, state TEXT NOT NULL, request BLOB NOT NULL,
    inputs BLOB NOT NULL, outputs BLOB NOT NULL, meta TEXT NOT NULL, crashes INTEGER NOT NULL,
    code TEXT NOT NULL, sentence TEXT NOT NULL, remedy TEXT NOT NULL, used REAL NOT NULL);
CREATE TABLE owners (key TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE, owner TEXT NOT NULL,
    PRIMARY KEY (key, owner));
CREATE TABLE held (hash TEXT NOT NULL, owner TEXT NOT NULL, PRIMARY KEY (hash, owner));
CREATE TABLE refs (key TEXT NOT NULL REFERENCES jobs ON DELETE CASCADE, hash TEXT NOT NULL,
    PRIMARY KEY (key, hash));
CREATE INDEX refs_by_hash ON refs (hash);
"""
_REQUEST: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_PLANES: msgspec.msgpack.Decoder[tuple[PlaneInfo, ...]] = msgspec.msgpack.Decoder(tuple[PlaneInfo, ...])
_FINAL = tuple(state.value for state in JobState if state.final)


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

    def __init__(self, folder: Path, quota_bytes: int, ttl_seconds: float) -> None:
        private_folder(folder)
        self.folder = folder
        self._lock = _lock(folder)
        self._quota = quota_bytes
        self._ttl = ttl_seconds
        self.blobs = BlobFolder(folder / "blobs")
        self.blobs.sweep()
        self._db = sqlite3.connect(folder / "jobs.sqlite3", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA foreign_keys=ON")
        self._upgrade()
        # what a server that died was doing is to be done again; that is no fault of the job
        self._db.execute("UPDATE jobs SET state='queued' WHERE state IN ('leased', 'running')")
        row = self._db.execute("SELECT coalesce(max(number), 0) FROM jobs").fetchone()
        self._number = int(row[0])

    def close(self) -> None:
        """Close the table and let the folder go."""
        self._db.close()
        os.close(self._lock)

    def _upgrade(self) -> None:
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise InputError(
                f"The job store {self.folder} was written by a newer Platelight.",
                "Use another --store folder.",
            )
        if version == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")

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
        return Job(
            row[0], row[1], JobState(row[2]), _REQUEST.decode(row[3]), _PLANES.decode(row[4]),
            _PLANES.decode(row[5]), *row[6:],
        )  # fmt: skip

    def add(self, key: str, request: Request, inputs: Sequence[PlaneInfo]) -> Job:
        """Return the job of this key, made in state ``need`` if it is new."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._number += 1
            self._db.execute(
                "INSERT OR IGNORE INTO jobs VALUES (?, ?, 'need', ?, ?, ?, '{}', 0, '', '', '', ?)",
                (
                    key,
                    self._number,
                    msgspec.msgpack.encode(request),
                    _encode(inputs),
                    _encode(()),
                    time.time(),
                ),
            )
            self._refer(key, inputs)
        job = self.get(key)
        assert job is not None
        return job

    def own(self, key: str, owner: str) -> None:
        """Give a client the right to a job and, if it is done, to its planes."""
        self._db.execute("INSERT OR IGNORE INTO owners VALUES (?, ?)", (key, owner))
        job = self.get(key)
        if job is not None and job.state is JobState.DONE:
            self.hold(owner, (plane.hash for plane in job.outputs))

    def owns(self, key: str, owner: str) -> bool:
        """True when this client submitted the job."""
        found = self._db.execute("SELECT 1 FROM owners WHERE key=? AND owner=?", (key, owner)).fetchone()
        return found is not None

    def set_state(self, key: str, state: JobState) -> None:
        """Move a job to another state that carries no result."""
        self._db.execute("UPDATE jobs SET state=?, used=? WHERE key=?", (state.value, time.time(), key))

    def requeue(self, key: str) -> None:
        """Forget how a job ended, so that it runs again."""
        self._db.execute(
            "UPDATE jobs SET state='need', crashes=0, code='', sentence='', remedy='' WHERE key=?", (key,)
        )

    def finish(self, key: str, outputs: Sequence[PlaneInfo], meta: str) -> None:
        """Store a job's result."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._refer(key, outputs)
            self._db.execute(
                "UPDATE jobs SET state='done', outputs=?, meta=?, used=? WHERE key=?",
                (_encode(outputs), meta, time.time(), key),
            )
            for owner in self.owners(key):
                self.hold(owner, (plane.hash for plane in outputs))

    def fail(self, key: str, state: JobState, code: str, sentence: str, remedy: str) -> None:
        """Store why a job ended without a result."""
        self._db.execute(
            "UPDATE jobs SET state=?, code=?, sentence=?, remedy=?, used=? WHERE key=?",
            (state.value, code, sentence, remedy, time.time(), key),
        )

    def crashed(self, key: str) -> int:
        """Count one more crash of a job's worker and return the count."""
        self._db.execute("UPDATE jobs SET crashes=crashes+1 WHERE key=?", (key,))
        row = self._db.execute("SELECT crashes FROM jobs WHERE key=?", (key,)).fetchone()
        return 0 if row is None else int(row[0])

    def touch(self, key: str) -> None:
        """Note that a result was used, which keeps it longer."""
        self._db.execute("UPDATE jobs SET used=? WHERE key=?", (time.time(), key))

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

    def hold(self, owner: str, hashes: Iterable[str]) -> None:
        """Note that a client has these planes."""
        self._db.executemany("INSERT OR IGNORE INTO held VALUES (?, ?)", ((hash, owner) for hash in hashes))

    def owners(self, key: str) -> list[str]:
        """Return the clients that submitted a job."""
        return [row[0] for row in self._db.execute("SELECT owner FROM owners WHERE key=?", (key,))]

    def complete(self, planes: Iterable[PlaneInfo]) -> bool:
        """True when all planes are on disk."""
        return all(self.blobs.has(plane.hash, plane.nbytes) for plane in planes)

    def _refer(self, key: str, planes: Iterable[PlaneInfo]) -> None:
        self._db.executemany(
            "INSERT OR IGNORE INTO refs VALUES (?, ?)", ((key, plane.hash) for plane in planes)
        )

    # ---- room

    def size(self) -> int:
        """Return the bytes of all blobs."""
        return sum(size for _, size, _ in self.blobs.all())

    def make_room(self, size: int) -> None:
        """Evict finished jobs, expired first and then oldest, until ``size`` bytes fit the quota.

        Raises:
            StoreFull: what is left belongs to jobs that wait or run.
        """
        self._evict("used < ?", (time.time() - self._ttl,))
        used = self.size()
        while used + size > self._quota:
            row = self._db.execute(
                f"SELECT key FROM jobs WHERE state IN {_FINAL} ORDER BY used LIMIT 1"
            ).fetchone()
            if row is None:
                raise StoreFull(
                    f"The server's store has no room for {size / 2**20:.0f} MiB more.",
                    "Wait for running jobs to end, or raise the quota.",
                )
            self._evict("key = ?", (row[0],))
            used = self.size()

    def _evict(self, condition: str, values: tuple[object, ...]) -> None:
        self._db.execute(f"DELETE FROM jobs WHERE state IN {_FINAL} AND {condition}", values)
        young = time.time() - 600.0  # an upload whose job is not yet noted, or a worker's result on its way
        known = {row[0] for row in self._db.execute("SELECT DISTINCT hash FROM refs")}
        for hash, _, changed in list(self.blobs.all()):
            if hash not in known and changed < young:
                self.blobs.remove(hash)
        self._db.execute("DELETE FROM held WHERE hash NOT IN (SELECT hash FROM refs)")


def _encode(planes: Sequence[PlaneInfo]) -> bytes:
    return msgspec.msgpack.encode(tuple(planes))


def _lock(folder: Path) -> int:
    file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    except OSError as error:
        os.close(file)
        raise InputError(
            f"Another server uses the store {folder}.", "Stop it, or give this one a --store of its own."
        ) from error
    return file
