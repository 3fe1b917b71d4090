"""What of a plate's shading neither its light nor the form explains: creases, pores, folds too fine for the normals.

Albedo is free of shading, and a render of it under distant light has no other than the normals', so what is darker in a
plate because it lies deep would be lost in every render. The *cavity* map keeps it, as those of texture painters do: a
factor of the albedo when it is lit, 1 where there is nothing to add. It is the quotient image (Shashua, Riklin-Raviv
2001) of the plate over albedo and what the form explains of the shading, without its broad parts: those are cast shadows
and reflections of the plate's own light, which must not come back under another.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from platelight.models.form import cubic, fit, raster, slope, trust_of
from platelight.models.networks import FLOOR, MIDDLE, luminance

BROAD = 0.1  # of the subject's long side: what is smoother is left out
DEEPEST, HIGHEST = -1.0, 0.5  # logarithms; what is far brighter than its surroundings is a glint
RELIEF = 0.2
"""Variance of relief that is too fine for the normals over that of what is dark in any light: creases, dirt, paint."""
STEEPEST, MOST = 2.0, 1.2  # gradient of log shading; exponent of the cavity map
DARK_PAINT = 0.01


def cavity(reflectance: Tensor, plate: Tensor, matte: Tensor, normal: Tensor) -> Tensor:
    """The logarithm of the cavity map, (N, 1, H, W); 0 where the subject is too small to tell.

    Args:
        reflectance: (N, 3, H, W), the logarithm of albedo over (normalized plate + FLOOR).
        plate: (N, 3, H, W), normalized. matte: (N, 1, H, W). normal: (N, 3, H, W), unit.
    """
    shading = -reflectance.mean(1, keepdim=True)
    small, bright, cover = raster(shading), raster(luminance(plate.clamp_min(0))), raster(matte)
    form = F.normalize(raster(normal), dim=1)
    inside = (cover > 0.5).to(small)
    terms = cubic(form.permute(0, 2, 3, 1))
    weights = fit(small.flatten(1), (trust_of(bright) * inside).flatten(1), form.flatten(2).transpose(1, 2))[
        :, None, :, None
    ]
    rest = small - (terms @ weights)[..., 0][:, None]
    broad = F.interpolate(
        _smooth(rest, inside), size=shading.shape[-2:], mode="bilinear", align_corners=False
    )
    explained = (cubic(normal.permute(0, 2, 3, 1)) @ weights)[..., 0][:, None]
    return (shading - explained - broad).clamp(DEEPEST, HIGHEST)


def held(plate: Tensor, albedo: Tensor, lit: Tensor, paint: Tensor, normal: Tensor, matte: Tensor) -> Tensor:
    """How much of the cavity map holds in another light: its exponent, (N, 1, h, w), 0 to ``MOST``.

    What is darker in a plate than form tells lies deep, or is relief that faces away from the plate's light and need not face
    away from another. Relief turns normals by d, alike in all directions, and log shading changes by the product of d with
    its gradient with respect to the normal: A in the plate, B in the new light. Beside it is what is dark in any light, of
    variance 1 where that of d is r. Of what a plate shows, (r A·B + 1) / (r A·A + 1) is expected in the new light: all
    of it where the light is the same, less the more it comes from elsewhere.

    Args:
        plate: (N, 3, h, w) and lit (N, 3, h, w), the same subject's diffuse pass in the new light, linear, of any exposure.
        albedo: (N, 3, h, w), and paint (N, 3, h, w), what of it the diffuse pass was lit with. normal: (N, 3, h, w), unit.
        matte: (N, 1, h, w). Best small: no longer than :data:`form.SIDE`.
    """
    before = _gradient(plate, albedo, normal, matte)
    after = _gradient(lit, paint, normal, matte)
    both, own = (before * after).sum(1, keepdim=True), (before * before).sum(1, keepdim=True)
    exponent: Tensor = (RELIEF * both + 1) / (RELIEF * own + 1)
    return exponent.clamp(0, MOST)


def _gradient(seen: Tensor, paint: Tensor, normal: Tensor, matte: Tensor) -> Tensor:
    """The gradient (N, 3, h, w) along the surface of the log of what is seen over its paint with respect to the normal."""
    bright = luminance(seen.clamp_min(0))
    mean = (bright * matte).sum((2, 3), keepdim=True) / matte.sum((2, 3), keepdim=True).clamp_min(1e-6)
    bright = bright * (MIDDLE / mean.clamp_min(1e-12))
    shading = torch.log(MIDDLE * bright / (luminance(paint.clamp_min(0)) + DARK_PAINT) + FLOOR)
    trust = trust_of(bright) * (matte > 0.5)
    weights = fit(shading.flatten(1), trust.flatten(1), normal.flatten(2).transpose(1, 2))
    n = normal.permute(0, 2, 3, 1)
    found = slope(n, weights[:, None, None])
    found = found - (found * n).sum(-1, keepdim=True) * n
    length = found.norm(dim=-1, keepdim=True)
    return (found * (length.clamp(max=STEEPEST) / length.clamp_min(1e-6))).permute(0, 3, 1, 2)


def _smooth(values: Tensor, inside: Tensor) -> Tensor:
    """Values (N, 1, h, w), known where ``inside`` is 1, blurred by a Gaussian of ``BROAD``."""
    sigma = BROAD * max(values.shape[-2:])
    reach = int(3 * sigma) + 1
    place = torch.arange(-reach, reach + 1, device=values.device)
    bell = torch.exp(-0.5 * (place / sigma) ** 2).to(values)
    both = torch.cat([values * inside, inside], 1)
    for kernel in (bell.view(1, 1, -1, 1), bell.view(1, 1, 1, -1)):
        pad = (kernel.shape[-2] // 2, kernel.shape[-1] // 2)
        both = F.conv2d(both, kernel.expand(2, 1, -1, -1), padding=pad, groups=2)
    return both[:, :1] / both[:, 1:].clamp_min(1e-3 * float(bell.sum()) ** 2)


__all__ = ["cavity", "held"]
