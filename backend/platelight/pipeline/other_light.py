"""What of a plate's own shading holds in another light.

Relief that is too fine for the normals is seen in a plate, and neither the normals nor the albedo know of it. Relief turns normals by d,
alike in all directions, and the logarithm of shading changes by the product of d with its gradient with respect to the
normal along the surface: A in the plate, B in the new light. Both are those of a cubic of the normal that is fitted to what is seen
(:mod:`platelight.models.form`), whatever rendered it: an HDRI, lamps, Cycles.

- Of the **cavity map** a part is relief that faces away from the plate's light and need not face away from another. Beside it
  is what is dark in any light: creases, dirt. With variances r and 1, the share (r A·B + 1) / (r A·A + 1) of what a plate shows
  is expected in the new light: all where light is the same, less the more it comes from elsewhere.
- Where A and B are alike, the plate's **own detail** is a better picture of the subject than any render: the same light should
  give the plate back. Its fine part replaces that of the render by a share that fades with the mean of \\|A - B\\|².
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from platelight.models.form import SIDE, blurred, fit, slope, trust_of
from platelight.models.networks import MIDDLE, luminance
from platelight.pipeline.resample import enlarged, fitted, resize
from platelight.pipeline.room import Large
from platelight.shading import doubt

RELIEF = 0.2  # r above
STEEPEST = 2.0  # a gradient of log shading: what is steeper is the edge of a shadow
MOST = 1.2  # exponent of the cavity map
OWN = 0.8  # share of the plate's detail in the same light
FADED = 0.8  # mean of |A - B|² where it is a third of that
LEAST = 0.02  # a share that is not worth the time
FINE = 0.05  # of the subject's size: what is broader is the render's
FARTHEST = 1.5  # a change of the logarithm
# Of places and of normals' deviation: less does not tell where light comes from.
FEW, FLAT = 32, 0.1
KNOWN = 0.02  # of a blur's weight: with less of the subject around nothing is known of what is broad
DARK_PAINT, DARK = 0.01, 2e-3  # albedo; a normalized picture
LEAST_PAINT = 1e-3  # that what is black has a ratio


@dataclass(frozen=True)
class Change:
    """``exponent`` (1, 1, h, w) of the cavity map, 0 to ``MOST``; ``share`` of the plate's own detail, 0 to ``OWN``."""

    exponent: Tensor
    share: float


def in_doubt(cut: Mapping[str, Large], sharp: Large, paint: Large) -> tuple[Large, Change]:
    """A diffuse pass as the refiner gets it: in doubt as its normals are, with as much of the cavity map as holds; and what changes.

    Args:
        cut: foreground, matte, normal, albedo, and cavity if there is one. sharp: the pass (1, 3, H, W). paint: what it was lit with.
    """
    least = fitted((sharp.shape[-2], sharp.shape[-1]), doubt.SIDE)
    small = (resize(image, least) for image in (sharp, paint, cut["normal"], cut["matte"]))
    softening = doubt.softening(*small)
    change = change_of_light(cut["foreground"], cut["albedo"], sharp, paint, cut["normal"], cut["matte"])
    size = (sharp.shape[-2], sharp.shape[-1])

    def rows(top: int, bottom: int) -> Tensor:
        lit, painted, normal = (image.rows(top, bottom) for image in (sharp, paint, cut["normal"]))
        soft = doubt.softened(lit, painted, normal, softening)
        if "cavity" not in cut:
            return soft
        # Of paint as it is lit, which is white at most.
        deep = cut["cavity"].rows(top, bottom) ** enlarged(change.exponent, size, top, bottom)
        held = (cut["albedo"].rows(top, bottom) * deep).clamp(0, 1)
        return soft * (held + LEAST_PAINT) / (painted + LEAST_PAINT)

    return Large(rows, sharp.shape, sharp.bands), change


