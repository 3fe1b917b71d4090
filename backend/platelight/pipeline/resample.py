"""Between the plate's resolution and the networks': the subject's window, padding, guided upsampling, fusion of scales."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from platelight.pipeline.room import Large, scaled

MULTIPLE = 32  # the encoder halves five times
RIM = 0.015  # of the long side: how far solid parts reach
KNOWN = 0.02  # share of solid parts that counts as near


@dataclass(frozen=True)
class Window:
    """A rectangle of the plate, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, image: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, height, width), a view."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def paste(self, image: Tensor, into: Tensor) -> Tensor:
        """Put (N, C, height, width) into a copy of ``into`` (N, C, H, W)."""
        out = into.clone()
        out[..., self.top : self.top + self.height, self.left : self.left + self.width] = image
        return out


def fov_of(window: Window, width: int, fov: float) -> float:
    """The horizontal field of view, in degrees, of a window in a frame of a width that has ``fov`` itself."""
    return 2 * math.degrees(math.atan(math.tan(math.radians(fov) / 2) * window.width / width))


def middle_of(window: Window, frame: tuple[int, int]) -> tuple[float, float]:
    """Where the middle of a frame (H, W) lies, to the right and below a window's own, in widths of the window."""
    height, width = frame
    right = width / 2 - (window.left + window.width / 2)
    down = height / 2 - (window.top + window.height / 2)
    return right / window.width, down / window.width


def subject_window(matte: Tensor, margin: float = 0.05) -> Window:
    """The bounding box of matte (1, 1, H, W) above 0.02 with a margin; the whole frame where the matte is empty.

    Specks that a keyer left do not count: a frame would be seen at half its size for a grain of dust in a corner.
    """
    height, width = matte.shape[-2:]
    top, left, solid = _without_specks(matte)
    rows, columns = torch.nonzero(solid.any(1)).flatten() + top, torch.nonzero(solid.any(0)).flatten() + left
    if len(rows) == 0:
        return Window(0, 0, height, width)
    pad = int(margin * max(int(rows[-1] - rows[0]), int(columns[-1] - columns[0]))) + 1
    top, left = max(int(rows[0]) - pad, 0), max(int(columns[0]) - pad, 0)
    bottom, right = min(int(rows[-1]) + 1 + pad, height), min(int(columns[-1]) + 1 + pad, width)
    return Window(top, left, bottom - top, right - left)


SPECK = 1e-3  # of the matte's sum


