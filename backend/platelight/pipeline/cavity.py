"""What of a plate's shading neither its light nor the form explains: creases, pores, folds too fine for the normals.

Albedo is free of shading, and a render of it under distant light has no other than the normals', so what is darker in a
plate because it lies deep would be lost in every render. The *cavity* map keeps it, as those of texture painters do: a
factor of the albedo when it is lit, 1 where there is nothing to add. It is the quotient image (Shashua, Riklin-Raviv
2001) of the plate over albedo and what the form explains of the shading, without its broad parts: those are cast shadows
and reflections of the plate's own light, which must not come back under another.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from platelight.pipeline.form import array_of, explained, facing, fit, smooth, trust_in
from platelight.pipeline.resample import fitted, resize

SIDE = 160  # long side of the raster on which the shading is fitted and its broad parts are found
BROAD = 0.1  # of the subject's long side: what is smoother is left out
DEEPEST, HIGHEST = -1.0, 0.3  # logarithms; what is much brighter than its surroundings is a glint
LEAST = 16  # pixels of a subject that can be fitted


def cavity(reflectance: Tensor, plate: Tensor, matte: Tensor, normal: Tensor) -> Tensor:
    """The logarithm of the cavity map, (1, 1, h, w).

    Args:
        reflectance: (1, 3, h, w), the logarithm of albedo over (normalized plate + FLOOR).
        plate: (1, 3, h, w), normalized. matte: (1, 1, h, w). normal: (1, 3, h, w), unit.
    """
    size = (plate.shape[-2], plate.shape[-1])
    target = fitted(size, SIDE)
    shading = -reflectance.mean(1, keepdim=True)
    inside = array_of(resize(matte, target)) > 0.5
    if inside.sum() < LEAST:
        return torch.zeros_like(shading)
    small, form = array_of(resize(shading, target)), facing(normal, target)
    weights = fit(small[inside], trust_in(resize(plate, target))[inside], form[inside])
    broad = smooth(small[inside] - explained(weights, form[inside]), inside, BROAD)
    known = explained(weights, array_of(normal).reshape(-1, 3)).reshape(size)
    known += resize(torch.from_numpy(broad)[None, None], size)[0, 0].numpy()
    rest = shading - torch.from_numpy(known.astype(np.float32)).to(shading)
    return rest.clamp(DEEPEST, HIGHEST)


__all__ = ["cavity"]
