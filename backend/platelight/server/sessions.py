"""What the broker knows about one connected client: who it is, what it is sending, what it watches."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from platelight.protocol.errors import ProtocolError
from platelight.protocol.frames import Assembler, Buffer
from platelight.protocol.messages import Chunk, PlaneInfo
from platelight.server.blobs import BlobFolder, BlobWriter, digest


class Upload:
    """One plane on its way in. The file is opened with the first chunk, so waiting planes cost nothing."""

    def __init__(self, info: PlaneInfo, blobs: BlobFolder, chunk_bytes: int) -> None:
        self.info = info
        self._blobs = blobs
        self._chunk_bytes = chunk_bytes
        self._writer: BlobWriter | None = None
        self._assembler: Assembler | None = None
        self._storing = False

    def add(self, chunk: Chunk, body: memoryview) -> bool:
        """Take a chunk; True when the plane is complete. Raises ProtocolError or StoreFull."""
        if self._storing:
            raise ProtocolError("A chunk came of a plane that was said to be complete.")
        if self._writer is None:
            self._writer = self._blobs.writer(self.info.hash, self.info.nbytes)
        if self._assembler is None:
            self._assembler = Assembler(self.info, self._chunk_bytes, self._writer.write, self._writer.read)
        self._assembler.add(chunk, body)
        return self._assembler.complete

    def place(self) -> Path:
        """Return a file of the plane's size for a client on this host to fill. Raises StoreFull."""
        if self._storing:
            raise ProtocolError("A file was asked for a plane that was said to be complete.")
        if self._writer is None:
            self._writer = self._blobs.writer(self.info.hash, self.info.nbytes)
        return self._writer.path

    def store(self) -> Callable[[], bool]:
        """Return what checks the file and names it, False if its hash is wrong.

        It can take a while, so it is to be called in another thread; this upload takes nothing more.
        """
        writer, checked = self._writer, self._assembler is not None and self._assembler.complete
        if writer is None or self._storing:
            raise ProtocolError("A plane was said to be complete for which there is no file.")
        self._storing = True

        def commit() -> bool:
            try:
                if not checked and digest(writer.path) != self.info.hash:
                    return False
                writer.commit()
                return True
            finally:
                writer.abort()  # removes what was not committed

        return commit

    def abort(self) -> None:
        """Remove what came so far, unless it is being stored: then that runs its course."""
        if self._writer is not None and not self._storing:
            self._writer.abort()
            self._writer = None


@dataclass
class Session:
    """A client that has said hello. ``owner`` is its public key, as the handshake proved it."""

    identity: bytes
    owner: str
    heard: float = field(default_factory=time.monotonic)
    watching: set[str] = field(default_factory=set)
    needs: dict[str, set[str]] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    backlog: deque[list[Buffer]] = field(default_factory=deque)

    def expect(self, key: str, planes: Iterable[PlaneInfo], blobs: BlobFolder, chunk_bytes: int) -> None:
        """Note the planes that this client is to send for a job."""
        self.needs[key] = {plane.hash for plane in planes}
        for plane in planes:
            if plane.hash not in self.uploads:
                self.uploads[plane.hash] = Upload(plane, blobs, chunk_bytes)

    def upload_of(self, plane: str) -> Upload:
        """Return the upload of a plane that this client is to send. Raises ProtocolError when it is not."""
        upload = self.uploads.get(plane)
        if upload is None:
            raise ProtocolError("A plane was sent that was not asked for.")
        return upload

    def satisfied(self, hash: str) -> list[str]:
        """Strike a plane off; returns the jobs that now need nothing more."""
        ready = []
        for key, missing in list(self.needs.items()):
            missing.discard(hash)
            if not missing:
                del self.needs[key]
                ready.append(key)
        return ready

    def forget(self, key: str) -> None:
        """Stop following a job and drop what was being sent for it alone."""
        self.watching.discard(key)
        self.needs.pop(key, None)
        wanted = set().union(*self.needs.values())
        for hash in [hash for hash in self.uploads if hash not in wanted]:
            self.uploads.pop(hash).abort()

    def close(self) -> None:
        """Drop all that was being sent, either way."""
        self.backlog.clear()
        for upload in self.uploads.values():
            upload.abort()
        self.uploads.clear()
        self.needs.clear()
        self.watching.clear()
