"""Reflectance models: Lambert, Oren-Nayar and Cook-Torrance (GGX, height-correlated Smith, Schlick).

Every function is elementwise over broadcastable tensors of cosines, differentiable, and works in the
dtype and on the device of its inputs. Cosines are ``nl`` = n·l, ``nv`` = n·v, ``nh`` = n·h,
``lh`` = l·h and ``lv`` = l·v, with h the half vector. BRDFs are in sr⁻¹ and do *not* hold the
cosine n·l. ``alpha`` is the GGX width: ``alpha = roughness²`` (:func:`alpha_from_roughness`).

Sources
- GGX: Walter et al., "Microfacet Models for Refraction through Rough Surfaces", EGSR 2007, eq. 33.
- Height-correlated Smith: Heitz, "Understanding the Masking-Shadowing Function", JCGT 3(2), 2014, eq. 99.
- Schlick, "An Inexpensive BRDF Model for Physically-based Rendering", CGF 13(3), 1994, eq. 15.
- Oren-Nayar in Fujii's reformulation, "A tiny improvement of Oren-Nayar reflectance model" (2012), with
  the multiple-scattering term of Portsmouth, Kutz and Hill, "EON: A Practical Energy-Preserving Rough
  Diffuse BRDF", JCGT 14(1), 2025. It is the model of Cycles' Diffuse BSDF since Blender 4.3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MIN_ALPHA = 1e-4
"""Narrowest lobe that is evaluated: below it D overflows float16 and no environment has the resolution."""

MIN_COSINE = 1e-4
"""Floor for cosines in denominators: keeps grazing values and their gradients finite."""


def alpha_from_roughness(roughness: Tensor) -> Tensor:
    """GGX width α = r² of the perceptual roughness r in [0, 1], not below :data:`MIN_ALPHA`."""
    return (roughness * roughness).clamp_min(MIN_ALPHA)


def lambert(albedo: Tensor) -> Tensor:
    """Lambert's BRDF σ/π, in sr⁻¹, for a linear albedo σ in [0, 1]."""
    return albedo / math.pi


def oren_nayar(
    nl: Tensor, nv: Tensor, lv: Tensor, albedo: Tensor, roughness: Tensor, multiscatter: bool = True
) -> Tensor:
    """Oren-Nayar BRDF in sr⁻¹ (Fujii 2012; with ``multiscatter`` the energy-preserving EON of 2025).

    Args:
        nl, nv, lv: cosines, broadcastable.
        albedo: linear albedo in [0, 1].
        roughness: σ in [0, 1] as on Cycles' Diffuse BSDF; 0 is Lambert exactly.
        multiscatter: add the light that scatters between facets, so that a white surface stays white.
    """
    nl, nv = nl.clamp(0.0, 1.0), nv.clamp(0.0, 1.0)
    a = 1.0 / (math.pi + roughness * (math.pi / 2.0 - 2.0 / 3.0))
    b = roughness * a
    t = lv - nl * nv
    t = torch.where(t > 0.0, t / torch.maximum(nl, nv).clamp_min(MIN_COSINE), t)
    single = albedo * (a + b * t)
    if not multiscatter:
        return single
    e_avg = a * math.pi + b * ((2.0 * math.pi - 5.6) / 3.0)
    lost = 1.0 - e_avg
    scale = albedo * albedo * e_avg / (math.pi * (1.0 - albedo * lost).clamp_min(1e-6))
    # The ratio of two quantities that both vanish with the roughness, so that σ = 0 has no 0/0.
    lost_l = 1.0 - a * math.pi - b * _oren_nayar_g(nl)
    lost_v = 1.0 - a * math.pi - b * _oren_nayar_g(nv)
    return single + scale * lost_l * lost_v / lost.clamp_min(1e-6)


def _oren_nayar_g(cosine: Tensor) -> Tensor:
    """G(θ) of EON's directional albedo: E(θ) = π a + b G(θ)."""
    c = cosine.clamp(MIN_COSINE, 1.0 - 1e-7)
    s = torch.sqrt(1.0 - c * c)
    return s * (torch.acos(c) - 2.0 / 3.0 - s * c) + (2.0 / 3.0) * (s / c) * (1.0 - s * s * s)


