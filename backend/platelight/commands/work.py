"""What decompose and relight share: where jobs run, progress, Ctrl-C, and what goes into headers."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from platelight import __version__
from platelight.images import Frame, Plate, read_matte, read_plate
from platelight.protocol.errors import Cancelled, PlatelightError
from platelight.protocol.requests import Request

Planes = dict[str, npt.NDArray[Any]]
Progress = Callable[[float, str], None]


class Outcome(Protocol):
    """What a job gives, here or on a server."""

    @property
    def planes(self) -> Mapping[str, npt.NDArray[Any]]:
        """Arrays by name."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """JSON-like notes: versions, what was replaced."""


Runner = Callable[[Request, Planes, Progress], Outcome]


@contextlib.contextmanager
def runner(parsed: argparse.Namespace, cancelled: Callable[[], bool]) -> Iterator[Runner]:
    """Yield what runs jobs: a server's client with ``--server``, else the pipeline in this process."""
    if parsed.server:
        from platelight.client import Client

        with Client(None if parsed.server == "local" else parsed.server) as client:
            client.connect()  # a wrong address is told before minutes are spent on reading plates
            yield lambda request, planes, progress: client.run(request, planes, progress, cancelled)
        return
    ready = False

    def run(request: Request, planes: Planes, progress: Progress) -> Outcome:
        # Imported at the first job: torch takes seconds, and a wrong plate should be told at once.
        from platelight.pipeline import service

        nonlocal ready
        if not ready:
            service.configure(parsed.device, parsed.threads)
            ready = True
        return service.run_job(request, planes, progress, cancelled)

    yield run


@contextlib.contextmanager
def cancel_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C was pressed; a second Ctrl-C interrupts at once."""
    asked = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def bar(steps: int) -> Iterator[Callable[[int, str], Progress]]:
    """A progress bar on stderr over ``steps`` equal steps; yields ``begin(step, label) -> progress``."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    with Bar(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn(),
        console=console, disable=not console.is_terminal,
    ) as live:  # fmt: skip
        task = live.add_task("", total=steps)

        def begin(step: int, label: str) -> Progress:
            def progress(fraction: float, stage: str) -> None:
                live.update(task, completed=step + min(1.0, fraction), description=f"{label}  {stage}")

            progress(0.0, "reading")
            return progress

        yield begin
        live.update(task, completed=steps)


def each_frame(
    frames: list[Frame], work: Callable[[Frame, Progress], list[Path]], cancelled: Callable[[], bool]
) -> None:
    """Do ``work`` on each frame under one bar, print the files made, and name the frame in what goes wrong."""
    with bar(len(frames)) as begin:
        for number, frame in enumerate(frames):
            if cancelled():
                raise Cancelled("The work was cancelled.", f"{number} of {len(frames)} frames are done.")
            try:
                made = work(frame, begin(number, frame.path.name))
            except PlatelightError as error:
                if str(frame.path) not in error.sentence and error.exit_code != Cancelled.exit_code:
                    error.sentence = f"{frame.path}: {error.sentence}"
                raise
            for path in made:
                print(path)


def plate_planes(frame: Frame, parsed: argparse.Namespace) -> tuple[Plate, str, Planes]:
    """Read a frame and its matte: the plate, the request's matte mode, and the planes to send.

    With ``auto``, an alpha channel that cuts something out is taken for the matte.
    """
    plate = read_plate(frame.path, parsed.colorspace)
    planes: Planes = {"plate": plate.pixels}
    mode = parsed.matte if parsed.matte in ("auto", "full") else "given"
    if mode == "given":
        height, width = plate.pixels.shape[:2]
        planes["matte"] = read_matte(parsed.matte, (height, width))
    elif mode == "auto" and plate.alpha is not None and (plate.alpha < 0.999).any():
        mode, planes["matte"] = "given", plate.alpha
    return plate, mode, planes


def header(plate: Plate, frame: Frame, request: Request, meta: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of an output: the plate's own, and how the file was made."""
    own = {
        "platelight:version": __version__,
        "platelight:source": frame.path.name,
        "platelight:colorspace": plate.colorspace,
        "platelight:settings": msgspec.json.encode(request).decode(),
        "platelight:models": json.dumps(meta.get("models", {}), sort_keys=True, default=str),
        "platelight:replaced": json.dumps(
            {name: getattr(plate.counts, name) for name in ("nan", "inf", "negative", "huge")}
        ),
    }
    return {**plate.attributes, **own}


def as_float(planes: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float32]]:
    """Planes as float32: servers send half where that is enough."""
    return {name: np.asarray(plane, dtype=np.float32) for name, plane in planes.items()}
