"""Room in the store: quotas, what is evicted for it, and a reserve that lets a full disk still take notes."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from platelight.protocol.errors import StoreFull
from platelight.protocol.messages import JobState, PlaneInfo
from platelight.server.blobs import BlobFolder

_FINAL = tuple(state.value for state in JobState if state.final)
_NEED_SECONDS = 86400.0  # a job whose planes never came
_ORPHAN_SECONDS = 600.0  # a file that no job refers to: perhaps a worker's result on its way
_TIDY_SECONDS = 60.0
_BALLAST_BYTES = 8 * 1024 * 1024


class Room:
    """Keeps the planes within the quotas. Never takes what belongs to a job that waits or runs.

    Args:
        now: the wall clock that the ``used`` column is written by.
    """

    def __init__(
        self, db: sqlite3.Connection, blobs: BlobFolder, quota: int, client_quota: int, ttl: float,
        now: Callable[[], float],
    ) -> None:  # fmt: skip
        self._db, self._blobs, self._now = db, blobs, now
        self._quota, self._client_quota, self._ttl = quota, client_quota, ttl
        self._orphans: dict[str, float] = {}
        self._tidied = -_TIDY_SECONDS
        self._remove_orphans(0.0)  # at the start nothing is on its way

    def size(self) -> int:
        """Return the bytes of all planes that jobs refer to, those still expected included."""
        return int(self._db.execute("SELECT coalesce(sum(size), 0) FROM planes").fetchone()[0])

    def held_by(self, owner: str) -> int:
        """Return the bytes of the planes that a client has sent or was given."""
        row = self._db.execute(
            "SELECT coalesce(sum(size), 0) FROM held JOIN planes USING (hash) WHERE owner=?", (owner,)
        ).fetchone()
        return int(row[0])

    def make(self, owner: str, size: int) -> None:
        """Evict finished jobs, expired first and then oldest, until ``size`` bytes more fit both quotas.

        Raises:
            StoreFull: what is left belongs to jobs that wait or run.
        """
        self.tidy()
        while self.held_by(owner) + size > self._client_quota:
            row = self._db.execute(
                f"SELECT key FROM jobs JOIN owners USING (key) WHERE owner=? AND state IN {_FINAL}"
                " ORDER BY used LIMIT 1", (owner,),
            ).fetchone()  # fmt: skip
            if row is None:
                raise StoreFull(
                    f"This client has no room for {size / 2**20:.0f} MiB more on the server.",
                    "Wait for its jobs to end, or raise client_quota_gib.",
                )
            self._disown(row[0], owner)
        while self.size() + size > self._quota:
            row = self._db.execute(
                f"SELECT key FROM jobs WHERE state IN {_FINAL} ORDER BY used LIMIT 1"
            ).fetchone()
            if row is None:
                raise StoreFull(
                    f"The server's store has no room for {size / 2**20:.0f} MiB more.",
                    "Wait for running jobs to end, or raise the quota.",
                )
            self._evict("key = ?", (row[0],))

    def tidy(self) -> None:
        """Evict what has expired; does nothing when that was done a minute ago."""
        now = time.monotonic()
        if now - self._tidied < _TIDY_SECONDS:
            return
        self._tidied = now
        self._evict(f"state IN {_FINAL} AND used < ?", (self._now() - self._ttl,))
        self._evict("state = 'need' AND used < ?", (self._now() - _NEED_SECONDS,))
        self._remove_orphans(_ORPHAN_SECONDS)

    def refer(self, key: str, planes: Iterable[PlaneInfo]) -> None:
        """Note that a job needs planes, and how large they are."""
        rows = [(plane.hash, plane.nbytes) for plane in planes]
        self._db.executemany("INSERT OR IGNORE INTO refs VALUES (?, ?)", [(key, hash) for hash, _ in rows])
        self._db.executemany("INSERT OR IGNORE INTO planes VALUES (?, ?)", rows)

    # ---- inside

    def _disown(self, key: str, owner: str) -> None:
        """Take one client's right to a job away; the job goes when nobody else has one."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM owners WHERE key=? AND owner=?", (key, owner))
            self._db.execute(
                "DELETE FROM held WHERE owner=? AND hash IN (SELECT hash FROM refs WHERE key=?) AND hash NOT IN"
                " (SELECT hash FROM refs JOIN owners USING (key) WHERE owner=?)", (owner, key, owner),
            )  # fmt: skip
        self._evict("key=? AND key NOT IN (SELECT key FROM owners)", (key,))

    def _evict(self, condition: str, values: tuple[object, ...]) -> None:
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            if not self._db.execute(f"DELETE FROM jobs WHERE {condition}", values).rowcount:
                return
            unused = "hash NOT IN (SELECT hash FROM refs)"
            gone = [row[0] for row in self._db.execute(f"SELECT hash FROM planes WHERE {unused}")]
            self._db.execute(f"DELETE FROM planes WHERE {unused}")
            self._db.execute(f"DELETE FROM held WHERE {unused}")
        for hash in gone:
            self._blobs.remove(hash)

    def _remove_orphans(self, age: float) -> None:
        """Remove files that no job has referred to for ``age`` seconds, by a clock that does not jump."""
        now = time.monotonic()
        known = {row[0] for row in self._db.execute("SELECT hash FROM planes")}
        seen: dict[str, float] = {}
        for hash, _, _ in list(self._blobs.all()):
            if hash in known:
                continue
            since = self._orphans.get(hash, now)
            if now - since >= age:
                self._blobs.remove(hash)
            else:
                seen[hash] = since
        self._orphans = seen


class Ballast:
    """A file of zeros that is given up when the disk is full, so that the job table can still be written."""

    def __init__(self, folder: Path, size: int = _BALLAST_BYTES) -> None:
        self._path = folder / "ballast"
        self._size = size
        self.fill()

    def fill(self) -> bool:
        """Take the room again; False when there is none."""
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_size == self._size:
                return True
        if shutil.disk_usage(self._path.parent).free < 4 * self._size:
            return False
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                for start in range(0, self._size, 1024 * 1024):  # written, as a hole would keep no room
                    os.write(file, bytes(min(1024 * 1024, self._size - start)))
            finally:
                os.close(file)
        except OSError:
            self.drop()
            return False
        return self._path.stat().st_size == self._size

    def drop(self) -> bool:
        """Give the room up; False when that was done before."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True
