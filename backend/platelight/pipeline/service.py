"""The one way into the pipeline: a request and planes in, planes and notes out."""

from __future__ import annotations

import dataclasses
import gc
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from platelight import __version__
from platelight.images.exr import half
from platelight.models import engine
from platelight.pipeline.decompose import decompose
from platelight.pipeline.networks import Networks
from platelight.pipeline.relight import relight
from platelight.pipeline.room import Room, beyond
from platelight.pipeline.spare import SPARE
from platelight.pipeline.subject import Kept
from platelight.protocol.errors import InputError
from platelight.protocol.requests import Decompose, Relight, Request
from platelight.shading import integrate

Map = npt.NDArray[Any]
_FLOATS = frozenset({"depth", "light"})  # halves would show as steps in a surface, and clip a sun


@dataclass(frozen=True)
class JobResult:
    """Planes by name and JSON-like notes: versions, what was replaced."""

    planes: dict[str, Map]
    meta: dict[str, Any] = field(default_factory=dict)


_lock = threading.Lock()
_device = torch.device("cpu")
_weights: Path | None = None  # the shipped ones
_engine = engine.Engine.TORCH
_networks: Networks | None = None
_room = Room()
_kept = Kept()


def limit_memory(size: int | None, whole: int = 0) -> None:
    """Bound the memory of jobs, in bytes: smaller bands, and maps in half floats where a plate is large.

    ``whole``: bytes a pixel that the caller, or a later job on the same maps, takes beside; see :func:`room.beyond`.
    """
    global _room
    _room = Room(size, whole=whole)


def configure(device: str = "cpu", threads: int | None = None, weights: Path | None = None) -> None:
    """Choose the device ("cpu", "cuda", "cuda:1", "mps"), the number of CPU threads for this process, and the folder of weights.

    Raises:
        InputError: the device is not there.
    """
    global _device, _weights, _networks
    wanted = torch.device(device)
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"The device {device} is not available: PyTorch sees no CUDA GPU.", "Use --device cpu."
        )
    if wanted.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(
            f"The device {device} is not available: PyTorch sees no Metal GPU.", "Use --device cpu."
        )
    torch.set_num_threads(threads or os.cpu_count() or 1)
    with _lock:
        # A farm's worker runs one command after another: the networks stay.
        if (wanted, weights) != (_device, _weights):
            _device, _weights, _networks = wanted, weights, None


def choose_engine(name: str) -> None:
    """Choose what runs the networks: "auto", "torch", "compile" or "openvino"; see :mod:`platelight.models.engine`.

    Raises:
        InputError: it is not installed, or does not run on the device that was chosen before.
    """
    global _engine, _networks
    wanted = engine.Engine(name)
    engine.choose(wanted, _device)
    with _lock:
        if wanted != _engine:
            _engine, _networks = wanted, None


def networks() -> Networks:
    """The networks of this process, loaded at the first call."""
    global _networks
    with _lock:
        if _networks is None:
            _networks = Networks.load(_device, _weights, _engine)
        return _networks


def make_room() -> bool:
    """After a job ran out of memory: drop networks and an accelerator's cached blocks, and work in small bands on halves
    from now on. True: try again.
    """
    global _networks, _room
    with _lock:
        _networks, _room = None, dataclasses.replace(_room, lean=True)
    _kept.clear()
    gc.collect()
    SPARE.clear()
    if _device.type == "cuda":
        torch.cuda.empty_cache()
    return True


def idle() -> bool:
    """What can be made ahead while nothing is asked for, a little at a time; False where there is no more."""
    return integrate.ready()


def run_job(
    request: Request,
    planes: dict[str, npt.NDArray[Any]],
    progress: Callable[[float, str], None] = lambda fraction, stage: None,
    cancelled: Callable[[], bool] = lambda: False,
    made: Callable[[str, Map], None] = lambda name, plane: None,
) -> JobResult:
    """Carry out one request; see ``platelight.protocol.requests`` for the planes.

    ``made`` may be given planes of the result before the rest is there, so that whoever stores or sends them can begin.

    Raises:
        PlatelightError: with a sentence for the user.
    """
    given = {
        name: plane if plane.dtype.kind == "f" else plane.astype(np.float32) for name, plane in planes.items()
    }
    if isinstance(request, Decompose):
        if "plate" not in given:
            raise InputError("The plate is missing.", "Send the plane 'plate'.")
        loaded, finished = networks(), dict[str, Map]()

        def finish(name: str, plane: Map) -> None:
            finished[name] = half(plane) if request.halves and name not in _FLOATS else plane
            made(name, finished[name])

        plate, matte = given["plate"], given.get("matte")
        counts = decompose(loaded, plate, request, matte, progress, cancelled, finish, _room)
        notes = {name: getattr(counts, name) for name in ("nan", "inf", "negative", "huge")}
        return JobResult(finished, {"platelight": __version__, "models": loaded.versions, "replaced": notes})
    bare = isinstance(request, Relight) and request.pbr_only
    used = None if bare else networks()
    whole = beyond(isinstance(request, Relight) and (bool(request.lamps) or request.shadows == "on"))
    room = dataclasses.replace(_room, lean=_room.lean or request.halves, whole=max(_room.whole, whole))
    # Only previews, one light after another, are worth the memory, and only where there is enough of it.
    kept = _kept if bare and _room.memory is None and not _room.lean else None
    relit = relight(used, given, request, _device, progress, cancelled, room, kept)
    meta: dict[str, Any] = {"platelight": __version__, "models": used.versions if used else {}}
    return JobResult(relit.planes(), meta)
