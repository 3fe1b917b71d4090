"""Chunks of one picture on several cores of the processor.

An elementwise operation on a chunk that fits the cache is too small for torch to split, so chunks go to threads of
their own, each of which runs torch alone.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


@functools.lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(threads, "platelight-shade", torch.set_num_threads, (1,))
    # All threads start now, for a start changes what torch gives to later threads; then that is set back.
    barrier = Barrier(threads)
    for started in [pool.submit(barrier.wait) for _ in range(threads)]:
        started.result()
    torch.set_num_threads(threads)
    return pool


# A forked child has none of the pool's threads; Windows does not fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


def each(function: Callable[[T], R], items: Sequence[T], device: torch.device) -> list[R]:
    """``[function(item) for item in items]``, on all of torch's threads where no gradient is asked for."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or len(items) == 1 or torch.is_grad_enabled():
        return [function(item) for item in items]
    inference = torch.is_inference_mode_enabled()

    def quiet(item: T) -> R:
        with torch.inference_mode(inference), torch.no_grad():
            return function(item)

    return list(_pool(threads).map(quiet, items))
