"""The diffuse half of a light: its irradiance map, an exact convolution with the clamped cosine.

The cosine is isotropic about the normal, so the convolution is done by FFT over longitude and a sum over
rows. The kernel's transform does not depend on the light and is kept for the process.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from platelight.shading import environment

ROWS = 128
"""Irradiance itself is smooth, but a lamp must not be moved by a coarser raster."""


@functools.lru_cache(maxsize=4)
@torch.inference_mode(False)
@torch.no_grad()
def _transform(h: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Transform ``(h + 1, h, h)`` over longitude of cosine times solid angle: frequency, row of the map, row of the light.

    Each row of the map sums to 1. Frequencies are first, for the product is one of matrices for each.
    """
    theta = (torch.arange(h, dtype=torch.float64) + 0.5) / h * math.pi
    phi = torch.arange(2 * h, dtype=torch.float64) / (2 * h) * (2.0 * math.pi)
    a, b = theta[:, None, None], theta[None, :, None]
    cosine = torch.cos(a) * torch.cos(b) + torch.sin(a) * torch.sin(b) * torch.cos(phi)
    lobe = cosine.clamp_min(0.0) * environment.solid_angles(h, dtype=torch.float64)[:, :1]
    lobe = lobe / lobe.sum((1, 2), keepdim=True)
    transform: Tensor = torch.fft.rfft(lobe, dim=-1).real.permute(2, 0, 1).to(device, dtype).contiguous()
    return transform


def irradiance_map(env: Tensor, h: int = ROWS) -> Tensor:
    """Irradiance over π ``(N, C, h, 2h)`` for the normals of a lat-long grid, under ``env (N, C, H, 2H)``."""
    small = environment.resize(env, h)
    n, c, _, w = small.shape
    flat = torch.view_as_real(torch.fft.rfft(small, dim=-1)).permute(3, 2, 0, 1, 4).reshape(h + 1, h, -1)
    out = torch.bmm(_transform(h, env.device, env.dtype), flat)
    out = torch.view_as_complex(out.reshape(h + 1, h, n, c, 2).permute(2, 3, 1, 0, 4).contiguous())
    result: Tensor = torch.fft.irfft(out, n=w, dim=-1)
    return result
