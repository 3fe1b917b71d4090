"""The source light fitted to the plate, on balls that are lit by sums over a known light."""

from __future__ import annotations

import pytest
import torch
from platelight.pipeline.metrics import light_error
from platelight.pipeline.source_light import fitted
from platelight.shading.environment import directions, solid_angles
from torch import Tensor

ROWS = 32


def lamp(*towards: float, sharpness: float = 20.0, color: tuple[float, float, float] = (1, 1, 1)) -> Tensor:
    """A broad lamp (1, 3, ROWS, 2 ROWS) over a dim surround."""
    axis = torch.nn.functional.normalize(torch.tensor(towards, dtype=torch.float32), dim=0)
    shape = torch.exp(sharpness * (directions(ROWS) @ axis - 1))
    return (8 * shape * torch.tensor(color).view(3, 1, 1) + 0.1)[None]


def ball(light: Tensor, paint: Tensor, side: int = 64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Plate, matte, normal and albedo of a matte ball with a paint (3, side, side)."""
    c = (torch.arange(side) + 0.5) / side * 2.2 - 1.1
    x, y = c[None, :].expand(side, side), -c[:, None].expand(side, side)
    inside = (x * x + y * y < 1).float()[None, None]
    normal = torch.stack([x, y, (1 - x * x - y * y).clamp_min(1e-6).sqrt()])
    cosine = (normal.permute(1, 2, 0) @ directions(ROWS).reshape(-1, 3).T).clamp_min(0)
    power = (light[0].flatten(1) * solid_angles(ROWS).reshape(1, -1)).T
    irradiance = (cosine @ power / torch.pi).permute(2, 0, 1)
    return (paint * irradiance)[None] * inside, inside, normal[None] * inside, paint[None] * inside


def checkered(side: int = 64) -> Tensor:
    cells = torch.arange(side) // 8
    odd = ((cells[:, None] + cells[None]) % 2).float()
    return 0.2 + 0.5 * odd * torch.tensor([1.0, 0.7, 0.4]).view(3, 1, 1)


@pytest.mark.parametrize("towards", [(0.7, 0.5, 0.5), (-0.8, 0.1, 0.3), (0.0, -0.6, 0.8)])
def test_a_wrong_guess_is_put_right_by_what_is_seen(towards: tuple[float, float, float]) -> None:
    true = lamp(*towards, color=(1.0, 0.8, 0.5))
    guess = torch.full_like(true, 0.5)
    found = fitted(guess, *ball(true, checkered()))
    as_image = [light[0].permute(1, 2, 0).double().numpy() for light in (guess, true, found)]
    before, after = light_error(as_image[0], as_image[1]), light_error(as_image[2], as_image[1])
    assert before > 0.2
    assert after < 0.15 * before
    assert found.min() >= 0


def test_its_level_is_the_plate_s() -> None:
    true = lamp(0.3, 0.4, 0.8)
    plate, matte, normal, albedo = ball(true, checkered())
    found = fitted(torch.full_like(true, 0.5), plate, matte, normal, albedo)
    again, *_ = ball(found, checkered())
    solid = (matte > 0).expand_as(plate)
    assert float((again[solid] - plate[solid]).abs().mean() / plate[solid].mean()) < 0.05
    brighter = fitted(torch.full_like(true, 0.5), plate * 3, matte, normal, albedo)
    assert float(brighter.sum() / found.sum()) == pytest.approx(3, rel=0.1)


def test_what_no_normal_looks_at_is_left_as_inferred() -> None:
    true, guess = lamp(0.5, 0.5, 0.7), lamp(0.0, 0.2, -1.0)
    found = fitted(guess, *ball(true, checkered()))
    behind = directions(ROWS)[..., 2] < -0.8
    both = torch.stack([found[0, 0][behind], guess[0, 0][behind]])
    assert float(torch.corrcoef(both)[0, 1]) > 0.9
    assert float(both[0].min()) > 0.3 * float(both[1].min())


def test_too_little_to_tell_leaves_it() -> None:
    guess = lamp(0, 1, 0)
    nothing = torch.zeros(1, 3, 16, 16)
    assert fitted(guess, nothing, nothing[:, :1], nothing, nothing) is guess
    black = ball(lamp(0, 0, 1), torch.zeros(3, 64, 64))
    assert torch.isfinite(fitted(guess, *black)).all()
