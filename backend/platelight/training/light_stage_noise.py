"""The noise of path tracing taken out of a light-stage stack, so that few paths a pixel are enough.

A path adds to one lamp's picture of the many, so that a single lamp's is of a handful of paths. But within a window of pixels
the pictures of all lamps are mixtures of few: a surface turns, a shadow's edge runs through. So the window's matrix of pixels by lamps
is of low rank, and noise is not. Its singular values are shrunk as is best for what noise there is (Gavish, Donoho, *Optimal
Shrinkage of Singular Values*, IEEE Trans. Information Theory 2017), which the bulk of them tells; magnetic resonance takes the noise out of
its many directions so (Veraart et al., *Denoising of Diffusion MRI Using Random Matrix Theory*, NeuroImage 2016). No pixel is
averaged with its neighbors as such, so relief, texture and shadows keep their edges.

What all lamps give together has noise too where paths differ in what they carry, as in skin, where they scatter at random;
not on opaque things. How noisy the lamps' shares are tells by how much. There alone light without the paint is averaged
with that of neighbors that face the same way and are as bright within the noise (Dammertz, Sewtz, Hanika, Lensch,
*Edge-Avoiding À-Trous Wavelet Transform for fast Global Illumination Filtering*, HPG 2010).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

WINDOW, STEP = 24, 8
"""Pixels: of a side, and between windows, which overlap and are averaged."""
FEW = 16
"""Pixels of a subject in a window, below which they tell nothing of each other."""
DARK = 0.15
"""Of an even share of the light, added to a lamp's mean: where none arrives noise is none, and nothing may be divided by it."""
BROAD = 1.2
"""Pixels: deviation of the Gaussian over which what is left out is given back."""
LIT = 0.25
"""Of an even share of the light, above which a lamp's noise counts."""
KERNEL = (0.0625, 0.25, 0.375, 0.25, 0.0625)
REACHES = (1, 2, 4)
"""Pixels between taps in each round of averaging."""
SHARPNESS = 16
"""Power of the cosine between normals."""
WITHIN = 0.6
"""Of the deviation of noise: difference of light, of means over 3 x 3 pixels, at which neighbors count for less."""
LEAST, QUIET = 0.02, 0.03
"""Paint beside which light is told, and a deviation below which a picture under all lamps hardly is averaged."""


def without_noise(olat: Array, cover: Array, paint: Array, normal: Array, paths: int) -> Array:
    """Pictures under single lamps (L, H, W, 3) float32 without most of their noise; a little below zero where no light arrives.

    Args:
        olat: linear, premultiplied, as path tracing gives them: of ``paths`` paths a pixel each adds to one lamp's picture.
        cover: (H, W), whether the subject is there at all.
        paint: (H, W, 3), what the pictures' texture is proportional to, premultiplied as they are. normal: (H, W, 3), unit.
        paths: a pixel.
    """
    height, width = cover.shape
    white = olat.sum(0)
    shares = np.ascontiguousarray((olat / np.maximum(white, 1e-4)).transpose(1, 2, 3, 0))
    total, noise = np.zeros_like(shares), np.zeros((height, width))
    weight = np.zeros((height, width), np.float32)
    for top in _places(height):
        for left in _places(width):
            window = np.s_[top : top + WINDOW, left : left + WINDOW]
            here = cover[window]
            if int(here.sum()) < FEW:
                continue
            clean, rank, variance = _of_low_rank(shares[window][here])
            trust = np.float32(1 / (1 + rank))  # what needed many mixtures keeps more noise
            total[window][here] += trust * clean
            noise[window][here] += trust * variance
            weight[window][here] += trust
    known, over = weight > 0, np.maximum(weight, 1e-9)
    clean = np.where(known[..., None, None], total / over[..., None, None], shares)
    clean = clean + _broad(shares - clean, cover)
    clean = clean / np.clip(clean.sum(-1, keepdims=True), 0.5, 2)
    # A share of paths that all carry alike has Poisson's variance at most; what is more of it is of what they carry.
    unlike = np.sqrt(np.maximum(noise / over * paths - 1, 0) / paths)
    if unlike.any():
        white = _averaged(white, paint, normal, cover, unlike)
    return np.ascontiguousarray((clean * white[..., None]).transpose(3, 0, 1, 2), np.float32)


