"""Shading as form tells it: under distant light it is a smooth function of the normal (Barron, Malik 2015)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from platelight.models.networks import luminance
from platelight.pipeline.resample import resize

DARK = 0.03  # of a normalized plate: below, colors and shading are noise
ROUNDS = 6

Array = npt.NDArray[np.float64]
Inside = npt.NDArray[np.bool_]


def array_of(field: Tensor) -> Array:
    """(1, C, h, w) -> (h, w, C) or (h, w)."""
    array = field[0].permute(1, 2, 0).double().cpu().numpy()
    return array[..., 0] if array.shape[-1] == 1 else array


def sureness(plate: Tensor) -> Array:
    """How far a normalized plate (1, 3, h, w) can be trusted, 0 to 1, (h, w)."""
    return array_of((luminance(plate.clamp_min(0)) / DARK).clamp(0, 1))


def facing(normal: Tensor, size: tuple[int, int]) -> Array:
    """Unit normals (1, 3, H, W) at another size, (h, w, 3)."""
    return array_of(F.normalize(resize(normal, size), dim=1))


def cubic(normal: Array) -> Array:
    """The terms of a cubic of unit normals: (N, 3) -> (N, 16)."""
    x, y, z = normal.T
    return np.stack(
        [np.ones_like(x), x, y, z, x * x, y * y, x * y, x * z, y * z,
         x**3, y**3, x * x * y, x * y * y, x * x * z, y * y * z, x * y * z], -1)  # fmt: skip


def fit(shading: Array, sure: Array, normal: Array) -> Array:
    """The cubic (16,) of normals (N, 3) that explains most of log shading (N,) best: Cauchy weights, from ``sure`` (N,)."""
    terms, trust = cubic(normal), np.maximum(sure, 0.05)
    weight, ridge = trust, 1e-4 * len(shading) * np.eye(terms.shape[1])
    found = np.zeros(terms.shape[1])
    for _ in range(ROUNDS):
        weighted = terms * weight[:, None]
        found = np.linalg.solve(weighted.T @ terms + ridge, weighted.T @ shading)
        rest = shading - terms @ found
        weight = trust / (1 + (rest / (1.5 * np.median(np.abs(rest)) + 1e-3)) ** 2)
    return found


def smooth(values: Array, inside: Inside, sigma: float) -> Array:
    """Values of the pixels inside, as a smooth field (h, w); ``sigma`` is a share of the raster's long side."""
    field, sigma = np.zeros(inside.shape), sigma * max(inside.shape)
    field[inside] = values
    found: Array = gaussian_filter(field, sigma) / np.maximum(
        gaussian_filter(inside.astype(np.float64), sigma), 1e-3
    )
    return found
