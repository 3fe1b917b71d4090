"""The light's own color, which what shines adds to a plate, is not taken for paint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from platelight.models.networks import FLOOR, luminance
from platelight.pipeline import decompose, service
from platelight.pipeline.decompose import VEIL, unveiled
from platelight.protocol.requests import Decompose
from torch import Tensor


def taken(paint: Tensor, light: Tensor, shade: Tensor, matte: Tensor) -> Tensor:
    """The paint that is found where a plate over its light is taken for paint, veil and all."""
    plate = (paint + VEIL) * light * shade
    return unveiled(-torch.log(light * shade).expand_as(plate), plate, matte) + torch.log(plate + FLOOR)


@pytest.mark.parametrize("color", [(1.0, 1.0, 1.0), (1.3, 1.0, 0.5)])
def test_paint_is_as_saturated_as_it_was_under_any_light(color: tuple[float, float, float]) -> None:
    paint = torch.tensor([0.6, 0.3, 0.1]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    light = 20.0 * torch.tensor(color).view(1, 3, 1, 1)  # the floor, for what is dark, says nothing here
    shade = torch.linspace(0.5, 1.5, 16).view(1, 1, 1, 16)
    matte = torch.ones(1, 1, 16, 16)
    matte[..., :4, :] = 0.0  # what lies outside is of another color
    paint = torch.where(matte > 0, paint, 1.0 - paint)
    found = torch.exp(taken(paint, light, shade, matte))[..., 8, 8]
    wanted, veiled = paint[..., 8, 8], paint[..., 8, 8] + VEIL

    def chroma(value: Tensor) -> Tensor:
        return value / luminance(value)

    off, before = ((chroma(c) - chroma(wanted)).abs().max() for c in (found, veiled))
    assert off < 0.3 * before
    level = luminance(found) / luminance(veiled)
    assert float(level) == pytest.approx(1.0, abs=0.05)


def test_black_paint_and_an_empty_matte_stay_finite() -> None:
    matte = torch.ones(1, 1, 4, 4)
    none = torch.zeros(1, 3, 4, 4)
    for plate, cover in ((none, matte), (none + 0.5, 0 * matte)):
        assert torch.isfinite(unveiled(none, plate, cover)).all()


def test_the_light_stays_what_it_is_and_paint_becomes_more_saturated(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns = np.ogrid[-1:1:64j, -1:1:64j]
    height = np.sqrt(np.maximum(0.8 - rows**2 - columns**2, 0.0)) / np.sqrt(0.8)
    plate = (height[..., None] * np.array([0.6, 0.35, 0.12])).astype(np.float32)
    matte = (height > 0).astype(np.float32)
    found = {}
    for veil in (VEIL, 0.0):
        monkeypatch.setattr(decompose, "VEIL", veil)
        request = Decompose(matte="given", working_size=64)
        found[veil] = service.run_job(request, {"plate": plate, "matte": matte}).planes
    np.testing.assert_allclose(found[VEIL]["light"], found[0.0]["light"], rtol=1e-3, atol=1e-5)
    albedo, before = (found[veil]["albedo"][matte > 0].mean(0) for veil in (VEIL, 0.0))
    assert albedo[2] / albedo[1] < 0.95 * before[2] / before[1]
