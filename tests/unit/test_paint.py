"""Paint is sparse and steps where its color steps: what shading a network left in the albedo becomes less."""

from __future__ import annotations

import math

import pytest
import torch
from platelight.models.networks import FLOOR
from platelight.pipeline.paint import evened
from torch import Tensor


def ball(size: int = 96) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A ball of two paints, deep red and pale green, under one lamp: plate, albedo, matte, normal, each (1, C, h, w)."""
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    z = (1 - x * x - y * y).clamp_min(0).sqrt()
    matte = ((x * x + y * y) < 0.95).float()[None, None]
    shading = 0.05 + 0.95 * (0.8 * x + 0.6 * z).clamp_min(0)
    paint = (torch.sin(5 * x) + 0.3 * y > 0)[None, None].float()
    red, green = (torch.tensor(c).view(1, 3, 1, 1) for c in ((0.3, 0.05, 0.05), (0.5, 0.7, 0.45)))
    albedo = red * paint + green * (1 - paint)
    return albedo * shading * matte, albedo, matte, torch.stack([x, -y, z])[None]


def error(log_albedo: Tensor, truth: Tensor, matte: Tensor) -> float:
    """Scale-free root mean square in logarithms."""
    inside = matte[0, 0] > 0.5
    difference = (log_albedo - torch.log(truth)).mean(1)[0][inside]
    return float(difference.std())


@pytest.mark.parametrize("size", [96, 260])
def test_shading_and_timid_paint_become_less(size: int) -> None:
    """Half of the shading left, and half of the step between the paints: the error shrinks by a sixth and more."""
    plate, albedo, matte, normal = ball(size)
    seen = torch.log(plate + FLOOR)
    mean = torch.log(albedo).mean()
    timid = 0.65 * (torch.log(albedo).mean(1, keepdim=True) - mean) + mean
    color = torch.log(albedo) - torch.log(albedo).mean(1, keepdim=True)
    shading = torch.log(plate.sum(1, keepdim=True) / albedo.sum(1, keepdim=True) + FLOOR)
    network = timid + color + 0.4 * shading
    before = error(network, albedo, matte)
    after = error(evened(network - seen, plate, matte, normal) + seen, albedo, matte)
    assert after < 0.85 * before


def test_color_and_mean_level_stay() -> None:
    plate, albedo, matte, normal = ball()
    reflectance = torch.log(albedo.sqrt()) - torch.log(plate + FLOOR)
    change = evened(reflectance, plate, matte, normal) - reflectance
    assert torch.allclose(change[:, :1].expand_as(change), change, atol=1e-5)
    assert float((change * matte).sum() / matte.sum()) == pytest.approx(0, abs=1e-4)
    assert float(change.abs().max()) > 0.05


def test_what_is_right_stays_right() -> None:
    plate, albedo, matte, normal = ball()
    seen = torch.log(plate + FLOOR)
    after = evened(torch.log(albedo) - seen, plate, matte, normal) + seen
    assert error(after, albedo, matte) < 0.15


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (2, 200)])
def test_small_and_empty(size: tuple[int, int]) -> None:
    plate = torch.rand(1, 3, *size)
    reflectance = torch.rand(1, 3, *size)
    for matte in (torch.zeros(1, 1, *size), torch.ones(1, 1, *size)):
        after = evened(reflectance, plate, matte, torch.rand(1, 3, *size))
        assert after.shape == reflectance.shape
        assert torch.isfinite(after).all()


def test_black_plate() -> None:
    plate, matte = torch.zeros(1, 3, 40, 40), torch.ones(1, 1, 40, 40)
    assert torch.isfinite(
        evened(torch.full_like(plate, math.log(0.5)), plate, matte, torch.zeros_like(plate))
    ).all()


def test_things_of_a_full_plate_are_evened_wherever_they_stand() -> None:
    """A narrow bar half of whose shading is left: every place of it finds its like, as where rows are not all inside."""
    size, results = 160, []
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    normal = torch.nn.functional.normalize(torch.stack([x - 0.5, 0.5 - y, torch.ones_like(x)]), dim=0)[None]
    shading = (0.3 + 0.7 * y)[None, None]
    for left in range(60, 92, 4):
        bar = torch.zeros(1, 1, size, size)
        bar[..., left : left + 10] = 1
        albedo = torch.lerp(
            torch.full((1, 3, 1, 1), 0.4), torch.tensor([0.5, 0.05, 0.05]).view(1, 3, 1, 1), bar
        )
        plate = albedo * shading
        reflectance = torch.log(albedo * shading.sqrt()) - torch.log(plate + FLOOR)
        found = evened(reflectance, plate, torch.ones_like(bar), normal) + torch.log(plate + FLOOR)
        results.append(float((found - torch.log(albedo)).mean(1)[bar[0] > 0].std()))
    assert max(results) < 0.6 * 0.177, results
    assert max(results) < 2.5 * min(results), results
