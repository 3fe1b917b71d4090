"""Planes that have come whole, on their way into the store: hashing and the disk take time, for which the loop does not wait."""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from platelight.protocol.errors import Busy, PlatelightError, ProtocolError, StoreFull
from platelight.protocol.messages import PlaneInfo, Refused
from platelight.server.clients import Clients
from platelight.server.sessions import Session, Upload
from platelight.server.store import Store

log = logging.getLogger(__name__)
_AT_ONCE, _A_PASS = 2, 64  # planes; the table's log must not wait long for them


class Intake:
    """Checks and names planes in threads, and has the disk catch up in another.

    Args:
        arrived: is called, by :meth:`step`, for each plane that is in the store.
    """

    def __init__(self, store: Store, clients: Clients, arrived: Callable[[Session, PlaneInfo], None]) -> None:
        self._store, self._clients, self._arrived = store, clients, arrived
        self._threads = ThreadPoolExecutor(_AT_ONCE, "store")
        self._disk = ThreadPoolExecutor(1, "disk")  # so that no plane waits for the sync of another
        self._behind: Future[list[str]] | None = None
        self._storing: list[tuple[Session, Upload, Future[bool]]] = []

    @property
    def busy(self) -> bool:
        """Whether planes are on their way."""
        return bool(self._storing)

    def keep(self, session: Session, upload: Upload) -> None:
        """Begin to store a plane."""
        self._storing.append((session, upload, self._threads.submit(upload.store())))

    def step(self) -> None:
        """Take in the planes that are in the store."""
        for entry in [one for one in self._storing if one[2].done()]:
            self._storing.remove(entry)
            session, upload, outcome = entry
            plane = upload.info
            if (
                self._clients.get(session.identity) is not session
                or session.uploads.get(plane.hash) is not upload
            ):
                continue  # gone meanwhile; the blob, if it was right, serves whoever sends it again
            try:
                if not outcome.result():
                    raise ProtocolError(
                        f"The bytes of plane '{plane.name}' do not have the hash that was told."
                    )
                del session.uploads[plane.hash]
                self._arrived(session, plane)
            except PlatelightError as error:
                self._clients.send(session.identity, Refused(error.code, error.sentence, error.remedy))
                self._clients.drop(session.identity)
            except (OSError, sqlite3.Error) as error:
                log.exception("a plane could not be stored")
                self._clients.send(session.identity, store_failed(error))
                self._clients.drop(session.identity)

    def catch_up(self) -> None:
        """Sync new planes, then move the job table's log into the table, unless that is under way.

        Raises:
            OSError, sqlite3.Error: why the last time failed; the next call tries again.
        """
        behind = self._behind
        if behind is not None:
            if not behind.done():
                return
            self._behind = None
            self._store.synced(behind.result())
        self._behind = self._disk.submit(self._store.checkpoint, self._store.unsynced(_A_PASS))

    def close(self) -> None:
        """Finish what is being stored and begin nothing more."""
        self._threads.shutdown(cancel_futures=True)
        self._disk.shutdown(cancel_futures=True)


def store_failed(error: OSError | sqlite3.Error, ticket: int | None = None) -> Refused:
    """What a client is told of an error of the disk or the job table."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return Refused(
            Busy.code, "The server has too many open files.", "Try again in a moment.", ticket, 1.0
        )
    if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
        return Refused(StoreFull.code, "The server's disk is full.", "Free some space on the server.", ticket)
    sentence = f"The server's store failed: {type(error).__name__}."
    return Refused("store_failed", sentence, "The server's log has the details.", ticket)
