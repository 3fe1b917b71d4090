"""Job functions that stand in for the pipeline: small, fast, and able to misbehave.

What a toy does is chosen by the request: the whole part of ``fov`` names it, see ``TOYS``. Each run leaves a
line in the file named by ``PLATELIGHT_TOY_LOG``, so that tests can count executions.
"""

from __future__ import annotations

import contextlib
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
STEPS, HUNGRY, GREEDY, HOARD, FILL, ECHO, EARLY = (float(n) for n in range(19, 26))
AHEAD = 3
_lean = False
_ahead = 0
Planes = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class ToyResult:
    planes: Planes
    meta: dict[str, Any] = field(default_factory=dict)


def idle() -> bool:
    global _ahead
    if _ahead == AHEAD:
        return False
    _ahead += 1
    with open(os.environ["PLATELIGHT_TOY_LOG"] + ".idle", "a", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
    return True


def run(
    request: Request, planes: Planes, progress: Callable[[float, str], None], cancelled: Callable[[], bool],
    made: Callable[[str, np.ndarray[Any, Any]], None],
) -> ToyResult:  # fmt: skip
    note = os.environ["PLATELIGHT_TOY_LOG"]
    with open(note, "a", encoding="ascii") as file:
        file.write(f"{request.fov} {os.getpid()}\n")
    toy = float(int(request.fov))  # what is behind the point tells executions apart
    if toy in (SLOW, COUNT, STEPS):
        for index in range(20):
            if cancelled():
                raise Cancelled("The job was cancelled.")
            progress(index / 20, "sleeping")
            time.sleep({SLOW: 0.1, COUNT: 0.02, STEPS: 0.01}[toy])
    elif toy == DEAF:
        time.sleep(60)
    elif toy == DIE:
        os.kill(os.getpid(), signal.SIGKILL)
    elif toy == DIE_ONCE:
        marker = note + ".died"
        if not os.path.exists(marker):
            with open(marker, "w", encoding="ascii"):
                pass
            os.kill(os.getpid(), signal.SIGKILL)
    elif toy == FAIL:
        raise RuntimeError("the toy broke")
    elif toy == TYPED:
        raise NoSubjectError("No subject was found in the plate.", "Give a matte.")
    meta: dict[str, Any] = {
        "kind": type(request).__name__,
        "shapes": {k: list(v.shape) for k, v in planes.items()},
    }
    if toy == HUNGRY and not _lean:
        raise MemoryError
    if toy == GREEDY:
        raise MemoryError
    if toy == HOARD and not _lean:
        hoard = np.ones(64 * 2**20, np.float32)  # 256 MiB, until the guard sees it
        time.sleep(10)
        meta["hoard"] = float(hoard[0])
    if toy == FILL:
        filler = os.environ["PLATELIGHT_TOY_FILL"]
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(bytes(65536))
    meta["lean"] = _lean
    if toy == BAD_META:
        meta["text"] = "x" * 100_000
    if toy == ECHO:
        return ToyResult(dict(planes), meta)
    if toy == EARLY:
        early = planes["plate"] + 1
        made("early", early)
        if "matte" in planes:
            raise RuntimeError("the toy broke")
        return ToyResult({"early": early, "late": early + 1}, meta)
    progress(1.0, "doubling")
    return ToyResult({f"{name}_twice": plane * plane.dtype.type(2) for name, plane in planes.items()}, meta)


def make_room() -> bool:
    global _lean
    _lean = True
    return True


def configure(device: str, threads: int | None) -> None:
    if device == "abacus":
        raise InputError("The device abacus is not available: it has no beads.", "Use --device cpu.")
