"""Shape from shading: relief that the networks overlooked is read from brightness, and paint is not taken for it."""

from __future__ import annotations

import math

import pytest
import torch
from platelight.models.networks import FLOOR
from platelight.pipeline.relief import turned_by_shading
from torch import Tensor
from torch.nn import functional as F

SIDE = 96
LAMP = F.normalize(torch.tensor([0.5, 0.4, 0.75]), dim=0)


def dome(relief: float) -> tuple[Tensor, Tensor]:
    """Normals (1, 3, SIDE, SIDE) and matte of a shallow dome with waves on it."""
    at = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    y, x = torch.meshgrid(-at, at, indexing="ij")
    slope_x = 0.7 * x - relief * torch.cos(4 * math.pi * x) * torch.cos(2 * math.pi * y)
    slope_y = 0.7 * y + relief * 0.5 * torch.sin(4 * math.pi * x) * torch.sin(2 * math.pi * y)
    normal = F.normalize(torch.stack([slope_x, slope_y, torch.ones_like(x)]), dim=0)[None]
    return normal, ((x**2 + y**2) < 0.8).float()[None, None]


def lit(normal: Tensor) -> Tensor:
    """Shading (1, 1, h, w) by a lamp and a dim sky."""
    return 0.15 + 0.85 * (normal * LAMP.view(1, 3, 1, 1)).sum(1, keepdim=True).clamp_min(0)


def reflectance(albedo: Tensor, plate: Tensor) -> Tensor:
    return torch.log(albedo) - torch.log(plate + FLOOR)


def degrees(found: Tensor, truth: Tensor, matte: Tensor) -> float:
    cosine = (found * truth).sum(1, keepdim=True).clamp(-1, 1)
    return float(torch.rad2deg(torch.acos(cosine))[matte > 0.5].mean())


@pytest.mark.parametrize("size", [SIDE, 3 * SIDE])
def test_waves_that_brightness_shows_are_found(size: int) -> None:
    truth, matte = dome(0.3)
    smooth, _ = dome(0.0)
    truth, matte, smooth = (F.interpolate(x, (size, size), mode="bilinear") for x in (truth, matte, smooth))
    truth, smooth = F.normalize(truth, dim=1), F.normalize(smooth, dim=1)
    albedo = torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1).expand(1, 3, size, size)
    plate = albedo * lit(truth) * matte
    found = turned_by_shading(smooth, reflectance(albedo, plate), plate, matte)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(1, size, size))
    before, after = degrees(smooth, truth, matte), degrees(found, truth, matte)
    # One picture under one lamp shows the turns towards it only: a good part, never all.
    assert after < 0.72 * before, (before, after)


def test_known_paint_is_no_relief() -> None:
    normal, matte = dome(0.0)
    albedo = torch.full((1, 3, SIDE, SIDE), 0.4)
    plain = albedo.clone()
    albedo[..., 30:60, 40:70] = 0.25
    plate = albedo * lit(normal) * matte
    known, unknown = (
        degrees(turned_by_shading(normal, reflectance(paint, plate), plate, matte), normal, matte)
        for paint in (albedo, plain)
    )
    # An albedo's contrast is taken to be a little larger than it is read, so that its rim counts a little.
    assert known < 1.2
    assert unknown > 2 * known, (known, unknown)


def test_the_plates_exposure_does_not_matter() -> None:
    truth, matte = dome(0.3)
    smooth, _ = dome(0.0)
    albedo = torch.full((1, 3, SIDE, SIDE), 0.4)
    plate = 20 * albedo * lit(truth) * matte
    one, two = (turned_by_shading(smooth, reflectance(albedo, x), x, matte) for x in (plate, 2 * plate))
    assert degrees(one, two, matte) < 0.3


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (40, 40)])
def test_what_tells_nothing_changes_nothing(shape: tuple[int, int]) -> None:
    normal = F.normalize(torch.rand(1, 3, *shape) + 0.1, dim=1)
    black = torch.zeros(1, 3, *shape)
    nothing = turned_by_shading(normal, black, black, torch.zeros(1, 1, *shape))
    torch.testing.assert_close(nothing, normal)
    dark = turned_by_shading(normal, black, black, torch.ones(1, 1, *shape))
    assert degrees(dark, normal, torch.ones(1, 1, *shape)) < 0.5
    assert bool(dark.isfinite().all())


def test_islands_and_single_pixels_are_solved() -> None:
    truth, _ = dome(0.3)
    torch.manual_seed(1)
    matte = (torch.rand(1, 1, SIDE, SIDE) > 0.7).float()
    albedo = torch.full((1, 3, SIDE, SIDE), 0.4)
    plate = albedo * lit(truth) * matte
    found = turned_by_shading(truth, reflectance(albedo, plate), plate, matte)
    assert bool(found.isfinite().all())
