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

from platelight.models.form import cubic, fit, raster, trust_of
from platelight.models.networks import luminance

BROAD = 0.1  # of the subject's long side: what is smoother is left out
DEEPEST, HIGHEST = -1.0, 0.5  # logarithms; what is far brighter than its surroundings is a glint


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


__all__ = ["cavity"]
