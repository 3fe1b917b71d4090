"""Memory of large maps that nobody reads any more, kept for the next maps of the same size.

The C library gives pieces above 32 MiB back to the system, smaller ones now and then, and what it takes anew comes as fresh
pages. A 4K render takes 430 MB of them: a thirtieth of its time, or a quarter where the machine's memory is in fragments.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from threading import RLock
from typing import Any

import numpy as np
import numpy.typing as npt

LEAST = 16 << 20
"""Bytes: of what is smaller little is lost."""
MOST = 512 << 20
"""Bytes that are kept: a 4K render's passes and composite."""


class Spare:
    """A keeper of memory. Thread-safe, and safe where the collector runs amid its own work."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = RLock()
        self._free: dict[int, npt.NDArray[np.uint8]] = {}

    def empty(self, shape: tuple[int, ...], dtype: type[np.generic]) -> npt.NDArray[Any]:
        """As ``np.empty``, of memory that was kept where there is some."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size < LEAST:
            return np.empty(shape, dtype)
        memory = self._kept(size)
        if memory is None:
            memory = np.empty(size, np.uint8)
        # Views of an array refer to what owns its memory: to this, which goes when the last of them went.
        owner = (ctypes.c_char * size).from_buffer(memory.data)
        weakref.finalize(owner, self._back, memory).atexit = False
        return np.frombuffer(memoryview(owner), dtype).reshape(shape)

    def held(self) -> int:
        """Bytes that are kept."""
        return sum(memory.nbytes for memory in tuple(self._free.values()))

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._free.clear()

    def _kept(self, size: int) -> npt.NDArray[np.uint8] | None:
        with self._lock:
            for key, memory in tuple(self._free.items()):
                if memory.nbytes == size and self._free.pop(key, None) is not None:
                    return memory
        return None

    def _back(self, memory: npt.NDArray[np.uint8]) -> None:
        """Keep it and let go of the oldest that are too much."""
        with self._lock:
            self._free[id(memory)] = memory
            while self.held() > self._most:
                self._free.pop(next(iter(self._free)))


SPARE = Spare()