def change_of_light(
    plate: Large, albedo: Large, lit: Large, paint: Large, normal: Large, matte: Large
) -> Change:
    """What changes from a plate to a new light.

    Args:
        plate: (1, 3, H, W), and lit (1, 3, H, W), the same subject's diffuse pass in the new light, linear, of any exposure.
        albedo: (1, 3, H, W), and paint (1, 3, H, W), what of it the diffuse pass was lit with. normal: (1, 3, H, W).
        matte: (1, 1, H, W).
    """
    least = fitted((plate.shape[-2], plate.shape[-1]), SIDE)
    seen, own, there, painted, facing, cover = (
        resize(image, least) for image in (plate, albedo, lit, paint, normal, matte)
    )
    facing = F.normalize(facing, dim=1)
    before, after = gradient(seen, own, facing, cover), gradient(there, painted, facing, cover)
    both, alone = ((before * one).sum(1, keepdim=True) for one in (after, before))
    exponent: Tensor = (RELIEF * both + 1) / (RELIEF * alone + 1)
    apart = float(
        ((before - after).square().sum(1, keepdim=True) * cover).sum() / cover.sum().clamp_min(1e-6)
    )
    # Hair alone, or a wall, does not tell where light comes from.
    solid = facing[(cover > 0.5).expand_as(facing)].view(3, -1)
    tells = solid.shape[1] >= FEW and float(solid.std(1).norm()) > FLAT
    return Change(exponent.clamp(0, MOST), OWN * math.exp(-apart / FADED) if tells else 0.0)


def gradient(seen: Tensor, paint: Tensor, normal: Tensor, matte: Tensor) -> Tensor:
    """The gradient (N, 3, h, w) along the surface of the log of what is seen over its paint with respect to the normal.

    Args:
        seen, paint: (N, 3, h, w), linear. normal: (N, 3, h, w), unit. matte: (N, 1, h, w).
    """
    bright = luminance(seen.clamp_min(0))
    mean = (bright * matte).sum((2, 3), keepdim=True) / matte.sum((2, 3), keepdim=True).clamp_min(1e-6)
    bright = bright * (MIDDLE / mean.clamp_min(1e-12))
    shading = torch.log(MIDDLE * bright / (luminance(paint.clamp_min(0)) + DARK_PAINT) + DARK)
    trust = trust_of(bright) * (matte > 0.5)
    weights = fit(shading.flatten(1), trust.flatten(1), normal.flatten(2).transpose(1, 2))
    n = normal.permute(0, 2, 3, 1)
    found = slope(n, weights[:, None, None])
    found = found - (found * n).sum(-1, keepdim=True) * n
    length = found.norm(dim=-1, keepdim=True)
    bounded: Tensor = found * (length.clamp(max=STEEPEST) / length.clamp_min(1e-6))
    return bounded.permute(0, 3, 1, 2)


def own_detail(plate: Large, made: Large, matte: Large, share: float) -> Callable[[int, int], Tensor]:
    """The logarithm by which rows of what was made change, (1, 3, rows, W), so that its fine detail is by a ``share`` the plate's.

    Args:
        plate, made: (1, 3, H, W), linear, each of the mean that networks expect. matte: (1, 1, H, W).
    """

    def gap(top: int, bottom: int) -> Tensor:
        one, other = (image.rows(top, bottom).clamp_min(0) + DARK for image in (plate, made))
        return torch.log(one / other)

    size = (plate.shape[-2], plate.shape[-1])
    least = fitted(size, SIDE)
    cover = resize(matte, least)
    inside = Large(lambda a, b: gap(a, b) * matte.rows(a, b), plate.shape, plate.bands)
    small = resize(inside, least) / cover.clamp_min(1e-3)
    solid = (cover > 0.5).to(torch.float32)
    broad, weight = blurred(small, solid, FINE * math.sqrt(float(solid.sum())))
    known = share * (weight / KNOWN).clamp(0, 1)

    def change(top: int, bottom: int) -> Tensor:
        fine = gap(top, bottom) - enlarged(broad, size, top, bottom)
        return (enlarged(known, size, top, bottom) * fine).clamp(-FARTHEST, FARTHEST)

    return change


__all__ = ["Change", "change_of_light", "gradient", "in_doubt", "own_detail"]
