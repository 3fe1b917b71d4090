"""Planes on disk by the hash of their bytes: written to a temporary file, renamed, synced, never changed.

A rename is enough for whatever ends a process. What ends the machine can leave a file of the right size with the wrong
bytes until ``BlobFolder.sync`` has returned, which is why the job table notes the planes that are not synced yet.
Nobody waits for the disk this way.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from platelight.protocol.errors import StoreFull
from platelight.protocol.frames import Buffer

log = logging.getLogger(__name__)
_RESERVE = 64 * 1024 * 1024
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_HASH_LETTERS = frozenset("0123456789abcdef")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal, without holding the interpreter's lock. Raises OSError."""
    with open(path, "rb", buffering=0) as file:  # read, not mapped: a client may cut it short meanwhile
        return hashlib.file_digest(file, "sha256").hexdigest()


class BlobWriter:
    """A blob on its way in; ``commit`` makes it visible, ``abort`` removes it."""

    def __init__(self, folder: Path, hash: str, size: int) -> None:
        self.hash = hash
        self._final = folder / hash
        self._temporary = folder / f"tmp-{os.getpid()}-{os.urandom(8).hex()}"
        self._file = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        try:
            os.ftruncate(self._file, size)
        except OSError:
            self.abort()
            raise

    def write(self, offset: int, data: Buffer) -> None:
        """Write bytes at an offset. Raises StoreFull when the disk is."""
        view = memoryview(data)
        try:
            while view:
                written = _write_at(self._file, view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            raise full(error) from error

    @property
    def path(self) -> Path:
        """Where the bytes lie until ``commit``."""
        return self._temporary

    def read(self, start: int, stop: int) -> bytes:
        """Return bytes written before."""
        return _read_at(self._file, stop - start, start)

    def commit(self) -> None:
        """Close and rename. Raises StoreFull when the disk is."""
        try:
            file, self._file = self._file, -1
            os.close(file)
            os.replace(self._temporary, self._final)
        except OSError as error:
            self.abort()
            raise full(error) from error

    def abort(self) -> None:
        """Remove what was written; may be called at any time."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._temporary)


def _write_at(file: int, data: memoryview, offset: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(file, data, offset)
    os.lseek(file, offset, os.SEEK_SET)  # Windows
    return os.write(file, data)


def _read_at(file: int, size: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(file, size, offset)
    os.lseek(file, offset, os.SEEK_SET)  # Windows
    return os.read(file, size)


def full(error: OSError) -> StoreFull:
    """Return the sentence for a failed write; anything but a full disk is raised again."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        raise error
    return StoreFull("The server's disk is full.", "Free some space on the server, then run it again.")


class BlobFolder:
    """The folder of blobs. Several processes may write to it at once; equal content simply arrives twice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, hash: str) -> Path:
        """Return where a blob lies. Only 64 hexadecimal digits are a name, so none leads out of the folder."""
        if len(hash) != 64 or not _HASH_LETTERS.issuperset(hash):
            raise ValueError(f"not a hash: {hash!r}")
        return self.folder / hash

    def has(self, hash: str, size: int) -> bool:
        """True when the blob is here with this size."""
        try:
            return self.path(hash).stat().st_size == size
        except FileNotFoundError:
            return False

    def writer(self, hash: str, size: int) -> BlobWriter:
        """Begin a blob. Raises StoreFull when it would not leave a reserve of 64 MiB on the disk."""
        if shutil.disk_usage(self.folder).free < size + min(_RESERVE, size + 1024):
            raise StoreFull("The server's disk is full.", "Free some space on the server, then run it again.")
        return BlobWriter(self.folder, hash, size)

    def put(self, data: Buffer, hash: str | None = None) -> str:
        """Store bytes and return their hash, which may be known. Raises StoreFull."""
        hash = hash or hashlib.sha256(data).hexdigest()
        if not self.has(hash, len(data)):
            writer = self.writer(hash, len(data))
            try:
                writer.write(0, data)
                writer.commit()
            except BaseException:
                writer.abort()
                raise
        return hash

    def read(self, hash: str, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes of a blob from an offset. Raises FileNotFoundError."""
        file = os.open(self.path(hash), os.O_RDONLY | _FLAGS)
        try:
            return _read_at(file, size, offset)
        finally:
            os.close(file)

    def sync(self, hash: str) -> None:
        """Wait until a blob is on the disk; one that the disk does not take is removed, one that is gone is no error.

        Raises:
            OSError: it cannot be tried now, for want of open files say.
        """
        try:
            file = os.open(self.path(hash), os.O_RDWR | _FLAGS)
        except FileNotFoundError:
            return
        try:
            os.fsync(file)
        except OSError:  # a second sync would succeed without the bytes that were lost
            log.exception("a plane did not reach the disk; it is made or sent again")
            self.remove(hash)
        finally:
            os.close(file)

    def intact(self, hash: str) -> bool:
        """True when the blob is here and is what its name says."""
        try:
            return digest(self.path(hash)) == hash
        except OSError:
            return False

    def remove(self, hash: str) -> None:
        """Remove a blob if it is here. On Windows one that a client has mapped stays until it is an orphan."""
        with contextlib.suppress(FileNotFoundError, PermissionError):
            self.path(hash).unlink()

    def all(self) -> Iterator[tuple[str, int, float]]:
        """Yield (hash, bytes, time of last change) of every blob."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if len(entry.name) == 64:
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat()
                        yield entry.name, status.st_size, status.st_mtime

    def sweep(self, pid: int | None = None) -> None:
        """Remove what a process left that was killed, or every one: only call that while none writes here."""
        for path in self.folder.glob("tmp-*" if pid is None else f"tmp-{pid}-*"):
            with contextlib.suppress(FileNotFoundError, PermissionError):
                path.unlink()
