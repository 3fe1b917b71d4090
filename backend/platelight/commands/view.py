"""``platelight view``: a contact sheet, a before/after wipe or a turntable of the light, for dailies."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from platelight.commands.options import request_of
from platelight.commands.work import as_float, cancel_on_interrupt, runner
from platelight.images import read_light, read_maps, read_plate
from platelight.images.apart import decoding_apart
from platelight.images.exr import read_exr
from platelight.images.sanitize import Pixels
from platelight.protocol.errors import Cancelled, InputError
from platelight.protocol.requests import Relight

BEHIND = 0.02
"""Linear gray behind frames without a backdrop."""
EDGE = 2


@decoding_apart()
def run(parsed: argparse.Namespace) -> int:
    """Run the command."""
    suffix = ".png" if parsed.kind == "sheet" else ".mp4"
    if Path(parsed.output).suffix.lower() != suffix:
        raise InputError(
            f"{parsed.output} does not end in {suffix}.", f"A {parsed.kind} is written as {suffix}."
        )
    makers = {"sheet": _sheet, "wipe": _wipe, "turntable": _turntable}
    makers[parsed.kind](parsed)
    print(parsed.output)
    return 0


def _stems(parsed: argparse.Namespace) -> list[str]:
    folder = Path(parsed.folder)
    stems = _in_order(folder, ".relit.exr")
    if not stems:
        raise InputError(f"{folder} holds no .relit.exr.", "Make them by 'platelight relight'.")
    return stems


def _in_order(folder: Path, suffix: str) -> list[str]:
    """Names without the suffix, by their numbers, padded or not."""
    names = [
        path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}") if not path.name.startswith(".")
    ]
    return sorted(
        names,
        key=lambda name: [
            (int(piece), "") if piece.isdigit() else (0, piece) for piece in re.split(r"(\d+)", name)
        ],
    )


def _relit(folder: Path, stem: str) -> Pixels:
    plate = read_plate(folder / f"{stem}.relit.exr", empty=True)
    if plate.alpha is None:
        return plate.pixels
    alpha = plate.alpha[..., None]
    return np.asarray(plate.pixels * alpha + BEHIND * (1 - alpha), np.float32)


def _plate(folder: Path, stem: str) -> Pixels:
    path = folder / f"{stem}.maps.exr"
    if not path.is_file():
        raise InputError(
            f"{path}: no such file.", "A wipe needs the maps beside the relit frames: relight from plates."
        )
    return read_maps(path)[0]["plate"]


def _sheet(parsed: argparse.Namespace) -> None:
    from platelight.images.sheet import Tile, contact_sheet

    folder, stems = Path(parsed.folder), _stems(parsed)
    count = min(parsed.tiles, len(stems))
    chosen = [stems[k] for k in np.linspace(0, len(stems) - 1, count).round().astype(int)]
    rows = []
    for start in range(0, count, parsed.columns):
        row = [Tile(stem, _relit(folder, stem)) for stem in chosen[start : start + parsed.columns]]
        row += [Tile("", np.zeros_like(row[0].pixels)) for _ in range(parsed.columns - len(row))]
        rows.append(row)
    contact_sheet(parsed.output, rows)


def _rate(parsed: argparse.Namespace, path: Path) -> Fraction:
    """``--rate``, else what the frame's header says, else 24."""
    if parsed.rate:
        return Fraction(parsed.rate).limit_denominator(1001)
    said = read_exr(path)[0].attributes.get("framesPerSecond")
    return said if isinstance(said, Fraction) and said > 0 else Fraction(24)


def _wipe(parsed: argparse.Namespace) -> None:
    from platelight.images.movie_out import shown, write_movie

    folder, stems = Path(parsed.folder), _stems(parsed)
    # A single frame is held, so that there is something to see the line pass over.
    order = stems if len(stems) > 1 else stems * 48

    def frames() -> Iterator[Any]:
        last, before, after, first = "", None, None, None
        for k, stem in enumerate(order):
            if stem != last:
                before, after, last = shown(_plate(folder, stem)), shown(_relit(folder, stem)), stem
            assert before is not None
            assert after is not None
            if before.shape != after.shape:
                raise InputError(f"{stem}: plate and relit frame differ in size.", "Relight it again.")
            first = first or after.shape
            if after.shape != first:
                raise InputError(
                    f"{stem} is {after.shape[1]}×{after.shape[0]}, but {order[0]} is {first[1]}×{first[0]}.",
                    "Give a folder of frames of one size.",
                )
            yield wiped(before, after, swing(k, len(order)))

    write_movie(parsed.output, frames(), _rate(parsed, folder / f"{stems[0]}.relit.exr"))


def swing(k: int, count: int) -> float:
    """Where the line is at frame k: from the left to the right and back once in the whole, at rest at the ends."""
    return float(0.5 - 0.5 * np.cos(2 * np.pi * k / max(count - 1, 1)))


def wiped(before: Any, after: Any, at: float) -> Any:
    """The relit picture left of the line, the plate right of it."""
    width = before.shape[1]
    column = round(at * width)
    out = before.copy()
    out[:, :column] = after[:, :column]
    out[:, max(0, column - EDGE) : column + EDGE] = 255
    return out


def _turntable(parsed: argparse.Namespace) -> None:
    from platelight.images.movie_out import shown, write_movie
    from platelight.pipeline.matting import estimate_foreground

    if not parsed.light:
        raise InputError("A turntable needs a light.", "Give --light HDRI.")
    path = Path(parsed.folder)
    if path.is_dir():
        found = _in_order(path, ".maps.exr")
        if not found:
            raise InputError(f"{path} holds no .maps.exr.", "Make them by 'platelight decompose'.")
        path = path / f"{found[len(found) // 2]}.maps.exr"
    light = read_light(parsed.light)
    maps, _ = read_maps(path)
    planes = {**maps, "foreground": estimate_foreground(maps["plate"], maps["matte"]), "light": light}
    with cancel_on_interrupt() as cancelled, runner(parsed, cancelled) as job:

        def frames() -> Iterator[Any]:
            for k in range(parsed.steps):
                if cancelled():
                    raise Cancelled("The work was cancelled.")
                request = request_of(
                    Relight, parsed, rotation=parsed.rotation + 360.0 * k / parsed.steps, backdrop="none"
                )
                relit = as_float(job(request, dict(planes), lambda fraction, stage: None).planes)["relit"]
                yield shown(relit[..., :3] + BEHIND * (1 - relit[..., 3:]))

        write_movie(parsed.output, frames(), Fraction(parsed.rate or 24).limit_denominator(1001))
