"""Shading as far as normals can be trusted."""

from __future__ import annotations

import math

import numpy as np
import torch
from platelight.shading import doubt
from platelight.shading.environment import directions, sample, solid_angles
from torch.nn import functional as F

SIDE = 48


def ball() -> tuple[torch.Tensor, torch.Tensor]:
    """Normals (1, 3, SIDE, SIDE) of the visible half of a ball, and its matte."""
    at = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    x, y = at[None, :].expand(SIDE, SIDE), -at[:, None].expand(SIDE, SIDE)
    z2 = 1 - x * x - y * y
    normal = torch.stack([x, y, z2.clamp_min(0).sqrt()])[None]
    return F.normalize(normal, dim=1), (z2 > 0)[None, None].float()


def test_soft_cosine_is_the_mean_over_normals() -> None:
    """Against a sum over the sphere of the distribution of von Mises and Fisher, which is nearly the same Gaussian."""
    rows = 128
    ways, area = directions(rows).reshape(-1, 3).double(), solid_angles(rows).reshape(-1).double()
    for angle in (0.0, 40.0, 80.0, 95.0, 120.0, 180.0):
        mean = torch.tensor([math.sin(math.radians(angle)), 0.0, math.cos(math.radians(angle))]).double()
        weight = torch.exp((ways @ mean - 1) / math.radians(doubt.DOUBT) ** 2) * area
        expected = float((ways[:, 2].clamp_min(0) * weight).sum() / weight.sum())
        found = float(doubt.soft_cosine(torch.tensor(math.cos(math.radians(angle)))))
        assert abs(found - expected) < 0.01, angle


def test_no_doubt_is_the_clamped_cosine() -> None:
    cosine = torch.linspace(-1, 1, 41)
    torch.testing.assert_close(doubt.soft_cosine(cosine, 0.0), cosine.clamp_min(0), atol=0.02, rtol=0.0)


def test_softening_finds_the_light_of_a_pass() -> None:
    """Two lamps on a painted ball: what comes out is each lamp's soft cosine times the paint."""
    normal, matte = ball()
    generator = torch.Generator().manual_seed(1)
    paint = 0.2 + 0.6 * torch.rand(1, 3, SIDE, SIDE, generator=generator)
    lamps = F.normalize(torch.tensor([[0.8, 0.3, 0.4], [-0.5, 0.7, -0.2]]), dim=1)
    colors = torch.tensor([[3.0, 2.0, 1.0], [0.3, 0.6, 1.2]])
    cosine = torch.einsum("kc,nchw->nkhw", lamps, normal)
    sharp = torch.einsum("nkhw,kc->nchw", cosine.clamp_min(0), colors) * paint
    expected = torch.einsum("nkhw,kc->nchw", doubt.soft_cosine(cosine), colors) * paint
    change = doubt.softening(sharp, paint, normal, matte)
    found = doubt.softened(sharp, paint, normal, change)
    inside = matte.expand_as(found) > 0
    before = (sharp - expected)[inside].square().mean().sqrt()
    after = (found - expected)[inside].square().mean().sqrt()
    assert after < 0.12 * before
    assert after < 0.02 * expected[inside].mean()
    # Where the lamps do not reach, doubt lets a little light in.
    dark = inside & (sharp <= 1e-6)
    assert (found[dark] > 0).any()
    assert (found >= 0).all()


def test_an_even_light_stays() -> None:
    normal, matte = ball()
    paint = torch.full_like(normal, 0.5)
    change = doubt.softening(paint * 2.0, paint, normal, matte)
    assert float((sample(change, normal) * matte).abs().max()) < 0.02 * 2.0


def test_nothing_to_be_told_changes_nothing() -> None:
    normal, matte = ball()
    paint = torch.full_like(normal, 0.5)
    few = torch.zeros_like(matte)
    few[..., 20:24, 20:24] = 1.0
    for lit, cover in ((paint, few), (torch.zeros_like(paint), matte), (paint, torch.zeros_like(matte))):
        assert not doubt.softening(lit, paint, normal, cover).any()
    black = doubt.softening(paint, torch.zeros_like(paint), normal, matte)
    assert np.isfinite(black.numpy()).all()
    assert not black.any()
