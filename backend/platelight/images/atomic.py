"""Whole files or none: every output is written beside its final name and then renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from platelight.protocol.errors import InputError, PlatelightError


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``; on success sync it and rename it into place.

    The temporary name keeps the suffix (image libraries choose the format by it) and starts with a dot, so
    that a glob for the final name never finds it. On any failure it is removed and ``path`` is untouched.

    Raises:
        InputError: the folder cannot be made or written.
        PlatelightError: the disk is full, or another error of the file system.
    """
    final = Path(path)
    temporary = final.with_name(f".{final.stem}.{os.getpid()}-{secrets.token_hex(4)}.part{final.suffix}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        descriptor = os.open(temporary, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, final)
        _sync_folder(final.parent)
    except (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise InputError(
            f"{final} cannot be written ({error.strerror}).", "Choose an output folder that you may write to."
        ) from error
    except OSError as error:
        raise PlatelightError(
            f"{final} could not be written ({error.strerror or error}).", "Check the free space of that disk."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path`` whole or not at all. Raises as :func:`atomic_path`."""
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        stream.write(data)


def _sync_folder(folder: Path) -> None:
    # The rename itself is only durable once its folder is; Windows cannot open folders and needs no sync.
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
