"""Tables of the specular lobe under one light, for viewers near the camera's axis.

The specular radiance of a pixel depends on its reflection direction ρ, on its roughness and on where the
viewer stands in relation to ρ. Viewers are near the camera's axis, so the half vector of ρ and +Z, ``n0``,
gives the plane of incidence and a first angle θ0; tables hold the lobe for four angles of n and v about
θ0, and :func:`lookup` interpolates by the pixel's own angle. They are grids over θ0 (0° to 102°: beyond
90° a pixel beside the axis turns away from it) and the azimuth of ``n0``.

Values are the lobe's mean radiance; the energy is a factor of its own (:func:`sampling.albedo_pair`). They
are sums over the light, with the kernels of :mod:`.lobes`: no sampling noise.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from platelight.shading import lobes, polar, sampling

MIN_ROUGHNESS = lobes.ROUGHNESSES[-1]
_PAIRS = 2 * len(lobes.NODES)
WIDTH = 4 * _PAIRS
"""Numbers in a cell: 4 nodes of RGB and a pad for F = 1, then RGB and a pad for the edge."""
_SPACING = 0.25
_CELLS = 300_000


@functools.cache
def shape(level: int) -> tuple[int, int]:
    """Rows and columns of a level's table, without the column that closes the circle."""
    spacing = max(_SPACING * lobes.ROUGHNESSES[level] ** 2, math.sqrt(lobes.REACH * 2.0 * math.pi / _CELLS))
    rows = max(64, math.ceil(lobes.REACH / spacing) + 1)
    return rows, max(128, 2 * math.ceil(math.pi / spacing))


def raw(level: int, light: Tensor, wider: Tensor | None) -> Tensor:
    """Spectrum of a level before the division by its energy: ``(O, F, 4 nodes * 2, C * 2)``.

    Args:
        light: the light's spectrum, from :func:`polar.spectrum`.
        wider: for narrow levels, this function's answer for :func:`lobes.wider` under the same light.
    """
    kernel = lobes.kernel(level, light.device, light.dtype)
    rows, channels = kernel.theta0.numel(), light.shape[2] * 2
    x = polar.coarsen(light, kernel.rings, kernel.frequencies).flatten(2)
    if kernel.dense is not None or wider is None:
        assert kernel.dense is not None
        out = torch.bmm(kernel.dense, x.transpose(0, 1))
        return out.reshape(-1, rows, _PAIRS, channels).transpose(0, 1)
    wide = lobes.far(level) * wider
    up = polar.cubic(kernel.theta0.cpu(), lobes.REACH, wide.shape[0] - 1).to(wide)
    wide = (up @ wide.flatten(1)).reshape(rows, *wide.shape[1:])
    base = torch.nn.functional.pad(wide, (0, 0, 0, 0, 0, kernel.frequencies - wide.shape[1]))
    nodes = []
    for node, groups in enumerate(kernel.groups):
        parts, start = [], 0
        for group in groups:
            kept, rings = group.cosines.shape[0], group.window.shape[-1]
            weights = (group.cosines @ group.window.flatten(1)).reshape(kept, -1, rings)
            near = x[group.first : group.first + rings, :kept].transpose(0, 1)
            value = torch.bmm(weights, near).reshape(kept, 2, group.count, channels).permute(2, 0, 1, 3)
            far = base[start : start + group.count, :, 2 * node : 2 * node + 2]
            parts.append(torch.cat((far[:, :kept] + value, far[:, kept:]), dim=1))
            start += group.count
        nodes.append(torch.cat(parts))
    return torch.cat(nodes, dim=2)


