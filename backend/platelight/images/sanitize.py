"""Pixels no network may see, counted, replaced and told of: one NaN spoils a whole frame otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]

HALF_MAX = 65504.0
"""The largest finite half float: what outputs can store, and so the ceiling of plates."""
LIGHT_MAX = 1e12
"""The ceiling of lights: a sun of a few pixels exceeds half floats, and most of a light's energy may be there."""


@dataclass(frozen=True)
class Counts:
    """How many pixels were replaced, by reason; a pixel is counted once for each reason that applies."""

    nan: int = 0
    inf: int = 0
    negative: int = 0
    huge: int = 0

    @property
    def total(self) -> int:
        """Sum over the reasons."""
        return self.nan + self.inf + self.negative + self.huge

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.nan + other.nan,
            self.inf + other.inf,
            self.negative + other.negative,
            self.huge + other.huge,
        )

    def sentence(self, name: str) -> str:
        """One sentence on what was replaced in ``name``, or an empty string when nothing was."""
        reasons = (
            ("NaN", self.nan),
            ("infinite", self.inf),
            ("negative", self.negative),
            ("huge", self.huge),
        )
        told = ", ".join(f"{count} {reason}" for reason, count in reasons if count)
        return f"{name}: {told} pixel values were replaced." if told else ""


def sanitize(pixels: npt.NDArray[Any], ceiling: float = HALF_MAX) -> tuple[Pixels, Counts]:
    """Replace what is not a finite, non-negative number up to a ceiling.

    Args:
        pixels: (H, W) or (H, W, C), any float type.
        ceiling: the largest value that stays.

    Returns:
        float32 of the same shape, and the counts of pixels. NaN and −Inf become 0, values above the ceiling become the
        ceiling, +Inf becomes 65504 (it is what overflowed a half float), negatives become 0 (cameras and gamut conversion
        make small ones).
    """
    values = np.asarray(pixels, dtype=np.float32)
    # NaN makes both ends NaN, so this one test is enough to leave clean pictures alone.
    if values.size and values.min() >= 0.0 and values.max() <= ceiling:
        return values, Counts()
    nan, inf = np.isnan(values), np.isinf(values)
    with np.errstate(invalid="ignore"):
        negative = (values < 0.0) & ~inf
        huge = (values > ceiling) & ~inf
    counts = Counts(_pixels_of(nan), _pixels_of(inf), _pixels_of(negative), _pixels_of(huge))
    clean = (
        np.nan_to_num(values, nan=0.0, posinf=HALF_MAX, neginf=0.0)
        .clip(0.0, ceiling)
        .astype(np.float32, copy=False)
    )
    return clean, counts


def _pixels_of(mask: npt.NDArray[np.bool_]) -> int:
    return int(mask.any(axis=-1).sum()) if mask.ndim == 3 else int(mask.sum())
