"""The light's own color, which what shines adds to a plate, is not taken for paint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from platelight.models.networks import luminance
from platelight.pipeline import decompose, service
from platelight.pipeline.decompose import LARGEST_ALBEDO, VEIL, unveiling
from platelight.protocol.requests import Decompose
from torch import Tensor


def test_paint_is_as_saturated_as_without_the_veil() -> None:
    paint = torch.tensor([0.6, 0.3, 0.1]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    matte = torch.ones(1, 1, 16, 16)
    matte[..., :4, :] = 0.0  # what lies outside is of another color
    paint = torch.where(matte > 0, paint, 1.0 - paint)
    seen = paint + VEIL
    found = (seen * unveiling(seen, matte))[..., 8, 8]
    wanted, veiled = paint[..., 8, 8], seen[..., 8, 8]

    def chroma(value: Tensor) -> Tensor:
        return value / luminance(value)

    off, before = ((chroma(c) - chroma(wanted)).abs().max() for c in (found, veiled))
    assert off < 0.3 * before
    level = luminance(found) / luminance(veiled)
    assert float(level) == pytest.approx(1.0, abs=1e-4)


def test_white_stays_white_beside_orange_and_black_keeps_its_hue() -> None:
    seen = torch.tensor([[0.63, 0.23, 0.09], [0.6, 0.6, 0.6], [0.006, 0.004, 0.005]]).T.reshape(1, 3, 1, 3)
    found = (seen * unveiling(seen, torch.ones(1, 1, 1, 3)))[0, :, 0]
    orange, white, black = found[:, 0], found[:, 1], found[:, 2]
    assert float(white.max() / white.min()) == pytest.approx(1.0, abs=1e-4)
    assert float(orange[2] / orange[0]) == pytest.approx(0.06 / 0.6, rel=0.02)
    torch.testing.assert_close(black / black[0], seen[0, :, 0, 2] / 0.006, rtol=0.02, atol=0)
    assert 0.25 < float(black[0] / seen[0, 0, 0, 2]) < 0.4


def test_white_beside_much_black_does_not_clip() -> None:
    seen = torch.full((1, 3, 40, 40), 0.04)
    seen[..., :4, :] = LARGEST_ALBEDO  # as bright as paint is let be before
    found = seen * unveiling(seen, torch.ones(1, 1, 40, 40))
    assert float(found.max()) == pytest.approx(LARGEST_ALBEDO, rel=1e-4)
    assert float(found.min()) < 0.02


def test_black_paint_and_an_empty_matte_stay_finite() -> None:
    matte = torch.ones(1, 1, 4, 4)
    for veiled, cover in ((torch.zeros(1, 3, 4, 4), matte), (torch.full((1, 3, 4, 4), 0.5), 0 * matte)):
        factor = unveiling(veiled, cover)
        assert torch.isfinite(factor.log()).all()


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
