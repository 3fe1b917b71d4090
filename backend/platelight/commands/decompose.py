"""``platelight decompose``: plates to ``.maps.exr`` and ``.light.exr``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from platelight.commands import batch, temporal
from platelight.commands.camera import ShotCamera
from platelight.commands.options import request_of
from platelight.commands.progress import Meter
from platelight.commands.records import Ledger
from platelight.commands.work import (
    Apart,
    Planes,
    Progress,
    Runner,
    as_files_hold,
    as_float,
    cancel_on_interrupt,
    color_settings,
    header,
    matte_file,
    models_of,
    plate_planes,
    runner,
)
from platelight.images import (
    Frame,
    Plate,
    expand,
    write_light,
    write_maps,
    write_normal_png,
    write_png,
    write_png_values,
)
from platelight.images.apart import decoding_apart
from platelight.images.sequence import color_space_of
from platelight.pipeline.neutral import without_subject
from platelight.protocol.errors import NoSubjectError
from platelight.protocol.requests import Decompose

log = logging.getLogger(__name__)
Maps = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Source:
    """A frame as it was read: the plate, the request's matte mode, and the planes of the job."""

    plate: Plate
    mode: str
    planes: Planes


@decoding_apart()
def run(parsed: argparse.Namespace) -> int:
    """Run the command."""
    colors = color_settings(parsed)
    frames = expand(parsed.plates, parsed.frames, strict=not parsed.keep_going)
    camera = ShotCamera.of(parsed, frames)
    folder = Path(parsed.output)
    steadied = temporal.wanted(parsed, frames)
    with cancel_on_interrupt() as cancelled, runner(parsed, cancelled, steadied) as job:
        settings = {**settings_of(parsed, frames, camera), **colors, "models": models_of(parsed, job.models)}
        ledger = Ledger(folder, "decompose", settings)
        work: batch.Work[Source, Apart] = batch.Work(
            files=lambda frame: plate_files(frame, parsed),
            extra=lambda frame: {"colorspace": color_space_of(frame, parsed.colorspace)},
            read=lambda frame: read(frame, parsed),
            compute=batch.each(
                lambda frame, source, progress: to_write(
                    decompose(frame, source, parsed, job, progress, camera), parsed
                )
            ),
            write=lambda frame, apart: save(folder, frame, apart, parsed.png),
        )
        if steadied:
            steady = temporal.Steady(
                frames, parsed.shot, ledger, work.files, temporal_settings(settings, parsed),
                lambda frame, source, progress: decompose(frame, source, parsed, job, progress, camera),
                lambda source: None, None if camera is None else camera.axes,
            )  # fmt: skip

            def compute(stream: batch.Stream[Source], display: Meter) -> batch.Computing[Apart]:
                for frame, taken in steady.stream(stream, display):
                    if isinstance(taken, Exception):
                        yield frame, taken
                        continue
                    made = batch.Made(to_write(taken[1], parsed), taken[0].shape, taken[0].inputs)
                    del taken
                    yield frame, made
                    del made

            work = steady.fitted(work, compute)
        return batch.run(frames, parsed, ledger, work, cancelled)


def bounded(parsed: argparse.Namespace, frame: Frame) -> bool:
    """Whether maps stay in half floats where they come as such: in bounded memory and from a server, and nothing is reckoned
    with them.
    """
    steadied = bool(frame.shot) and parsed.temporal != "off"
    return (parsed.memory is not None or parsed.server is not None) and not steadied


def temporal_settings(settings: Mapping[str, Any], parsed: argparse.Namespace) -> dict[str, Any]:
    """On what a frame's own maps depend, before they are steadied, beside the files."""
    named = {name: settings[name] for name in ("decompose", "models", "ocio") if name in settings}
    return named | {"colorspace": parsed.colorspace}


def settings_of(parsed: argparse.Namespace, frames: list[Frame], camera: ShotCamera | None) -> dict[str, Any]:
    """What maps depend on beside files, models and the color space."""
    steady = temporal.VERSION if temporal.wanted(parsed, frames) else 0
    mode = parsed.matte if parsed.matte in ("auto", "full") else "given"
    # All of an animated lens: a frame's steady maps depend on its neighbors', at their own fields of view.
    lens = {} if camera is None else {"fov": camera.lens()}
    return {
        "decompose": {**msgspec.to_builtins(request_of(Decompose, parsed, matte=mode)), **lens},
        "png": parsed.png,
        "temporal": steady,
    }


