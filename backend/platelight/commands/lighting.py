"""The target light of each frame: one HDRI or a sequence of them, turned and exposed by keyframes."""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from platelight.images import Frame, read_light
from platelight.images.sanitize import Pixels
from platelight.images.sequence import is_pattern, numbered
from platelight.protocol.errors import InputError
from platelight.protocol.requests import Relight, options_of

COLUMNS = {"rotate": "rotation", "exposure": "exposure"}
"""Columns of a CSV beside ``frame``, and the options that they move."""


@dataclass(frozen=True)
class Track:
    """One animated number: keyframes in ascending order of their frames, straight lines between, held beyond."""

    frames: tuple[float, ...]
    values: tuple[float, ...]

    def at(self, frame: float) -> float:
        """The value at a frame."""
        return float(np.interp(frame, self.frames, self.values))


@dataclass(frozen=True)
class Lighting:
    """What ``--light``, ``--light-csv``, ``--rotate`` and ``--exposure`` say together."""

    source: str
    colorspace: str
    rotation: float
    exposure: float
    tracks: dict[str, Track]
    fixed: Pixels | None

    @staticmethod
    def of(parsed: argparse.Namespace, frames: Sequence[Frame]) -> Lighting:
        """Read what all frames share, and check the rest, before anything long begins.

        Raises:
            InputError: the light or the CSV cannot be read, or a frame has no light or is out of range.
        """
        fixed = None if is_pattern(parsed.light) else read_light(parsed.light, parsed.light_colorspace)
        tracks = read_tracks(Path(parsed.light_csv)) if parsed.light_csv else {}
        lighting = Lighting(
            parsed.light, parsed.light_colorspace, parsed.rotation, parsed.exposure, tracks, fixed
        )  # fmt: skip
        for frame in frames:
            lighting.moved(frame)
            if fixed is None and not parsed.keep_going and not lighting.file(frame).is_file():
                raise InputError(
                    f"{lighting.file(frame)}: no such file.", f"Frame {frame.number} needs a light."
                )
        return lighting

    def file(self, frame: Frame) -> Path:
        """The HDRI of a frame."""
        return numbered(self.source, frame.number)

    def read(self, frame: Frame) -> Pixels:
        """Radiance (h, 2h, 3) of a frame, not yet turned."""
        return read_light(self.file(frame), self.colorspace) if self.fixed is None else self.fixed

    def moved(self, frame: Frame) -> dict[str, float]:
        """``rotation`` and ``exposure`` at a frame: the command's own, and what the tracks add.

        Raises:
            InputError: a track moves a picture without a number, or leads out of the option's range.
        """
        values = {"rotation": self.rotation, "exposure": self.exposure}
        if self.tracks and frame.number is None:
            raise InputError(f"{frame.path} has no frame number.", "Animate the light of a sequence only.")
        for name, track in self.tracks.items():
            values[name] += track.at(float(frame.number or 0))
        for option in options_of(Relight):
            low, high = option.minimum, option.maximum
            if option.name in values and not (low or 0) <= values[option.name] <= (high or 0):
                raise InputError(
                    f"At frame {frame.number} the {option.name} is {values[option.name]:g}, "
                    f"which is not between {low:g} and {high:g}.",
                    "Correct the keyframes.",
                )
        return values


def read_tracks(path: Path) -> dict[str, Track]:
    """Keyframes from a CSV with the columns ``frame`` and ``rotate`` (degrees), ``exposure`` (stops), or both.

    An empty cell is no keyframe. Returns tracks by option name.

    Raises:
        InputError: no such file, other columns, no number, or frames that do not ascend.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file.", "Save it as CSV in UTF-8.") from error
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    columns = [(name or "").strip().lower() for name in rows.fieldnames or ()]
    rows.fieldnames = columns
    if "frame" not in columns or not set(columns) <= {"frame", *COLUMNS} or len(columns) < 2:
        raise InputError(
            f"{path} has the columns {', '.join(columns) or 'of nothing'}.",
            "Give the columns frame, rotate and exposure in its first line.",
        )
    keys: dict[str, list[tuple[float, float]]] = {}
    for number, row in enumerate(rows, 2):
        for column, option in COLUMNS.items():
            if cell := (row.get(column) or "").strip():
                keys.setdefault(option, []).append(
                    (_number(path, number, row["frame"]), _number(path, number, cell))
                )
    for points in keys.values():
        if any(after[0] <= before[0] for before, after in itertools.pairwise(points)):
            raise InputError(
                f"{path}: the frames do not ascend.", "Sort the lines by frame, each frame once."
            )
    if not keys:
        raise InputError(f"{path} holds no keyframes.", "Give a line for each, for instance 1001,30,0.5.")
    return {
        option: Track(tuple(frame for frame, _ in points), tuple(value for _, value in points))
        for option, points in keys.items()
    }


def _number(path: Path, line: int, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{path}, line {line}: {text!r} is not a number.", "Correct the line.")
    return value
