"""The light's own color, which what shines adds to a plate, is not taken for paint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from platelight.models.networks import luminance
from platelight.pipeline import decompose, service
from platelight.pipeline.decompose import VEIL, unveiling
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
