"""``platelight train plot``: the curves of runs as one PNG, drawn with OpenCV."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from platelight.images.atomic import atomic_path
from platelight.protocol.errors import InputError, PlatelightError

WIDE, HIGH, EDGE = 420, 260, 48
COLORS = ((200, 120, 30), (40, 90, 220), (60, 160, 60), (160, 60, 160), (30, 160, 200), (110, 110, 110))
Curves = dict[str, dict[str, list[tuple[float, float]]]]  # measure -> run -> (step, value)


def read(paths: Sequence[Path]) -> Curves:
    """Curves of run folders or their tables: one row a step with measures as columns, or one row a measure.

    Raises:
        InputError: a table is missing, or holds no rows.
    """
    curves: Curves = {}
    for given in paths:
        path = given / "log.csv" if given.is_dir() else given
        if not path.is_file():
            raise InputError(
                f"{given} holds no log.csv.", "Give folders of runs, or tables that training wrote."
            )
        name = given.name if given.is_dir() else given.stem
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        try:
            for row in rows:
                step = float(row["step"])
                if "measure" in row:
                    key = f"{row['stage']}: {row['measure']}"
                    curves.setdefault(key, {}).setdefault(name, []).append((step, float(row["value"])))
                    continue
                for key, value in row.items():
                    if key not in ("step", "minutes"):
                        curves.setdefault(key, {}).setdefault(name, []).append((step, float(value)))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is not a table of a training run.", "Give a log.csv.") from error
    if not curves:
        raise InputError("The tables hold no rows.", "A run writes one after each 100 steps.")
    return curves


def _panel(
    title: str, runs: dict[str, list[tuple[float, float]]], names: Sequence[str]
) -> npt.NDArray[np.uint8]:
    image = np.full((HIGH, WIDE, 3), 255, np.uint8)
    points = np.array([p for run in runs.values() for p in run])
    points = points[np.isfinite(points).all(1)] if len(points) else points
    if not len(points):
        return image
    left, right = float(points[:, 0].min()), float(points[:, 0].max())
    low, high = (float(v) for v in np.percentile(points[:, 1], [0, 99]))
    margin = 0.06 * (high - low) or max(abs(high) * 0.1, 1e-6)
    low, high = low - margin, high + margin

    def at(step: float, value: float) -> tuple[int, int]:
        x = EDGE + (step - left) / max(right - left, 1e-9) * (WIDE - EDGE - 12)
        y = HIGH - 26 - (min(max(value, low), high) - low) / (high - low) * (HIGH - 54)
        return round(x), round(y)

    def write(text: str, x: int, y: int, size: float = 0.36, color: tuple[int, ...] = (60, 60, 60)) -> None:
        cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)

    for k in range(5):
        value = low + (high - low) * k / 4
        _, y = at(left, value)
        cv2.line(image, (EDGE, y), (WIDE - 12, y), (225, 225, 225), 1)
        digits = max(0, 2 - math.floor(math.log10(max(abs(high), 1e-9))))
        write(f"{value:.{min(digits, 5)}f}", 2, y + 4, 0.3)
    write(title, EDGE, 16, 0.45, (0, 0, 0))
    write(f"{left:.0f}", EDGE, HIGH - 8, 0.3)
    write(f"step {right:.0f}", WIDE - 78, HIGH - 8, 0.3)
    for name, run in runs.items():
        color = COLORS[names.index(name) % len(COLORS)]
        line = np.array([at(*p) for p in run if math.isfinite(p[1])], np.int32)
        cv2.polylines(image, [line], False, color, 1, cv2.LINE_AA)
        if len(line) == 1:
            cv2.circle(image, tuple(map(int, line[0])), 2, color, -1)
    if len(names) > 1:
        for k, name in enumerate(n for n in names if n in runs):
            write(name[:24], WIDE - 160, 16 + 13 * k, 0.34, COLORS[names.index(name) % len(COLORS)])
    return image


def plot(paths: Sequence[Path], out: Path, columns: int = 3) -> Path:
    """Draw one panel a measure, one curve a run, into the PNG ``out``."""
    curves = read(paths)
    names = list(dict.fromkeys(name for runs in curves.values() for name in runs))
    panels = [_panel(title, runs, names) for title, runs in curves.items()]
    blank = np.full_like(panels[0], 255)
    panels += [blank] * (-len(panels) % min(columns, len(panels)))
    across = min(columns, len(panels))
    sheet = np.vstack([np.hstack(panels[k : k + across]) for k in range(0, len(panels), across)])
    with atomic_path(out.with_suffix(".png")) as temporary:
        if not cv2.imwrite(str(temporary), sheet):
            raise PlatelightError(f"{out} could not be written.", "Choose another folder.")
    return out.with_suffix(".png")
