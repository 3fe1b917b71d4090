"""Where faces are in a plate and which form they have: 468 points in space each, by MediaPipe's packaged networks.

A detector (BlazeFace: Bazarevsky et al. 2019) finds eyes; a regressor of points (Kartynnik et al. 2019, "Real-time facial
surface geometry from monocular video on mobile GPUs") looks at each face upright, twice: the second time where the
first saw it.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from platelight.models import packaged

Array = npt.NDArray[Any]
Picture = npt.NDArray[np.float32]

# The least probability of a detection, which is a hint of where to look; and how many hints are followed.
DETECTED, TRIES = 0.5, 24
# Of a face, once its points were sought: the least, one that unlikelier faces give way to, and one that is believed fully.
# Between the first and the last it is believed by degrees: a shot's frames would switch at a gate.
MAYBE, SURE, CERTAIN = 0.7, 0.95, 0.98
LIKELY = 0.1  # probability of a face at which a second look, better placed, is worth its time
SEEN, CROP = 128, 192  # pixels that detector and regressor look at
AROUND = 1.5  # how much larger than the face its crop is
SMALLEST = 24  # pixels: smaller faces tell nothing
SAME = 0.3  # boxes that overlap by more are one face
RIGHT_CORNER, LEFT_CORNER = 33, 263  # of the eyes, in the picture from left to right
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
        152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)  # fmt: skip
MOUTH = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)


@dataclass(frozen=True)
class Face:
    """``points`` (468, 3): x right and y down in pixels of the picture, z away from the camera in the same unit."""

    points: Array
    probability: float

    @property
    def size(self) -> float:
        """Pixels of the longer side of its box."""
        return float(np.ptp(self.points[:, :2], axis=0).max())

    @property
    def belief(self) -> float:
        """How far what it tells is believed, 0 to 1."""
        at = min(max((self.probability - MAYBE) / (CERTAIN - MAYBE), 0.0), 1.0)
        return at * at * (3 - 2 * at)

    def scaled(self, by: Array) -> Face:
        """The face in a picture whose width and height are ``by`` (2,) times this one's."""
        return Face(self.points * [by[0], by[1], float(np.mean(by))], self.probability)


@functools.lru_cache(maxsize=1)
def triangles() -> Array:
    """(T, 3) indices into a face's points; eyes and mouth are open."""
    return np.array(json.loads((packaged.FOLDER / "face_landmark.json").read_text()), np.int64)


def find_faces(encoded: Picture) -> list[Face]:
    """The faces of a picture (H, W, 3), sRGB-encoded in [0, 1], surest first."""
    if min(encoded.shape[:2]) < SMALLEST:
        return []
    kept: list[Face] = []
    unsure: list[Face] = []  # gives way to sure ones, which are known when all were looked at
    for eyes, size in _candidates(encoded)[:TRIES]:
        middle = eyes.mean(0)
        if any(_within(middle, face) for face in kept):
            continue
        face = _look(encoded, eyes, size)
        if face is None or any(_overlap(face, other) >= SAME for other in kept):
            continue
        (kept if face.probability >= SURE else unsure).append(face)
    for face in sorted(unsure, key=lambda face: -face.probability):
        if not any(_within(_middle(face), other) or _within(_middle(other), face) for other in kept):
            kept.append(face)
    return sorted(kept, key=lambda face: -face.probability)


@functools.lru_cache(maxsize=1)
def _anchors() -> Array:
    """Centers (896, 2) that the detector's boxes are relative to: two a cell of 16 x 16, six a cell of 8 x 8."""
    grids = []
    for cells, each in ((16, 2), (8, 6)):
        place = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(place, place, indexing="ij")
        grids.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), each, axis=0))
    return np.concatenate(grids)


def _candidates(encoded: Picture) -> list[tuple[Array, float]]:
    """Eyes (2, 2) and box size in pixels of what may be faces, in the whole picture and in nine squares of half its size."""
    height, width = encoded.shape[:2]
    side = max(height, width)
    squares = [(0.0, 0.0, float(side))]
    if side > 2 * SEEN:
        half = side / 2
        squares += [
            (x, y, half)
            for y in np.linspace(0, max(height - half, 0), 3 if height > half else 1)
            for x in np.linspace(0, max(width - half, 0), 3 if width > half else 1)
        ]
    found: list[tuple[float, Array, float]] = []
    for left, top, length in squares:
        found += _detect(encoded, left, top, length)
    found.sort(key=lambda one: -one[0])
    kept: list[tuple[Array, float]] = []
    for _, eyes, size in found:  # detectors answer many times for one place
        if all(float(np.linalg.norm(eyes - other)) > 0.15 * size for other, _ in kept):
            kept.append((eyes, size))
    return kept


