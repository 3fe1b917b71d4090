"""The lamps of the virtual light stage: one patch of sky each, which together tile the whole sphere.

Directions are a spherical Fibonacci lattice; lamp i is the Voronoi cell of direction i, an emitter of radiance 1.
The cells tile the sphere, so a picture under any environment is a weighted sum of the pictures under the lamps, as
fine in direction as the cells are.
All directions are in the camera's frame (+X right, +Y up, +Z to the camera), as in ``shading.environment``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import ConvexHull, SphericalVoronoi, cKDTree

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


def _moments(d: Array) -> Array:
    """A basis (..., 9) of the polynomials up to degree two on the sphere: what irradiance is nearly made of."""
    x, y, z = d[..., 0], d[..., 1], d[..., 2]
    return np.stack([np.ones_like(x), x, y, z, x * y, y * z, z * x, x * x - y * y, 3 * z * z - 1], -1)


@lru_cache(maxsize=16)
def latlong_weights(count: int, rows: int, fine: int = 128) -> Array:
    """Matrix (count, rows * 2 rows) from lat-long radiance to the lamps' weights (radiance of each cell).

    A texel's power goes to the three lamps around it by barycentric coordinates, so that light between lamps is not
    moved to one of them; the shares are then balanced so that a uniform sky is uniform. At last the moments of the
    light up to degree two, which make 99 % of irradiance (Ramamoorthi and Hanrahan 2001), are restored by the smallest
    change of the weights; that may leave slightly negative ones beside a strong lamp. Texels are cut up until there are
    ``fine`` rows.
    """
    lamps = fibonacci(count)
    split = max(1, -(-fine // rows))
    high = rows * split
    fine_directions = texel_directions(high)
    edges = np.cos(np.arange(high + 1) / high * math.pi)
    area = np.repeat((edges[:-1] - edges[1:]) * math.pi / high, 2 * high)
    row, column = np.divmod(np.arange(2 * high * high), 2 * high)
    texel = (row // split) * 2 * rows + column // split
    corners, share = _barycentric(lamps, fine_directions)
    power = np.zeros((count, 2 * rows * rows))
    for k in range(3):
        np.add.at(power, (corners[:, k], texel), share[:, k] * area)
    owner = cKDTree(lamps).query(fine_directions)[1]
    solid = rig(count).solid_angles[:, None]
    texels = power.sum(0)
    for _ in range(6):  # Sinkhorn: a uniform sky is a uniform rig, and no texel's power is lost
        power *= solid / power.sum(1, keepdims=True)
        power *= texels / power.sum(0)
    basis = _moments(fine_directions) * area[:, None]
    wanted = np.zeros((2 * rows * rows, 9))
    np.add.at(wanted, texel, basis)
    cells = np.zeros((count, 9))
    np.add.at(cells, owner, basis)
    mean = cells / np.bincount(owner, area, count)[:, None]  # a lamp's moments for a power of 1
    power += solid * mean @ np.linalg.solve(mean.T @ (solid * mean), wanted.T - mean.T @ power)
    return np.asarray(power / solid)


@lru_cache(maxsize=16)
def cell_shares(count: int, rows: int, fine: int = 128) -> Array:
    """Matrix (count, rows * 2 rows): how much of each lat-long texel's area each lamp's cell covers."""
    split = max(1, -(-fine // rows))
    high = rows * split
    edges = np.cos(np.arange(high + 1) / high * math.pi)
    area = np.repeat(edges[:-1] - edges[1:], 2 * high)
    row, column = np.divmod(np.arange(2 * high * high), 2 * high)
    texel = (row // split) * 2 * rows + column // split
    owner = cKDTree(fibonacci(count)).query(texel_directions(high))[1]
    shares = np.zeros((count, 2 * rows * rows))
    np.add.at(shares, (owner, texel), area)
    return np.asarray(shares / shares.sum(0))


def _barycentric(lamps: Array, directions: Array) -> tuple[Array, Array]:
    """The three lamps about each direction (D, 3) and their shares (D, 3), of the lattice's Delaunay triangles."""
    triangles = ConvexHull(lamps).simplices
    inverse = np.linalg.inv(
        lamps[triangles].transpose(0, 2, 1)
    )  # to coordinates along a triangle's three corners
    # A direction's triangle has a corner at its nearest lamp, but for slivers, where the least negative one will do.
    near = cKDTree(lamps[triangles].mean(1) / np.linalg.norm(lamps[triangles].mean(1), axis=1, keepdims=True))
    candidates = near.query(directions, k=min(8, len(triangles)))[1]
    inside = np.einsum("dtij,dj->dti", inverse[candidates], directions)
    best = inside.min(2).argmax(1)
    rows = np.arange(len(directions))
    share = np.clip(inside[rows, best], 0, None)
    return triangles[candidates[rows, best]], share / share.sum(1, keepdims=True)