def table(level: int, spectrum: Tensor) -> Tensor:
    """``(rows * (columns + 1), 32)`` of a level from its spectrum of :func:`raw`."""
    kernel = lobes.kernel(level, spectrum.device, spectrum.dtype)
    rows, columns = shape(level)
    mean = spectrum.unflatten(-1, (-1, 2)) / kernel.energy.reshape(-1, 1, _PAIRS, 1, 1)
    angles = torch.linspace(0.0, lobes.REACH, rows, dtype=torch.float64)
    up = polar.cubic(angles, lobes.REACH, mean.shape[0] - 1).to(mean)
    kept = min(mean.shape[1], columns // 2 + 1)
    mean = (up @ mean[:, :kept].flatten(1)).reshape(rows, kept, _PAIRS, -1, 2)
    grid = torch.fft.irfft(torch.view_as_complex(mean.contiguous()), n=columns, dim=1) * columns
    grid = torch.nn.functional.pad(grid, (0, 1))
    grid = torch.cat((grid, grid[:, :1]), dim=1)
    return grid.reshape(rows * (columns + 1), WIDTH)


def place(roughness: Tensor) -> Tensor:
    """The level of a roughness, with its fraction."""
    return torch.log10(roughness) * (1.0 - lobes.LEVELS)


def levels(roughness: Tensor) -> tuple[int, int]:
    """First and last level that roughnesses need."""
    low, high = (min(max(float(r), MIN_ROUGHNESS), 1.0) for r in torch.aminmax(roughness.detach()))
    place = [math.log10(r) * (1.0 - lobes.LEVELS) for r in (high, low)]
    return int(place[0] + 1e-4), min(math.ceil(place[1] - 1e-4), lobes.LEVELS - 1)


def lookup(
    tables: Tensor, levels: tuple[int, int], normal: Tensor, view: Tensor, nv: Tensor, roughness: Tensor
) -> Tensor:
    """Mean radiance of the lobe ``(P, 8)``, RGB and a pad for F = 1 and for the edge.

    Args:
        tables: the tables of all levels from the first to the last of ``levels``, one after another.
        levels: these two.
        normal, view: unit vectors ``(3, P)``; ``nv (P,)`` their cosine, above 0.
        roughness: perceptual ``(P,)``, within the levels (clamped).
    """
    half = 2.0 * nv * normal - view
    half = torch.stack((half[0], half[1], half[2] + 1.0)) * torch.where(nv + normal[2] < 0.0, -1.0, 1.0)
    flat = half[0].square() + half[1].square()
    pole = flat < 1e-16
    phi = torch.atan2(torch.where(pole, 0.0, half[1]), torch.where(pole, 1.0, half[0]))
    sine = flat.clamp_min(1e-16).sqrt()
    theta0 = torch.atan2(sine, half[2]).clamp_max(lobes.REACH)
    tangent = torch.tan(0.5 * theta0)
    low_end, high_end = (lobes.bend(end) for end in lobes.ends(tangent))
    cosine = nv.clamp(-1.0, 1.0 - 1e-6)
    angle = lobes.bend(((1.0 - cosine) / (1.0 + cosine)).sqrt())
    t = (2.0 * (angle - low_end) / (high_end - low_end) - 1.0).clamp(-1.3, 1.3)
    first, last = levels
    top = float(last - first)
    level = (place(roughness) - first).clamp(0.0, top)
    low = level.detach().floor().clamp_max(max(top - 1.0, 0.0))
    shapes = [shape(k) for k in range(first, last + 1)]
    rows = torch.tensor([s[0] for s in shapes], device=nv.device)
    columns = torch.tensor([s[1] for s in shapes], device=nv.device)
    starts = torch.cumsum(rows * (columns + 1), 0) - rows * (columns + 1)
    turn = phi * (0.5 / math.pi)
    turn = turn + torch.where(turn < 0.0, 1.0, 0.0)
    indices, weights = [], []
    for k in range(2 if last > first else 1):
        which = low.to(torch.int64) + k
        width = columns[which]
        y = theta0 * ((rows - 1) / lobes.REACH).to(nv.dtype)[which]
        index, weight = sampling.corners(turn * width.to(nv.dtype), y, rows[which], width + 1)
        share = level - low if k else 1.0 - (level - low)
        indices.append(index + starts[which][:, None])
        weights.append(weight * share[:, None])
    cell = sampling.gather(tables, torch.cat(indices, 1), torch.cat(weights, 1))
    mixed = cell.reshape(-1, len(lobes.NODES), 8) * lobes.node_weights(t)[..., None]
    return mixed.sum(1)
