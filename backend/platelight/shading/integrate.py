"""The fast integrator: a light is filtered once, then maps are shaded by look-ups.

Three parts add up to the specular integral (``docs/shading.md`` has the reasons and the figures):
small bright lamps, taken out of the environment and evaluated as point lights; the rest by
:mod:`.lobes`, a few look-ups into isotropically filtered maps; and a small table over normals of what
those look-ups get wrong along the camera's axis, found by exact integration. Diffuse is one look-up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from platelight.shading import brdf, environment, lobes
from platelight.shading import prefilter as filters
from platelight.shading.reference import Shading, facing, integrate, view_directions

__all__ = ["PrefilteredLight", "Shading", "integrate", "prefilter", "shade", "view_directions"]

_TOP = 512
_HEIGHTS = (_TOP, 256, 256, 256, 128, 128, 64, 64, 64, 64, 64, 64)
"""Rows of each level: the narrow lobes of the table first, the clamped cosine last."""
_BLOCK = 4
_LAMPS = 48
_LAMP_SHARE = 3e-4
"""A block of texels is a lamp when it stands out by this share of the light's power."""
_SIDE = 33
_NODES = (0.25, 0.35, 0.5, 0.7, 1.0)
_NODE_ROWS = (64, 64, 32, 32, 32)
_CHUNK = 1 << 15


@dataclass(frozen=True)
class PrefilteredLight:
    """What :func:`shade` needs to know of a light; made by :func:`prefilter`.

    ``rows (N, R, 4)`` are the filtered levels, one after another, each ``(h, 2h + 1)`` with the first column
    repeated; ``lamps`` are directions ``(N, K, 3)`` and powers ``(N, K, 3)`` (radiance times sr) of the lamps;
    ``coarse`` is the light without them at 64 rows; ``residual (N, nodes * side², 8)`` corrects the look-ups.
    """

    rows: Tensor
    heights: tuple[int, ...]
    lamp_dirs: Tensor
    lamp_power: Tensor
    lamp_spread: Tensor
    coarse: Tensor
    residual: Tensor
    degrees: float = 0.0

    def rotated(self, degrees: float) -> PrefilteredLight:
        """The same light turned by ``degrees`` more (see :func:`environment.rotate`), not filtered anew."""
        turned = replace(self, degrees=(self.degrees + degrees) % 360.0)
        return replace(turned, residual=_residual(turned))


def prefilter(env: Tensor) -> PrefilteredLight:
    """Filter a light ``(N, 3, h, 2h)`` of linear radiance; differentiable with respect to it."""
    h = environment.check(env)
    full = environment.resize(env, min(h, _TOP))
    base, dirs, power, spread = _take_lamps(full)
    lut = lobes.table(env.device, env.dtype)
    rows, heights = [], []
    for roughness, rows_wanted in zip((*lut.levels, 0.0), _HEIGHTS, strict=True):
        size = min(rows_wanted, base.shape[-2]) if roughness and roughness < 0.3 else rows_wanted
        # The narrowest lobe is below a texel: the light itself. The cosine is taken over all of the light.
        source = full if roughness == 0.0 else base
        level = base if roughness == lut.levels[0] else filters.filtered(source, size, roughness)
        heights.append(int(level.shape[-2]))
        level = torch.cat((level, level[..., :1]), dim=-1).flatten(2).transpose(1, 2)
        rows.append(torch.nn.functional.pad(level, (0, 1)))
    light = PrefilteredLight(
        torch.cat(rows, dim=1),
        tuple(heights),
        dirs,
        power,
        spread,
        environment.resize(base, 64),
        env.new_zeros(env.shape[0], len(_NODES) * _SIDE * _SIDE, 8),
    )
    return replace(light, residual=_residual(light))


