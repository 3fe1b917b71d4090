"""Job functions that stand in for the pipeline: small, fast, and able to misbehave.

What a toy does is chosen by the request: the whole part of ``fov`` names it, see ``TOYS``. Each run leaves a
line in the file named by ``PLATELIGHT_TOY_LOG``, so that tests can count executions.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from platelight.protocol.errors import Cancelled, InputError, NoSubjectError
from platelight.protocol.requests import Request

DOUBLE, SLOW, DIE, FAIL, TYPED, DEAF, DIE_ONCE, BAD_META, COUNT = (float(n) for n in range(10, 19))
Planes = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class ToyResult:
    planes: Planes
    meta: dict[str, Any] = field(default_factory=dict)


def run(
    request: Request, planes: Planes, progress: Callable[[float, str], None], cancelled: Callable[[], bool]
) -> ToyResult:
    note = os.environ["PLATELIGHT_TOY_LOG"]
    with open(note, "a", encoding="ascii") as file:
        file.write(f"{request.fov} {os.getpid()}\n")
    if request.fov in (SLOW, COUNT):
        for index in range(20):
            if cancelled():
                raise Cancelled("The job was cancelled.")
            progress(index / 20, "sleeping")
            time.sleep(0.1 if request.fov == SLOW else 0.02)
    elif request.fov == DEAF:
        time.sleep(60)
    elif request.fov == DIE:
        os.kill(os.getpid(), signal.SIGKILL)
    elif request.fov == DIE_ONCE:
        marker = note + ".died"
        if not os.path.exists(marker):
            with open(marker, "w", encoding="ascii"):
                pass
            os.kill(os.getpid(), signal.SIGKILL)
    elif request.fov == FAIL:
        raise RuntimeError("the toy broke")
    elif request.fov == TYPED:
        raise NoSubjectError("No subject was found in the plate.", "Give a matte.")
    meta: dict[str, Any] = {
        "kind": type(request).__name__,
        "shapes": {k: list(v.shape) for k, v in planes.items()},
    }
    if request.fov == BAD_META:
        meta["text"] = "x" * 100_000
    progress(1.0, "doubling")
    return ToyResult({f"{name}_twice": plane * plane.dtype.type(2) for name, plane in planes.items()}, meta)


def configure(device: str, threads: int | None) -> None:
    if device == "abacus":
        raise InputError("The device abacus is not available: it has no beads.", "Use --device cpu.")
