"""``platelight decompose``: plates to ``.maps.exr`` and ``.light.exr``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from platelight.commands.options import request_of
from platelight.commands.work import (
    Progress,
    Runner,
    as_float,
    cancel_on_interrupt,
    each_frame,
    header,
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
from platelight.protocol.requests import Decompose

Maps = Mapping[str, npt.NDArray[np.float32]]


def run(parsed: argparse.Namespace) -> int:
    """Run the command."""
    frames = expand(parsed.plates, parsed.frames)
    folder = Path(parsed.output)
    with cancel_on_interrupt() as cancelled, runner(parsed, cancelled) as job:

        def work(frame: Frame, progress: Progress) -> list[Path]:
            plate, maps, attributes = decompose(frame, parsed, job, progress)
            return save(folder, frame, plate, maps, attributes, parsed.png)

        each_frame(frames, work, cancelled)
    return 0


def decompose(
    frame: Frame, parsed: argparse.Namespace, job: Runner, progress: Progress
) -> tuple[Plate, dict[str, npt.NDArray[np.float32]], dict[str, Any]]:
    """Take one frame apart: the plate, its maps with the plane ``plate`` among them, and the header for files."""
    plate, mode, planes = plate_planes(frame, parsed)
    request = request_of(Decompose, parsed, matte=mode)
    outcome = job(request, planes, progress)
    maps = {**as_float(outcome.planes), "plate": plate.pixels}
    attributes = header(plate, frame, request, outcome.meta)
    attributes["platelight:depth"] = "along -Z, up to scale: the median over the subject is 1"
    return plate, maps, attributes


def save(
    folder: Path, frame: Frame, plate: Plate, maps: Maps, attributes: Mapping[str, Any], png: bool
) -> list[Path]:
    """Write ``.maps.exr`` and ``.light.exr``, and one PNG a map where asked; returns the files."""
    made = [folder / f"{frame.stem}.maps.exr", folder / f"{frame.stem}.light.exr"]
    write_maps(made[0], maps, attributes)
    write_light(made[1], maps["light"], attributes)
    if png:
        made += save_pngs(folder, frame.stem, plate, maps)
    return made


def save_pngs(folder: Path, stem: str, plate: Plate, maps: Maps) -> list[Path]:
    """One 8-bit PNG a map: color as sRGB, normals OpenGL, data as it is, depth near white and far black."""

    def path(name: str) -> Path:
        return folder / f"{stem}.{name}.png"

    write_png(path("albedo"), maps["albedo"], highlights="clip")
    write_png(path("foreground"), maps["foreground"], alpha=maps["matte"])
    write_normal_png(path("normal"), maps["normal"])
    for name in ("matte", "roughness", "reflectivity"):
        write_png_values(path(name), maps[name])
    inside = maps["matte"] > 0.5
    near, far = np.percentile(maps["depth"][inside], [1, 99]) if inside.any() else (0.0, 1.0)
    write_png_values(path("depth"), (far - maps["depth"]) / max(far - near, 1e-6) * maps["matte"])
    # A light has no white of its own; its 98th percentile is shown near white.
    bright = max(float(np.percentile(maps["light"], 98.0)), 1e-6)
    write_png(path("light"), maps["light"] * (0.8 / bright))
    names = ("albedo", "foreground", "normal", "matte", "roughness", "reflectivity", "depth", "light")
    return [path(name) for name in names]
