"""Kernels of the specular lobe on the light's polar lattice, over azimuth frequencies.

:mod:`.polar` gives a light as masses on rings about the camera's axis +Z. For a facet and a viewer in one
plane with +Z, the lobe at azimuth φ0 is the one at azimuth 0 turned about +Z, so the integral over a ring is a
convolution over azimuth: a product, frequency by frequency. Nothing here depends on the light; kernels are
made once per process and kept.

Lobes that are narrow against the circle use ``K_α = c K_β + rest`` with β about 2 α and c = (α / β)²: far from the mirror direction
GGX falls as α² / x⁴, so the rest falls as x⁻⁶ and is cut off six widths away.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from platelight.shading import brdf, polar

NARROW = 20
"""First level that is made of a wider one and a rest; r = 0.24."""
STEPS = 16
LEVELS = NARROW // 2 + STEPS + 1
ROUGHNESSES = tuple(10.0 ** (-max(k / 2, k - NARROW / 2) / STEPS) for k in range(LEVELS))
"""Levels from 1 down to 0.1, each 0.87 of the one before; wide ones, which are cheap, 0.93.

Halfway between levels 0.87 apart, the mean of two lobes differs from the lobe by 1.6 % of it.
"""
_WIDER = 2

REACH = math.radians(102.0)
"""Largest angle θ0 between +Z and the half vector of +Z and the reflection direction."""
_SPREAD = math.tan(math.radians(9.0) / 2.0)
_GRAZING = math.tan(math.acos(0.015) / 2.0)
_BEND = 0.2
NODES = (-1.0, -0.4, 0.4, 1.0)
"""Nodes of the angle θ between n and v, from 9° below θ0 to 9° above it but not beyond the horizon.

