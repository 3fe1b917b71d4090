"""Contact sheets: labeled pictures in rows, to be looked at."""

from __future__ import annotations

import os
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from platelight.images.color import linear_to_srgb, shoulder
from platelight.images.raster import write_png_values

Pixels = npt.NDArray[np.float32]
LABEL = 24


@dataclass(frozen=True)
class Tile:
    """A picture (H, W, 3) or (H, W) and its label; linear unless ``encoded``."""

    label: str
    pixels: Pixels
    encoded: bool = False


def _drawn(tile: Tile, width: int) -> Pixels:
    image = np.asarray(tile.pixels, np.float32)
    image = np.repeat(image[..., None], 3, -1) if image.ndim == 2 else image
    height = max(1, round(width * image.shape[0] / image.shape[1]))
    mode = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
    image = np.asarray(
        cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=mode), np.float32
    )
    shown = image if tile.encoded else linear_to_srgb(np.clip(shoulder(np.maximum(image, 0)), 0, 1))
    band = np.full((LABEL, width, 3), 0.08, np.float32)
    cv2.putText(
        band, tile.label, (6, LABEL - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0.9, 0.9, 0.9), 1, cv2.LINE_AA
    )
    return np.concatenate([band, np.clip(shown, 0, 1).astype(np.float32)])


def contact_sheet(
    path: str | os.PathLike[str], rows: list[list[Tile]], width: int = 1600, gap: int = 4
) -> None:
    """Write rows of tiles as one PNG of ``width`` pixels; each row fills the width, its tiles equally wide."""
    drawn = []
    for row in rows:
        each = (width - gap * (len(row) - 1)) // len(row)
        pictures = [_drawn(tile, each) for tile in row]
        high = max(p.shape[0] for p in pictures)
        canvas = np.full((high + gap, width, 3), 0.03, np.float32)
        for index, picture in enumerate(pictures):
            left = index * (each + gap)
            canvas[: picture.shape[0], left : left + each] = picture
        drawn.append(canvas)
    write_png_values(path, np.concatenate(drawn))
