"""Fixed samples of the GGX lobe, and the directional albedo found with them.

Half vectors are drawn from the distribution of visible normals: Heitz, "Sampling the GGX Distribution of
Visible Normals", JCGT 7(4), 2018. The estimator of ``∫ D V n·l f(l) dl`` is then the mean of ``f G2 / G1``.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from platelight.shading import brdf


@functools.lru_cache(maxsize=32)
def points(count: int, dtype: torch.dtype) -> Tensor:
    """``(2, count)`` points of the R2 sequence in the unit square (Roberts 2018); evenly spread, no grid."""
    golden = 1.32471795724474602596
    k = torch.arange(1, count + 1, dtype=torch.float64)
    return torch.stack(((0.5 + k / golden) % 1.0, (0.5 + k / golden**2) % 1.0)).to(dtype)


def visible_lobe(theta: Tensor, alpha: float | Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Reflected directions of visible facets, in the frame where n is +Z and v lies in the plane of +X.

    Args:
        theta: signed angle of v from n towards +X, ``(P, 1)`` in rad, within ±π/2.
        alpha: GGX width, a number or ``(P, 1)``.
        count: samples per angle.

    Returns:
        directions ``(3, P, count)``, the estimator's weight G2/G1 (0 below the horizon), l·h
        and the density per sr, each ``(P, count)``.
    """
    u = points(count, theta.dtype).to(theta.device)
    a = torch.as_tensor(alpha, dtype=theta.dtype, device=theta.device)
    nv, sv = torch.cos(theta), torch.sin(theta)
    # Heitz' frame about the stretched view: T1 is +Y, T2 lies in the plane of incidence.
    norm = (a * a * sv * sv + nv * nv).rsqrt()
    vx, vz = a * sv * norm, nv * norm
    radius = u[0].sqrt()
    t1 = radius * torch.cos(2.0 * math.pi * u[1])
    side = (1.0 - t1 * t1).clamp_min(0.0).sqrt()
    s = 0.5 * (1.0 + vz)
    t2 = (1.0 - s) * side + s * (radius * torch.sin(2.0 * math.pi * u[1]))
    t3 = (1.0 - t1 * t1 - t2 * t2).clamp_min(0.0).sqrt()
    hx, hy, hz = a * (t3 * vx - t2 * vz), a * t1, (t2 * vx + t3 * vz).clamp_min(1e-7)
    norm = (hx * hx + hy * hy + hz * hz).rsqrt()
    hx, hy, hz = hx * norm, hy * norm, hz * norm
    lh = (hx * sv + hz * nv).clamp_min(0.0)
    light = torch.stack((2.0 * lh * hx - sv, 2.0 * lh * hy, 2.0 * lh * hz - nv))
    nl = light[2]
    a2 = a * a
    to_view, to_light = (a2 + (1.0 - a2) * nv * nv).sqrt(), (a2 + (1.0 - a2) * nl * nl).sqrt()
    above = nl > 0.0
    # G2 / G1(v) of the height-correlated Smith term, both of Heitz 2014.
    weight = torch.where(above, nl * (nv + to_view) / (nv * to_light + nl * to_view).clamp_min(1e-9), 0.0)
    density = a2 / (math.pi * (hx * hx + hy * hy + a2 * hz * hz).square())
    density = density / (2.0 * (nv + to_view))
    return light, weight, lh, density


_COSINES, _ROUGHNESSES, _SAMPLES = 49, 33, 1024


@functools.lru_cache(maxsize=4)
@torch.inference_mode(False)
@torch.no_grad()
def _albedo_table(device: torch.device, dtype: torch.dtype) -> Tensor:
    """``(1, 3, cosines, roughnesses)``, over √(n·v) and roughness: what :func:`albedos` returns."""
    with torch.device("cpu"):  # whatever is the default where it is asked first
        theta = torch.acos(torch.linspace(0.0, 1.0, _COSINES, dtype=torch.float64).clamp_min(0.01).square())
        values = []
        for r in torch.linspace(0.0, 1.0, _ROUGHNESSES).tolist():
            _, weight, lh, _ = visible_lobe(theta[:, None], max(r * r, brdf.MIN_ALPHA), _SAMPLES)
            white, edge, glass = (
                (weight * f).mean(1)
                for f in (torch.ones_like(lh), brdf.schlick_weight(lh), brdf.dielectric_weight(lh))
            )
            values.append(torch.stack((white, edge, glass / white), dim=-1))
    return torch.stack(values, dim=1).permute(2, 0, 1)[None].contiguous().to(device, dtype)


def gather(rows: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums of table rows: ``rows (R, C)``, ``index`` and ``weight (P, K)`` give ``(P, C)``.

    The one primitive under every look-up here: each row is one contiguous read for all its channels.
    """
    return F.embedding_bag(index, rows, per_sample_weights=weight, mode="sum")


def albedos(nv: Tensor, roughness: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """E for F = 1 and for F = (1 - l·h)⁵ at n·v and perceptual roughness of one shape, and what :func:`layer_share` takes."""
    y = nv.clamp(1e-4, 1.0).sqrt() * 2.0 - 1.0
    x = roughness.clamp(0.0, 1.0) * 2.0 - 1.0
    grid = torch.stack((x, y), dim=-1).reshape(1, -1, 1, 2)
    table = _albedo_table(nv.device, nv.dtype)
    found = F.grid_sample(table, grid, mode="bilinear", padding_mode="border", align_corners=True)
    white, edge, glass = (found[0, i].reshape(nv.shape) for i in range(3))
    return white, edge, glass


def albedo_pair(nv: Tensor, roughness: Tensor) -> tuple[Tensor, Tensor]:
    """The first two of :func:`albedos`."""
    return albedos(nv, roughness)[:2]


def layer_share(glass: Tensor, f0: Tensor) -> Tensor:
    """What is left for the diffuse lobe under a specular one, as Cycles' Principled BSDF layers them.

    That is 1 less the mean Fresnel of the lobe. Cycles takes the Fresnel of glass, scaled to f0, which at mid angles reflects more than
    Schlick's; and the mean, not the energy, so that what rough facets lose between them is lost to both lobes.

    Args:
        glass: the mean of :func:`brdf.dielectric_weight`, from :func:`albedos`.
        f0: reflectance at normal incidence; beyond 0.08, where Principled raises the index, this is an approximation.
    """
    return (1.0 - f0) * (1.0 - glass)


def directional_albedo(nv: Tensor, roughness: Tensor, f0: Tensor) -> Tensor:
    """E(n·v, α, f0): the share of uniform light that the single-scattering GGX lobe sends to the viewer.

    Args:
        nv, roughness, f0: broadcastable; roughness is perceptual.

    Tabulated once per process from quadrature over the visible normals; tested to 0.003.
    """
    nv, roughness = torch.broadcast_tensors(nv, roughness)
    white, edge = albedo_pair(nv, roughness)
    return edge + f0 * (white - edge)
