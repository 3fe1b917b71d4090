"""Room in the store: quotas, what is evicted for it, and a reserve that lets a full disk still take notes."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from platelight.protocol.errors import StoreFull
from platelight.protocol.messages import JobState, PlaneInfo
from platelight.server.blobs import BlobFolder

_FINAL = tuple(state.value for state in JobState if state.final)
_NEED_SECONDS = 600.0  # a job whose planes nobody sends any more; who lost the connection is back sooner
_ORPHAN_SECONDS = 600.0  # a file that no job refers to: perhaps a worker's result on its way
_TIDY_SECONDS = 60.0
_AT_ONCE = 32  # jobs that go for one result: about 10 ms
_BALLAST_BYTES = 8 * 1024 * 1024


class Room:
    """Keeps the planes within the quotas. Never takes what belongs to a job that waits or runs.

    Args:
        now: the wall clock that the ``used`` column is written by.

    ``needed`` is to tell the jobs for which clients are sending planes.
    """

    def __init__(
        self, db: sqlite3.Connection, blobs: BlobFolder, quota: int, client_quota: int, ttl: float,
        now: Callable[[], float],
    ) -> None:  # fmt: skip
        self._db, self._blobs, self._now = db, blobs, now
        self._quota, self._client_quota, self._ttl = quota, client_quota, ttl
        self.needed: Callable[[], set[str]] = set
        self._orphans: dict[str, float] = {}
        self._tidied = -_TIDY_SECONDS
        self._remove_orphans(0.0)  # at the start nothing is on its way

    def size(self) -> int:
        """Return the bytes of all planes that jobs refer to, those still expected included."""
        return self.held_by("")

    def held_by(self, owner: str) -> int:
        """Return the bytes of the planes that a client has sent or was given."""
        row = self._db.execute("SELECT bytes FROM room WHERE owner=?", (owner,)).fetchone()
        return 0 if row is None else int(row[0])

    def make(
        self, owner: str, planes: Collection[PlaneInfo], expected: Iterable[PlaneInfo] = (), keep: str = ""
    ) -> None:
        """Make room for planes that a client is to send: what is expected no more and the oldest results go.

        Args:
            expected: planes that this client was to send before and has not.
            keep: the job that needs the planes; it stays.

        Raises:
            StoreFull: what is left belongs to jobs that wait or run, or for which planes are being sent.
        """
        self.tidy()
        size = sum(plane.nbytes for plane in planes)
        promised = {plane.hash: plane.nbytes for plane in (*expected, *planes)}
        if not self._fit_client(owner, sum(promised.values()), keep):
            raise StoreFull(
                f"This client has no room for {size / 2**20:.0f} MiB more on the server.",
                "Wait for its jobs to end, or raise client_quota_gib.",
            )
        if not self._fit(sum(max(0, told - self._known(hash)) for hash, told in promised.items()), keep):
            raise StoreFull(
                f"The server's store has no room for {size / 2**20:.0f} MiB more.",
                "Wait for running jobs to end, or raise the quota.",
            )

    def trim(self, keep: str, owners: Iterable[str]) -> None:
        """Make room for a result that is here: the oldest others go, some at a time, as all clients wait for it."""
        for owner in owners:
            self._fit_client(owner, 0, keep, _AT_ONCE)
        self._fit(0, keep, _AT_ONCE)

    def tidy(self) -> None:
        """Evict what has expired; does nothing when that was done a minute ago."""
        now = time.monotonic()
        if now - self._tidied < _TIDY_SECONDS:
            return
        self._tidied = now
        needed = [(self._now(), key) for key in self.needed()]
        self._db.executemany("UPDATE jobs SET used=? WHERE key=?", needed)
        self._evict(f"state IN {_FINAL} AND used < ?", (self._now() - self._ttl,))
        self._evict("state = 'need' AND used < ?", (self._now() - _NEED_SECONDS,))
        self._remove_orphans(_ORPHAN_SECONDS)

    def refer(self, key: str, planes: Iterable[PlaneInfo]) -> None:
        """Note that a job needs planes, and how large they are."""
        rows = [(plane.hash, plane.nbytes) for plane in planes]
        self._db.executemany("INSERT OR IGNORE INTO refs VALUES (?, ?)", [(key, hash) for hash, _ in rows])
        # a hash can be told with a wrong size
        self._db.executemany(
            "INSERT INTO planes VALUES (?, ?) ON CONFLICT (hash) DO UPDATE SET size=max(size, excluded.size)",
            rows,
        )

    # ---- inside

    def _known(self, hash: str) -> int:
        row = self._db.execute("SELECT size FROM planes WHERE hash=?", (hash,)).fetchone()
        return 0 if row is None else int(row[0])

    def _fit(self, more: int, keep: str, most: int = sys.maxsize) -> bool:
        """Evict until so many bytes more are within the quota; False when nothing is left that may go."""
        kept = self.needed() | {keep}
        while self.size() + more > self._quota:
            key = self._oldest("1", "1", (), kept)
            if key is None or not most:
                return False
            self._evict("key = ?", (key,))
            most -= 1
        return True

    def _fit_client(self, owner: str, more: int, keep: str, most: int = sys.maxsize) -> bool:
        """As ``_fit``, for what one client holds."""
        kept = self.needed() | {keep}
        sent = "EXISTS (SELECT 1 FROM refs JOIN held USING (hash) WHERE refs.key=jobs.key AND owner=?)"
        owned = "EXISTS (SELECT 1 FROM owners WHERE owners.key=jobs.key AND owner=?)"
        while self.held_by(owner) + more > self._client_quota:
            key = self._oldest(sent, owned, (owner,), kept)
            if key is None or not most:
                return False
            self._disown(key, owner)
            most -= 1
        return True

    def _oldest(self, sent: str, owned: str, values: tuple[str, ...], kept: set[str]) -> str | None:
        """The job to go next: one whose planes nobody sends any more, else the result used longest ago."""
        for condition in (
            f"state='need' AND key NOT IN (SELECT key FROM owners) AND {sent}",
            f"state IN {_FINAL} AND {owned}",
        ):
            rows = self._db.execute(
                f"SELECT key FROM jobs WHERE {condition} ORDER BY used LIMIT ?", (*values, len(kept) + 1)
            )
            if found := [key for (key,) in rows if key not in kept]:
                return str(found[0])
        return None

    def _disown(self, key: str, owner: str) -> None:
        """Take one client's right to a job away; the job goes when nobody else has one."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM owners WHERE key=? AND owner=?", (key, owner))
            self._db.execute(
                "DELETE FROM held WHERE owner=? AND hash IN (SELECT hash FROM refs WHERE key=?) AND NOT EXISTS"
                " (SELECT 1 FROM refs JOIN owners USING (key) WHERE refs.hash=held.hash AND owners.owner=?)",
                (owner, key, owner),
            )
        self._evict("key=? AND key NOT IN (SELECT key FROM owners)", (key,))

    def _evict(self, condition: str, values: tuple[object, ...]) -> None:
        """Remove jobs with the planes that no other refers to; the cost is by what goes, not by what there is."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            of_jobs = f"SELECT DISTINCT hash FROM refs WHERE key IN (SELECT key FROM jobs WHERE {condition})"
            hashes = self._db.execute(of_jobs, values).fetchall()
            self._db.execute(f"DELETE FROM jobs WHERE {condition}", values)
            used = "SELECT 1 FROM refs WHERE hash=?"
            gone = [hash for hash in hashes if self._db.execute(used, hash).fetchone() is None]
            self._db.executemany("DELETE FROM planes WHERE hash=?", gone)
            self._db.executemany("DELETE FROM held WHERE hash=?", gone)
        for (hash,) in gone:
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
                self._db.execute("DELETE FROM held WHERE hash=?", (hash,))
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
