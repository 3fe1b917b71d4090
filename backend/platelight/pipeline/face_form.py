"""The form of faces in a field of normals: what points in space tell of it, under the networks' own detail.

Normals that a network reads from shading forget noses and eye sockets wherever light is soft: in doubt it answers with
the mean of all that it thinks possible, which is flat. A regressor of points knows faces. So broad form comes from the
points and fine form from the network, parted by a Gaussian of the points' own spacing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from platelight.images.color import linear_to_srgb
from platelight.pipeline.faces import LEFT_EYE, MOUTH, OVAL, RIGHT_EYE, Face, find_faces, triangles
from platelight.pipeline.resample import fitted, resize
from platelight.pipeline.room import Large

Array = npt.NDArray[Any]

LOOKED = 1024  # pixels of the plate's long side in which faces are looked for
DRAWN = 192  # pixels of a face's box when it is drawn: the regressor sees no finer
SPACING = 1 / 24  # of a face's size: deviation of the Gaussian that parts broad form from fine
TRUST = 0.8  # in the points' broad form; the rest stays the network's: each is wrong in its own way
RIM = 0.12  # of a face's size: how far inside its outline the points are fully believed
GRAZING, FACING = 0.15, 0.4  # z of normals that are not believed at all, and fully
EYEBALL = 0.42  # its radius, of the distance between an eye's corners
SET_BACK = 0.75  # of that radius: how far its center is behind the lids


@dataclass(frozen=True)
class Drawn:
    """A face in a window of a field: unit normals (h, w, 3) and how far they are believed, (h, w) in [0, 1]."""

    top: int
    left: int
    normal: Array
    trust: Array


def faces_in(plate: Tensor | Large, matte: Tensor | Large, size: tuple[int, int]) -> list[Face]:
    """The faces of a normalized plate (1, 3, H, W) where its matte (1, 1, H, W) is, in pixels of a smaller ``size``."""
    looked = fitted((plate.shape[-2], plate.shape[-1]), LOOKED)
    seen = (resize(plate, looked) * resize(matte, looked))[0].permute(1, 2, 0).float().cpu().numpy()
    scale = np.array([size[1] / looked[1], size[0] / looked[0]])
    return [face.scaled(scale) for face in find_faces(linear_to_srgb(np.clip(seen, 0, 1)))]


def with_faces(normal: Tensor, matte: Tensor, faces: list[Face]) -> Tensor:
    """Normals whose faces have the form that their points tell.

    Args:
        normal: (1, 3, h, w), unit. matte: (1, 1, h, w). faces: with points in pixels of this size.

    Returns:
        (1, 3, h, w), unit.
    """
    if not faces:
        return normal
    field = normal[0].permute(1, 2, 0).float().cpu().numpy().copy()
    cover = matte[0, 0].float().cpu().numpy()
    for face in faces:
        shape = drawn(face, *cover.shape)
        if shape.trust.size == 0:
            continue
        height, width = shape.trust.shape
        rows, columns = slice(shape.top, shape.top + height), slice(shape.left, shape.left + width)
        spread = SPACING * face.size
        broad = _blurred(field[rows, columns], cover[rows, columns], spread)
        told = _blurred(shape.normal, np.linalg.norm(shape.normal, axis=-1), spread / 2)
        trust = TRUST * face.belief * (shape.trust * cover[rows, columns])[..., None]
        changed = field[rows, columns] + trust * (told - broad)
        length = np.linalg.norm(changed, axis=-1, keepdims=True)
        field[rows, columns] = np.where(
            length > 1e-3, changed / np.maximum(length, 1e-3), field[rows, columns]
        )
    return torch.from_numpy(field).permute(2, 0, 1)[None].to(normal)


def drawn(face: Face, height: int, width: int) -> Drawn:
    """A face's own normals in the window of a picture (height, width) that it covers."""
    outline = face.points[list(OVAL), :2]
    margin = 2 + SPACING * face.size
    low = np.maximum(np.floor(outline.min(0) - margin), 0).astype(int)
    high = np.minimum(np.ceil(outline.max(0) + margin), [width, height]).astype(int)
    size = np.maximum(high - low, 0)
    if size.min() == 0:
        return Drawn(int(low[1]), int(low[0]), np.zeros((0, 0, 3)), np.zeros((0, 0)))
    scale = min(1.0, DRAWN / face.size)
    small = np.maximum(np.round(size * scale).astype(int), 1)
    points = face.points.copy()
    points[:, :2] = (points[:, :2] - low) * (small / size)
    points[:, 2] *= float((small / size).mean())
    normal, trust = _draw(Face(points, face.probability), int(small[1]), int(small[0]))
    grown = cv2.resize(
        np.dstack([normal, trust]), (int(size[0]), int(size[1])), interpolation=cv2.INTER_LINEAR
    )
    length = np.linalg.norm(grown[..., :3], axis=-1, keepdims=True)
    return Drawn(
        int(low[1]), int(low[0]), grown[..., :3] / np.maximum(length, 1e-6) * (length > 0.5), grown[..., 3]
    )


