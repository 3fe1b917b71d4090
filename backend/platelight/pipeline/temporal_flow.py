"""Optical flow between neighboring frames of a shot, with what must not be trusted of it.

OpenCV's Dense Inverse Search (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016) in both
directions. A point is trusted where both directions agree, where it looks alike in both frames, and where both
mattes say the same of it: what is hidden in one of the frames fails the first or second, a ghost is not made.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]

ROUND_TRIP = 1.0
"""Distance in pixels, beyond 5 % of the way itself, at which forth and back are no more believed to agree."""
LIKENESS = 0.2
"""Difference of logarithmic luminance, beyond that of the whole picture, at which a point does not look alike."""
MATTE = 0.25

_lock = threading.Lock()


@dataclass(frozen=True)
class View:
    """What flow looks at: ``gray`` (h, w) logarithmic luminance, ``matte`` (h, w) in [0, 1]."""

    gray: Pixels
    matte: Pixels


@dataclass(frozen=True)
class Way:
    """Where the points of one frame are in another: ``flow`` (h, w, 2) in pixels, right and down; ``trust`` (h, w)
    in [0, 1]; ``gain`` the logarithm of how much brighter the other frame is, as a lamp or the iris makes it."""

    flow: Pixels
    trust: Pixels
    gain: float = 0.0


def look(plate: Pixels, matte: Pixels, size: tuple[int, int]) -> View:
    """Reduce a plate (H, W, 3), linear, and its matte (H, W) to the size (h, w) at which flow is found."""
    gray = plate @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    return View(np.log(reduced(gray, size) + np.float32(2e-3)), reduced(matte, size))


def reduced(image: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize (H, W) or (H, W, C) by area to (h, w)."""
    if image.shape[:2] == size:
        return image
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), np.float32)


def carry(image: Pixels, flow: Pixels) -> Pixels:
    """Fetch ``image`` (h, w, C) of the other frame at the places to which the flow leads."""
    height, width = flow.shape[:2]
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    columns, rows = columns + flow[..., 0], rows + flow[..., 1]
    # remap takes at most four channels at once in its fast paths.
    pieces = [
        cv2.remap(
            np.ascontiguousarray(piece), columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        ).reshape(height, width, -1)
        for piece in np.split(np.atleast_3d(image), range(4, np.atleast_3d(image).shape[2], 4), axis=2)
    ]
    found = np.concatenate(pieces, axis=2)
    return np.asarray(found[..., 0] if image.ndim == 2 else found, np.float32)


def both_ways(first: View, second: View) -> tuple[Way, Way]:
    """The ways from the first frame to the second, and back."""
    pictures = _eight_bits(first, second)
    with _lock:
        # DIS cuts the picture into as many stripes as there are threads, and its answer depends on them.
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
            search.setFinestScale(0 if max(first.gray.shape) <= 400 else 1)
            forth = np.asarray(search.calc(pictures[0], pictures[1], None), np.float32)
            back = np.asarray(search.calc(pictures[1], pictures[0], None), np.float32)
        finally:
            cv2.setNumThreads(threads)
    return _trusted(first, second, forth, back), _trusted(second, first, back, forth)


def then(first: Way, second: Way) -> Way:
    """One way after the other: from a frame to the next but one."""
    trust = first.trust * carry(second.trust, first.flow)
    return Way(first.flow + carry(second.flow, first.flow), trust, first.gain + second.gain)


def _trusted(here: View, there: View, flow: Pixels, back: Pixels) -> Way:
    returned = flow + carry(back, flow)
    miss = np.linalg.norm(returned, axis=-1)
    allowed = ROUND_TRIP + 0.05 * np.linalg.norm(flow, axis=-1)
    change = cv2.blur(carry(there.gray, flow) - here.gray, (3, 3))
    inside = here.matte > 0.5
    gain = float(np.median(change[inside])) if inside.any() else 0.0
    change = change - np.float32(gain)  # a lamp that flickers dims all
    cover = carry(there.matte, flow) - here.matte
    trust = _falling(miss / allowed) * _falling(change / LIKENESS / 2) * _falling(cover / MATTE)
    height, width = flow.shape[:2]
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    trust *= (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    # A wrong point seldom comes alone: its neighbors are believed no more than it.
    return Way(flow, np.asarray(cv2.erode(trust.astype(np.float32), np.ones((3, 3))), np.float32), gain)


def _falling(ratio: Pixels) -> Pixels:
    """1 at 0, 0.5 at 1, soon 0."""
    return np.asarray(1.0 / (1.0 + np.abs(ratio) ** 4), np.float32)


def _eight_bits(first: View, second: View) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Both as the search wants them, by one scale: the span of what the mattes show."""
    seen = np.concatenate([view.gray[view.matte > 0.5] for view in (first, second)])
    low, high = np.percentile(seen, [0.5, 99.5]) if seen.size else (-6.0, 2.0)
    scale = 230.0 / max(float(high - low), 0.5)

    def code(view: View) -> npt.NDArray[np.uint8]:
        return np.clip((view.gray - low) * scale + 12.0, 0, 255).astype(np.uint8)

    return code(first), code(second)