def plate_files(frame: Frame, parsed: argparse.Namespace) -> list[tuple[str, Path]]:
    """The files that a frame's maps depend on, by role."""
    matte = matte_file(frame, parsed)
    return [("plate", frame.path), *([("matte", matte)] if matte else [])]


def read(frame: Frame, parsed: argparse.Namespace) -> tuple[Source, tuple[int, int]]:
    """Read a frame with its matte; and its (height, width)."""
    plate, mode, planes = plate_planes(frame, parsed)
    height, width = plate.pixels.shape[:2]
    return Source(plate, mode, planes), (height, width)


def decompose(
    frame: Frame, source: Source, parsed: argparse.Namespace, job: Runner, progress: Progress,
    camera: ShotCamera | None,
) -> Apart:  # fmt: skip
    """Take one frame apart, as its camera saw it where that is known."""
    lens = {} if camera is None else camera.request(frame)
    request = request_of(Decompose, parsed, matte=source.mode, **lens)
    try:
        outcome = job(request, source.planes, progress)
        planes, meta = as_float(outcome.planes, bounded(parsed, frame)), outcome.meta
    except NoSubjectError as error:
        if not frame.shot:
            raise
        # The subject has left the shot, or has not come yet.
        log.warning("%s: %s Neutral maps are written.", frame, error.sentence)
        planes, meta = (
            without_subject(*source.plate.pixels.shape[:2]),
            {"models": models_of(parsed, job.models)},
        )
    maps = {**planes, "plate": source.plate.pixels}
    attributes = header(source.plate, frame, request, meta)
    attributes["platelight:depth"] = "along -Z, up to scale: the median over the subject is 1"
    return Apart(maps, attributes)


def to_write(apart: Apart, parsed: argparse.Namespace) -> Apart:
    """What of a frame's maps waits to be written, in as little memory as gives the same files."""
    if parsed.png:  # made from floats
        return apart
    written = {name: plane for name, plane in apart.maps.items() if name != "foreground"}
    return Apart(as_files_hold(written), apart.attributes)


def save(folder: Path, frame: Frame, apart: Apart, png: bool) -> list[Path]:
    """Write ``.maps.exr`` and ``.light.exr``, and one PNG a map where asked; returns the files."""
    made = [folder / f"{frame.stem}.maps.exr", folder / f"{frame.stem}.light.exr"]
    write_maps(made[0], apart.maps, apart.attributes)
    write_light(made[1], apart.maps["light"], apart.attributes)
    if png:
        made += save_pngs(folder, frame.stem, apart.maps)
    return made


def save_pngs(folder: Path, stem: str, maps: Maps) -> list[Path]:
    """One 8-bit PNG a map: color as sRGB, normals OpenGL, data as it is, depth near white and far black."""

    def path(name: str) -> Path:
        return folder / f"{stem}.{name}.png"

    write_png(path("albedo"), maps["albedo"], highlights="clip")
    write_png(path("foreground"), maps["foreground"], alpha=maps["matte"])
    write_normal_png(path("normal"), maps["normal"])
    for name in ("matte", "roughness", "reflectivity"):
        write_png_values(path(name), maps[name])
    write_png_values(path("cavity"), maps["cavity"] * 0.5)  # mid-gray is neutral
    inside = maps["matte"] > 0.5
    near, far = np.percentile(maps["depth"][inside], [1, 99]) if inside.any() else (0.0, 1.0)
    shown = np.subtract(np.float32(far), maps["depth"], dtype=np.float32)
    shown *= np.float32(1.0 / max(far - near, 1e-6))
    shown *= maps["matte"]
    write_png_values(path("depth"), shown)
    # A light has no white of its own; its 98th percentile is shown near white.
    bright = max(float(np.percentile(maps["light"], 98.0)), 1e-6)
    write_png(path("light"), maps["light"] * (0.8 / bright))
    names = (
        "albedo",
        "foreground",
        "normal",
        "matte",
        "roughness",
        "reflectivity",
        "cavity",
        "depth",
        "light",
    )
    return [path(name) for name in names]
