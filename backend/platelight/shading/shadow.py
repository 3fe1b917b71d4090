"""How much of a light still reaches a surface that shades itself: soft light over all directions, lamps one by one.

The light is split into a few key lamps (a sun, a window, a softbox that is small as seen from the subject) and the
rest. The rest is summed over directions around each line of sight, each with the share that :mod:`.visibility` leaves
of it: directional occlusion as in Ritschel, Grosch and Seidel, "Approximating dynamic global illumination in image
space", I3D 2009, with the horizons of that module. Each key lamp is marched to by itself, on a finer raster, with a
penumbra as wide as the lamp. What comes out are shares, shadowed by unshadowed light of the same sums, so that errors
of the sums cancel and a surface that nothing shades keeps its exact render.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from platelight.shading import brdf, environment, irradiance, visibility
from platelight.shading.reference import MIN_NV
from platelight.shading.visibility import Relief

HEADINGS, ANGLES = 16, 12
"""Directions of the soft light around a line of sight: headings in the picture, angles from it to its opposite."""
_ROWS = 16
"""Rows of the soft light, as fine as the directions that it is read at."""
_KEY_ROWS = 128
_LEAST_ROWS = 32
_KEY_REACH, _KEY_RING = math.radians(16.0), math.radians(24.0)
_KEYS, _TRIES, _KEY_SHARE = 6, 16, 0.02
_SHARPEST = math.radians(1.5)
"""Narrowest half penumbra: what the raster of the march can hold."""
_GROWTH = 1.0 + 1.0 / 24.0
"""Of the steps towards a lamp: a shadow's length is right to a twenty-fourth."""
_ROUGHEST = 0.35
"""Least roughness whose lobe the directions of the soft light can sum."""
_LUMINANCE = (0.2126, 0.7152, 0.0722)


@dataclass(frozen=True)
class Key:
    """A lamp of a light: unit direction to it (3,), power (3,) as radiance times sr, angular radius in rad."""

    towards: Tensor
    power: Tensor
    radius: float


@dataclass(frozen=True)
class Soft:
    """Sums over the soft light for the pixels of a relief, each ``(P, 3)``: without and with what is hidden.

    ``diffuse`` is irradiance, ``specular`` the GGX lobe's sum with a Fresnel factor of 1.
    """

    diffuse: Tensor
    diffuse_left: Tensor
    specular: Tensor
    specular_left: Tensor


def split(light: Tensor) -> tuple[Tensor, list[Key]]:
    """A light ``(1, 3, h, 2h)`` as the rest ``(1, 3, r, 2r)``, r at most 128, and its key lamps, strongest first found.

    A key lamp is what stands out of a ring around it, within 16° of its middle, by at least 2 % of all the light.
    """
    # Texels farther apart than the ring is wide would have nothing around them, and all stand out.
    rest = environment.resize(light, min(_KEY_ROWS, max(_LEAST_ROWS, environment.check(light)))).clone()
    rows = rest.shape[-2]
    dirs = environment.directions(rows, rest.device, rest.dtype).reshape(-1, 3)
    areas = environment.solid_angles(rows, rest.device, rest.dtype).flatten()
    gray = rest.new_tensor(_LUMINANCE)
    flat = rest[0].flatten(1)  # a view: taking from it takes from the rest
    total = float((gray @ flat * areas).sum())
    tried = torch.zeros_like(areas, dtype=torch.bool)
    keys: list[Key] = []
    for _ in range(_TRIES):
        if len(keys) == _KEYS or total <= 0.0:
            break
        bright = torch.where(tried, -1.0, gray @ flat)
        peak = int(bright.argmax())
        if float(bright[peak]) <= 0.0:
            break
        middle = dirs[peak]
        for _ in range(
            2
        ):  # the brightest texel is not the middle of its lamp: once more about the middle found
            cosine = dirs @ middle
            near = cosine >= math.cos(_KEY_REACH)
            ring = ~near & (cosine >= math.cos(_KEY_RING))
            floor = flat[:, ring].median(dim=1).values if bool(ring.any()) else flat.new_zeros(3)
            excess = (flat - floor[:, None]).clamp_min(0.0) * (areas * near)
            weight = gray @ excess
            middle = dirs.T @ weight
            middle = middle / middle.square().sum().clamp_min(1e-24).sqrt()
        power = excess.sum(1)
        tried |= dirs @ dirs[peak] >= math.cos(0.5 * _KEY_REACH)
        if float(gray @ power) < _KEY_SHARE * total or float(middle @ middle) < 0.5:
            continue
        away = (dirs - middle).square().sum(1)
        # A disk of radius ρ has a mean square distance of ρ²/2 from its middle.
        radius = math.sqrt(2.0 * float((weight * away).sum() / weight.sum()))
        keys.append(Key(middle, power, radius))
        flat -= excess / areas
    return rest, keys


