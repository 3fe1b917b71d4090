"""Arithmetic of the composite: the subject alone, a backdrop without it, grain. No bpy module use.

Pictures are (H, W, 3) float32, linear; mattes (H, W).
"""

from __future__ import annotations

import numpy as np

from .exr import Pixels

_CLEAN = 0.9  # where the matte is beyond it, what is behind cannot be told from the plate
MIDDLE_GRAY = 0.18


def filled(picture: Pixels, weight: Pixels) -> Pixels:
    """Keep ``picture`` where ``weight`` is 1 and fill the rest from around, by a pyramid (push-pull)."""
    height, width = weight.shape
    if min(height, width) < 2 or bool((weight > 0.999).all()):
        share = weight[..., None]
        mean = (picture * share).sum(axis=(0, 1)) / max(float(weight.sum()), 1e-6)
        return np.asarray(picture * share + mean * (1 - share), np.float32)
    pad = ((0, height % 2), (0, width % 2))
    kept = np.pad(weight, pad)
    color = np.pad(picture * weight[..., None], (*pad, (0, 0)))
    half = (kept.shape[0] // 2, 2, kept.shape[1] // 2, 2)
    total = kept.reshape(half).sum(axis=(1, 3))
    small = color.reshape(*half, 3).sum(axis=(1, 3)) / np.maximum(total, 1e-6)[..., None]
    coarse = filled(small, np.minimum(total, 1.0)).repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    share = weight[..., None]
    return np.asarray(picture * share + coarse * (1 - share), np.float32)


def behind_subject(plate: Pixels, foreground: Pixels, matte: Pixels) -> tuple[Pixels, Pixels]:
    """The backdrop's share of the plate, and the backdrop itself with the subject filled from around it."""
    share = np.maximum(plate - foreground * matte[..., None], 0.0)
    clear = np.clip(1.0 - matte, 1e-3, 1.0)[..., None]
    return share, filled(share / clear, (matte < _CLEAN).astype(np.float32))


def grain_of(picture: Pixels, inside: Pixels) -> float:
    """Standard deviation of the grain at middle gray, for noise that grows with the root of the light.

    Immerkaer's Laplacian (1996), with the median in place of the mean so that edges do not count.

    Args:
        inside: (H, W), greater than 0.5 where the picture counts.
    """
    light = picture.mean(axis=2)
    level = np.maximum(light[1:-1, 1:-1], 1e-3)
    difference = (
        4 * light[1:-1, 1:-1]
        - 2 * (light[:-2, 1:-1] + light[2:, 1:-1] + light[1:-1, :-2] + light[1:-1, 2:])
        + light[:-2, :-2]
        + light[:-2, 2:]
        + light[2:, :-2]
        + light[2:, 2:]
    )
    chosen = (inside[1:-1, 1:-1] > 0.5) & (level > 0.01)
    if chosen.sum() < 64:
        return 0.0
    noise = np.abs(difference[chosen]) / np.sqrt(level[chosen] / MIDDLE_GRAY)
    # Three channels were averaged: one of them has root 3 times the noise.
    return float(np.median(noise) / 0.6745 / 6.0 * np.sqrt(3.0))


def grain_to_add(front: Pixels, backdrop: Pixels, matte: Pixels) -> float:
    """Grain that the subject lacks to be as grainy as its backdrop; 0 where it has more."""
    own, wanted = (
        grain_of(front, (matte > 0.99).astype(np.float32)),
        grain_of(backdrop, (matte < 0.01).astype(np.float32)),
    )
    return float(np.sqrt(max(wanted * wanted - own * own, 0.0)))


def grain_picture(height: int, width: int, seed: int = 0) -> Pixels:
    """Normal noise (H, W, 3) of mean 0 and deviation 1."""
    return np.random.default_rng(seed).standard_normal((height, width, 3), dtype=np.float32)
