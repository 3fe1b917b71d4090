"""The process in which :mod:`.apart` decodes: ``python -m platelight.images.apart_child SOCKET``."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sys
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt

from platelight.protocol.errors import PlatelightError

CPU_SECONDS = 600
"""Of one file: a 16K frame in the slowest compression takes some tens."""
ROOM = 1 << 30
"""Address space beside what a file says its pixels need, for libraries and their threads."""


def main(number: int) -> None:
    """Decode one file after another, until the parent goes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    with socket.socket(fileno=number) as parent, parent.makefile("rb") as requests:
        for line in requests:
            kind, path = json.loads(line)
            try:
                _limit_time()
                parts, file = _decoded(kind, os.fsdecode(bytes.fromhex(path)))
            except PlatelightError as error:
                _send(parent, {"sentence": error.sentence, "remedy": error.remedy})
                continue
            with contextlib.closing(file):
                _send(parent, {"parts": parts}, file.fileno())


def _decoded(kind: str, path: str) -> tuple[list[dict[str, Any]], Any]:
    """What lies where, and the file it lies in."""
    if kind == "exr":
        from platelight.images.exr import decode

        parts = decode(path, limit_memory)[1]
    else:
        from platelight.images.raster import decode_raster

        parts = [{"values": decode_raster(path, limit_memory)[0]}]
    file: Any = tempfile.TemporaryFile() if not hasattr(os, "memfd_create") else open(  # noqa: SIM115
        os.memfd_create("platelight pixels", os.MFD_CLOEXEC), "w+b"
    )  # fmt: skip
    told = []
    for part in parts:
        places = {}
        for name in list(part):
            array: npt.NDArray[Any] = np.ascontiguousarray(part.pop(name))  # so that each is freed in turn
            places[name] = (array.dtype.str, array.shape, file.tell())
            file.write(array.data.cast("B") if array.size else b"")
            file.write(bytes(-file.tell() % 16))
        told.append(places)
    file.flush()
    return told, file


def _send(parent: socket.socket, message: dict[str, Any], *files: int) -> None:
    data = json.dumps(message).encode() + b"\n"
    sent = socket.send_fds(parent, [data], list(files))
    parent.sendall(data[sent:])


def limit_memory(pixels: int) -> None:
    """Bound the address space to what a header promises (in bytes), thrice for buffers and copies, and some room."""
    with contextlib.suppress(ValueError, OSError):  # where the platform tells and bounds it
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = used + 3 * pixels + ROOM
        resource.setrlimit(
            resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard)
        )


def _limit_time() -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(usage.ru_utime + usage.ru_stime) + CPU_SECONDS
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main(int(sys.argv[1]))
