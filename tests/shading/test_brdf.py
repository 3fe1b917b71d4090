"""Closed forms, bounds and gradients of the reflectance models."""

from __future__ import annotations

import math

import pytest
import torch
from platelight.shading import brdf
from platelight.shading.sampling import directional_albedo
from torch import Tensor

DOUBLE = torch.float64


def hemisphere(count: int = 400) -> tuple[Tensor, Tensor]:
    """Directions ``(P, 3)`` over the hemisphere about +Z, crowded at the pole, and their solid angles."""
    t = (torch.arange(count, dtype=DOUBLE) + 0.5) / count
    cosine = 1.0 - t**3
    phi = (torch.arange(count, dtype=DOUBLE) + 0.5) / count * 2.0 * math.pi
    c, p = torch.meshgrid(cosine, phi, indexing="ij")
    s = torch.sqrt(1.0 - c * c)
    dirs = torch.stack((s * torch.cos(p), s * torch.sin(p), c), dim=-1).reshape(-1, 3)
    weight = (3.0 * t * t * (2.0 * math.pi / count**2))[:, None].expand(count, count)
    return dirs, weight.reshape(-1)


def cosines(light: Tensor, view: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    half = light + view
    half = half / half.norm(dim=-1, keepdim=True)
    nv = (view[..., 2] + 0.0 * light[..., 2]).expand(light.shape[:-1])
    return light[..., 2], nv, half[..., 2], (light * half).sum(-1)


@pytest.mark.parametrize("roughness", [0.2, 0.5, 1.0])
def test_distribution_is_normalized(roughness: float) -> None:
    dirs, omega = hemisphere(400)
    d = brdf.ggx_distribution(dirs[:, 2], torch.tensor(roughness**2, dtype=DOUBLE))
    assert float((d * dirs[:, 2] * omega).sum()) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("roughness", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("nv", [0.2, 0.6, 1.0])
def test_white_furnace_is_below_one_and_is_the_table(roughness: float, nv: float) -> None:
    dirs, omega = hemisphere(400)
    view = torch.tensor((math.sqrt(1.0 - nv * nv), 0.0, nv), dtype=DOUBLE)
    alpha = torch.tensor(roughness**2, dtype=DOUBLE)
    for f0 in (0.04, 1.0):
        value = brdf.cook_torrance(*cosines(dirs, view), alpha, torch.tensor(f0, dtype=DOUBLE))
        energy = float((value * dirs[:, 2] * omega).sum())
        assert energy <= 1.0 + 1e-6
        table = directional_albedo(*(torch.tensor([x], dtype=DOUBLE) for x in (nv, roughness, f0)))
        assert float(table) == pytest.approx(energy, abs=3e-3)


def test_cook_torrance_is_reciprocal() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 500, 3, generator=generator, dtype=DOUBLE).unbind(0)
    a, b = (torch.cat((x[:, :2], x[:, 2:].abs()), 1) for x in (a, b))
    a, b = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
    alpha, f0 = torch.tensor(0.2, dtype=DOUBLE), torch.tensor(0.04, dtype=DOUBLE)
    there = brdf.cook_torrance(*cosines(a, b), alpha, f0)
    back = brdf.cook_torrance(*cosines(b, a), alpha, f0)
    assert torch.allclose(there, back, rtol=1e-9)
    assert float(there.min()) > 0.0


def test_schlick_ends() -> None:
    f0 = torch.tensor(0.04)
    assert float(brdf.schlick_fresnel(torch.tensor(1.0), f0)) == pytest.approx(0.04)
    assert float(brdf.schlick_fresnel(torch.tensor(0.0), f0)) == pytest.approx(1.0)


def test_oren_nayar_is_lambert_when_smooth_and_keeps_white_white() -> None:
    dirs, omega = hemisphere(300)
    view = torch.tensor((0.6, 0.0, 0.8), dtype=DOUBLE)
    nl, nv, _, _ = cosines(dirs, view)
    lv = dirs @ view
    one = torch.ones((), dtype=DOUBLE)
    assert torch.allclose(
        brdf.oren_nayar(nl, nv, lv, 0.5 * one, 0.0 * one), brdf.lambert(0.5 * one) + 0.0 * nl
    )
    value = brdf.oren_nayar(nl, nv, lv, one, one)
    assert float((value * nl * omega).sum()) == pytest.approx(1.0, abs=5e-3)
    single = brdf.oren_nayar(nl, nv, lv, one, one, multiscatter=False)
    assert float((single * nl * omega).sum()) < 0.95


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(2)
    nl, nv, nh, lh, alpha, f0 = (
        (0.1 + 0.8 * torch.rand(6, generator=generator, dtype=DOUBLE)).requires_grad_() for _ in range(6)
    )
    assert torch.autograd.gradcheck(brdf.cook_torrance, (nl, nv, nh, lh, alpha, f0))
    assert torch.autograd.gradcheck(brdf.oren_nayar, (nl, nv, nh, f0, alpha))
