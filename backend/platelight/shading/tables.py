"""Tables of the specular lobe under one light, over reflection directions.

The specular radiance of a pixel depends on its reflection direction ρ, on its roughness and on where the
viewer stands in relation to ρ. Viewers are near the camera's axis, so the half vector of ρ and +Z, ``n0``,
gives the plane of incidence and a first angle θ0; tables hold the lobe for three angles of n and v about
θ0, and :func:`lookup` interpolates by the pixel's own angle. They lie on the equal-area disc of ``n0``:
its rim is ρ = -Z, where the plane of incidence has every direction, and it goes on past the rim for
pixels beside the axis that turn away from it.

Values are the lobe's mean radiance; the energy is a factor of its own (:func:`sampling.albedo_pair`).
Each is an importance quadrature whose samples read the light at the footprint that their density leaves
them: Křivánek and Colbert, "Real-time Shading with Filtered Importance Sampling", EGSR 2008.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from platelight.shading import environment, sampling

MIN_ROUGHNESS = 0.05
LEVELS = 16
"""Levels lie evenly in log(roughness) from 0.05 to 1: each is 1.22 times the one before."""
_STEP = math.log(1.0 / MIN_ROUGHNESS) / (LEVELS - 1)
ROUGHNESSES = tuple(MIN_ROUGHNESS * math.exp(_STEP * k) for k in range(LEVELS))

REACH = math.sqrt(2.0) * math.sin(math.radians(51.0))
"""Radius of the disc: n0 up to 102° from the axis."""
SPREAD = math.radians(10.0)
"""Angle between the three nodes; a view 20° off the axis moves the angle of incidence by 10°."""
_LAST = math.acos(0.03) - SPREAD
_SMALLEST, _LARGEST, _STORED = 32, 360, 400
_BUDGET = 1 << 21
TOP = 512
_BIAS = 0.25
_CHUNK = 1 << 20


def side(roughness: float) -> int:
    """Cells along the disc that are computed: at most about 35 % of the lobe's width apart, or `_LARGEST`."""
    return int(min(max(8.0 / roughness**2, _SMALLEST), _LARGEST))


def stored_side(roughness: float) -> int:
    """Cells along the disc that are stored: the computed ones doubled until bilinear look-ups are exact."""
    size = side(roughness)
    while size < 26.0 / roughness**2 and 2 * size - 1 <= _STORED:
        size = 2 * size - 1
    return size


def samples(roughness: float) -> int:
    """Samples for each cell and node, so that every level costs about the same."""
    return int(min(max(_BUDGET / side(roughness) ** 2, 24), 1024))


SIDES = tuple(stored_side(r) for r in ROUGHNESSES)


@dataclass(frozen=True)
class Pyramid:
    """A light at halving sizes: ``rows (R, C)`` of all levels, whose heights and first rows are given.

    Each level is stored at twice its height, so that the nearest texel does for an interpolation.
    """

    rows: Tensor
    heights: Tensor
    starts: Tensor
    base: int


