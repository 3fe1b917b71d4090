"""A solid stand-in for the subject, from its depth map: what casts its shadow. No bpy module use."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .exr import Pixels
from .wire import InputError

Indices = npt.NDArray[np.int32]
_TEAR = 0.12  # neighbors whose depths differ by more than this share of the depth are not joined
_BIAS = 0.02  # the front lies this share of the subject's own depth behind the card, so that it never shadows itself


def proxy_mesh(
    depth: Pixels,
    matte: Pixels,
    fov: float,
    *,
    long_side: int = 192,
    relief: float = 1.0,
    roundness: float = 1.0,
) -> tuple[Pixels, Indices, Pixels]:
    """Front, back and walls of the subject in camera space (+X right, +Y up, -Z into the picture).

    Args:
        depth: (H, W) along -Z. matte: (H, W). fov: horizontal field of view in degrees.
        long_side: cells along the longer side of the picture.
        relief: factor on the depth's variation about the subject's middle.
        roundness: how far the back bulges, 1 as much as the front, 0 flat.

    Returns:
        Vertices (N, 3), quads (M, 4) of vertex indices facing outward, and (N, 2) picture coordinates from the
        lower left in [0, 1].

    Raises:
        InputError: the matte is empty.
    """
    height, width = depth.shape
    step = max(1.0, max(height, width) / long_side)
    rows = np.minimum(((np.arange(max(2, int(height / step))) + 0.5) * step).astype(np.intp), height - 1)
    columns = np.minimum(((np.arange(max(2, int(width / step))) + 0.5) * step).astype(np.intp), width - 1)
    far, solid = depth[np.ix_(rows, columns)], matte[np.ix_(rows, columns)] > 0.5
    if not solid.any():
        raise InputError("The matte has no solid pixel.", "Analyze the plate again with another matte.")
    middle = float(np.median(far[solid]))
    front = middle + (far - middle) * relief
    rim = float(np.percentile(front[solid], 99.5))
    extent = max(rim - float(front[solid].min()), 0.02 * middle)
    front = np.maximum(front + _BIAS * extent, 1e-3)
    back = np.maximum(rim + (rim - front) * roundness, front + 4 * _BIAS * extent)

    # A cell of four vertices is kept where all are solid and none tears from the others.
    corners = np.stack([front[:-1, :-1], front[:-1, 1:], front[1:, 1:], front[1:, :-1]])
    inside = solid[:-1, :-1] & solid[:-1, 1:] & solid[1:, 1:] & solid[1:, :-1]
    kept = inside & (corners.max(axis=0) - corners.min(axis=0) < _TEAR * corners.mean(axis=0))
    if not kept.any():
        raise InputError("The subject is too small for a shadow proxy.", "Give a larger plate or matte.")
    index = np.arange(front.size, dtype=np.int32).reshape(front.shape)
    # Counter-clockwise as the camera sees them: rows run down, so bottom left comes first.
    quads = np.stack(
        [index[1:, :-1][kept], index[1:, 1:][kept], index[:-1, 1:][kept], index[:-1, :-1][kept]], axis=1
    )
    edges = np.concatenate([quads[:, [k, (k + 1) % 4]] for k in range(4)])
    size = front.size
    forward, backward = (
        edges[:, 0].astype(np.int64) * size + edges[:, 1],
        edges[:, 1].astype(np.int64) * size + edges[:, 0],
    )
    rims = edges[~np.isin(forward, backward)]
    walls = np.stack([rims[:, 1], rims[:, 0], rims[:, 0] + size, rims[:, 1] + size], axis=1)
    faces = np.concatenate([quads, quads[:, ::-1] + size, walls]).astype(np.int32)

    across = math.tan(math.radians(fov) / 2)
    u, v = np.meshgrid((columns + 0.5) / width, 1.0 - (rows + 0.5) / height)
    ray = np.stack([(2 * u - 1) * across, (2 * v - 1) * across * height / width, -np.ones_like(u)], -1)
    points = np.concatenate([(ray * plane[..., None]).reshape(-1, 3) for plane in (front, back)])
    places = np.tile(np.stack([u, v], -1).reshape(-1, 2), (2, 1))
    used, faces = np.unique(faces, return_inverse=True)
    return (
        points[used].astype(np.float32),
        faces.reshape(-1, 4).astype(np.int32),
        places[used].astype(np.float32),
    )