def _broad(rest: Array, cover: Array) -> Array:
    """What was left out of shares (H, W, 3, L), averaged over so many pixels that it is no noise: shrinking dims what is rare."""
    height, width = cover.shape
    inside = cover.astype(np.float32)
    over = np.maximum(cv2.GaussianBlur(inside, (0, 0), BROAD), 1e-3)[..., None]
    planes = (rest * inside[..., None, None]).reshape(height, width, -1)
    parts = [cv2.GaussianBlur(planes[..., k], (0, 0), BROAD) for k in range(planes.shape[-1])]
    return np.asarray((np.stack(parts, -1) / over).reshape(rest.shape), np.float32)


def _places(size: int) -> list[int]:
    last = max(size - WINDOW, 0)
    return [*range(0, last, STEP), last]


def _of_low_rank(shares: Array) -> tuple[Array, int, float]:
    """Lamps' shares (P, 3, L) of pixels' light without noise, of how many mixtures they are, and the noise's variance.

    A share's variance goes with the share, so lamps are divided by their deviation: noise is the same in all then. A path has all three
    channels, so three rows hold one noise.
    """
    pixels, channels, lamps = shares.shape
    mean = shares.mean((0, 1))
    lit = mean > LIT / lamps  # lamps behind the surface have no noise, and would make it look small
    if not lit.any():
        return shares, 1, 0.0  # black under every lamp
    scale = np.sqrt(mean + DARK / lamps)
    matrix = (shares / scale).reshape(-1, lamps)
    products = matrix.T @ matrix
    power, towards = np.linalg.eigh(products)
    few, many = sorted((pixels, int(lit.sum())))
    bulk = np.linalg.eigvalsh(products[np.ix_(lit, lit)])[-few:]
    variance = float(np.median(bulk)) / (_bulk(few / many) * many)
    noise, ratio = max(variance * pixels, 1e-12), int(lit.sum()) / pixels
    found = np.sqrt(np.maximum(power, 0) / noise)
    inside = np.maximum((found**2 - ratio - 1) ** 2 - 4 * ratio, 0)
    kept = np.where(found > 1 + np.sqrt(ratio), np.sqrt(inside) / np.maximum(found, 1e-9) ** 2, 0)
    kept[-1] = 1  # their mean is theirs
    rank = int((kept > 0).sum())
    basis = towards[:, -rank:]
    clean = (matrix @ basis * kept[-rank:]) @ basis.T
    return clean.reshape(shares.shape) * scale, rank, variance / channels


@lru_cache(maxsize=4096)
def _bulk(ratio: float) -> float:
    """The median of the law of Marchenko and Pastur: of the eigenvalues of noise of variance 1, ratio of sides in (0, 1]."""
    low, high = (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2
    at = np.linspace(low, high, 2001)[1:]
    mass = np.cumsum(np.sqrt(np.maximum((high - at) * (at - low), 0)) / at)
    return float(at[np.searchsorted(mass, mass[-1] / 2)])


def _averaged(white: Array, paint: Array, normal: Array, cover: Array, deviation: Array) -> Array:
    """A picture under all lamps (H, W, 3) whose noise, of a relative deviation (H, W), is averaged out."""
    height, width = cover.shape
    inside = cover.astype(np.float32)
    light = white / (paint + LEAST)
    noisy = np.minimum((deviation / QUIET) ** 2, 1)
    for reach in REACHES:
        mean = cv2.blur(light.mean(-1) * inside, (3, 3)) / np.maximum(cv2.blur(inside, (3, 3)), 1e-3)
        level = np.log(mean + 1e-3 * float(mean[cover].mean() if cover.any() else 0) + 1e-9)
        guides = (light, normal, level, inside)
        around = [np.pad(g, [(2 * reach,) * 2] * 2 + [(0, 0)] * (g.ndim - 2)) for g in guides]
        total, weights = np.zeros_like(light), np.full((height, width), 1e-9)
        for i, down in enumerate(KERNEL):
            for j, right in enumerate(KERNEL):
                part = np.s_[i * reach : i * reach + height, j * reach : j * reach + width]
                there, facing, bright, seen = (g[part] for g in around)
                weight = np.full((height, width), down * right)
                if (i, j) != (2, 2):
                    turn = np.clip((normal * facing).sum(-1), 0, 1) ** SHARPNESS
                    alike = np.exp(-(((bright - level) / (WITHIN * deviation + 1e-4)) ** 2))
                    weight = weight * turn * alike * seen * noisy
                total += weight[..., None] * there
                weights += weight
        light = total / weights[..., None]
    return np.asarray(light * (paint + LEAST))


__all__ = ["without_noise"]
