"""What the refiner keeps of the physical render: exposure and the color of the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from platelight.models.networks import RenderNet
from platelight.models.tone import tally, tone
from platelight.pipeline import service
from platelight.protocol.requests import Relight
from torch import Tensor

TINT = torch.tensor([1.4, 0.9, 0.5]).view(1, 3, 1, 1)


def picture() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    image = 0.2 * torch.rand(2, 3, 24, 16, generator=generator)
    matte = (torch.rand(2, 1, 24, 16, generator=generator) > 0.3).float()
    return image, matte


def test_tint_and_exposure_are_undone() -> None:
    image, matte = picture()
    changed = 3.0 * TINT * image
    factor = tone(tally(image, matte), tally(changed, matte))
    torch.testing.assert_close(changed * factor, image, rtol=1e-3, atol=1e-5)
    assert factor.shape == (2, 3, 1, 1)


def test_what_lies_outside_does_not_count_and_bands_add_up() -> None:
    image, matte = picture()
    spoiled = torch.where(matte > 0, image, torch.full_like(image, 50.0) * TINT)
    bands = sum(tally(spoiled[..., a : a + 5, :], matte[..., a : a + 5, :]) for a in range(0, 24, 5))
    assert isinstance(bands, Tensor)
    torch.testing.assert_close(bands, tally(image, matte))


@pytest.mark.parametrize("glint", [(20.0, 0.0, 0.0), (20.0, 20.0, 20.0)])
def test_a_dimmed_glint_is_taken_neither_for_a_tint_nor_for_the_exposure(
    glint: tuple[float, float, float],
) -> None:
    image, matte = picture()
    given = image.clone()
    given[:, :, :1] += torch.tensor(glint).view(1, 3, 1, 1)  # on a twenty-fourth of the subject
    factor = tone(tally(given, matte), tally(image, matte))[:, 0]
    linear = ((given * matte).sum((2, 3)) / (image * matte).sum((2, 3)))[:, 0].view(2, 1, 1)
    assert (factor - 1 < 0.5 * (linear - 1)).all()


@pytest.mark.parametrize("case", ["black", "no blue", "empty", "all black"])
def test_nothing_is_finite_and_so_is_its_gradient(case: str) -> None:
    image, matte = picture()
    image[..., :4, :] = 0.0
    if case == "no blue":
        image[:, 2] = 0.0
    image, matte = image * (case != "all black"), matte * (case != "empty")
    changed = (2.0 * image).requires_grad_()
    factor = tone(tally(image, matte), tally(changed, matte))
    (changed * factor).square().sum().backward()
    assert torch.isfinite(factor).all()
    assert changed.grad is not None
    assert torch.isfinite(changed.grad).all()
    if case == "no blue":
        torch.testing.assert_close(factor[:, :2], torch.full_like(factor[:, :2], 0.5), rtol=1e-2, atol=0.0)
        assert (factor[:, 2] > 0.1).all()
        assert (factor[:, 2] < 2.0).all()


def test_a_refiner_that_tints_changes_no_composite(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns = np.ogrid[-1:1:48j, -1:1:48j]
    height = np.sqrt(np.maximum(0.8 - rows**2 - columns**2, 0.0))
    flat = np.ones((48, 48), np.float32)
    normal = np.stack([columns * flat, -rows * flat, height], -1) / np.sqrt(0.8)
    matte = (height > 0).astype(np.float32)
    planes = {
        "foreground": 0.4 * flat[..., None] * np.array([1.0, 0.7, 0.4], np.float32), "matte": matte,
        "normal": np.where(matte[..., None] > 0, normal, [0.0, 0.0, 1.0]).astype(np.float32),
        "albedo": 0.5 * flat[..., None] * np.array([1.0, 0.7, 0.4], np.float32), "roughness": 0.5 * flat,
        "reflectivity": 0.04 * flat, "cavity": flat, "light": np.full((8, 16, 3), 0.8, np.float32),
    }  # fmt: skip
    monkeypatch.setattr(RenderNet, "predict", lambda self, p, m, n, a, d, s: d + s)
    plain = service.run_job(Relight(working_size=48, backdrop="none"), planes).planes["relit"]
    monkeypatch.setattr(
        RenderNet, "predict", lambda self, p, m, n, a, d, s: 2.0 * TINT.to(d) * (d + s + 1e-4) - 1e-4
    )
    tinted = service.run_job(Relight(working_size=48, backdrop="none"), planes).planes["relit"]
    np.testing.assert_allclose(tinted, plain, rtol=5e-3, atol=1e-4)