def _draw(face: Face, height: int, width: int) -> tuple[Array, Array]:
    normal = _mesh(face, height, width)
    for ring in (LEFT_EYE, RIGHT_EYE):
        _put_eye(face, ring, normal)
    inside = filled(face.points[list(OVAL), :2], height, width)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    rim = np.clip(depth / (RIM * face.size), 0, 1)
    trust = rim * rim * (3 - 2 * rim) * np.clip((normal[..., 2] - GRAZING) / (FACING - GRAZING), 0, 1)
    trust[filled(face.points[list(MOUTH), :2], height, width) > 0] = 0
    return normal, trust


def _mesh(face: Face, height: int, width: int) -> Array:
    """The nearest triangle's interpolated normals (height, width, 3), nothing where there is none."""
    corners, corner_normals = face.points[triangles()], normals_of(face)[triangles()]
    a, b, c = (corners[:, k, :2] for k in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    normal, depth = np.zeros((height, width, 3)), np.full((height, width), np.inf)
    low = np.maximum(np.floor(corners[..., :2].min(1)).astype(int), 0)
    high = np.minimum(np.ceil(corners[..., :2].max(1)).astype(int) + 1, [width, height])
    for t in np.flatnonzero((np.abs(area) > 1e-9) & (high > low).all(1)):
        x, y = np.meshgrid(np.arange(low[t, 0], high[t, 0]) + 0.5, np.arange(low[t, 1], high[t, 1]) + 0.5)
        u = ((x - a[t, 0]) * (c[t, 1] - a[t, 1]) - (y - a[t, 1]) * (c[t, 0] - a[t, 0])) / area[t]
        v = ((b[t, 0] - a[t, 0]) * (y - a[t, 1]) - (b[t, 1] - a[t, 1]) * (x - a[t, 0])) / area[t]
        weights = np.stack([1 - u - v, u, v], -1)
        z = weights @ corners[t, :, 2]
        at = slice(low[t, 1], high[t, 1]), slice(low[t, 0], high[t, 0])
        nearer = (weights.min(-1) >= -1e-6) & (z < depth[at])
        depth[at][nearer] = z[nearer]
        normal[at][nearer] = weights[nearer] @ corner_normals[t]
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.asarray(normal / np.maximum(length, 1e-9))


def normals_of(face: Face) -> Array:
    """Unit normals (468, 3) at a face's points, x right, y up, z to the camera, averaged over triangles by area."""
    points = face.points * [1, -1, -1]
    a, b, c = (points[triangles()[:, k]] for k in range(3))
    total = np.zeros_like(points)
    for k in range(3):
        np.add.at(total, triangles()[:, k], np.cross(b - a, c - a))
    total *= math.copysign(1.0, float(total[:, 2].sum()))
    return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-9))


def _put_eye(face: Face, ring: tuple[int, ...], normal: Array) -> None:
    """Draw an eyeball where a mesh is open between the lids."""
    lids = face.points[list(ring)]
    radius = EYEBALL * float(np.linalg.norm(lids[0] - lids[8]))
    forward = _forward(face) * [1, -1]
    center = lids[:, :2].mean(0) - SET_BACK * radius * forward
    height, width = normal.shape[:2]
    y, x = np.nonzero((filled(lids[:, :2], height, width) > 0) & (np.linalg.norm(normal, axis=-1) < 0.5))
    across = (np.stack([x, y], -1) + 0.5 - center) / max(radius, 1e-6)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True) / 0.95, 1)
    up = np.sqrt(1 - (across**2).sum(1, keepdims=True))
    normal[y, x] = np.concatenate([across * [1, -1], up], 1)


def _forward(face: Face) -> Array:
    """Where a face looks, x right and y up of the unit vector."""
    points = face.points * [1, -1, -1]
    straight = np.cross(points[454] - points[234], points[10] - points[152])
    return np.asarray(straight[:2] / max(float(np.linalg.norm(straight)), 1e-9))


def filled(outline: Array, height: int, width: int) -> npt.NDArray[np.uint8]:
    """1 inside an outline (N, 2) in pixels, 0 outside, (height, width)."""
    inside = np.zeros((height, width), np.uint8)
    cv2.fillPoly(inside, [np.round(outline * 16 - 8).astype(np.int32)], (1,), shift=4)
    return inside


def _blurred(values: Array, weight: Array, deviation: float) -> Array:
    """A Gaussian mean of values (h, w, 3) by weight (h, w)."""
    both = np.dstack([values * weight[..., None], weight]).astype(np.float32)
    means = np.asarray(cv2.GaussianBlur(both, (0, 0), max(deviation, 0.3)))
    return np.asarray(means[..., :3] / np.maximum(means[..., 3:], 1e-4))