A view 20° off the axis moves the angle of incidence by 10°. The lobe's shape goes with log(n·v + 0.2) towards
grazing, so nodes are spread and interpolated over x with dx/dθ = 1 / (cos θ + 0.2).
"""
_CUT = 6.0
FINE = 1024
"""Rings of the light that narrow levels start from; wide ones start from half as many."""
_LIKE, _ROWS = 1.25, 24
"""Rows in one group: widths within this factor, and at most so many."""
_ROW, _RING = 3.0, 2.0
"""Rows of a table per α of half-vector angle, and rings per α of light angle."""


@dataclass(frozen=True)
class Group:
    """Neighboring rows of a narrow level that share a window over azimuth and a block of rings.

    ``window (samples, 2 G, J)``: kernel for F = 1 then for the edge of G rows, at the J rings from ``first`` on
    (zero outside each row's own band); ``cosines (F, samples)`` takes it to frequencies.
    """

    count: int
    first: int
    window: Tensor
    cosines: Tensor


@dataclass(frozen=True)
class Kernel:
    """One level: ``theta0 (O,)``, rings, the energies ``(O, 4, 2)`` and either dense or banded weights.

    ``dense (F, J, O * 4 * 2)``, or for each node the ``groups`` of rows, in order, of what the level adds to a
    share ``far`` of :func:`wider`.
    """

    theta0: Tensor
    rings: int
    frequencies: int
    energy: Tensor
    dense: Tensor | None
    groups: tuple[tuple[Group, ...], ...]


def size(level: int) -> tuple[int, int, int]:
    """Rows of θ0, intervals between rings and azimuth frequencies of a level."""
    alpha = ROUGHNESSES[level] ** 2
    rows = max(40, math.ceil(REACH / alpha * _ROW) + 1)
    rings = max(48, math.ceil(math.pi / alpha * _RING))
    return rows, rings, max(24, math.ceil(8.0 / alpha))


def place(steps: float) -> float:
    """The level, with its fraction, of roughness ``10 ** (-steps / 16)``."""
    return min(2.0 * steps, steps + NARROW / 2)


def wider(level: int) -> int:
    """The level with about twice the α of a narrow one."""
    return round(place(level - NARROW / 2 - _WIDER))


def bend(tangent: Tensor) -> Tensor:
    """x = ∫ dθ / (cos θ + 0.2) up to a factor, from tan(θ / 2) of an angle below 90°."""
    x = math.sqrt((1.0 - _BEND) / (1.0 + _BEND)) * tangent
    return 0.5 * torch.log((1.0 + x) / (1.0 - x))


def ends(tangent: Tensor) -> tuple[Tensor, Tensor]:
    """tan(θ / 2) of the first and last node for tan(θ0 / 2)."""
    high = (tangent + _SPREAD) / (1.0 - tangent * _SPREAD).clamp_min(0.1)
    low = (tangent - _SPREAD) / (1.0 + tangent * _SPREAD)
    return low.clamp_max(_GRAZING - 2.0 * _SPREAD), high.clamp_max(_GRAZING)


def nodes(theta0: Tensor) -> Tensor:
    """The angles θ ``(..., 4)`` of the nodes for each θ0."""
    low, high = (bend(end)[..., None] for end in ends(torch.tan(theta0 / 2.0)))
    x = 0.5 * (low + high) + 0.5 * (high - low) * torch.tensor(NODES, dtype=theta0.dtype)
    return 2.0 * torch.atan(torch.tanh(x) * math.sqrt((1.0 + _BEND) / (1.0 - _BEND)))


def far(level: int) -> float:
    """The share of :func:`wider` that agrees with the level's lobe far from the mirror direction."""
    return float((ROUGHNESSES[level] / ROUGHNESSES[wider(level)]) ** 4)


def lobe(alpha: float, theta0: Tensor, theta: Tensor, ring: Tensor, phi: Tensor) -> Tensor:
    """D V n·l for F = 1 and for F = (1 - l·h)⁵, stacked last; arguments broadcast.

    The reflection direction lies 2 θ0 from +Z at azimuth 0, the normal θ before it, the viewer 2 θ before it.
    """
    sl, cl, cp = torch.sin(ring), torch.cos(ring), torch.cos(phi)
    to_normal, to_view = 2.0 * theta0 - theta, 2.0 * (theta0 - theta)
    nl = torch.sin(to_normal) * sl * cp + torch.cos(to_normal) * cl
    lv = torch.sin(to_view) * sl * cp + torch.cos(to_view) * cl
    half = (2.0 + 2.0 * lv).clamp_min(1e-10).sqrt()
    nv = torch.cos(theta)
    width = torch.as_tensor(alpha, dtype=nl.dtype)
    value = brdf.ggx_distribution((nl + nv) / half, width) * brdf.smith_visibility(nl, nv, width)
    value = value * nl.clamp_min(0.0)
    return torch.stack((value, value * brdf.schlick_weight(0.5 * half)), dim=-1)


@functools.lru_cache(maxsize=2 * LEVELS)
@torch.inference_mode(False)
@torch.no_grad()
def kernel(level: int, device: torch.device, dtype: torch.dtype) -> Kernel:
    """The kernel of a level (0 is roughness 1), made once per process, device and dtype."""
    rows, rings, frequencies = size(level)
    theta0 = torch.linspace(0.0, REACH, rows, dtype=torch.float64)
    theta = nodes(theta0)
    mass = polar.ring_areas(rings, FINE if level >= NARROW else FINE // 2)
    if level < NARROW:
        dense, energy = _dense(level, theta0, theta, mass)
        return Kernel(
            theta0.to(device, dtype),
            rings,
            frequencies,
            energy.to(device, dtype),
            dense.to(device, dtype),
            (),
        )
    base = kernel(wider(level), torch.device("cpu"), torch.float64)
    energy = far(level) * torch.einsum(
        "ij,jkw->ikw", polar.cubic(theta0, REACH, base.theta0.numel() - 1), base.energy
    )
    grouped = []
    for node in range(len(NODES)):
        groups, start = [], 0
        for group in _banded(level, theta0, theta[:, node], frequencies):
            near = torch.tensordot(group.cosines[0], group.window, 1).reshape(2, group.count, -1)
            energy[start : start + group.count, node] += (
                near @ mass[group.first : group.first + near.shape[-1]]
            ).T
            start += group.count
            window, cosines = group.window.to(device, dtype), group.cosines.to(device, dtype)
            groups.append(Group(group.count, group.first, window, cosines))
        grouped.append(tuple(groups))
    return Kernel(
        theta0.to(device, dtype), rings, frequencies, energy.to(device, dtype), None, tuple(grouped)
    )


def _dense(level: int, theta0: Tensor, theta: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """Weights ``(F, J, O * 4 * 2)`` over all rings, and the energies ``(O, 4, 2)``.

    Rings come before rows, as a product of few colors with many rows is four times as fast in this order.
    """
    _, rings, frequencies = size(level)
    samples = 2 * frequencies
    phi = torch.arange(samples + 1, dtype=torch.float64) / samples * math.pi
    weight = torch.full_like(phi, 1.0 / samples)
    weight[0] = weight[-1] = 0.5 / samples
    cosines = torch.cos(torch.arange(frequencies, dtype=torch.float64)[:, None] * phi) * weight
    ring = torch.arange(rings + 1, dtype=torch.float64) / rings * math.pi
    alpha, single = ROUGHNESSES[level] ** 2, torch.float32
    parts = []
    # Few enough rows that their lobes stay in the cache.
    few = max(1, (1 << 16) // (len(NODES) * ring.numel() * phi.numel()))
    for a, b in zip(theta0.split(few), theta.split(few), strict=True):
        value = lobe(
            alpha,
            a.to(single)[:, None, None, None],
            b.to(single)[:, :, None, None],
            ring.to(single)[:, None],
            phi.to(single),
        )
        parts.append(torch.matmul(value.transpose(-1, -2).transpose(-2, -3), cosines.T.to(single)))
    out = torch.cat(parts).permute(4, 0, 1, 2, 3)
    energy = (out[0].double() * mass).sum(-1)
    return out.flatten(1, 3).transpose(1, 2).contiguous(), energy


def _banded(level: int, theta0: Tensor, theta: Tensor, frequencies: int) -> list[Group]:
    """The rest of a narrow level at one node: windows about the mirror direction, rows of alike width together."""
    alpha, rings = ROUGHNESSES[level] ** 2, size(level)[1]
    step = math.pi / rings
    reach = math.ceil(2.0 * _CUT * alpha / step)
    center = (2.0 * theta0 / step).round()
    center = torch.where(center > rings, 2 * rings - center, center).to(torch.int64)
    # How wide a half-vector angle is as an azimuth of the light; endless at both poles.
    ratio = 2.0 * torch.cos(theta) / torch.sin(2.0 * theta0).abs().clamp_min(1e-6)
    bins = (torch.log(ratio.clamp(max=math.pi / alpha)) / math.log(_LIKE)).floor().to(torch.int64)
    # Beyond 90° the mirror direction lies at azimuth π.
    _, counts = torch.unique_consecutive(2 * bins + (2.0 * theta0 > math.pi), return_counts=True)
    groups = []
    for part in torch.arange(theta0.numel()).split(counts.tolist()):
        low = float(_LIKE ** bins[part[0]])
        width = min(math.pi, 1.3 * _CUT * alpha * low * _LIKE)
        samples = math.ceil(width / min(alpha * low / 2.5, math.pi / 24))
        offset = torch.arange(samples + 1, dtype=torch.float64) / samples * width
        weight = torch.full_like(offset, width / samples / math.pi)
        weight[0] *= 0.5
        if width == math.pi:
            weight[-1] *= 0.5
        phi = offset + (math.pi if float(theta0[part[0]]) > 0.5 * math.pi else 0.0)
        kept = min(frequencies, math.ceil(5.0 / (alpha * low)) + 8)
        cosines = torch.cos(torch.arange(kept, dtype=torch.float64)[:, None] * phi) * weight
        for rows in part.split(_ROWS):
            first = max(0, int(center[rows].min()) - reach)
            ring = torch.arange(first, min(rings, int(center[rows].max()) + reach) + 1)
            value = theta0.new_zeros(samples + 1, 2, rows.numel(), ring.numel())
            row, column = ((ring - center[rows][:, None]).abs() <= reach).nonzero(as_tuple=True)
            at = theta0[rows][row][:, None], theta[rows][row][:, None], ring[column][:, None] * step, phi
            value[:, :, row, column] = (
                lobe(alpha, *at) - far(level) * lobe(ROUGHNESSES[wider(level)] ** 2, *at)
            ).permute(1, 2, 0)
            groups.append(Group(rows.numel(), first, value.flatten(1, 2), cosines))
    return groups
