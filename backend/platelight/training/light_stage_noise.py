"""The noise of path tracing taken out of a light-stage picture, so that few paths a pixel are enough to train on.

Dammertz, Sewtz, Hanika, Lensch, *Edge-Avoiding À-Trous Wavelet Transform for fast Global Illumination Filtering*, HPG 2010: light without
the paint is averaged with that of neighbors, farther and farther away, that face the same way and are about as bright. Paint and
normals have no noise, so texture and relief stay. Filtering one lamp's picture would not do: paths are few there, in sums they are many.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

KERNEL = (0.0625, 0.25, 0.375, 0.25, 0.0625)
REACHES = (1, 2, 4)
"""Pixels between taps in each round."""
SHARPNESS = 32
"""Power of the cosine between normals."""
BRIGHTNESS = 0.35
"""Difference of logarithmic luminance, of means over 3 x 3 pixels, at which neighbors count for less: shadows keep their edges."""
LEAST = 0.02


def without_noise(picture: Tensor, paint: Tensor, normal: Tensor, alpha: Tensor) -> Tensor:
    """Linear premultiplied radiance (K, 3, H, W) of one subject without most of its noise.

    Args:
        paint: (3, H, W) straight, what the picture's texture is proportional to.
        normal: (3, H, W) unit. alpha: (1, H, W) coverage.
    """
    under = (paint + LEAST) * alpha.clamp_min(LEAST)
    light = picture.clamp_min(0) / under
    count, _, height, width = light.shape
    cover = (alpha > LEAST).to(light.dtype)[None]
    facing = F.normalize(normal, dim=0)[None]
    for reach in REACHES:
        bright = F.avg_pool2d(light.mean(1, keepdim=True) * cover, 3, 1, 1) / F.avg_pool2d(
            cover, 3, 1, 1
        ).clamp_min(1e-3)
        level = torch.log(bright + 1e-3 * bright.mean((2, 3), keepdim=True) + 1e-9)
        edge = 2 * reach
        guide = torch.cat([facing.expand(count, -1, -1, -1), level, cover.expand(count, -1, -1, -1)], 1)
        around, near = F.pad(light, [edge] * 4), F.pad(guide, [edge] * 4)
        total, weights = torch.zeros_like(light), torch.full_like(level, 1e-9)
        for i, down in enumerate(KERNEL):
            for j, right in enumerate(KERNEL):
                part = (..., slice(i * reach, i * reach + height), slice(j * reach, j * reach + width))
                there = near[part]
                turn = (facing * there[:, :3]).sum(1, keepdim=True).clamp(0, 1) ** SHARPNESS
                alike = torch.exp(-(((there[:, 3:4] - level) / BRIGHTNESS) ** 2))
                weight = down * right * turn * alike * there[:, 4:5]
                total += weight * around[part]
                weights += weight
        light = torch.where(weights > 1e-6, total / weights, light)
    return light * under