def _take_lamps(env: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The light without its lamps, and their directions, powers and spreads (standard deviation, rad)."""
    n, c, h, w = env.shape
    size = max(1, h * _BLOCK // _TOP)
    grid = environment.solid_angles(h, env.device, env.dtype)
    dirs = environment.directions(h, env.device, env.dtype).permute(2, 0, 1)

    def blocks(x: Tensor) -> Tensor:
        x = x.reshape(*x.shape[:-2], h // size, size, w // size, size)
        return x.transpose(-3, -2).flatten(-2).flatten(-3, -2)

    if h % size:
        empty = env.new_zeros(n, 0, 3)
        return env, empty, empty, env.new_zeros(n, 0)
    # What a block would be without its lamp: the lower quartile of the blocks around it.
    mean = environment.resize(env, h // size) if size > 1 else env
    padded = torch.nn.functional.pad(
        torch.cat((mean[..., -2:], mean, mean[..., :2]), -1), (0, 0, 2, 2), "replicate"
    )
    around = torch.nn.functional.unfold(padded, 5).reshape(n, c, 25, -1)
    floor = around.kthvalue(6, dim=2).values.detach()
    texels, omega, where = blocks(env), blocks(grid), blocks(dirs)
    excess = (texels - floor[..., None]).clamp_min(0.0) * omega
    energy = excess.sum((1, 3))
    total = (env * grid).sum((1, 2, 3)).clamp_min(1e-12)
    count = min(_LAMPS, energy.shape[1])
    best, index = energy.topk(count, dim=1)
    keep = (best > _LAMP_SHARE * total[:, None]).to(env.dtype)
    pick = index[:, None, :, None].expand(-1, c, -1, size * size)
    taken = excess.gather(2, pick) * keep[:, None, :, None]
    power = taken.sum(3).transpose(1, 2)
    weight = taken.sum(1)
    share = weight / weight.sum(-1, keepdim=True).clamp_min(1e-12)
    spots = where[:, index].transpose(0, 1)
    center = (spots * share[:, None]).sum(-1)
    center = center / center.norm(dim=1, keepdim=True).clamp_min(1e-6)
    center = torch.where(
        keep[:, None] > 0, center, torch.zeros_like(center) + center.new_tensor((0, 1, 0))[None, :, None]
    )
    offset = (spots - center[..., None]).square().sum(1)
    spread = (0.5 * (offset * share).sum(-1)).sqrt()
    removed = torch.zeros_like(texels).scatter(2, pick, taken / omega[index][:, None])
    removed = removed.reshape(n, c, h // size, w // size, size, size).transpose(3, 4).reshape(n, c, h, w)
    used = max(1, int(keep.sum(1).max()))
    return env - removed, center.transpose(1, 2)[:, :used], power[:, :used], spread[:, :used]


def shade(
    light: PrefilteredLight,
    normal: Tensor,
    albedo: Tensor,
    roughness: Tensor,
    f0: Tensor,
    view: Tensor,
    layered: bool = False,
) -> Shading:
    """Diffuse and specular radiance of maps under a prefiltered light.

    Args:
        light: from :func:`prefilter`, of N lights or of one.
        normal: ``(N, 3, H, W)`` unit, camera space.
        albedo: ``(N, 3 or 1, H, W)`` linear.
        roughness: ``(N, 1, H, W)`` perceptual, 0.05 to 1 (less is taken as 0.05).
        f0: ``(N, 1, H, W)`` or ``(N, 3, H, W)`` reflectance at normal incidence.
        view: ``(3, H, W)`` or ``(N or 1, 3, H, W)`` unit vectors to the camera.
        layered: dim the diffuse lobe by 1 - E(n·v, α, f0), what the specular lobe leaves of the light, as
            Cycles' Principled BSDF does with its base.

    Differentiable with respect to the maps and the light; in float32 or float64.
    """
    n, _, height, width = normal.shape
    view = view if view.ndim == 4 else view[None]
    bent, nv = facing(normal, view)
    diffuse, specular = [], []
    for i in range(n):
        j = i % light.rows.shape[0]
        flat = [m[i % m.shape[0]].flatten(1) for m in (normal, bent, view, nv, roughness, f0)]
        parts = [
            _shade_pixels(light, j, *(m[:, s : s + _CHUNK] for m in flat))
            for s in range(0, height * width, _CHUNK)
        ]
        irradiance, gloss = (torch.cat(p).T.reshape(3, height, width) for p in zip(*parts, strict=True))
        diffuse.append(irradiance)
        specular.append(gloss)
    base = torch.stack(diffuse) * albedo
    if layered:
        base = base * (1.0 - lobes.directional_albedo(nv, roughness, f0)).clamp_min(0.0)
    return Shading(base, torch.stack(specular))


def _shade_pixels(
    light: PrefilteredLight,
    j: int,
    normal: Tensor,
    bent: Tensor,
    view: Tensor,
    nv: Tensor,
    r: Tensor,
    f0: Tensor,
) -> tuple[Tensor, Tensor]:
    """Irradiance / π and specular radiance, ``(P, 3)`` each, of pixels given as ``(channels, P)``."""
    index, weight = _fetch(light, *_uv(normal, light.degrees), len(light.heights) - 1)
    irradiance = lobes.gather(light.rows[j], index, weight)[:, :3]
    white, edge = _look_up(light, j, bent, view, nv[0], r[0], f0)
    index, weight = _residual_node(bent, view, nv[0], r[0])
    fix = lobes.gather(light.residual[j], index, weight)
    share = f0.T
    gloss = white if edge is None else edge + share * (white - edge)
    gloss = gloss + fix[:, 3:6] + share * (fix[:, :3] - fix[:, 3:6])
    return irradiance, (gloss + _lamps(light, j, bent, view, nv[0], r[0], share)).clamp_min(0.0)


def _uv(direction: Tensor, degrees: float) -> tuple[Tensor, Tensor]:
    """(u, v) in [0, 1] of directions ``(3, ...)`` in a light that is turned by ``degrees``."""
    u, v = environment.coordinates(direction[None])
    return (u[0] - degrees / 360.0) % 1.0, v[0]


def _fetch(light: PrefilteredLight, u: Tensor, v: Tensor, level: Tensor | int) -> tuple[Tensor, Tensor]:
    """Bilinear rows and weights ``(..., 4)`` in a level of the light."""
    heights = torch.tensor(light.heights, device=u.device)
    starts = torch.cumsum(heights * (2 * heights + 1), 0) - heights * (2 * heights + 1)
    h, start = heights[level], starts[level]
    hf = h.to(u.dtype)
    x = (u * 2.0 * hf - 0.5) % (2.0 * hf)
    y = torch.minimum((v * hf - 0.5).clamp_min(0.0), hf - 1.0)
    x0 = torch.minimum(x.detach().floor(), 2.0 * hf - 1.0)
    y0 = torch.minimum(y.detach().floor(), hf - 2.0)
    fx, fy = x - x0, y - y0
    wide = 2 * h + 1
    first = start + y0.to(torch.int64) * wide + x0.to(torch.int64)
    index = torch.stack((first, first + 1, first + wide, first + wide + 1), dim=-1)
    gx, gy = 1.0 - fx, 1.0 - fy
    return index, torch.stack((gx * gy, fx * gy, gx * fy, fx * fy), dim=-1)


def _look_up(
    light: PrefilteredLight, j: int, bent: Tensor, view: Tensor, nv: Tensor, r: Tensor, f0: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The lobes' sum for F of a scalar f0 as ``(P, 3)`` and None; else for F = 1 and F = (1 - l·h)⁵."""
    lut = lobes.table(nv.device, nv.dtype)
    taps = lobes.gather(lut.lobes, *lobes.node(nv, r, lut.size)).reshape(-1, lobes.TAPS, 4)
    alpha = r.clamp_min(lobes.MIN_ROUGHNESS).square()
    kappa = 1.0 + alpha[:, None] * taps[..., 0]
    mirror = 2.0 * nv * bent - view
    axis = bent[..., None] + kappa * (mirror - bent)[..., None]
    axis = axis / axis.square().sum(0, keepdim=True).clamp_min(1e-12).sqrt()
    u, v = _uv(axis, light.degrees)
    level = taps[..., 1].clamp(0.0, len(lut.levels) - 1.001)
    low = level.detach().floor()
    fraction = level - low
    first, first_weight = _fetch(light, u, v, low.to(torch.int64))
    second, second_weight = _fetch(light, u, v, low.to(torch.int64) + 1)
    index = torch.cat((first, second), -1).flatten(1)
    weight = torch.cat((first_weight * (1.0 - fraction)[..., None], second_weight * fraction[..., None]), -1)
    table = light.rows[j]
    if f0 is not None and f0.shape[0] == 1:
        mixed = taps[..., 3] + f0[0][:, None] * (taps[..., 2] - taps[..., 3])
        return lobes.gather(table, index, (weight * mixed[..., None]).flatten(1))[:, :3], None
    white, edge = (
        lobes.gather(table, index, (weight * taps[..., k, None]).flatten(1))[:, :3] for k in (2, 3)
    )
    return white, edge


def _lamps(
    light: PrefilteredLight, j: int, bent: Tensor, view: Tensor, nv: Tensor, r: Tensor, f0: Tensor
) -> Tensor:
    """Specular radiance ``(P, 3)`` of the lamps, as points whose spread widens the lobe."""
    turn = math.radians(light.degrees)
    x, y, z = light.lamp_dirs[j].unbind(-1)
    dirs = torch.stack((x * math.cos(turn) - z * math.sin(turn), y, z * math.cos(turn) + x * math.sin(turn)))
    nl, lv = bent.T @ dirs, view.T @ dirs
    half = (2.0 + 2.0 * lv).clamp_min(1e-8).sqrt()
    nv_, r_ = nv[:, None], r.clamp_min(lobes.MIN_ROUGHNESS)[:, None]
    alpha = (r_.pow(4) + 0.25 * light.lamp_spread[j].square()).sqrt()
    lobe = brdf.ggx_distribution((nl + nv_) / half, alpha) * brdf.smith_visibility(nl, nv_, alpha)
    lobe = lobe * nl.clamp_min(0.0)
    white, edge = lobe @ light.lamp_power[j], (lobe * brdf.schlick_weight(0.5 * half)) @ light.lamp_power[j]
    return edge + f0 * (white - edge)


def _residual_node(bent: Tensor, view: Tensor, nv: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and weights ``(P, 8)`` in the table of corrections; the weights fade out for narrow lobes."""
    # The normal in the frame that turns the view direction onto +Z the short way.
    x, y = (
        bent[0] - view[0] * (bent[2] + nv) / (1.0 + view[2]),
        bent[1] - view[1] * (bent[2] + nv) / (1.0 + view[2]),
    )
    # Equal-area disc: its radius is √(1 - n·v).
    scale = (1.0 + nv).rsqrt()
    half = 0.5 * (_SIDE - 1)
    gx, gy = ((t * scale + 1.0) * half for t in (x, y))
    index, weight = lobes.corners(gx.clamp(0, _SIDE - 1), gy.clamp(0, _SIDE - 1), _SIDE, _SIDE)
    nodes = torch.tensor(_NODES, device=r.device, dtype=r.dtype)
    low = torch.bucketize(r.detach().clamp(_NODES[0], 0.9999), nodes, right=True) - 1
    fraction = (r.clamp(_NODES[0], 1.0) - nodes[low]) / (nodes[low + 1] - nodes[low])
    fade = ((r - 0.18) / (_NODES[0] - 0.18)).clamp(0.0, 1.0)
    index = index + (low * _SIDE * _SIDE)[:, None]
    weight = weight * fade[:, None]
    return (
        torch.cat((index, index + _SIDE * _SIDE), -1),
        torch.cat((weight * (1.0 - fraction)[:, None], weight * fraction[:, None]), -1),
    )


def _residual(light: PrefilteredLight) -> Tensor:
    """Exact minus looked-up specular ``(N, nodes * side², 8)`` for normals seen along the camera's axis."""
    axis = torch.linspace(-1.0, 1.0, _SIDE, device=light.rows.device, dtype=light.rows.dtype)
    py, px = torch.meshgrid(axis, axis, indexing="ij")
    radius2 = (px * px + py * py).clamp(0.0, 0.99)
    z = 1.0 - radius2
    scale = (1.0 + z).sqrt() * (radius2 / (px * px + py * py).clamp_min(1e-12)).sqrt()
    normal = torch.stack((px * scale, py * scale, z))
    view = torch.zeros_like(normal)
    view[2] = 1.0
    nv = z.flatten()
    out = []
    for n in range(light.rows.shape[0]):
        for roughness, h in zip(_NODES, _NODE_ROWS, strict=True):
            env = environment.rotate(environment.resize(light.coarse[n : n + 1], h), light.degrees)
            r = torch.full_like(z, roughness)
            zero, one = torch.zeros_like(z)[None, None], torch.ones_like(z)[None, None]
            exact = [
                integrate(env, normal[None], zero, r[None, None], f, view).specular[0].flatten(1).T
                for f in (torch.cat((one, zero), 0)[k : k + 1] for k in range(2))
            ]
            white, edge = _look_up(light, n, normal.flatten(1), view.flatten(1), nv, r.flatten(), None)
            assert edge is not None
            out.append(torch.cat((exact[0] - white, exact[1] - edge, torch.zeros_like(white[:, :2])), dim=1))
    return torch.cat(out).reshape(light.rows.shape[0], -1, 8)
