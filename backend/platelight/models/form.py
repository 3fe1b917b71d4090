"""Shading as form tells it: under distant light it is a smooth function of the normal (Barron, Malik 2015)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from platelight.models.networks import FLOOR

ROUNDS = 6
SIDE = 96  # long side of the raster on which the form is fitted
DARK = 0.03  # of a normalized plate: below, colors and shading are noise
LEAST_TRUST = 0.05
TERMS = 16


def cubic(normal: Tensor) -> Tensor:
    """The terms of a cubic of unit normals: (..., 3) -> (..., 16)."""
    x, y, z = normal.unbind(-1)
    return torch.stack(
        [torch.ones_like(x), x, y, z, x * x, y * y, x * y, x * z, y * z,
         x * x * x, y * y * y, x * x * y, x * y * y, x * x * z, y * y * z, x * y * z], -1)  # fmt: skip


def slope(normal: Tensor, weights: Tensor) -> Tensor:
    """The gradient (..., 3) of a cubic (..., 16) of normals (..., 3) with respect to them."""
    x, y, z = normal.unbind(-1)
    o, i = torch.zeros_like(x), torch.ones_like(x)
    along_x = [o, i, o, o, 2 * x, o, y, z, o, 3 * x * x, o, 2 * x * y, y * y, 2 * x * z, o, y * z]
    along_y = [o, o, i, o, o, 2 * y, x, o, z, o, 3 * y * y, x * x, 2 * x * y, o, 2 * y * z, x * z]
    along_z = [o, o, o, i, o, o, o, x, y, o, o, o, o, x * x, y * y, x * y]
    axes = (along_x, along_y, along_z)
    return torch.stack([(torch.stack(terms, -1) * weights).sum(-1) for terms in axes], -1)


def fit(values: Tensor, trust: Tensor, normal: Tensor) -> Tensor:
    """The cubics (N, 16) of normals (N, P, 3) that explain most of the values (N, P) best: Cauchy weights.

    ``trust`` (N, P) weighs pixels from the first round on; those of no trust do not count.
    """
    terms, counted = cubic(normal), trust > 0
    ridge = 1e-4 * counted.sum(1).clamp_min(1)[:, None, None] * torch.eye(TERMS).to(terms)
    nothing = values.new_full((), torch.nan)
    weight = trust
    found = values.new_zeros(len(values), TERMS)
    for _ in range(ROUNDS):
        weighted = (terms * weight[..., None]).transpose(1, 2)
        found = torch.linalg.solve(weighted @ terms + ridge, (weighted @ values[..., None])[..., 0])
        off = (values - (terms @ found[..., None])[..., 0]).abs()
        usual = torch.where(counted, off, nothing).nanmedian(1, keepdim=True).values.nan_to_num()
        weight = trust / (1 + (off / (1.5 * usual + 1e-3)) ** 2)
    return found


def trust_of(bright: Tensor) -> Tensor:
    """How far a normalized plate of this luminance can be trusted, ``LEAST_TRUST`` to 1."""
    return (bright / DARK).clamp(LEAST_TRUST, 1)


def raster(image: Tensor) -> Tensor:
    """(N, C, H, W) reduced to a long side of ``SIDE`` at most."""
    scale = SIDE / max(image.shape[-2:])
    if scale >= 1:
        return image
    size = [max(1, round(scale * side)) for side in image.shape[-2:]]
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)


def blurred(values: Tensor, inside: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Values (N, C, h, w), known where ``inside`` (N, 1, h, w) is 1, under a Gaussian of so many pixels, and the share of its weight
    (N, 1, h, w) that is known.
    """
    sigma = max(sigma, 0.3)
    reach = int(3 * sigma) + 1
    place = torch.arange(-reach, reach + 1, device=values.device)
    bell = torch.exp(-0.5 * (place / sigma) ** 2).to(values)
    bell = bell / bell.sum()
    both = torch.cat([values * inside, inside], 1)
    channels = both.shape[1]
    for kernel in (bell.view(1, 1, -1, 1), bell.view(1, 1, 1, -1)):
        pad = (kernel.shape[-2] // 2, kernel.shape[-1] // 2)
        both = F.conv2d(both, kernel.expand(channels, 1, -1, -1), padding=pad, groups=channels)
    return both[:, :-1] / both[:, -1:].clamp_min(1e-3), both[:, -1:]


def lit_as(plate: Tensor, matte: Tensor, normal: Tensor, shading: Tensor) -> Tensor:
    """Shading with what of the plate's difference from it the normals explain: the light fitted to the plate.

    An inferred light is broad and uncertain; where most of the subject grows brighter as it turns, that is the light's
    doing, whatever its paint. The mean of the logarithm over the subject stays.

    Args:
        plate: luminance (N, 1, H, W), normalized. matte: (N, 1, H, W). normal: (N, 3, H, W), unit.
        shading: (N, 3, H, W), inferred.

    Returns:
        (N, 3, H, W), all channels changed alike.
    """
    bright, own = raster(plate.clamp_min(0)), raster(shading.mean(1, keepdim=True)).clamp_min(0)
    facing = F.normalize(raster(normal), dim=1).flatten(2).transpose(1, 2)
    trust = (trust_of(bright) * (raster(matte) > 0.5)).flatten(1)
    weights = fit((torch.log(bright + FLOOR) - torch.log(own + FLOOR)).flatten(1), trust, facing)
    change = (cubic(normal.permute(0, 2, 3, 1)) @ weights[:, None, :, None])[..., 0][:, None]
    mean = (change * matte).sum((2, 3), keepdim=True) / matte.sum((2, 3), keepdim=True).clamp_min(1e-6)
    return shading * torch.exp((change - mean).clamp(-3, 3))


def brighter(shading: Tensor, matte: Tensor, normal: Tensor) -> Tensor:
    """Which way a surface must turn to become brighter, and how fast: what makes relief visible, and readable.

    The gradient of the logarithm of the shading with respect to the normal, along the surface: relief turns a normal by
    d, and the plate becomes brighter by the scalar product of this with d, whatever the paint.

    Args:
        shading: (N, 3, H, W). matte: (N, 1, H, W). normal: (N, 3, H, W), unit, of which the shading is a smooth function.

    Returns:
        (N, 3, H, W), of length below 1: g / sqrt(1 + |g|^2) of the gradient g.
    """
    bright = torch.log(raster(shading.mean(1, keepdim=True)).clamp_min(0) + FLOOR).flatten(1)
    facing = F.normalize(raster(normal), dim=1).flatten(2).transpose(1, 2)
    weights = fit(bright, (raster(matte) > 0.5).flatten(1).to(bright), facing)
    n = normal.permute(0, 2, 3, 1)
    gradient = slope(n, weights[:, None, None])
    gradient = gradient - (gradient * n).sum(-1, keepdim=True) * n
    return (gradient / (1 + gradient.square().sum(-1, keepdim=True)).sqrt()).permute(0, 3, 1, 2)
