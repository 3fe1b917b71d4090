"""How much memory a job may take, and pictures of full size that are worked on in bands of rows.

All that is done at a plate's own size is done pixel by pixel, or reads smaller pictures that are brought to it, so bands
need no feather: they give what the whole would. Networks see reduced pictures, which are summed up band by band.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from platelight.images.sanitize import HALF_MAX
from platelight.pipeline.spare import SPARE
from platelight.protocol.errors import InputError

GIB = 1 << 30
BAND = 1 << 19
"""Pixels of a band on the processor: its temporaries take some 100 MB."""
SMALL_BAND = 1 << 17
"""The same where memory is bounded."""
BASE = int(0.75 * GIB)
"""What a process takes with its networks loaded and a band in work."""
FLOATS, HALVES = 160, 85
"""Bytes a pixel of a plate that is read, taken apart, relit and written, maps in floats or in halves."""

SHADED, STEADIED = 300, 900
"""Bytes a pixel more where shadows or lamps work on the whole frame in floats; where a frame waits for
its neighbors to be steadied (measured at 1080p with ten of them: 760; they are eight)"""


def beyond(shaded: bool, steadied: bool = False) -> int:
    """Bytes a pixel of what is not done in bands."""
    return SHADED * shaded + STEADIED * steadied


@dataclass(frozen=True)
class Room:
    """Memory for a job in bytes; None leaves it to the machine. ``lean`` takes as little as can be.

    ``whole``: bytes a pixel more, for what is not done in bands.
    """

    memory: int | None = None
    lean: bool = False
    whole: int = 0

    def half(self, height: int, width: int) -> bool:
        """Whether maps of this size must be kept in half floats; depends on nothing else, so that reruns are equal.

        Raises:
            InputError: not even that is enough.
        """
        if self.memory is None:
            return self.lean
        if BASE + (FLOATS + self.whole) * height * width <= self.memory:
            return self.lean
        least = BASE + (HALVES + self.whole) * height * width
        if least > self.memory:
            others = ", or do without shadows, lamps and steadying" if self.whole else ""
            raise InputError(
                f"A plate of {width}×{height} needs {least / GIB:.1f} GiB, and {self.memory / GIB:.1f} GiB are allowed.",
                f"Allow more with --memory, or give a smaller plate{others}.",
            )
        return True

    def empty(self, height: int, width: int, channels: int = 1) -> npt.NDArray[Any]:
        """A map to be filled: (H, W) or (H, W, C). Halves lie channel by channel, as EXR files want them."""
        if not self.half(height, width):
            shape = (height, width) if channels == 1 else (height, width, channels)
            return self.array(shape, np.float32)
        planes = np.empty((channels, height, width), np.float16)
        return planes[0] if channels == 1 else planes.transpose(1, 2, 0)

    def array(self, shape: tuple[int, ...], dtype: type[np.generic]) -> npt.NDArray[Any]:
        """As ``np.empty``, maybe of memory that large maps had before; where memory is bounded none is kept."""
        return np.empty(shape, dtype) if self.lean or self.memory is not None else SPARE.empty(shape, dtype)

    def bands(self, height: int, width: int, device: torch.device) -> list[tuple[int, int]]:
        """First rows and ends of the bands of a picture; one on an accelerator that may take all its memory."""
        bounded = self.lean or self.memory is not None
        size = height * width
        if bounded or device.type == "cpu":
            size = SMALL_BAND if bounded else BAND
        count = max(1, -(-height * width // size))
        edges = [round(i * height / count) for i in range(count + 1)]
        return [(a, b) for a, b in itertools.pairwise(edges) if b > a]


UNBOUNDED = Room()


class Large:
    """A picture (1, C, H, W) that is read in bands of rows: what stands for a tensor where the whole is too much."""

    def __init__(
        self, read: Callable[[int, int], Tensor], shape: tuple[int, ...], bands: list[tuple[int, int]]
    ) -> None:
        """``read(top, bottom)`` gives (1, C, bottom - top, W) float32 on the device."""
        self._read, self.shape, self.bands = read, torch.Size(shape), bands
        self._reduced: dict[tuple[int, int], Tensor] = {}
        self._kept: Tensor | None = None

    def rows(self, top: int, bottom: int) -> Tensor:
        """A band; the whole picture is kept where it is one band."""
        if len(self.bands) > 1 or (top, bottom) != (0, self.shape[-2]):
            return self._read(top, bottom)
        if self._kept is None:
            self._kept = self._read(top, bottom)
        return self._kept

    def __iter__(self) -> Iterator[tuple[int, int, Tensor]]:
        for top, bottom in self.bands:
            yield top, bottom, self.rows(top, bottom)

    def resized(self, size: tuple[int, int]) -> Tensor:
        """As :func:`resample.resize`: its filter is one along rows and one along columns, taken one after the other."""
        if size not in self._reduced:
            self._reduced[size] = self._resized(size)
        return self._reduced[size]

    def _resized(self, size: tuple[int, int]) -> Tensor:
        height, width = self.shape[-2:]
        if size == (height, width):
            return torch.cat([band for _, _, band in self], 2)
        if len(self.bands) == 1:
            return scaled(self.rows(0, height), size)
        narrow = [scaled(band, (bottom - top, size[1])) for top, bottom, band in self]
        return scaled(torch.cat(narrow, 2), size)


def scaled(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, antialiased when shrinking; (N, C, H, W) -> (N, C, *size)."""
    if tuple(image.shape[-2:]) == size:
        return image
    shrinking = size[0] < image.shape[-2] or size[1] < image.shape[-1]
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=shrinking)


def tensor_of(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """(H, W) or (H, W, C) of any float kind -> (1, C, H, W) float32 on the device."""
    if any(step < 0 for step in array.strides):  # a view that is flipped
        array = np.ascontiguousarray(array)
    tensor = torch.from_numpy(array).to(device, torch.float32)
    return tensor[None, None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)[None]


def clean(image: Tensor) -> Tensor:
    """As :func:`images.sanitize.sanitize`, for a band, uncounted."""
    return torch.nan_to_num(image, nan=0.0, posinf=HALF_MAX, neginf=0.0).clamp_(0.0, HALF_MAX)


def unit(vectors: Tensor) -> Tensor:
    """(N, 3, ...) of length 1: ``F.normalize`` over channels takes ten times as long on the processor."""
    x, y, z = (vectors[:, k : k + 1] for k in range(3))
    return vectors / (x * x + y * y + z * z).sqrt_().clamp_min_(1e-12)


def put(into: npt.NDArray[Any], top: int, image: Tensor) -> None:
    """Write a band (1, C, rows, W) into a map (H, W) or (H, W, C) from row ``top`` on."""
    if into.dtype == np.float16:
        image = image.clamp(-HALF_MAX, HALF_MAX)
    rows = torch.from_numpy(into[top : top + image.shape[-2]])
    rows.copy_(image[0, 0] if rows.ndim == 2 else image[0].permute(1, 2, 0))
