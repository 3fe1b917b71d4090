"""The job store's tables, their versions, and the step from each version to the next."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec

from platelight.protocol.errors import InputError
from platelight.protocol.messages import PlaneInfo
from platelight.server.blobs import digest

log = logging.getLogger(__name__)
SCHEMA_VERSION = 3
_FIRST = """
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
_TOTALS = """
PRAGMA temp_store=MEMORY;
CREATE TEMP TABLE room (owner TEXT PRIMARY KEY, bytes INTEGER NOT NULL);
INSERT INTO room SELECT '', coalesce(sum(size), 0) FROM planes;
INSERT INTO room SELECT owner, sum(size) FROM held JOIN planes USING (hash) GROUP BY owner;
CREATE TEMP TRIGGER plane_comes AFTER INSERT ON planes BEGIN
    UPDATE room SET bytes = bytes + new.size
    WHERE owner = '' OR owner IN (SELECT owner FROM held WHERE hash = new.hash); END;
CREATE TEMP TRIGGER plane_grows AFTER UPDATE OF size ON planes BEGIN
    UPDATE room SET bytes = bytes + new.size - old.size
    WHERE owner = '' OR owner IN (SELECT owner FROM held WHERE hash = new.hash); END;
CREATE TEMP TRIGGER plane_goes AFTER DELETE ON planes BEGIN
    UPDATE room SET bytes = bytes - old.size
    WHERE owner = '' OR owner IN (SELECT owner FROM held WHERE hash = old.hash); END;
CREATE TEMP TRIGGER client_holds AFTER INSERT ON held BEGIN
    INSERT OR IGNORE INTO room VALUES (new.owner, 0);
    UPDATE room SET bytes = bytes + coalesce((SELECT size FROM planes WHERE hash = new.hash), 0)
    WHERE owner = new.owner; END;
CREATE TEMP TRIGGER client_lets_go AFTER DELETE ON held BEGIN
    UPDATE room SET bytes = bytes - coalesce((SELECT size FROM planes WHERE hash = old.hash), 0)
    WHERE owner = old.owner; END;
"""
"""Bytes of all planes (owner '') and of those of each client, kept by the table itself: to sum them takes too long."""
_PLANES: msgspec.msgpack.Decoder[tuple[PlaneInfo, ...]] = msgspec.msgpack.Decoder(tuple[PlaneInfo, ...])


def _planes_with_sizes(db: sqlite3.Connection, _folder: Path) -> None:
    """Version 2: the size of every plane that a job refers to, so that room is a sum and not a walk on disk."""
    db.execute("CREATE TABLE planes (hash TEXT PRIMARY KEY, size INTEGER NOT NULL)")
    for inputs, outputs in db.execute("SELECT inputs, outputs FROM jobs").fetchall():
        planes = (*_PLANES.decode(inputs), *_PLANES.decode(outputs))
        db.executemany(
            "INSERT OR IGNORE INTO planes VALUES (?, ?)", [(one.hash, one.nbytes) for one in planes]
        )
    db.execute("CREATE INDEX jobs_by_state ON jobs (state, used)")
    db.execute("CREATE INDEX owners_by_owner ON owners (owner)")


def _named_by_sha256(db: sqlite3.Connection, folder: Path) -> None:
    """Version 3: planes are named by SHA-256, as in protocol 5, and those not yet synced are noted.

    A blob gets its new name beside the old one, which is swept later as a file that no job knows, so a step that fails
    loses nothing. A job goes that lacks a plane, or whose planes lie where files cannot have two names.
    """
    db.execute("CREATE TABLE unsynced (hash TEXT PRIMARY KEY)")
    blobs, named = folder / "blobs", dict[str, str]()
    known = [row[0] for row in db.execute("SELECT hash FROM planes").fetchall()]
    log.info("the job store's %d planes get names by SHA-256", len(known))
    for old in known:
        with contextlib.suppress(OSError):
            new = digest(blobs / old)
            with contextlib.suppress(FileExistsError):
                os.link(blobs / old, blobs / new)
            named[old] = new
    encode = msgspec.msgpack.encode
    for key, *fields in db.execute("SELECT key, inputs, outputs FROM jobs").fetchall():
        planes = [_PLANES.decode(field) for field in fields]
        if any(one.hash not in named for both in planes for one in both):
            db.execute("DELETE FROM jobs WHERE key=?", (key,))
            continue
        renamed = [[msgspec.structs.replace(one, hash=named[one.hash]) for one in both] for both in planes]
        db.execute("UPDATE jobs SET inputs=?, outputs=? WHERE key=?", (*map(encode, renamed), key))
    for table in ("refs", "held", "planes"):
        pairs = [(new, old) for old, new in named.items()]
        db.executemany(f"UPDATE {table} SET hash=? WHERE hash=?", pairs)
        db.executemany(f"DELETE FROM {table} WHERE hash=?", [(old,) for old in known])
    db.execute("INSERT INTO unsynced SELECT hash FROM planes")  # a new name is no safer than a new file


def _create(db: sqlite3.Connection, _folder: Path) -> None:
    for statement in _FIRST.split(";"):
        db.execute(statement)


_STEPS: tuple[Callable[[sqlite3.Connection, Path], None], ...] = (
    _create,
    _planes_with_sizes,
    _named_by_sha256,
)


def open_database(folder: Path) -> sqlite3.Connection:
    """Open the tables of a store, bringing them to ``SCHEMA_VERSION`` in one transaction.

    Raises:
        InputError: a newer version wrote it, or it is damaged.
    """
    path = folder / "jobs.sqlite3"
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute(
            "PRAGMA wal_autocheckpoint=0"
        )  # a checkpoint syncs the disk: Store.checkpoint, in a thread
        db.execute("PRAGMA foreign_keys=ON")
        db.execute("PRAGMA cache_size=-256")  # KiB; the broker's memory does not grow with the table
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise InputError(
                f"The job store {folder} was written by a newer Platelight.", "Use another --store folder."
            )
        if version < SCHEMA_VERSION:
            with db:
                db.execute("BEGIN IMMEDIATE")
                for step in _STEPS[version:]:
                    step(db, folder)
                db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        db.executescript(_TOTALS)
    except (sqlite3.DatabaseError, msgspec.DecodeError) as error:
        db.close()
        raise InputError(
            f"The job store {folder} cannot be opened: {error}.",
            "Move it away, or use another --store folder.",
        ) from error
    except BaseException:
        db.close()
        raise
    return db


def lock_folder(folder: Path) -> int:
    """Take a store for this process; returns the file that holds the lock.

    Raises:
        InputError: it is taken, also by another machine's server, or the file cannot be locked.
    """
    path = folder / "lock"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}.", "Use another --store.") from error
    try:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    except OSError as error:
        os.close(file)
        if error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES):
            raise InputError(
                f"{path} cannot be locked: {error.strerror}.", "Use a --store on a disk of this machine."
            ) from error
        raise InputError(
            f"Another server uses the store {folder}.",
            "Stop it, here or on another machine with this home, or give this one a --store or "
            "PLATELIGHT_CONFIG_DIR of its own.",
        ) from error
    return file