def _without_specks(matte: Tensor) -> tuple[int, int, Tensor]:
    """Top, left and what is above 0.02 of the part of a matte (1, 1, H, W) that holds all of it but faint specks."""
    height, width = matte.shape[-2:]
    step = max(1, -(-max(height, width) // 1024))
    coarse = F.max_pool2d(matte, step, step, ceil_mode=True)[0, 0]
    count, labels = cv2.connectedComponents((coarse > 0.02).cpu().numpy().astype(np.uint8), connectivity=8)
    if count <= 2:
        return 0, 0, matte[0, 0] > 0.02
    values = coarse.float().cpu().numpy().ravel()
    sums = np.bincount(labels.ravel(), values, count)
    solid = np.bincount(labels.ravel()[values > 0.5], minlength=count) > 0
    wanted = solid | (sums >= SPECK * sums[1:].sum())
    wanted[0] = False
    if not wanted.any():
        return 0, 0, matte[0, 0] > 0.02
    rows, columns = np.nonzero(wanted[labels])
    top, left = int(rows.min()) * step, int(columns.min()) * step
    part = matte[0, 0, top : (int(rows.max()) + 1) * step, left : (int(columns.max()) + 1) * step]
    return top, left, part > 0.02


def resize(image: Tensor | Large, size: tuple[int, int]) -> Tensor:
    """Bilinear, antialiased when shrinking; (N, C, H, W) -> (N, C, *size)."""
    return image.resized(size) if isinstance(image, Large) else scaled(image, size)


def enlarged(image: Tensor, size: tuple[int, int], top: int, bottom: int) -> Tensor:
    """Rows ``top`` to ``bottom`` of ``resize(image, size)``: (N, C, h, w) -> (N, C, bottom - top, size[1])."""
    height, width = image.shape[-2:]
    if (top, bottom) == (0, size[0]) or size[0] < height or size[1] < width:
        return resize(image, size)[..., top:bottom, :]
    if size[0] == height:
        return resize(image[..., top:bottom, :], (bottom - top, size[1]))
    place = torch.arange(top, bottom, device=image.device, dtype=torch.float64) + 0.5
    place = (place * (height / size[0]) - 0.5).clamp_min(0.0)
    above = place.floor().clamp_max(height - 1)
    below = (above + 1).clamp_max(height - 1)
    share = (place - above).to(image.dtype)[:, None]
    rows = torch.lerp(image[..., above.long(), :], image[..., below.long(), :], share)
    return resize(rows, (bottom - top, size[1]))


def fitted(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """The size that fits a long side, never larger than the original, at least one pixel."""
    scale = min(1.0, long_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


WIDE, WIDEST = 1.5, 6.0


def group_side(size: tuple[int, int], side: int) -> int:
    """The long side at which a window (h, w) is read, ``side`` where it is not wide: wide ones show several things side by side.

    By the area, or each of a row of people would be read the smaller the more they are.
    """
    return round(side * math.sqrt(min(max(1.0, size[1] / size[0] / WIDE), WIDEST)))


def padded(image: Tensor) -> Tensor:
    """Zero-pad right and bottom to multiples of the encoder's stride."""
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % MULTIPLE, 0, -height % MULTIPLE))


def low_band(image: Tensor, cut: int) -> Tensor:
    """What is left of (N, C, H, W) after shrinking its long side to ``cut`` pixels and enlarging it again."""
    size = (image.shape[-2], image.shape[-1])
    return resize(resize(image, fitted(size, cut)), size)


def fuse(coarse: Tensor, fine: Tensor, cut: int) -> Tensor:
    """Low frequencies of a pass that sees the whole and high ones of a detail pass: a two-band Laplacian pyramid.

    Args:
        coarse: (N, C, h, w), fine: (N, C, H, W), the same field.
        cut: pixels on the long side at which the bands part.

    Returns:
        (N, C, H, W).
    """
    size = (fine.shape[-2], fine.shape[-1])
    return fine - low_band(fine, cut) + resize(resize(coarse, fitted(size, cut)), size)


def spans(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Starts and ends of the fewest equal tiles that cover ``length`` and overlap by at least ``overlap``."""
    if length <= tile:
        return [(0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    starts = [round(i * (length - tile) / (count - 1)) for i in range(count)]
    return [(start, start + tile) for start in starts]


def _feather(length: int, start: int, end: int, overlap: int) -> Tensor:
    """Weights of a tile along one axis: rising and falling over the overlap, but not at the picture's own rim."""
    inside = torch.arange(end - start, dtype=torch.float32) + 0.5
    rise = inside / overlap if start > 0 else torch.ones_like(inside)
    fall = inside.flip(0) / overlap if end < length else torch.ones_like(inside)
    return torch.minimum(rise, fall).clamp(max=1.0)


def in_tiles(run: Callable[..., Tensor], tile: int, overlap: int, *inputs: Tensor) -> Tensor:
    """Run a network on inputs (1, C, H, W) of one size in feathered tiles, so that memory stays bounded.

    Returns (1, K, H, W). One tile where the inputs fit.
    """
    height, width = inputs[0].shape[-2:]
    out: Tensor | None = None
    total = inputs[0].new_zeros(1, 1, height, width)
    for top, bottom in spans(height, tile, overlap):
        for left, right in spans(width, tile, overlap):
            cut = [x[..., top:bottom, left:right] for x in inputs]
            answer = run(*(padded(x) for x in cut))[..., : bottom - top, : right - left]
            rows, columns = _feather(height, top, bottom, overlap), _feather(width, left, right, overlap)
            weight = (rows[:, None] * columns[None, :]).to(answer)
            if out is None:
                out = answer.new_zeros(1, answer.shape[1], height, width)
            out[..., top:bottom, left:right] += answer * weight
            total[..., top:bottom, left:right] += weight
    assert out is not None
    return out / total


def _box(image: Tensor, radius: int) -> Tensor:
    kernel = 2 * radius + 1
    return F.avg_pool2d(image, kernel, 1, radius, count_include_pad=False)


def from_solid(field: Tensor, matte: Tensor) -> Tensor:
    """A network's field (1, C, h, w) whose soft rim has what solid parts of the subject near it have.

    Networks see foregrounds times their matte: where that is thin, they take what is bright for what is dark and in
    shadow, and correct it by several stops. Where the matte (1, 1, h, w) has no solid part near, as in flyaway hair, the
    field stays.
    """
    solid = (2.0 * matte - 1.0).clamp(0.0, 1.0)
    radius = max(1, round(RIM * max(matte.shape[-2:])))

    def near(x: Tensor) -> Tensor:
        return _box(_box(x, radius), radius)

    known = near(solid)
    spread = near(field * solid) / known.clamp_min(1e-6)
    return torch.lerp(field, spread, (1.0 - solid) * (known / KNOWN).clamp(0.0, 1.0))


@dataclass(frozen=True)
class Guided:
    """A field as a linear function of a guide, known small: the fast guided filter (He, Sun 2015)."""

    slope: Tensor
    offset: Tensor

    @staticmethod
    def fit(
        values: Tensor, guide_small: Tensor, matte_small: Tensor, radius: int = 2, eps: float = 1e-3
    ) -> Guided:
        """Of values (1, C, h, w), known where the matte (1, 1, h, w) is, and the guide (1, 1, h, w) at their size."""
        weight = matte_small.clamp_min(1e-4)
        norm = _box(weight, radius)

        def mean(x: Tensor) -> Tensor:
            return _box(x * weight, radius) / norm

        mean_guide, mean_values = mean(guide_small), mean(values)
        variance = (mean(guide_small * guide_small) - mean_guide * mean_guide).clamp_min(0)
        covariance = mean(guide_small * values) - mean_guide * mean_values
        slope = covariance / (variance + eps)
        return Guided(mean(slope), mean(mean_values - slope * mean_guide))

    def rows(self, guide: Tensor, size: tuple[int, int], top: int) -> Tensor:
        """Rows of the field at ``size``, from ``top`` on, along the guide's own rows (1, 1, rows, W)."""
        bottom = top + guide.shape[-2]
        slope, offset = (enlarged(x, size, top, bottom) for x in (self.slope, self.offset))
        return torch.addcmul(offset, slope, guide)


def guided_upsample(
    values: Tensor,
    guide_small: Tensor,
    guide: Tensor,
    matte_small: Tensor,
    radius: int = 2,
    eps: float = 1e-3,
) -> Tensor:
    """Upsample a field along the edges of a guide, weighted by the matte.

    Args:
        values: (1, C, h, w), known where the matte is.
        guide_small: (1, 1, h, w), guide: (1, 1, H, W): the same gray guide at both sizes.
        matte_small: (1, 1, h, w).

    Returns:
        (1, C, H, W).
    """
    fit = Guided.fit(values, guide_small, matte_small, radius, eps)
    return fit.rows(guide, (guide.shape[-2], guide.shape[-1]), 0)
