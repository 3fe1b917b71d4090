"""Planes through files that a server on this host names, in place of a socket: codec ``mmap``.

The server's store is a 0700 folder, so only a client of the same user can open its files; any other finds out by
trying, and goes on with chunks.
"""

from __future__ import annotations

import ipaddress
import mmap
import os
import stat
from urllib.parse import urlsplit

from platelight.protocol.messages import PlaneInfo

_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def is_loopback(endpoint: str) -> bool:
    """True when an endpoint's host is a literal loopback address."""
    try:
        return ipaddress.ip_address(urlsplit(endpoint).hostname or "").is_loopback
    except ValueError:
        return False


def is_ipv6(endpoint: str) -> bool:
    """True when an endpoint's host is a literal IPv6 address.

    Sockets are told for such only: for names ZeroMQ would else try IPv6 alone, and ``*`` would listen on both.
    """
    return endpoint.startswith("tcp://[")


def write_plane(path: str, data: memoryview) -> bool:
    """Write a plane into the file that the server made for it; False when that cannot be done from here."""
    try:
        file = os.open(path, os.O_WRONLY | _FLAGS)
        try:
            if not _is_file_of(file, len(data)):
                return False
            offset = 0
            while offset < len(data):
                offset += os.write(file, data[offset:])
        finally:
            os.close(file)
    except OSError:
        return False
    return True


def map_plane(path: str, info: PlaneInfo) -> mmap.mmap | None:
    """Return a result plane's bytes, in private pages of its file; None when that cannot be done from here."""
    try:
        file = os.open(path, os.O_RDONLY | _FLAGS)
        try:
            if not _is_file_of(file, info.nbytes):
                return None
            return mmap.mmap(file, 0, access=mmap.ACCESS_COPY)
        finally:
            os.close(file)
    except (OSError, ValueError):
        return None


def _is_file_of(file: int, size: int) -> bool:
    status = os.fstat(file)
    return stat.S_ISREG(status.st_mode) and status.st_size == size
