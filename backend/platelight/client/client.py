"""Run jobs on a server: upload under credit, progress, cancel, download, and again after a lost connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import zmq

from platelight import __version__
from platelight.client.exchange import Exchange
from platelight.client.keys import KeyPair, load_or_make_keys, read_connection, server_key_of
from platelight.client.link import Link, LinkLost
from platelight.protocol.errors import (
    AccessDenied,
    Busy,
    Cancelled,
    ConnectionFailed,
    InputError,
    PlatelightError,
    TimedOut,
    error_from_code,
)
from platelight.protocol.frames import Plane, check_planes, describe
from platelight.protocol.messages import Ask, Refused, Report, Submit, Watch
from platelight.protocol.requests import Request

SOFTWARE = f"platelight-client {__version__}"
CONNECT_TIMEOUT = 2.5
PATIENCE = 30.0


@dataclass(frozen=True)
class Result:
    """What a job gave: its planes (float16 or float32, as the pipeline made them), its meta and its key."""

    planes: dict[str, np.ndarray[Any, Any]]
    meta: dict[str, Any]
    key: str


class Client:
    """A connection to a server, opened when first needed and again whenever it is lost.

    Args:
        endpoint: ``tcp://host:port``; without it the local server's connection file is read.
        keys: this client's key pair; without it the one in the config folder, made at first start.
        server_key: the server's public key; without it the connection file or the remembered servers tell it.
        connection_file: where the local server wrote its endpoint and key, if not in the config folder.
        connect_timeout: seconds until ``ConnectionFailed`` when no server answers.
        same_host: pass planes through the server's own files where the server runs on this host for this user;
            several times faster than a socket with CURVE, and left by itself where it does not work.
        patience: seconds that a running job waits for a lost server to come back.

    Calls may come from any one thread at a time; a second waits for the first.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        keys: KeyPair | None = None,
        *,
        server_key: str | None = None,
        connection_file: Path | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        patience: float = PATIENCE,
        same_host: bool = True,
    ) -> None:
        self._keys = keys or load_or_make_keys()
        self._given = (endpoint, server_key, connection_file)
        self._connect_timeout = connect_timeout
        self._patience = patience
        self._same_host = same_host
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._link: Link | None = None
        self._lock = threading.RLock()
        self._tickets = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; never blocks, may be called twice."""
        with self._lock:
            self._drop()
            self._context.destroy(linger=0)

    def connect(self) -> Link:
        """Open the connection now, if it is not. Raises ConnectionFailed, AccessDenied or VersionSkew."""
        with self._lock:
            if self._link is None:
                endpoint, server_key = self._address()
                try:
                    self._link = Link(
                        self._context, endpoint, server_key, self._keys, self._connect_timeout, SOFTWARE,
                        self._same_host,
                    )  # fmt: skip
                except LinkLost as error:
                    raise ConnectionFailed(str(error), "Look at the server's log.") from error
            return self._link

    def run(
        self,
        request: Request,
        planes: Mapping[str, np.ndarray[Any, Any] | Plane],
        progress: Callable[[float, str], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        timeout: float | None = None,
    ) -> Result:
        """Run one job and return its result.

        Args:
            request: what to do.
            planes: float16 or float32 arrays (H, W) or (H, W, C), row 0 at the top, linear Rec.709; or what ``describe``
                made of them, so that maps which serve many jobs are hashed once.
            progress: called in this thread with a fraction that never falls, and the name of the stage.
            cancelled: asked several times a second; once true, the job is stopped and ``Cancelled`` raised.
            timeout: seconds for everything; ``TimedOut`` after it, while the job goes on at the server.

        Raises:
            PlatelightError: whatever went wrong, on this side or the other, as a sentence with a remedy.
        """
        with ThreadPoolExecutor(4, "hash") as pool:  # hashing lets go of the interpreter
            described = list(pool.map(_described, *zip(*planes.items(), strict=True))) if planes else []
        if wrong := [name for name, one in zip(planes, described, strict=True) if one.info.name != name]:
            raise InputError(f"The plane '{wrong[0]}' was described by another name.", "Describe it anew.")

        def opening(ticket: int, fresh: bool) -> Submit:
            return Submit(ticket, request, tuple(plane.info for plane in described), fresh)

        return self._complete(opening, described, progress, cancelled, timeout)

    def result(
        self,
        key: str,
        progress: Callable[[float, str], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        timeout: float | None = None,
    ) -> Result:
        """Return the result of a job submitted before, by its key. Raises UnknownJob besides what ``run`` does."""
        return self._complete(lambda ticket, _: Watch(ticket, key), [], progress, cancelled, timeout)

    def status(self, timeout: float = 5.0) -> Report:
        """Return the server's report: jobs by state, workers with their memory, store and uptime."""
        with self._lock:
            deadline = time.monotonic() + timeout
            while True:
                try:
                    link = self.connect()
                    ticket = self._ticket()
                    link.send(Ask(ticket))
                    while time.monotonic() < deadline:
                        for message, _ in link.receive(0.05):
                            if isinstance(message, Report) and message.ticket == ticket:
                                return message
                            if isinstance(message, Refused):
                                self._refused(message)
                    raise TimedOut("The server did not report in time.", "Look at the server's log.")
                except LinkLost as error:
                    self._drop()
                    if time.monotonic() > deadline:
                        raise ConnectionFailed(str(error), "Look at the server's log.") from error

    # ---- inside

    def _complete(
        self,
        opening: Callable[[int, bool], Submit | Watch],
        planes: list[Plane],
        progress: Callable[[float, str], None] | None,
        cancelled: Callable[[], bool] | None,
        timeout: float | None,
    ) -> Result:
        ends = None if timeout is None else time.monotonic() + timeout
        lost: float | None = None
        fresh = True
        report = _Rising(progress)
        stopping = cancelled or (lambda: False)
        with self._lock:
            while True:
                pause = 0.2
                try:
                    link = self.connect()
                    check_planes([plane.info for plane in planes], link.welcome.limits)
                    exchange = Exchange(link, opening(self._ticket(), fresh), planes, report)
                    try:
                        while not exchange.step():
                            lost = None
                            if stopping():
                                exchange.cancel()
                            if ends is not None and time.monotonic() > ends:
                                raise TimedOut(
                                    f"The job was not done within {timeout:g} seconds.",
                                    "It goes on at the server; run it again to fetch the result.",
                                )
                    finally:
                        fresh = fresh and not exchange.key  # until the server has read it
                    return Result(exchange.planes(), exchange.meta, exchange.key)
                except (LinkLost, ConnectionFailed) as error:
                    first_contact = (
                        self._link is None and lost is None and isinstance(error, ConnectionFailed)
                    )
                    self._drop()
                    if first_contact:
                        raise
                    lost = lost or time.monotonic()
                    if time.monotonic() - lost > self._patience:
                        raise ConnectionFailed(
                            str(error), "Start the server again; the job is kept."
                        ) from error
                except Busy as busy:
                    pause = max(0.05, min(busy.retry_after, 5.0))
                    report(0.0, "waiting for the server")
                except PlatelightError:
                    self._drop()
                    raise
                if stopping():
                    raise Cancelled("The job was cancelled.")
                if ends is not None and time.monotonic() > ends:
                    raise TimedOut("The server did not come back in time.", "Run it again later.")
                time.sleep(pause)

    def _refused(self, message: Refused) -> None:
        if message.code == "hello_first":  # the server has restarted, or forgot a client that slept
            raise LinkLost(message.sentence)
        raise error_from_code(message.code, message.sentence, message.remedy)

    def _address(self) -> tuple[str, str]:
        endpoint, server_key, path = self._given
        if endpoint is None or path is not None:
            info = read_connection(path)  # read anew each time: a restarted server may have moved
            return endpoint or info.endpoint, server_key or info.server_key
        return endpoint, server_key or server_key_of(endpoint)

    def _ticket(self) -> int:
        self._tickets += 1
        return self._tickets

    def _drop(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


def _described(name: str, plane: np.ndarray[Any, Any] | Plane) -> Plane:
    return plane if isinstance(plane, Plane) else describe(name, plane)


class _Rising:
    """Hands progress on, but never a smaller fraction than before (a restarted job starts from zero again)."""

    def __init__(self, progress: Callable[[float, str], None] | None) -> None:
        self._progress = progress
        self._best = 0.0

    def __call__(self, fraction: float, stage: str) -> None:
        self._best = max(self._best, min(1.0, fraction))
        if self._progress is not None:
            self._progress(self._best, stage)


__all__ = ["AccessDenied", "Client", "Result"]
