"""What the machine has and what processes use and do, as the platform tells it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys

_KEPT = 256 << 20
_LARGE = 4 << 20
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def machine_memory() -> int:
    """Return the machine's memory in bytes, or very many where the platform does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2**62


def resident_memory(pid: int | None = None) -> int:
    """Return a process's resident memory in bytes, this one's by default; 0 where the platform does not tell."""
    try:
        with open(f"/proc/{pid or 'self'}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def is_stopped(pid: int) -> bool:
    """True when a process has been stopped by a signal; False where the platform does not tell."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0] in "Tt"
    except (OSError, IndexError):
        return False


def keep_freed_memory() -> None:
    """Have this process keep up to 256 MiB that it gave back, for what it takes next; does nothing without glibc.

    A preview takes and gives back the same megabytes for each light. By default they go to the system and come back as fresh
    pages, whose first writing costs more than what is computed with them. Pieces above 32 MiB still come and go.
    """
    _tell_malloc((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, _KEPT))


def prepare_torch() -> None:
    """Have torch take pages of 2 MiB and wait without spinning, here and in processes that this one starts.

    To be called before torch is imported.

    Networks take and give back hundreds of megabytes a picture, and each page of 4 KiB costs a fault when it is first written;
    Linux gives larger ones to who asks. OpenMP's threads spin where they wait for each other: beside a Blender that renders on all
    cores, they spend their share of time on that and networks may take ten times as long. What the user set stays.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def give_back_large_blocks() -> None:
    """Have pieces of memory above 4 MiB go back to the system as soon as they are freed; does nothing without glibc.

    By default glibc raises the size above which it does so to that of each such piece freed, up to 32 MiB. A frame's planes
    then lie in heaps, where those that stay keep the gaps of those that went: of a long shot a quarter of the memory.
    """
    _tell_malloc((_MMAP_THRESHOLD, _LARGE))


def _tell_malloc(*options: tuple[int, int]) -> None:
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in options:
            mallopt(option, value)


@functools.cache
def prefer_systems_libsodium() -> str | None:
    """Have ZeroMQ encrypt with the system's libsodium where there is one, and return its version; to be called before zmq is imported,
    and again to be told what came of that.

    The one in pyzmq's wheels was compiled without optimization and takes about ten times as long (``tests/wire/transport.py``).
    What was loaded for all to see comes first where the dynamic linker looks, as with ``LD_PRELOAD``. Linux only.
    """
    if not sys.platform.startswith("linux") or "zmq" in sys.modules:
        return None
    for name in ("libsodium.so.26", "libsodium.so.23"):  # from 1.0.19, and from 1.0.13
        with contextlib.suppress(OSError):
            version = ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL).sodium_version_string
            version.restype = ctypes.c_char_p
            return str(version().decode("ascii"))
    return None


def files_to_spare(count: int) -> bool:
    """Whether so many more files can be opened now."""
    opened: list[int] = []
    try:
        for _ in range(count):
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    finally:
        for handle in opened:
            os.close(handle)
    return True
