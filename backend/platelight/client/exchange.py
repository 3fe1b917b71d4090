"""One job over one connection: a state machine that ``step`` drives, from submit to the last chunk."""

from __future__ import annotations

import itertools
import mmap
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from platelight.client.link import Link, LinkLost
from platelight.client.samehost import map_plane, write_plane
from platelight.protocol.errors import Busy, Cancelled, ProtocolError, error_from_code
from platelight.protocol.frames import Assembler, Plane, chunks, meta_from_text, restore
from platelight.protocol.messages import (
    Cancel,
    Chunk,
    Credit,
    Done,
    Failed,
    Fetch,
    Filled,
    JobState,
    Locate,
    Located,
    Need,
    Place,
    Placed,
    PlaneInfo,
    Progress,
    Refused,
    ServerMessage,
    Submit,
    Watch,
)

_UPLOADED, _COMPUTED = 0.1, 0.9  # shares of the progress bar: sending, computing, fetching
_CANCEL_GRACE = 20.0


class Exchange:
    """Drive one job. ``step`` returns True when the result is here.

    Raises (from ``step``): LinkLost when the connection broke, Busy to try later, Cancelled, and whatever
    PlatelightError the server sent.
    """

    def __init__(
        self,
        link: Link,
        opening: Submit | Watch,
        planes: Sequence[Plane],
        progress: Callable[[float, str], None],
    ) -> None:
        self.key = opening.key if isinstance(opening, Watch) else ""
        self.meta: dict[str, Any] = {}
        self._link = link
        self._ticket = opening.ticket
        self._limits = link.welcome.limits
        self._progress = progress
        self._outgoing: Iterator[tuple[Chunk, memoryview]] = iter(())
        self._known = {plane.info.hash: plane for plane in planes}
        self._credit = 0
        self._sent, self._to_send = 0, 0
        self._done: Done | None = None
        self._unique: dict[str, PlaneInfo] = {}
        self._incoming: dict[str, tuple[Assembler, bytearray]] = {}
        self._wanted: Iterator[Fetch] = iter(())
        self._got, self._to_get = 0, 0
        self._cancel_asked: float | None = None
        self._files = link.welcome.codec == "mmap"
        self._mapped: dict[str, mmap.mmap] = {}
        link.send(opening)

    def step(self, timeout: float = 0.05) -> bool:
        """Handle what comes within ``timeout`` seconds, send what may be sent; True when all is here."""
        for message, body in self._link.receive(timeout):
            self._handle(message, body)
        self._upload()
        if self._cancel_asked and time.monotonic() - self._cancel_asked > _CANCEL_GRACE:
            raise Cancelled("The job was cancelled; the server has not confirmed it.")
        if self._done is None:
            return False
        if len(self._mapped) == len(self._unique):
            return True
        return bool(self._incoming) and all(one.complete for one, _ in self._incoming.values())

    def cancel(self) -> None:
        """Ask the server to stop the job; ``step`` then raises Cancelled once it has."""
        if self._cancel_asked is None and self.key:
            self._cancel_asked = time.monotonic()
            if self._done is not None:
                raise Cancelled("The job was cancelled.")
            self._link.send(Cancel(self.key))

    def planes(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the result planes by name. Only after ``step`` returned True."""
        assert self._done is not None
        buffers: dict[str, bytearray | mmap.mmap] = {hash: one for hash, (_, one) in self._incoming.items()}
        buffers.update(self._mapped)
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        for info in self._done.planes:  # planes of equal bytes came once; each still gets memory of its own
            first = all(restored.hash != info.hash for restored in self._done.planes[: len(arrays)])
            buffer = buffers[info.hash]
            arrays[info.name] = restore(info, memoryview(buffer) if first else bytearray(buffer))
        return arrays

    def _handle(self, message: ServerMessage, body: memoryview) -> None:
        match message:
            case Need(ticket=self._ticket):
                self.key, self._credit = message.key, message.credit
                self._begin_upload(message.planes)
            case Credit():
                self._credit += message.count
            case Progress() if message.key == self.key:
                self._show(message)
            case Done() if message.key == self.key:
                self._begin_download(message)
            case Chunk() if message.plane in self._incoming:
                self._incoming[message.plane][0].add(message, body)
                self._got += len(body)
                self._ask_next()
                self._progress(_COMPUTED + (1 - _COMPUTED) * self._got / max(1, self._to_get), "receiving")
            case Placed() if message.plane in self._known:
                self._fill(message)
            case Located():
                self._map(message)
            case Failed() if message.key == self.key:
                raise error_from_code(message.code, message.sentence, message.remedy)
            case Refused():
                self._refused(message)
            case _:
                pass  # a late message of an earlier job on this connection

    def _refused(self, message: Refused) -> None:
        if message.code == "hello_first":
            raise LinkLost(message.sentence)
        if message.ticket is not None and message.ticket != self._ticket:
            return
        error = error_from_code(message.code, message.sentence, message.remedy)
        if isinstance(error, Busy) and message.retry_after is not None:
            error.retry_after = message.retry_after
        raise error

    def _begin_upload(self, hashes: Sequence[str]) -> None:
        missing = [hash for hash in hashes if hash not in self._known]
        if missing:
            raise ProtocolError("The server asks for planes that this job does not have.")
        wanted = [self._known[hash] for hash in hashes]
        if self._files:
            for plane in wanted:
                self._link.send(Place(plane.info.hash))
            return
        self._to_send = sum(plane.info.nbytes for plane in wanted)
        size = self._limits.chunk_bytes
        self._outgoing = (piece for plane in wanted for piece in chunks(plane, size))

    def _fill(self, placed: Placed) -> None:
        plane = self._known[placed.plane]
        if write_plane(placed.path, plane.data):
            self._link.send(Filled(placed.plane))
            self._progress(0.0, "sending")
            return
        self._outgoing = itertools.chain(self._outgoing, chunks(plane, self._limits.chunk_bytes))
        self._to_send += plane.info.nbytes
        self._files = False

    def _upload(self) -> None:
        while self._credit and self._cancel_asked is None:
            piece = next(self._outgoing, None)
            if piece is None:
                return
            self._link.send(*piece)
            self._credit -= 1
            self._sent += len(piece[1])
            self._progress(_UPLOADED * self._sent / max(1, self._to_send), "sending")

    def _show(self, message: Progress) -> None:
        share = _COMPUTED - _UPLOADED
        if message.state in (JobState.QUEUED, JobState.LEASED):
            ahead = f" behind {message.ahead}" if message.ahead else ""
            self._progress(_UPLOADED, f"queued{ahead}")
        elif message.state is JobState.RUNNING:
            self._progress(_UPLOADED + share * message.fraction, message.stage)

    def _begin_download(self, message: Done) -> None:
        if self._done is not None:
            return
        self._done = message
        self.meta = meta_from_text(message.meta)
        self._unique = unique = {info.hash: info for info in message.planes}
        if self._files:
            for info in unique.values():
                self._link.send(Locate(message.key, info.hash))
            return
        self._fetch(list(unique.values()))

    def _map(self, located: Located) -> None:
        if self._done is None or located.plane in self._mapped:
            return
        info = next((one for one in self._done.planes if one.hash == located.plane), None)
        if info is None:
            return
        pages = map_plane(located.path, info)
        if pages is not None:
            self._mapped[info.hash] = pages
            self._progress(_COMPUTED + (1 - _COMPUTED) * len(self._mapped) / len(self._unique), "receiving")
        elif self._files:
            self._files = False
            self._mapped.clear()
            self._fetch(list(self._unique.values()))

    def _fetch(self, planes: Sequence[PlaneInfo]) -> None:
        for info in planes:
            buffer = bytearray(info.nbytes)
            assembler = Assembler.into(info, memoryview(buffer), self._limits.chunk_bytes)
            self._incoming[info.hash] = (assembler, buffer)
        self._to_get = sum(info.nbytes for info in planes)
        size = self._limits.chunk_bytes
        self._wanted = (
            Fetch(self.key, info.hash, offset) for info in planes for offset in range(0, info.nbytes, size)
        )
        for _ in range(self._limits.credit):
            self._ask_next()

    def _ask_next(self) -> None:
        fetch = next(self._wanted, None)
        if fetch is not None:
            self._link.send(fetch)