def ggx_distribution(nh: Tensor, alpha: Tensor) -> Tensor:
    """D(h) of GGX (Walter 2007), in sr⁻¹; normalized so that ∫ D (n·h) dh = 1."""
    a2 = alpha * alpha
    # (1 - nh²) + α² nh² is kinder to float32 than nh² (α² - 1) + 1 when nh is near 1.
    nh2 = (nh * nh).clamp(0.0, 1.0)
    d = (1.0 - nh2) + a2 * nh2
    # A product with the mask: torch.where on the CPU takes ten times as long.
    return a2 / (math.pi * d * d) * (nh > 0.0)


def smith_visibility(nl: Tensor, nv: Tensor, alpha: Tensor) -> Tensor:
    """V = G / (4 n·l n·v) with the height-correlated Smith G (Heitz 2014, eq. 99)."""
    nl, nv = nl.clamp_min(MIN_COSINE), nv.clamp_min(MIN_COSINE)
    a2 = alpha * alpha
    to_light = nl * torch.sqrt(nv * nv * (1.0 - a2) + a2)
    to_view = nv * torch.sqrt(nl * nl * (1.0 - a2) + a2)
    return 0.5 / (to_light + to_view)


def cosine_lobe(nl: Tensor, nv: Tensor, half2: Tensor, alpha2: Tensor) -> Tensor:
    """D V n·l of :func:`ggx_distribution` and :func:`smith_visibility`, from squares, in fewer passes over many lamps.

    Args:
        nl, nv: cosines; where n·l is below 0 the lobe is 0.
        half2: ``2 + 2 l·v``, the square of the half vector's length before it is normalized.
        alpha2: α².
    """
    sum_ = nl + nv
    nh2 = (sum_ * sum_ / half2).clamp_max(1.0)
    d = torch.addcmul(1.0 - nh2, alpha2, nh2)
    rest, above = 1.0 - alpha2, nl.clamp_min(MIN_COSINE)
    to_light = above * torch.addcmul(alpha2, rest, nv * nv).sqrt()
    to_view = nv * torch.addcmul(alpha2, rest, above * above).sqrt()
    return alpha2 * nl.clamp_min(0.0) / (d * d * (to_light + to_view)) * (0.5 / math.pi)


def schlick_weight(lh: Tensor) -> Tensor:
    """(1 - l·h)⁵, the share of white in Schlick's Fresnel."""
    x = (1.0 - lh).clamp(0.0, 1.0)
    x2 = x * x
    return x2 * x2 * x


def dielectric_weight(lh: Tensor) -> Tensor:
    """The share of white in the Fresnel of glass (index 1.5), where Schlick's has (1 - l·h)⁵: Principled BSDF scales this one."""
    c = lh.clamp(0.0, 1.0)
    g = (1.25 + c * c).sqrt()
    a, b = (g - c) / (g + c), (c * (g + c) - 1.0) / (c * (g - c) + 1.0)
    return (0.5 * a * a * (1.0 + b * b) - 0.04) / 0.96


def schlick_fresnel(lh: Tensor, f0: Tensor) -> Tensor:
    """Schlick's Fresnel F = f0 + (1 - f0)(1 - l·h)⁵ for a reflectance f0 at normal incidence."""
    return f0 + (1.0 - f0) * schlick_weight(lh)


def cook_torrance(nl: Tensor, nv: Tensor, nh: Tensor, lh: Tensor, alpha: Tensor, f0: Tensor) -> Tensor:
    """D G F / (4 n·l n·v) in sr⁻¹; zero where the light or the viewer is below the surface."""
    value = ggx_distribution(nh, alpha) * smith_visibility(nl, nv, alpha) * schlick_fresnel(lh, f0)
    return torch.where((nl > 0.0) & (nv > 0.0), value, torch.zeros_like(value))
