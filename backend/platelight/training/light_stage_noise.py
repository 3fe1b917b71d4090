"""The noise of path tracing taken out of a light-stage stack, so that few paths a pixel are enough.

A path adds to one lamp's picture of the many, so that a single lamp's is of a handful of paths. But within a window of pixels
the pictures of all lamps are mixtures of few: a surface turns, a shadow's edge runs through. So the window's matrix of pixels by lamps
is of low rank, and noise is not. Its singular values are shrunk as is best for what noise there is (Gavish, Donoho, *Optimal
Shrinkage of Singular Values*, IEEE Trans. Information Theory 2017); magnetic resonance takes the noise out of its many directions so
(Veraart et al., *Denoising of Diffusion MRI Using Random Matrix Theory*, NeuroImage 2016). No pixel is averaged with its
neighbors as such, so relief, texture and shadows keep their edges.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

WINDOW, STEP = 24, 8
"""Pixels: of a side, and between windows, which overlap and are averaged."""
FEW = 16
"""Pixels of a subject in a window, below which they tell nothing of each other."""
SPREAD = 0.5
"""Of Poisson's variance is left: paths of one pixel are spread evenly over its directions (low-discrepancy samples)."""
DARK = 0.15
"""Of an even share of the light, added to a lamp's mean: where none arrives noise is none, and nothing may be divided by it."""


def without_noise(olat: Array, cover: Array, paths: int) -> Array:
    """Pictures under single lamps (L, H, W, 3) float32 without most of their noise; their sum stays.

    Args:
        olat: linear, as path tracing gives them: of ``paths`` paths a pixel each adds to one lamp's picture.
        cover: (H, W), whether the subject is there at all.
        paths: a pixel.
    """
    height, width = cover.shape
    white = olat.sum(0)  # under all lamps, which a path never misses: nearly free of noise
    shares = np.ascontiguousarray((olat / np.maximum(white, 1e-4)).transpose(1, 2, 3, 0))
    total, weight = np.zeros_like(shares), np.zeros((height, width, 1, 1), np.float32)
    for top in _places(height):
        for left in _places(width):
            window = np.s_[top : top + WINDOW, left : left + WINDOW]
            here = cover[window]
            if int(here.sum()) < FEW:
                continue
            clean, rank = _of_low_rank(shares[window][here], paths)
            trust = np.float32(1 / (1 + rank))  # what needed many mixtures keeps more noise
            total[window][here] += trust * clean
            weight[window][here] += trust
    known = weight > 0
    clean = np.maximum(np.where(known, total / np.where(known, weight, 1), shares), 0)
    clean /= np.maximum(clean.sum(-1, keepdims=True), 1e-9)
    return np.ascontiguousarray((clean * white[..., None]).transpose(3, 0, 1, 2), np.float32)


def _places(size: int) -> list[int]:
    last = max(size - WINDOW, 0)
    return [*range(0, last, STEP), last]


def _of_low_rank(shares: Array, paths: int) -> tuple[Array, int]:
    """Lamps' shares (P, 3, L) of pixels' light without noise, and of how many mixtures they are.

    A share's variance is that of Poisson, share / paths, so lamps are divided by their deviation: noise is the same in all then. A
    path has all three channels, so three rows hold one noise.
    """
    pixels, channels, lamps = shares.shape
    scale = np.sqrt(shares.mean((0, 1)) + DARK / lamps)
    matrix = (shares / scale).reshape(-1, lamps)
    power, towards = np.linalg.eigh(matrix.T @ matrix)
    noise = channels * SPREAD / paths * pixels
    ratio = lamps / pixels
    found = np.sqrt(np.maximum(power, 0) / noise)
    inside = np.maximum((found**2 - ratio - 1) ** 2 - 4 * ratio, 0)
    kept = np.where(found > 1 + np.sqrt(ratio), np.sqrt(inside) / np.maximum(found, 1e-9) ** 2, 0)
    kept[-1] = 1  # their mean is theirs
    rank = int((kept > 0).sum())
    basis = towards[:, -rank:]
    clean = (matrix @ basis * kept[-rank:]) @ basis.T
    return clean.reshape(shares.shape) * scale, rank


__all__ = ["without_noise"]
