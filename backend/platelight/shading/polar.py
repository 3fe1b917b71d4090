"""A light as masses on rings about the camera's axis +Z, over azimuth frequencies.

In this form turning about the axis is a phase, which makes the filters of :mod:`.lobes` products.
Ring j of R lies at the angle π j / R from +Z; azimuth is counted from +X towards +Y.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from platelight.shading import environment, parallel

_BAND = 64
"""Rings that a thread reads at once: what stays in a core's cache."""


def ring_areas(rings: int, fine: int) -> Tensor:
    """Solid angle ``(rings + 1,)`` of each ring as :func:`coarsen` leaves it from ``fine`` rings; sums to 4π."""
    angles = torch.arange(fine + 1, dtype=torch.float64) / fine * math.pi
    return cubic(angles, math.pi, rings).T @ _areas(fine)


def _areas(rings: int) -> Tensor:
    step = math.pi / rings
    theta = torch.arange(rings + 1, dtype=torch.float64) * step
    # ∫ hat(θ) sin θ dθ in closed form.
    areas = torch.sin(theta) * (2.0 * math.sin(step / 2.0)) ** 2 / step
    areas[0] = areas[-1] = 1.0 - math.sin(step) / step
    return areas * (2.0 * math.pi)


def cubic(x: Tensor, reach: float, count: int) -> Tensor:
    """Lagrange weights ``(len(x), count + 1)`` of cubic interpolation at ``x`` in a grid of ``count`` steps to ``reach``."""
    t = (x.double() / reach * count).clamp(0.0, float(count))
    start = (t.floor() - 1.0).clamp(0.0, count - 3.0)
    u = t - start
    out = torch.zeros(x.numel(), count + 1, dtype=torch.float64)
    rows = torch.arange(x.numel())
    for k in range(4):
        weight = torch.ones_like(u)
        for m in range(4):
            if m != k:
                weight = weight * (u - m) / (k - m)
        out[rows, start.to(torch.int64) + k] = weight
    return out


@functools.lru_cache(maxsize=4)
@torch.inference_mode(False)
@torch.no_grad()
def _lattice(
    rings: int, columns: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lat-long coordinates u and v ``(1, rings + 1, columns)``, solid angles ``(rings + 1, 1)`` of what is read there, and
    where that is in a light of as many columns as there are rings (:func:`environment.grid_of`)."""
    theta = (torch.arange(rings + 1, dtype=torch.float64) / rings * math.pi)[:, None]
    phi = (torch.arange(columns, dtype=torch.float64) / columns * (2.0 * math.pi))[None]
    s = torch.sin(theta)
    dirs = torch.stack((s * torch.cos(phi), s * torch.sin(phi), torch.cos(theta).expand(-1, columns)))
    u, v = (t.to(device, dtype) for t in environment.coordinates(dirs[None]))
    areas = (_areas(rings) / columns)[:, None].to(device, dtype)
    return u, v, areas, environment.grid_of(u, v, rings)


def spectrum(env: Tensor, rings: int, frequencies: int, degrees: float = 0.0) -> Tensor:
    """Azimuth spectrum ``(rings + 1, F, C, 2)`` (ring, frequency, color, re/im) of one light ``(1, C, h, 2h)``.

    The light is read bilinearly at two columns for each ring interval, turned by ``degrees`` as
    :func:`environment.rotate` turns it.
    """
    u, v, areas, still = _lattice(rings, 2 * rings, env.device, env.dtype)
    width = env.shape[-1]
    if degrees % 360.0:
        u = torch.frac(u + (1.0 - degrees / 360.0 % 1.0))
    closed = environment.closed(env)

    def part(rows: slice) -> Tensor:
        moved = degrees % 360.0 or width != rings
        grid = environment.grid_of(u[:, rows], v[:, rows], width) if moved else still[:, rows]
        seen = torch.fft.rfft(environment.sample_grid(closed, grid)[0], dim=-1)[..., :frequencies]
        return torch.view_as_real(seen * areas[rows]).permute(1, 2, 0, 3)

    bands = [slice(a, a + _BAND) for a in range(0, rings + 1, _BAND)]
    return torch.cat(parallel.each(part, bands, env.device))


def points(dirs: Tensor, power: Tensor, rings: int, frequencies: int) -> Tensor:
    """The spectrum of point lights at unit ``dirs (K, 3)`` of ``power (K, C)``, each shared by two rings."""
    x, y, z = dirs.unbind(1)
    pole = (x == 0.0) & (y == 0.0)
    phi = torch.atan2(y, torch.where(pole, torch.ones_like(x), x))
    place = torch.atan2((x * x + y * y).clamp_min(1e-20).sqrt(), z) * (rings / math.pi)
    ring = torch.arange(rings + 1, device=dirs.device, dtype=dirs.dtype)[:, None]
    share = (1.0 - (ring - place).abs()).clamp_min(0.0)
    turn = torch.arange(frequencies, device=dirs.device, dtype=dirs.dtype) * phi[:, None]
    wave = torch.stack((torch.cos(turn), -torch.sin(turn)), dim=-1)
    each = power[:, None, :, None] * wave[:, :, None]
    return (share @ each.flatten(1)).reshape(rings + 1, frequencies, power.shape[1], 2)


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)
@torch.no_grad()
def _coarsening(fine: int, coarse: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    angles = torch.arange(fine + 1, dtype=torch.float64) / fine * math.pi
    return cubic(angles, math.pi, coarse).T.contiguous().to(device, dtype)


def coarsen(spectra: Tensor, rings: int, frequencies: int) -> Tensor:
    """The spectrum with fewer rings, whose masses give the same sums with smooth kernels."""
    kept = spectra[:, :frequencies]
    matrix = _coarsening(spectra.shape[0] - 1, rings, spectra.device, spectra.dtype)
    out = (matrix @ kept.reshape(kept.shape[0], -1)).reshape(rings + 1, *kept.shape[1:])
    return F.pad(out, (0, 0, 0, 0, 0, frequencies - kept.shape[1]))
