"""Planes (H, W) or (H, W, C) on the processor at another size, by OpenCV and in bands of rows where they are large.

What :mod:`.resample` does to tensors on any device; for colors OpenCV takes a sixth of torch's time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from platelight.pipeline.room import UNBOUNDED

CPU = torch.device("cpu")
Plane = npt.NDArray[Any]


def resized(plane: Plane, size: tuple[int, int]) -> Plane:
    """Areas averaged when shrinking, bilinear otherwise."""
    if plane.shape[:2] == size:
        return plane
    shrinks = plane.shape[0] > size[0] or plane.shape[1] > size[1]
    mode = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(plane, (size[1], size[0]), interpolation=mode)


def shrunk(read: Callable[[int, int], Plane], shape: tuple[int, int], size: tuple[int, int]) -> Plane:
    """The plane of ``shape`` of which ``read(top, bottom)`` gives rows, at a size that is no larger."""
    if shape == size:
        return read(0, shape[0])
    # Averages along rows, then along columns: what cv2 does at once.
    narrow = [
        resized(np.ascontiguousarray(read(top, bottom)), (bottom - top, size[1]))
        for top, bottom in UNBOUNDED.bands(*shape, CPU)
    ]
    return resized(np.concatenate(narrow), size)


def enlarged(plane: Plane, size: tuple[int, int], top: int, bottom: int) -> Plane:
    """Rows ``top`` to ``bottom`` of ``resized(plane, size)`` where that is larger."""
    height = plane.shape[0]
    if plane.shape[:2] == size:
        return plane[top:bottom]
    place = ((np.arange(top, bottom) + 0.5) * (height / size[0]) - 0.5).clip(0.0, height - 1.0)
    above = np.floor(place).astype(int)
    below = np.minimum(above + 1, height - 1)
    share = (place - above).astype(plane.dtype).reshape(-1, *[1] * (plane.ndim - 1))
    rows = plane[above] + share * (plane[below] - plane[above])
    flat = rows.reshape(bottom - top, plane.shape[1], -1)
    # cv2 takes four channels at once.
    parts = [
        cv2.resize(
            np.ascontiguousarray(flat[..., i : i + 4]),
            (size[1], bottom - top),
            interpolation=cv2.INTER_LINEAR,
        )
        for i in range(0, flat.shape[2], 4)
    ]
    wide = parts[0] if len(parts) == 1 else np.dstack(parts)
    return wide.reshape(bottom - top, size[1], *plane.shape[2:])
