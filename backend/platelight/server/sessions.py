"""What the broker knows about one connected client: who it is, what it is sending, what it watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from platelight.protocol.errors import ProtocolError
from platelight.protocol.frames import Assembler
from platelight.protocol.messages import Chunk, PlaneInfo
from platelight.server.blobs import BlobFolder, BlobWriter


class Upload:
    """One plane on its way in. The file is opened with the first chunk, so waiting planes cost nothing."""

    def __init__(self, info: PlaneInfo, blobs: BlobFolder, chunk_bytes: int) -> None:
        self.info = info
        self._blobs = blobs
        self._chunk_bytes = chunk_bytes
        self._writer: BlobWriter | None = None
        self._assembler: Assembler | None = None
        self._checking = False

    def place(self) -> Path:
        """Return a file of the plane's size for a client on this host to fill. Raises StoreFull."""
        if self._writer is None:
            self._writer = self._blobs.writer(self.info.hash, self.info.nbytes)
        return self._writer.path

    def check(self) -> Callable[[], bool]:
        """Return what stores a filled file if its hash is right; to be called in another thread, it takes long."""
        writer = self._writer
        if writer is None or self._checking:
            raise ProtocolError("A plane was said to be complete for which there is no file.")
        self._checking = True

        def commit() -> bool:
            if writer.digest() != self.info.hash:
                return False
            writer.commit()
            return True

        return commit

    def add(self, chunk: Chunk, body: memoryview) -> bool:
        """Take a chunk; True when the plane is complete and stored. Raises ProtocolError or StoreFull."""
        if self._checking:
            raise ProtocolError("A chunk came of a plane that was said to be complete.")
        if self._writer is None:
            self._writer = self._blobs.writer(self.info.hash, self.info.nbytes)
        if self._assembler is None:
            self._assembler = Assembler(self.info, self._chunk_bytes, self._writer.write, self._writer.read)
        self._assembler.add(chunk, body)
        if self._assembler.complete:
            self._writer.commit()
            self._writer = None
            return True
        return False

    def abort(self) -> None:
        """Remove what came so far."""
        if self._writer is not None:
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

    def expect(self, key: str, planes: Iterable[PlaneInfo], blobs: BlobFolder, chunk_bytes: int) -> None:
        """Note the planes that this client is to send for a job."""
        self.needs[key] = {plane.hash for plane in planes}
        for plane in planes:
            if plane.hash not in self.uploads:
                self.uploads[plane.hash] = Upload(plane, blobs, chunk_bytes)

    def receive(self, chunk: Chunk, body: memoryview) -> PlaneInfo | None:
        """Take a chunk; returns the plane when it is complete. Raises ProtocolError or StoreFull."""
        upload = self.uploads.get(chunk.plane)
        if upload is None:
            raise ProtocolError("A chunk came of a plane that was not asked for.")
        if not upload.add(chunk, body):
            return None
        del self.uploads[chunk.plane]
        return upload.info

    def upload_of(self, plane: str) -> Upload:
        """Return the upload of a plane that this client is to send. Raises ProtocolError when it is not."""
        upload = self.uploads.get(plane)
        if upload is None:
            raise ProtocolError("A file was asked for a plane that was not asked for.")
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
        """Drop all that was being sent."""
        for upload in self.uploads.values():
            upload.abort()
        self.uploads.clear()
        self.needs.clear()
        self.watching.clear()
