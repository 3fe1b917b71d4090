"""Isotropic filtering of lat-long environments by GGX lobes of many widths and by the clamped cosine.

A lobe that is isotropic about its axis makes a convolution along each row, so it is done by FFT over
longitude and a sum over rows. Narrow lobes are split into a core, filtered at full resolution over a few
rows, and a smooth tail, filtered at a coarse one. The kernels' transforms do not depend on the light and
are kept for the process.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from platelight.shading import brdf, environment

TAIL = 64
WINDOW = 14
"""Rows on each side that the core of a narrow lobe covers."""


def _radial(cosine: Tensor, half_sine2: Tensor, roughness: float) -> Tensor:
    """The lobe at angle γ from its axis, by cos γ and sin²(γ/2); roughness 0 means the clamped cosine."""
    up = cosine.clamp_min(0.0)
    if roughness == 0.0:
        return up
    alpha = torch.tensor(roughness * roughness, dtype=cosine.dtype)
    a2 = alpha * alpha
    distribution = a2 / (math.pi * (half_sine2 + a2 * (1.0 - half_sine2)) ** 2)
    return distribution * brdf.smith_visibility(up, torch.ones_like(up), alpha) * up


def _rows(h: int, lo: int, hi: int) -> tuple[Tensor, Tensor]:
    """Row indices ``(h, hi - lo)`` of the window about each row, clamped, and which are inside."""
    rows = torch.arange(h)[:, None] + torch.arange(lo, hi)[None]
    return rows.clamp(0, h - 1), (rows >= 0) & (rows < h)


def _kernel(h: int, roughness: float, full: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Rows ``(h, k)``, lobe times solid angle ``(h, k, 2h)`` and γ, for an axis in column 0."""
    if full:
        rows = torch.arange(h).expand(h, h)
        inside = torch.ones_like(rows, dtype=torch.bool)
    else:
        rows, inside = _rows(h, -WINDOW, WINDOW + 1)
    theta = (torch.arange(h, dtype=torch.float64) + 0.5) / h * math.pi
    phi = torch.arange(2 * h, dtype=torch.float64) / (2 * h) * (2.0 * math.pi)
    a, b = theta[:, None, None], theta[rows][..., None]
    # Haversine: exact for the small angles at which a narrow lobe lives.
    half_sine2 = (torch.sin((a - b) / 2) ** 2 + torch.sin(a) * torch.sin(b) * torch.sin(phi / 2) ** 2).float()
    weight = environment.solid_angles(h, dtype=torch.float64)[:, 0][rows] * inside
    lobe = _radial(1.0 - 2.0 * half_sine2, half_sine2, roughness) * weight[..., None].float()
    return rows, lobe, 2.0 * half_sine2.clamp(0.0, 1.0).sqrt().asin()


def _core_share(gamma: Tensor, h: int) -> Tensor:
    """Smooth window: 1 in the middle of the core, 0 where the tail takes over."""
    outer = WINDOW * math.pi / h
    t = ((gamma / outer - 0.4) / 0.6).clamp(0.0, 1.0)
    return 1.0 - t * t * (3.0 - 2.0 * t)


@functools.lru_cache(maxsize=32)
def _transform(h: int, roughness: float, part: str, reach: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, transform ``(h, k, h + 1)`` and sum ``(h,)`` of a kernel; ``reach`` is the core's height."""
    rows, lobe, gamma = _kernel(h, roughness, full=part != "core")
    if part == "core":
        lobe = lobe * _core_share(gamma, h)
    elif part == "tail":
        lobe = lobe * (1.0 - _core_share(gamma, reach))
    return rows, torch.fft.rfft(lobe, dim=-1).real.contiguous(), lobe.sum((1, 2))


def _convolve(env: Tensor, rows: Tensor, transform: Tensor) -> Tensor:
    """``env (N, C, h, 2h)`` with the kernel of each row; the kernel is even, so its transform is real."""
    n, c, h, w = env.shape
    spectrum = torch.fft.rfft(env, dim=-1)
    flat = torch.view_as_real(spectrum).permute(2, 3, 0, 1, 4).reshape(h, w // 2 + 1, -1)
    transform, rows = transform.to(env), rows.to(env.device)
    if rows.shape[1] == h:
        out = torch.einsum("ikf,kfc->ifc", transform, flat)
    else:
        out = torch.zeros_like(flat)
        for k in range(rows.shape[1]):
            out = out + transform[:, k, :, None] * flat[rows[:, k]]
    out = torch.view_as_complex(out.reshape(h, w // 2 + 1, n, c, 2).permute(2, 3, 0, 1, 4).contiguous())
    result: Tensor = torch.fft.irfft(out, n=w, dim=-1)
    return result


def filtered(env: Tensor, h: int, roughness: float) -> Tensor:
    """``env (N, C, H, 2H)`` filtered by the normalized isotropic lobe of a roughness, at ``(N, C, h, 2h)``.

    Roughness 0 stands for the clamped cosine, so the result times π is the irradiance.
    """
    small = environment.resize(env, h)
    if h <= TAIL:
        rows, transform, total = _transform(h, roughness, "all", h)
        return _convolve(small, rows, transform) / total.to(env)[:, None]
    rows, transform, total = _transform(h, roughness, "core", h)
    tail_rows, tail_transform, tail_total = _transform(TAIL, roughness, "tail", h)
    core = _convolve(small, rows, transform)
    tail = _convolve(environment.resize(env, TAIL), tail_rows, tail_transform)
    dirs = environment.directions(h, env.device, env.dtype).permute(2, 0, 1)[None]
    tail = environment.sample(tail, dirs)
    # The tail's integral is the same for all rows, the core's too but for the raster: normalize that away.
    target = _lobe_integral(roughness) - float(tail_total.mean())
    core = core * (target / total.to(env)[:, None])
    return (core + tail) / _lobe_integral(roughness)


@functools.lru_cache(maxsize=32)
def _lobe_integral(roughness: float) -> float:
    """∫ of the lobe over the sphere, by quadrature in a variable that crowds the axis."""
    if roughness == 0.0:
        return math.pi
    scale, count = 0.5 * roughness * roughness, 20000
    t = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    top = math.asinh(math.pi / 2.0 / scale)
    gamma = scale * torch.sinh(t * top)
    step = scale * torch.cosh(t * top) * top / count
    lobe = _radial(torch.cos(gamma), torch.sin(gamma / 2) ** 2, roughness)
    return float((lobe * 2.0 * math.pi * torch.sin(gamma) * step).sum())
