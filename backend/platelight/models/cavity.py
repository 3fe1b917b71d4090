"""What of a plate's shading neither its light nor the form explains: creases, pores, folds too fine for the normals.

Albedo is free of shading, and a render of it under distant light has no other than the normals', so what is darker in a
plate because it lies deep would be lost in every render. The *cavity* map keeps it, as those of texture painters do: a
factor of the albedo when it is lit, 1 where there is nothing to add. It is the quotient image (Shashua, Riklin-Raviv
2001) of the plate over albedo and what the form explains of the shading, without its broad parts: those are cast shadows
and reflections of the plate's own light, which must not come back under another.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from platelight.models.form import blurred, cubic, fit, raster, trust_of
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
        blurred(rest, inside, BROAD * max(rest.shape[-2:]))[0],
        size=shading.shape[-2:],
        mode="bilinear",
        align_corners=False,
    )
    explained = (cubic(normal.permute(0, 2, 3, 1)) @ weights)[..., 0][:, None]
    return (shading - explained - broad).clamp(DEEPEST, HIGHEST)


__all__ = ["cavity"]
