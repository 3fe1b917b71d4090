"""What the form explains of a plate: the light fitted to it, whatever the inferred light was."""

from __future__ import annotations

import pytest
import torch
from platelight.models.form import brighter, lit_as
from test_cavity import ball
from torch.nn import functional as F


def error(shading: torch.Tensor, truth: torch.Tensor, inside: torch.Tensor) -> float:
    """Mean absolute error of the logarithm, after one best factor."""
    off = (torch.log(shading) - torch.log(truth))[inside]
    return float((off - off.median()).abs().mean())


@pytest.mark.parametrize("dark", [1.0, 0.3])
def test_the_light_that_a_ball_shows_is_found(dark: float) -> None:
    normal, matte, truth = ball()
    paint = torch.ones_like(truth)
    paint[60:90, 110:140] = dark  # a spot of other paint must not turn the light
    inside = matte[0, 0] > 0
    plate = (0.4 * paint * truth)[None, None] * matte
    flat = torch.full((1, 3, *truth.shape), 0.7)
    fitted = lit_as(plate, matte, normal, flat)
    assert error(flat[0, 0], truth, inside) > 0.3
    assert error(fitted[0, 0], truth, inside) < 0.08
    # albedo and light are told apart by neither: the level that was inferred stays
    assert float(torch.log(fitted)[0, 0][inside].mean()) == pytest.approx(
        float(torch.log(flat)[0, 0, 0, 0]), abs=1e-3
    )


def test_an_empty_subject_changes_nothing() -> None:
    normal, matte, truth = ball()
    flat = torch.full((1, 3, *truth.shape), 0.7)
    found = lit_as(torch.zeros_like(matte), torch.zeros_like(matte), normal, flat)
    torch.testing.assert_close(found, flat)


def test_what_is_brighter_is_the_slope_of_the_shading() -> None:
    """A ball under one lamp and a dim sky: on its lit side relief towards the lamp is brighter by the stated amount."""
    normal, matte, _ = ball()
    lamp = F.normalize(torch.tensor([0.5, 0.3, 0.8]), dim=0)

    def lit(n: torch.Tensor) -> torch.Tensor:
        turned = (n * lamp.view(1, 3, 1, 1)).sum(1, keepdim=True)
        return (0.3 + 0.7 * turned).clamp_min(0.0).expand(1, 3, -1, -1)

    found = brighter(lit(normal), matte, normal)
    assert float((found * normal).sum(1).abs().max()) < 1e-4  # along the surface
    length = found.square().sum(1, keepdim=True)
    assert float(length.max()) < 1
    slope = found / (1 - length).sqrt()
    inside = (matte[0, 0] > 0.5) & (normal[0, 2] > 0.5)
    step = 0.02 * F.normalize(torch.tensor([0.7, -0.4, 0.2]), dim=0).view(1, 3, 1, 1)
    turned = F.normalize(normal + step, dim=1)
    change = (torch.log(lit(turned)) - torch.log(lit(normal)))[:, :1]
    told = (slope * (turned - normal)).sum(1, keepdim=True)
    error = (told - change).abs()[0, 0][inside].mean() / change.abs()[0, 0][inside].mean()
    assert float(error) < 0.25