def soft(surface: Relief, rest: Tensor, roughness: Tensor) -> Soft:
    """Sum a light without lamps over all directions.

    Args:
        surface: of P pixels, coarse: its march goes in steps that grow by a quarter.
        rest: ``(1, 3, h, 2h)``.
        roughness: ``(P, 1)`` perceptual.
    """
    coarse = environment.resize(rest, _ROWS)
    theta = (torch.arange(ANGLES, device=rest.device, dtype=rest.dtype) + 0.5) * (math.pi / ANGLES)
    cell = theta.sin() * (math.pi / ANGLES * 2.0 * math.pi / HEADINGS)
    nv = (surface.normal * surface.view).sum(1, keepdim=True).clamp_min(MIN_NV)
    alpha = brdf.alpha_from_roughness(roughness.clamp_min(_ROUGHEST))
    sums = [rest.new_zeros(surface.point.shape[0], 3) for _ in range(4)]
    for k in range(HEADINGS):
        azimuth = (k + 0.5) / HEADINGS * 2.0 * math.pi
        way = rest.new_tensor((math.cos(azimuth), -math.sin(azimuth)))[None]
        seen = 1.0 - visibility.blocked(surface, way, theta[None], 0.5 * math.pi / ANGLES, 1.25)
        across = visibility.tangent(surface, azimuth)
        # cos θ v + sin θ t, (P, S, 3)
        dirs = theta.cos()[:, None] * surface.view[:, None] + theta.sin()[:, None] * across[:, None]
        radiance = environment.sample(coarse, dirs.permute(2, 0, 1)[None])[0].permute(1, 2, 0)
        nl = (dirs * surface.normal[:, None]).sum(-1)
        lobe = _lobe(nl, nv, theta.cos()[None], alpha)
        for place, weight in enumerate((nl.clamp_min(0.0) * cell, lobe * cell)):
            sums[2 * place] += (weight[..., None] * radiance).sum(1)
            sums[2 * place + 1] += ((weight * seen)[..., None] * radiance).sum(1)
    return Soft(*sums)


def shares(
    surface: Relief, rest: Tensor, keys: list[Key], soft_shares: Tensor, soft_gloss: Tensor, roughness: Tensor
) -> Tensor:
    """What is left of diffuse and of specular light ``(P, 6)``, in [0, 1], 1 where nothing hides anything.

    Args:
        surface: of P pixels, fine: its march to the lamps goes in small steps.
        rest, keys: from :func:`split`.
        soft_shares: ``(P, 6)`` what is left of the rest, diffuse and specular, from :func:`soft`.
        soft_gloss: ``(P, 3)`` the rest's specular sum without what is hidden.
        roughness: ``(P, 1)`` perceptual.
    """
    map_of_normals = irradiance.irradiance_map(environment.resize(rest, 32), 32)
    around = surface.normal.T[None, :, None]
    whole = torch.cat((environment.sample(map_of_normals, around)[0, :, 0].T * math.pi, soft_gloss), 1)
    left = whole * soft_shares
    nv = (surface.normal * surface.view).sum(1, keepdim=True).clamp_min(MIN_NV)
    for key in keys:
        seen = cast(surface, key.towards[None], roughness.new_full((1, 1), key.radius))
        lv = surface.view @ key.towards[:, None]
        nl = surface.normal @ key.towards[:, None]
        # A half vector turns by half of what its light does.
        alpha = (brdf.alpha_from_roughness(roughness).square() + (0.25 * key.radius) ** 2).sqrt()
        lobe = _lobe(nl, nv, lv, alpha)
        lit = torch.cat((nl.clamp_min(0.0) * key.power, lobe * key.power), 1)
        whole, left = whole + lit, left + lit * seen
    scale = whole.mean().clamp_min(1e-20)
    return ((left + 1e-6 * scale) / (whole + 1e-6 * scale)).clamp(0.0, 1.0)


def cast(surface: Relief, towards: Tensor, radius: Tensor, away: Tensor | None = None) -> Tensor:
    """The share ``(P, 1)`` of one lamp that is seen.

    Args:
        surface: of P pixels, fine.
        towards: ``(P or 1, 3)`` unit, from the surface to the lamp.
        radius: ``(P or 1, 1)`` its angular radius in rad.
        away: ``(P, 1)`` its distance, None where nothing lies beyond it.
    """
    way, theta = visibility.heading(surface, towards)
    hidden = visibility.blocked(surface, way, theta[:, None], radius.clamp_min(_SHARPEST), _GROWTH, away)
    return 1.0 - hidden


def _lobe(nl: Tensor, nv: Tensor, lv: Tensor, alpha: Tensor) -> Tensor:
    """D V n·l of GGX for a Fresnel factor of 1."""
    half = (2.0 + 2.0 * lv).clamp_min(1e-8).sqrt()
    lobe = brdf.ggx_distribution((nl + nv) / half, alpha) * brdf.smith_visibility(nl, nv, alpha)
    return lobe * nl.clamp_min(0.0)
