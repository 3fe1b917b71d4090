"""Chains of operations on pixels, compiled on CUDA into few kernels, each of which reads and writes memory once.

On processors a chunk fits the cache and compiling would cost half a minute, so that functions run as they are.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import torch

log = logging.getLogger(__name__)

R = TypeVar("R")


@functools.cache
def compiled(function: Callable[..., R]) -> Callable[..., R]:
    """The function compiled for any number of pixels; the first call takes its time."""
    made: Callable[..., R] = torch.compile(function, dynamic=True)
    return made


def guarded(what: str, compiled: Callable[..., R], function: Callable[..., R]) -> Callable[..., R]:
    """The compiled function, or for good the function itself where it does not compile: no Triton, an old driver.

    ``what``: who runs uncompiled then, as the log's sentence begins.
    """
    broken = False

    def call(*args: Any) -> R:
        nonlocal broken
        if not broken:
            try:
                found: R = compiled(*args)
                return found
            except torch.cuda.OutOfMemoryError:
                raise
            except Exception as error:  # what compilers raise is of many kinds; what is wrong in itself is raised again below
                broken = True
                log.warning("%s uncompiled: %s", what, str(error).split("\n", 1)[0])
        return function(*args)

    return call


@functools.cache
def _guarded(function: Callable[..., R]) -> Callable[..., R]:
    return guarded("shading runs", lambda *args: compiled(function)(*args), function)


def on(device: torch.device, function: Callable[..., R]) -> Callable[..., R]:
    """What to call for pixels on a device."""
    return _guarded(function) if device.type == "cuda" and not torch.is_grad_enabled() else function
