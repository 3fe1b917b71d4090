"""Numbers animated by a CSV: keyframes with straight lines between. Imports nothing heavy: Blender uses it too."""

from __future__ import annotations

import csv
import io
import itertools
import math
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from platelight.protocol.errors import InputError

COLUMNS = {"rotate": "rotation", "exposure": "exposure"}
"""Columns of a CSV beside ``frame``, and the options that they move."""


@dataclass(frozen=True)
class Track:
    """One animated number: keyframes in ascending order of their frames, straight lines between, held beyond."""

    frames: tuple[float, ...]
    values: tuple[float, ...]

    def at(self, frame: float) -> float:
        """The value at a frame."""
        after = bisect_right(self.frames, frame)
        if after == 0 or after == len(self.frames):
            return self.values[min(after, len(self.frames) - 1)]
        first, last = self.frames[after - 1], self.frames[after]
        part = (frame - first) / (last - first)
        return self.values[after - 1] + part * (self.values[after] - self.values[after - 1])


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
