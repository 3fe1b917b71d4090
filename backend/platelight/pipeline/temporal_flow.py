"""Optical flow between neighboring frames of a shot, with what must not be trusted of it.

OpenCV's Dense Inverse Search (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016) in both
directions. A point is trusted where both directions agree, where it looks alike in both frames, and where both
mattes say the same of it: what is hidden in one of the frames fails the first or second, a ghost is not made.

On a plain surface no picture tells the flow, and what is found there wobbles from frame to frame, which makes averaged
fields wobble too. So each step's flow is calmed by those of the steps around it, see :func:`calmed`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]

ROUND_TRIP = 1.5
"""Distance in pixels, beyond 5 % of the way itself, at which forth and back are no more believed to agree."""
LIKENESS = 0.2
"""Difference of logarithmic luminance, beyond that of the whole picture, at which a point does not look alike."""
MATTE = 0.25
CALM = 2
"""Steps on either side that calm a step's flow."""
ALIKE = 2.0
"""Distance in pixels at which another step's flow is taken for another motion."""
BROAD = 1 / 12
"""Share of the long side over which structure tells what the frame's own motion is."""
WORSE = 0.02
"""Difference of logarithmic luminance by which calmed flow may fit worse than what was found, until that is half taken."""

CUT = 0.45
"""Mean trust over the subject below which the next frame is of another scene."""

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


Step = tuple[Way, Way]
"""The ways from a frame to the next, and back."""


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


def is_cut(first: View, step: Step) -> bool:
    """Whether a frame does not go on in the next: so little of the subject can be followed that it is another scene."""
    cover = first.matte.astype(np.float64) + 1e-6
    return bool(np.average(step[0].trust, weights=cover) < CUT)


def then(first: Way, second: Way) -> Way:
    """One way after the other: from a frame to the next but one, as trusted as the worse of both.

    Their product would hold small doubts against a way of many steps that each step has against itself only.
    """
    trust = np.minimum(first.trust, carry(second.trust, first.flow))
    return Way(first.flow + carry(second.flow, first.flow), trust, first.gain + second.gain)


def calmed(first: View, second: View, step: Step, before: Sequence[Step], after: Sequence[Step]) -> Step:
    """A step between two views whose flow wobbles less in time.

    Args:
        first, second: the frames that the step is between.
        step: the ways there and back, of :func:`both_ways`.
        before: up to ``CALM`` steps that lead to ``first``, the nearest first.
        after: up to ``CALM`` steps that lead on from ``second``, the nearest first.
    """
    forth = _calm(first, second, step[0], before, after)
    back = _calm(second, first, step[1], [one[::-1] for one in after], [one[::-1] for one in before])
    return _trusted(first, second, forth, back), _trusted(second, first, back, forth)


def all_calmed(views: Sequence[View], steps: Sequence[Step]) -> list[Step]:
    """:func:`calmed` for all steps of a shot without a gap."""
    return [
        calmed(views[k], views[k + 1], step, steps[max(0, k - CALM) : k][::-1], steps[k + 1 : k + 1 + CALM])
        for k, step in enumerate(steps)
    ]


def _calm(here: View, there: View, own: Way, before: Sequence[Step], after: Sequence[Step]) -> Pixels:
    """The mean of a step's flow and its neighbors' at the same points, where it fits the picture as well.

    Cameras shake and heads jerk, so what structure around a point says of this very frame is kept: of what the mean
    takes away, the part that is common to a broad neighborhood, weighted by how well flow can be found there.
    """
    weight = own.trust[..., None] + np.float32(1e-2)
    total, weights = own.flow * weight, weight
    for way, other in _along(own, before, after):
        flow = carry(other.flow, way.flow)
        trust = np.minimum(carry(other.trust, way.flow), way.trust)
        off = np.linalg.norm(flow - own.flow, axis=-1) / np.float32(ALIKE)
        weight = (trust / (1 + off**4))[..., None]
        total, weights = total + weight * flow, weights + weight
    mean = total / weights
    inner = cv2.erode((here.matte > 0.5).astype(np.float32), np.ones((5, 5)))
    sure = cv2.cornerMinEigenVal(here.gray, 7) * inner * own.trust + np.float32(1e-7)
    common = _broad((own.flow - mean) * sure[..., None]) / _broad(sure)[..., None]
    flow = np.asarray(mean + common, np.float32)
    worse = np.maximum(_unlike(here, there, flow) - _unlike(here, there, own.flow), 0) / np.float32(WORSE)
    share = (1 / (1 + worse**2))[..., None]
    return np.asarray(share * flow + (1 - share) * own.flow, np.float32)


def _along(own: Way, before: Sequence[Step], after: Sequence[Step]) -> Iterator[tuple[Way, Way]]:
    """The steps around one, each as the way to the frame in which it begins and the way that it is itself."""
    way = own
    for forth, _ in after:
        yield way, forth
        way = then(way, forth)
    for k, (forth, back) in enumerate(before):
        way = then(way, back) if k else back
        yield way, forth


def _broad(image: Pixels) -> Pixels:
    """A Gaussian blur (h, w) or (h, w, C) over ``BROAD``, at a quarter of its width in pixels."""
    height, width = image.shape[:2]
    sigma = BROAD * max(height, width)
    part = max(1, int(sigma // 4))
    small = cv2.resize(image, (max(1, width // part), max(1, height // part)), interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), sigma / part)
    return np.asarray(cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _unlike(here: View, there: View, flow: Pixels) -> Pixels:
    """How far the frames' luminance is apart along a flow, around each point (h, w)."""
    return np.asarray(cv2.blur(np.abs(carry(there.gray, flow) - here.gray), (7, 7)), np.float32)


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