def pyramid(env: Tensor) -> Pyramid:
    """The pyramid of one light ``(1, C, h, 2h)``; differentiable."""
    level = environment.resize(env, min(environment.check(env), TOP))
    base = environment.check(level)
    parts, heights = [], []
    while True:
        h = environment.check(level)
        grid = level
        if h < TOP:
            dirs = environment.directions(2 * h, env.device, env.dtype).permute(2, 0, 1)[None]
            grid = environment.sample(level, dirs)
        heights.append(grid.shape[-2])
        parts.append(grid[0].flatten(1).T)
        if h <= 4:
            break
        level = environment.resize(level, (h + 1) // 2)
    sizes = torch.tensor(heights, device=env.device)
    counts = 2 * sizes * sizes
    return Pyramid(torch.cat(parts), sizes, torch.cumsum(counts, 0) - counts, base)


def _fetch(light: Pyramid, dirs: Tensor, omega: Tensor) -> Tensor:
    """Radiance ``(..., C)`` at unit directions ``(3, ...)`` over footprints of ``omega`` sr."""
    texel = (math.pi / light.base) ** 2
    level = (0.5 * torch.log2(omega / texel) + (_BIAS + 0.5)).to(torch.int64)
    level = level.clamp(0, light.heights.numel() - 1)
    x, y, z = dirs
    h = light.heights[level]
    hf = h.to(x.dtype)
    column = ((torch.atan2(x, -z) * (0.5 / math.pi) + 0.5) * (2.0 * hf)).to(torch.int64)
    row = (torch.atan2((x * x + z * z).sqrt(), y) * (1.0 / math.pi) * hf).to(torch.int64)
    row, column = torch.minimum(row, h - 1), torch.minimum(column, 2 * h - 1)
    index = light.starts[level] + row * (2 * h) + column
    return light.rows[index.reshape(-1)].reshape(*index.shape, -1)


def _cells(size: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the cells that the disc touches, and the θ0 and azimuth of their n0, each ``(P,)``."""
    axis = torch.linspace(-REACH, REACH, size, device=like.device, dtype=like.dtype)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    radius = (x * x + y * y).sqrt()
    inside = (radius <= REACH + 6.0 * REACH / size).reshape(-1).nonzero()[:, 0]
    theta = 2.0 * torch.asin(radius.clamp_max(REACH) / math.sqrt(2.0))
    return inside, theta.reshape(-1)[inside], torch.atan2(y, x).reshape(-1)[inside]


def table(light: Pyramid, roughness: float) -> Tensor:
    """``(stored_side² * 3, 2C)``: cell by cell, its three nodes; mean radiance of the lobe for F = 1, then edge."""
    size, count = side(roughness), samples(roughness)
    inside, theta0, phi = _cells(size, light.rows)
    base = theta0.clamp_max(_LAST)
    step = max(1, _CHUNK // count)
    nodes = []
    for k in (-1, 0, 1):
        parts = [
            _lobe(light, roughness, count, *(t[s : s + step, None] for t in (theta0, phi, base + k * SPREAD)))
            for s in range(0, inside.numel(), step)
        ]
        nodes.append(torch.cat(parts))
    values = torch.stack(nodes, dim=1)
    out = values.new_zeros(size * size, *values.shape[1:])
    grid = out.index_copy(0, inside, values).reshape(size, size, -1)
    while size < stored_side(roughness):
        finer = _doubling(size).to(grid)
        grid = torch.matmul(finer, torch.matmul(finer, grid.flatten(1)).reshape(-1, size, grid.shape[2]))
        size = 2 * size - 1
    return grid.reshape(size * size * 3, -1)


def _doubling(size: int) -> Tensor:
    """``(2 size - 1, size)``: the samples, and between them the cubic (-1, 9, 9, -1) / 16 of Catmull and Rom."""
    out = torch.zeros(2 * size - 1, size)
    index = torch.arange(size)
    out[2 * index, index] = 1.0
    for offset, weight in ((-1, -1.0), (0, 9.0), (1, 9.0), (2, -1.0)):
        middle = index[:-1]
        out.index_put_(
            (2 * middle + 1, (middle + offset).clamp(0, size - 1)),
            torch.tensor(weight / 16.0),
            accumulate=True,
        )
    return out


def _lobe(light: Pyramid, roughness: float, count: int, theta0: Tensor, phi: Tensor, theta: Tensor) -> Tensor:
    """Mean radiance ``(P, 2C)`` of the lobes with ρ at 2 θ0 from +Z and v at θ from n, all ``(P, 1)``."""
    local, weight, edge, density = sampling.visible_lobe(theta, roughness * roughness, count)
    lx, ly, lz = local
    # n lies θ before ρ on the arc from +Z; +X of the lobe's frame points back along it, towards v.
    angle = 2.0 * theta0 - theta
    s, c, sp, cp = torch.sin(angle), torch.cos(angle), torch.sin(phi), torch.cos(phi)
    along = s * lz - c * lx
    dirs = (along * cp + sp * ly, along * sp - cp * ly, c * lz + s * lx)
    radiance = _fetch(light, torch.stack(dirs), 1.0 / (count * density))
    both = torch.stack((weight, weight * edge), dim=1)
    both = both / both.sum(-1, keepdim=True).clamp_min(1e-20)
    return torch.bmm(both, radiance).flatten(1)


def lookup(tables: Tensor, normal: Tensor, view: Tensor, nv: Tensor, roughness: Tensor) -> Tensor:
    """Mean radiance of the lobe ``(P, 2C)`` for pixels given as ``(3, P)`` and ``(P,)``.

    Args:
        tables: the levels' tables, one after another.
        normal, view: unit vectors; ``nv`` their cosine, above 0.
        roughness: perceptual, 0.05 to 1 (clamped).
    """
    mirror = 2.0 * nv * normal - view
    axis = torch.zeros_like(mirror)
    axis[2] = 1.0
    half = (mirror + axis) * torch.where(nv + normal[2] < 0.0, -1.0, 1.0)
    half = half / half.square().sum(0).clamp_min(1e-12).sqrt()
    scale = (1.0 + half[2]).clamp_min(0.2).rsqrt()
    px, py = half[0] * scale, half[1] * scale
    radius2 = px * px + py * py
    shrink = torch.where(radius2 > REACH * REACH, REACH * radius2.clamp_min(0.1).rsqrt(), 1.0)
    px, py = px * shrink, py * shrink
    cosine0 = 1.0 - (px * px + py * py)
    theta = torch.acos(nv.clamp(-1.0, 1.0 - 1e-6))
    theta0 = torch.acos(cosine0.clamp(-1.0, 1.0 - 1e-6))
    t = ((theta - theta0.clamp_max(_LAST)) / SPREAD).clamp(-1.5, 1.5)
    node_weight = torch.stack((0.5 * t * (t - 1.0), 1.0 - t * t, 0.5 * t * (t + 1.0)), dim=-1)
    level = (torch.log(roughness.clamp(MIN_ROUGHNESS, 1.0) / MIN_ROUGHNESS) / _STEP).clamp(0.0, LEVELS - 1.0)
    low = level.detach().floor().clamp_max(LEVELS - 2.0)
    fraction = level - low
    sides = torch.tensor(SIDES, device=nv.device)
    starts = torch.cumsum(sides * sides, 0) - sides * sides
    indices, weights = [], []
    node = torch.arange(3, device=nv.device)
    for k in (0, 1):
        which = low.to(torch.int64) + k
        size = sides[which]
        reach = (size - 1).to(nv.dtype) / (2.0 * REACH)
        index, weight = sampling.corners((px + REACH) * reach, (py + REACH) * reach, size, size)
        index = (index + starts[which][:, None])[:, :, None] * 3 + node
        share = fraction if k else 1.0 - fraction
        weight = weight[:, :, None] * (share[:, None] * node_weight)[:, None, :]
        indices.append(index.flatten(1))
        weights.append(weight.flatten(1))
    return sampling.gather(tables, torch.cat(indices, 1), torch.cat(weights, 1))
