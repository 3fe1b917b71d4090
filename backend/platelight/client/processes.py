"""Whose process a file is about, where it outlives its program or several machines see it: this machine, and what runs on it."""

from __future__ import annotations

import os
import platform
import sys


def this_machine() -> str:
    """The name of this machine, by which a folder that several machines see tells them apart."""
    return platform.node()


def lives(pid: int) -> bool:
    """Whether a process of this user's runs on this machine."""
    if sys.platform == "win32":
        import ctypes

        kernel = ctypes.windll.kernel32  # os.kill would end it
        handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
        code = ctypes.c_ulong()
        running = bool(handle) and bool(kernel.GetExitCodeProcess(handle, ctypes.byref(code)))
        if handle:
            kernel.CloseHandle(handle)
        return running and code.value == 259  # STILL_ACTIVE
    if pid <= 0:  # not told, and for os.kill a whole group
        return False
    try:
        os.kill(pid, 0)
    except OSError:  # none, or another user's
        return False
    return True
