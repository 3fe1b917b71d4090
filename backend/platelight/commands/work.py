"""What decompose and relight share: where jobs run, progress, Ctrl-C, and what goes into headers."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from platelight import __version__
from platelight.commands.records import shipped_models
from platelight.images import Frame, Plate, ocio, read_matte, read_plate
from platelight.images.color import depends_on_configuration, linear_space
from platelight.images.exr import half
from platelight.images.plate import plate_of
from platelight.images.sequence import color_space_of, numbered
from platelight.protocol.requests import Decompose, Request

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


@dataclass(frozen=True)
class Apart:
    """A plate taken apart: its maps, the planes ``plate`` and ``light`` among them, and the header for files."""

    maps: dict[str, npt.NDArray[np.float32]]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Runner:
    """Runs jobs, here or on a server; ``models`` are those that a server says it has."""

    run: Callable[[Request, Planes, Progress], Outcome]
    models: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, request: Request, planes: Planes, progress: Progress) -> Outcome:
        return self.run(request, planes, progress)


@contextlib.contextmanager
def runner(
    parsed: argparse.Namespace, cancelled: Callable[[], bool], steadied: bool = False
) -> Iterator[Runner]:
    """Yield what runs jobs: a server's client with ``--server``, else the pipeline in this process.

    ``steadied``: whether frames wait for their neighbors, which a limit on memory has to hold.
    """
    if parsed.server:
        from platelight.client import Client

        with Client(None if parsed.server == "local" else parsed.server) as client:
            link = client.connect()  # a wrong address is told before minutes are spent on reading plates

            def ask(request: Request, planes: Planes, progress: Progress) -> Outcome:
                if isinstance(request, Decompose) and not steadied:  # the files hold no more
                    request = msgspec.structs.replace(request, halves=True)
                return client.run(request, planes, progress, cancelled)

            yield Runner(ask, link.welcome.models)
        return
    ready = False

    def run(request: Request, planes: Planes, progress: Progress) -> Outcome:
        # Imported at the first job: torch takes seconds, and a wrong plate should be told at once.
        from platelight.pipeline import service
        from platelight.pipeline.room import beyond

        nonlocal ready
        if not ready:
            service.configure(parsed.device, parsed.threads)
            service.choose_engine(parsed.networks)
            if parsed.memory is not None:
                shaded = bool(getattr(parsed, "lamp", ())) or getattr(parsed, "shadows", "off") == "on"
                service.limit_memory(int(parsed.memory * 2**30), beyond(shaded, steadied))
            ready = True
        return service.run_job(request, planes, progress, cancelled)

    yield Runner(run)


@contextlib.contextmanager
def cancel_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C was pressed, or SIGTERM came; a second one interrupts at once."""
    asked = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


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


def read_frame_plate(frame: Frame, parsed: argparse.Namespace) -> Plate:
    """The plate of a frame, from a picture or out of a movie."""
    space = color_space_of(frame, parsed.colorspace)
    if not frame.is_movie:
        return read_plate(frame.path, space, empty=bool(frame.shot))
    from platelight.images.movie import read_frame

    assert frame.number is not None
    return plate_of(read_frame(frame.path, frame.number), str(frame), space)


def color_settings(parsed: argparse.Namespace) -> dict[str, str]:
    """Take the OpenColorIO config of the command, and give what records say of it where outputs depend on it.

    Raises:
        InputError: it cannot be used, or the output's space is none that is linear.
    """
    ocio.choose(parsed.ocio)
    output = getattr(parsed, "output_colorspace", "linear")
    linear_space(output)
    said = {} if output == "linear" else {"output_colorspace": output}
    plates = [choice.rpartition("=")[2] for choice in parsed.colorspace or ()]
    others = (getattr(parsed, name, None) for name in ("light_colorspace", "backdrop_colorspace"))
    named = depends_on_configuration(*plates, output, *others)
    if named and ocio.name_in_force() != ocio.BUILTIN:
        said["ocio"] = ocio.identity()
    return said


def matte_file(frame: Frame, parsed: argparse.Namespace) -> Path | None:
    """The file that ``--matte`` names for a frame, if it names one."""
    return None if parsed.matte in ("auto", "full") else numbered(parsed.matte, frame.number)


def plate_planes(frame: Frame, parsed: argparse.Namespace) -> tuple[Plate, str, Planes]:
    """Read a frame and its matte: the plate, the request's matte mode, and the planes to send.

    With ``auto``, an alpha channel that cuts something out is taken for the matte.
    """
    plate = read_frame_plate(frame, parsed)
    planes: Planes = {"plate": plate.pixels}
    given = matte_file(frame, parsed)
    if given is not None:
        height, width = plate.pixels.shape[:2]
        return plate, "given", {**planes, "matte": read_matte(given, (height, width), bool(frame.shot))}
    if parsed.matte == "auto" and plate.alpha is not None and (plate.alpha < 0.999).any():
        own, plate = plate.alpha, over_black(plate)
        return plate, "given", {"plate": plate.pixels, "matte": own}
    return plate, parsed.matte, planes


def over_black(plate: Plate) -> Plate:
    """A plate as a camera would have seen it before a black backdrop: what is cut out of it by its own alpha was straight."""
    if plate.alpha is None:
        return plate
    return replace(plate, pixels=plate.pixels * plate.alpha[..., None])


def models_of(parsed: argparse.Namespace, server: Mapping[str, str]) -> dict[str, Any]:
    """What computes, for records: the weights (a server's as it says), and the kind of device."""
    if parsed.server:
        return {"server": dict(server)}
    return {"weights": shipped_models(), "device": parsed.device.partition(":")[0]}


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


def as_float(
    planes: Mapping[str, npt.NDArray[Any]], sparing: bool = False
) -> dict[str, npt.NDArray[np.float32]]:
    """Planes as float32: servers, and jobs whose memory is bounded, give half where that is enough.

    ``sparing`` leaves halves as they are, for files that hold no more.
    """
    return {
        name: plane if sparing and plane.dtype == np.float16 else np.asarray(plane, dtype=np.float32)
        for name, plane in planes.items()
    }


def as_files_hold(planes: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Planes as EXR files hold them, to take half the memory while they wait: halves but for depth, and for light, which is
    small and reckoned with."""
    return {name: plane if name in ("depth", "light") else half(plane) for name, plane in planes.items()}
