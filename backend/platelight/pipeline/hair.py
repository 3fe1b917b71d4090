"""Hair is as dark against skin as the plate shows it where both face the same way.

The networks tell things that differ in paint apart too timidly: brown hair came out as light as the face below it, and gray under
every new light. A face is a probe of the light: nearly one paint, and normals all over the half that is seen (as Marschner,
Greenberg, *Inverse Lighting for Photography*, 1997, read light from a face). So what hair shows against skin of the same normal is its
paint against that of skin.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from platelight.models.networks import FLOOR, luminance
from platelight.pipeline.faces import Face
from platelight.pipeline.form import Array, array_of, facing
from platelight.pipeline.people import Head, hair_over, heads_in, no_skin, smooth_step
from platelight.pipeline.resample import fitted, resize

Mask = npt.NDArray[np.bool_]

SIDE = 160  # long side of the raster
SURE = 0.3  # share of hair from which a place tells
ALIKE, CLOSEST = 0.2, math.cos(math.radians(20.0))  # rad; the nearest normal of the face
FEW, MANY = 24, 200  # pixels; places of skin that all are compared with
DARKER = (0.25, 0.7)  # than skin: not yet hair, and hair
SHINE = 0.5  # of hair's reflection that is left
DARKEST = 1.5  # of the logarithm of albedo


def darkened_hair(
    reflectance: Tensor, plate: Tensor, matte: Tensor, normal: Tensor, faces: list[Face]
) -> Tensor:
    """The reflectance, lower where hair is darker in the plate than skin of the same normal; all channels by the same.

    Args:
        reflectance: (1, 3, h, w), the logarithm of albedo over (normalized plate + FLOOR). plate: (1, 3, h, w), normalized.
        matte: (1, 1, h, w). normal: (1, 3, h, w), unit. faces: with points in pixels of this size.
    """
    size = (plate.shape[-2], plate.shape[-1])
    target = fitted(size, SIDE)
    scale = np.array([target[1] / size[1], target[0] / size[0]])
    small = resize(plate.clamp_min(0), target)
    albedo = torch.exp(resize(torch.log(plate.clamp_min(0) + FLOOR) + reflectance, target))
    small_matte = resize(matte, target)
    cover = small_matte[0, 0].float().cpu().numpy()
    heads = heads_in(albedo, small_matte, [face.scaled(scale) for face in faces])
    # Both by luminance, or a color would tell of another level.
    seen, level = (array_of(torch.log(luminance(image) + FLOOR)) for image in (small, albedo))
    ways = facing(normal, target)
    change = np.zeros(target, np.float32)
    for head in heads:
        against, known = _against_skin(head.skin, cover > 0.5, seen, ways)
        # Told by what it shows, too: paint in the networks' albedo may be that of skin.
        darker = head.beside * smooth_step(-against, *DARKER)
        hair = np.minimum(head.hair(cover, np.maximum(head.other, darker)), no_skin(heads))
        sure = (hair > SURE) & known
        if sure.sum() < FEW:
            continue
        told = float(np.median(level[sure]) - np.median(level[head.skin]))
        found = float(np.clip(np.median(against[sure]) - told, -DARKEST, 0.0))
        change = np.minimum(change, found * hair)
    if not change.any():
        return reflectance
    return reflectance + resize(torch.from_numpy(change)[None, None].to(reflectance), size)


def dulled_hair(f0: Tensor, matte: Tensor, heads: list[Head]) -> Tensor:
    """The reflectivity (1, 1, h, w) with that of hair: what a strand reflects falls on others, and lies in their shade.

    Args:
        matte: (1, 1, h, w). heads: of this size.
    """
    if not heads:
        return f0
    hair = torch.from_numpy(hair_over(heads, matte))[None, None].to(f0)
    return f0 * (1 - (1 - SHINE) * hair)


def _against_skin(skin: Mask, inside: Mask, seen: Array, ways: Array) -> tuple[Array, Mask]:
    """Log luminance (h, w) over that of a face's skin of the nearest normals, and where those are near enough to tell."""
    against, known = np.zeros(seen.shape), np.zeros(seen.shape, np.bool_)
    skins = np.flatnonzero(skin)
    if len(skins) < FEW:
        return against, known
    skins, flat = skins[:: max(1, len(skins) // MANY)], ways.reshape(-1, 3)
    alike = flat[inside.ravel()] @ flat[skins].T
    weight = np.exp((alike - 1) / ALIKE**2)
    against[inside] = seen[inside] - weight @ seen.ravel()[skins] / weight.sum(1)
    known[inside] = alike.max(1) > CLOSEST
    return against, known


__all__ = ["darkened_hair", "dulled_hair"]