def _detect(encoded: Picture, left: float, top: float, length: float) -> list[tuple[float, Array, float]]:
    """Probability, eyes (2, 2) and box size in pixels of each detection in one square."""
    scale = length / SEEN
    seen = _cut(encoded, np.array([[scale, 0, left], [0, scale, top]]), SEEN)
    boxes, scores = packaged.run("face_detection", seen * 2 - 1)
    probability = 1 / (1 + np.exp(-np.clip(scores[:, 0].astype(np.float64), -60, 60)))
    found = []
    for index in np.argsort(-probability)[:32]:
        if probability[index] < DETECTED:
            break
        anchor = _anchors()[index]
        eyes = (boxes[index, 4:8].reshape(2, 2) / SEEN + anchor) * length + [left, top]
        found.append((float(probability[index]), eyes, float(boxes[index, 2:4].max()) / SEEN * length))
    return found


def _look(encoded: Picture, eyes: Array, size: float) -> Face | None:
    """The points of a face near a detection."""
    center = eyes.mean(0) + 0.25 * size * _down(eyes)
    face: Face | None = None
    for _ in range(3):
        face = _points(encoded, center, AROUND * size, eyes)
        if face.probability < LIKELY or face.size < SMALLEST:
            return None
        box = face.points[:, :2]
        center, size = (box.max(0) + box.min(0)) / 2, face.size
        eyes = box[[RIGHT_CORNER, LEFT_CORNER]]
    return face if face is not None and face.probability >= MAYBE else None


def _down(eyes: Array) -> Array:
    """The direction from eyes to chin, by the line through both."""
    along = eyes[1] - eyes[0]
    return np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6)


def _points(encoded: Picture, center: Array, length: float, eyes: Array) -> Face:
    along = eyes[1] - eyes[0]
    angle = float(np.arctan2(along[1], along[0]))
    scale = length / CROP
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    offset = center - turn @ np.full(2, CROP / 2)
    crop = _cut(encoded, np.concatenate([turn, offset[:, None]], 1), CROP)
    points, score = packaged.run("face_landmark", crop)
    points = points.reshape(-1, 3).astype(np.float64)
    probability = 1 / (1 + np.exp(-np.clip(float(score.ravel()[0]), -60, 60)))
    placed = np.concatenate([points[:, :2] @ turn.T + offset, points[:, 2:] * scale], 1)
    return Face(placed, float(probability))


def _cut(encoded: Picture, to_picture: Array, side: int) -> Picture:
    """A square of ``side`` pixels, black outside the picture; ``to_picture`` (2, 3) maps its pixels to the picture's."""
    scale = float(np.hypot(to_picture[0, 0], to_picture[1, 0]))
    if scale > 2:  # an area average first: bilinear samples far apart would alias
        small = max(1, round(encoded.shape[1] / scale)), max(1, round(encoded.shape[0] / scale))
        shrunk = cv2.resize(encoded, small, interpolation=cv2.INTER_AREA)
        share = np.array([[small[0] / encoded.shape[1]], [small[1] / encoded.shape[0]]])
        encoded, to_picture = np.asarray(shrunk, np.float32), to_picture * share
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(encoded, to_picture, (side, side), flags=flags), np.float32)


def _middle(face: Face) -> Array:
    return np.asarray(face.points[:, :2].mean(0))


def _within(place: Array, face: Face) -> bool:
    box = face.points[:, :2]
    return bool((place > box.min(0)).all() and (place < box.max(0)).all())


def _overlap(a: Face, b: Face) -> float:
    """Intersection over union of two faces' boxes."""
    low = np.maximum(a.points[:, :2].min(0), b.points[:, :2].min(0))
    high = np.minimum(a.points[:, :2].max(0), b.points[:, :2].max(0))
    common = float(np.prod(np.clip(high - low, 0, None)))
    areas = [float(np.prod(np.ptp(f.points[:, :2], axis=0))) for f in (a, b)]
    return common / max(sum(areas) - common, 1e-6)
