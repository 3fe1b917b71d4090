"""What the machine has and what processes use and do, as the platform tells it."""

from __future__ import annotations

import os


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
