"""Shape from shading: normals turned until they explain the brightness that paint leaves to them.

The networks read normals from what things look like; how bright each place is they use only in part. Once paint and form are
known nearly, the rest is an old problem with a good start (Horn, Brooks, *The Variational Approach to Shape from Shading*,
1986; Barron, Malik, *Shape, Illumination, and Reflectance from Shading*, 2015): under distant light the logarithm of shading
is a smooth function of the normal (:mod:`platelight.models.form`), here a cubic robustly fitted to the plate over its albedo.
Where the plate is brighter than the cubic says, the surface is turned towards what is brighter. Turned is a height field
and not each normal, so that what is found is a surface's; it is held to the normals that were given, to smoothness, and
to its own height, as shading tells relief and not form.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from platelight.models import form
from platelight.models.networks import FLOOR, luminance
from platelight.pipeline.depth import solved
from platelight.pipeline.form import Array, Inside, array_of, facing, trust_in
from platelight.pipeline.resample import fitted, resize

SIDE = 96  # long side of the raster
ROUNDS = 2  # of a robust fit each: light, then heights
HELD, SMOOTH, FLAT = 0.3, 0.5, 0.001
"""Weights of a turn squared, of its differences squared and of height squared, against that of log shading squared."""
TIMID = 1.2  # albedo's contrast is this much larger than it is read
ODD = 0.3  # of log shading: what is further off is paint or a shadow
GRAZING = 0.1  # a height turns normals less towards the silhouette, but not less than this
FEW = 32  # pixels: fewer tell nothing
DARKEST = 1e-3  # albedo


def turned_by_shading(normal: Tensor, reflectance: Tensor, plate: Tensor, matte: Tensor) -> Tensor:
    """Unit normals (1, 3, h, w) that explain the plate better.

    Args:
        normal: (1, 3, h, w), unit. reflectance: (1, 3, h, w), the logarithm of albedo over (normalized plate + FLOOR).
        plate: (1, 3, h, w), linear, normalized. matte: (1, 1, h, w).
    """
    size = (normal.shape[-2], normal.shape[-1])
    target = fitted(size, SIDE)
    bare = plate.clamp_min(0)
    albedo = luminance((bare + FLOOR) * torch.exp(reflectance)).clamp_min(DARKEST)
    shading = torch.log(luminance(bare) + FLOOR) - TIMID * torch.log(albedo)
    small_matte = resize(matte, target)
    inside = (small_matte[0, 0] > 0.5).cpu().numpy()
    if inside.sum() < FEW:
        return normal
    given = facing(normal, target)[inside]
    seen = array_of(resize(shading, target))[inside]
    trust = trust_in(resize(bare, target))[inside]
    change = np.zeros((*target, 3))
    change[inside] = _turned(given, seen, trust, inside) - given
    moved = torch.from_numpy(change).permute(2, 0, 1)[None].to(normal)
    return F.normalize(normal + resize(moved, size), dim=1)


def _turned(given: Array, shading: Array, trust: Array, inside: Inside) -> Array:
    """Unit normals (N, 3) of the pixels inside: Gauss and Newton's steps on their heights.

    Args:
        given: (N, 3), unit. shading: (N,), logarithm. trust: (N,), 0 to 1.
    """
    turns = _turns(given, inside)
    differences = _neighbors(inside)
    scale = max(inside.shape) / SIDE  # that weights mean the same on a smaller raster
    prior = sum(
        HELD * turn.T @ turn + SMOOTH * scale * (differences @ turn).T @ (differences @ turn)
        for turn in turns
    )
    prior = prior + FLAT / scale**2 * sparse.identity(len(given))
    height = np.zeros(len(given))
    normal = given
    for _ in range(ROUNDS):
        light = form.fit(*(torch.from_numpy(one)[None] for one in (shading, trust, normal)))
        here = torch.from_numpy(normal)
        rest = shading - (form.cubic(here) @ light[0]).numpy()
        slope = form.slope(here, light).numpy()
        slope -= (slope * normal).sum(1, keepdims=True) * normal
        weight = trust / (1 + (rest / ODD) ** 2)
        system = sum(sparse.diags(slope[:, axis]) @ turn for axis, turn in enumerate(turns))
        wanted = rest + system @ height
        height = solved(
            sparse.csc_matrix(system.T @ sparse.diags(weight) @ system + prior),
            system.T @ (weight * wanted),
            height,
        )
        normal = given + np.stack([turn @ height for turn in turns], 1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return normal


def _turns(normal: Array, inside: Inside) -> tuple[sparse.csr_matrix, ...]:
    """By what heights (N,) turn each axis of normals (N, 3), to first order: three matrices (N, N)."""
    right, up = _slopes(inside)
    steep = -np.maximum(normal[:, 2], GRAZING)
    found = []
    for axis in range(3):
        along_x = steep * ((axis == 0) - normal[:, axis] * normal[:, 0])
        along_y = steep * ((axis == 1) - normal[:, axis] * normal[:, 1])
        found.append(sparse.csr_matrix(sparse.diags(along_x) @ right + sparse.diags(along_y) @ up))
    return tuple(found)


def _numbers(inside: Inside) -> npt.NDArray[np.int64]:
    """The number of each pixel inside, -1 outside, with a rim of -1."""
    number = np.full(inside.shape, -1, np.int64)
    number[inside] = np.arange(int(inside.sum()))
    return np.pad(number, 1, constant_values=-1)


def _slopes(inside: Inside) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Slopes to the right and upwards per pixel, central where both neighbors are inside, else one-sided: (N, N) each."""
    number = _numbers(inside)
    own = number[1:-1, 1:-1][inside]
    found = []
    for ahead, behind in ((number[1:-1, 2:], number[1:-1, :-2]), (number[:-2, 1:-1], number[2:, 1:-1])):
        high, low = ahead[inside], behind[inside]
        apart = (high >= 0).astype(np.float64) + (low >= 0)
        share = np.where(apart > 0, 1 / np.maximum(apart, 1), 0.0)
        columns = np.concatenate([np.where(high >= 0, high, own), np.where(low >= 0, low, own)])
        found.append(
            sparse.csr_matrix(
                (np.concatenate([share, -share]), (np.tile(own, 2), columns)), shape=(len(own),) * 2
            )
        )
    return found[0], found[1]


def _neighbors(inside: Inside) -> sparse.csr_matrix:
    """The difference of each pair of neighbors inside, (pairs, N)."""
    number = _numbers(inside)[1:-1, 1:-1]
    pairs = [
        np.stack([a.ravel(), b.ravel()])
        for a, b in ((number[:, :-1], number[:, 1:]), (number[:-1], number[1:]))
    ]
    both = np.concatenate(pairs, 1)
    both = both[:, (both >= 0).all(0)]
    count, one = both.shape[1], np.ones(both.shape[1])
    rows = np.tile(np.arange(count), 2)
    return sparse.csr_matrix(
        (np.concatenate([one, -one]), (rows, both.ravel())), shape=(count, int(inside.sum()))
    )
