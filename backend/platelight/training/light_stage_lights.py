"""The lamps of the virtual light stage: one patch of sky each, which together tile the whole sphere.

Directions are a spherical Fibonacci lattice; lamp i is the Voronoi cell of direction i, an emitter of radiance 1.
The cells tile the sphere, so a picture under any environment is the sum of the pictures under the lamps, each
weighted by the environment's mean radiance over its cell: exact for an environment that is constant on each cell.
All directions are in the camera's frame (+X right, +Y up, +Z to the camera), as in ``shading.environment``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import SphericalVoronoi, cKDTree

Array = npt.NDArray[Any]


def fibonacci(count: int) -> Array:
    """Unit directions (count, 3) towards lamps, nearly evenly spread (Swinbank and Purser 2006)."""
    index = np.arange(count)
    y = 1 - (2 * index + 1) / count
    phi = index * math.pi * (3 - math.sqrt(5))
    r = np.sqrt(1 - y * y)
    return np.stack([r * np.sin(phi), y, r * np.cos(phi)], 1)


@dataclass(frozen=True)
class Rig:
    """Lamps: directions (L, 3), solid angles (L,) in sr that sum to 4π, cells (unit corners (K, 3) in order)."""

    directions: Array
    solid_angles: Array
    cells: tuple[Array, ...]


@lru_cache(maxsize=8)
def rig(count: int) -> Rig:
    """The rig of ``count`` lamps; the same for every call.

    Raises:
        ValueError: fewer than 12 lamps, whose cells would be wider than a hemisphere's worth of shading.
    """
    if count < 12:
        raise ValueError(f"A light stage needs at least 12 lamps, not {count}.")
    directions = fibonacci(count)
    voronoi = SphericalVoronoi(directions, threshold=1e-9)
    voronoi.sort_vertices_of_regions()
    cells = []
    for direction, region in zip(directions, voronoi.regions, strict=True):
        corners = voronoi.vertices[region]
        turn = float(np.cross(corners[0], corners[1]) @ direction)
        cells.append(corners if turn > 0 else corners[::-1])  # counter-clockwise seen from outside
    return Rig(directions, voronoi.calculate_areas(), tuple(cells))


def texel_directions(rows: int) -> Array:
    """Unit directions (rows * 2 rows, 3) of lat-long texel centers (``shading.environment``'s convention)."""
    phi = ((np.arange(2 * rows) + 0.5) / (2 * rows) - 0.5) * 2 * math.pi
    theta = (np.arange(rows) + 0.5) / rows * math.pi
    s = np.sin(theta)[:, None]
    up = np.broadcast_to(np.cos(theta)[:, None], (rows, 2 * rows))
    return np.asarray(np.stack([s * np.sin(phi), up, -s * np.cos(phi)], -1).reshape(-1, 3))


@lru_cache(maxsize=16)
def latlong_weights(count: int, rows: int, fine: int = 256) -> Array:
    """Matrix (count, rows * 2 rows) from lat-long radiance to the lamps' weights; each row sums to 1.

    A texel that lies across cells is split between them: it is cut into sub-texels until there are ``fine`` rows.
    """
    split = max(1, -(-fine // rows))
    high = rows * split
    owner = cKDTree(fibonacci(count)).query(texel_directions(high))[1]
    edges = np.cos(np.arange(high + 1) / high * math.pi)
    area = np.repeat((edges[:-1] - edges[1:]) * math.pi / high, 2 * high)
    row, column = np.divmod(np.arange(2 * high * high), 2 * high)
    texel = (row // split) * 2 * rows + column // split
    matrix = np.zeros((count, 2 * rows * rows))
    np.add.at(matrix, (owner, texel), area)
    return np.asarray(matrix / matrix.sum(1, keepdims=True))
