"""The fitted shape of the GGX lobe: a few isotropic lobes for every angle and roughness.

The specular lobe of a view direction is no rotated copy of one shape: it is stretched by 1/(n·v), leans
towards the horizon and is cut by it. ``data/ggx_lobes.safetensors`` holds, for nodes of (n·v, roughness),
:data:`TAPS` isotropic lobes in the plane of incidence whose weighted sum matches it: a place on the arc
from n through the mirror direction R, a width (a level of the filtered environment), and a weight for F = 1
and for F = (1 - l·h)⁵. The weights sum to the directional albedo by quadrature. The script of the
fit is not in the repository yet.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from importlib import resources

import torch
import torch.nn.functional as F
from safetensors.torch import load as load_safetensors
from torch import Tensor

TAPS = 5
MIN_ROUGHNESS = 0.05
_SPAN = math.log(1.0 / MIN_ROUGHNESS)
_GRID = 15
"""Nodes lie evenly in √(n·v) from 1/15 to 1, and in log(roughness) from 0.05 to 1."""


@dataclass(frozen=True)
class LobeTable:
    """``lobes (rows, TAPS * 4)`` of (place, level, weight, edge weight); ``albedo (rows, 2)``."""

    lobes: Tensor
    albedo: Tensor
    levels: tuple[float, ...]
    size: tuple[int, int]


@functools.lru_cache(maxsize=8)
def table(device: torch.device, dtype: torch.dtype) -> LobeTable:
    """The table on a device, read once from the package."""
    data = resources.files("platelight.shading").joinpath("data/ggx_lobes.safetensors").read_bytes()
    tensors = load_safetensors(data)
    lobes, albedo = tensors["lobes"], tensors["albedo"]
    size = (int(lobes.shape[0]), int(lobes.shape[1]))
    return LobeTable(
        lobes.flatten(0, 1).flatten(1).to(device, dtype).contiguous(),
        albedo.flatten(0, 1).to(device, dtype).contiguous(),
        tuple(float(r) for r in tensors["levels"]),
        size,
    )


def gather(rows: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums of table rows: ``rows (R, C)``, ``index`` and ``weight (P, K)`` give ``(P, C)``.

    The one primitive under every look-up here: each row is one contiguous read for all its channels.
    """
    return F.embedding_bag(index, rows, per_sample_weights=weight, mode="sum")


def corners(x: Tensor, y: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Bilinear rows and weights ``(P, 4)`` at row coordinate ``y`` and column ``x`` of a dense grid."""
    x0, y0 = x.detach().floor().clamp(0, width - 2), y.detach().floor().clamp(0, height - 2)
    fx, fy = x - x0, y - y0
    start = (y0 * width + x0).to(torch.int64)
    index = torch.stack((start, start + 1, start + width, start + width + 1), dim=-1)
    gx, gy = 1.0 - fx, 1.0 - fy
    return index, torch.stack((gx * gy, fx * gy, gx * fy, fx * fy), dim=-1)


def node(nv: Tensor, roughness: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Corner rows and weights ``(P, 4)`` in the table for n·v and perceptual roughness ``(P,)``."""
    y = ((nv.clamp(1e-4, 1.0).sqrt() * _GRID - 1.0) / (_GRID - 1.0)).clamp(0.0, 1.0) * (size[0] - 1)
    x = (torch.log(roughness.clamp(MIN_ROUGHNESS, 1.0) / MIN_ROUGHNESS) / _SPAN) * (size[1] - 1)
    return corners(x, y, *size)


def directional_albedo(nv: Tensor, roughness: Tensor, f0: Tensor) -> Tensor:
    """E(n·v, α, f0): the share of uniform light that the single-scattering GGX lobe sends to the viewer.

    Args:
        nv, roughness, f0: broadcastable; roughness is perceptual.

    Tabulated from quadrature; tested to 0.006 of it for roughness of 0.3 to 1.
    """
    shape = torch.broadcast_shapes(nv.shape, roughness.shape)
    n, r = nv.expand(shape).reshape(-1), roughness.expand(shape).reshape(-1)
    lut = table(nv.device, nv.dtype)
    white, edge = gather(lut.albedo, *node(n, r, lut.size)).unbind(-1)
    white, edge = white.reshape(shape), edge.reshape(shape)
    return edge + f0 * (white - edge)
