"""The cavity map: creases stay, cast shadows and glints of the plate's own light do not, and relighting makes use of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from platelight.models.cavity import cavity
from platelight.models.networks import FLOOR
from platelight.pipeline import service
from platelight.protocol.errors import InputError
from platelight.protocol.requests import Relight
from torch import Tensor

SIZE = 200


def ball() -> tuple[Tensor, Tensor, Tensor]:
    """Normals (1, 3, h, w) and matte (1, 1, h, w) of a ball, and its shading (h, w) under a lamp and a dim sky."""
    c = (torch.arange(SIZE) + 0.5) / SIZE * 2.2 - 1.1
    y, x = torch.meshgrid(-c, c, indexing="ij")
    z = (1 - x * x - y * y).clamp_min(0).sqrt()
    normal = torch.stack([x, y, z])[None]
    matte = (x * x + y * y < 1).float()[None, None]
    normal = torch.where(matte > 0, normal, torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1))
    shading = 0.2 + (0.4 * x + 0.5 * y + 0.76 * z).clamp_min(0)
    return normal, matte, shading


def found(dimmed: Tensor, albedo: float = 0.4) -> np.ndarray:
    """The cavity map of a ball of one paint whose shading is multiplied by ``dimmed`` (h, w)."""
    normal, matte, shading = ball()
    plate = (albedo * shading * dimmed)[None, None].expand(1, 3, -1, -1) * matte
    reflectance = torch.log(torch.full_like(plate, albedo)) - torch.log(plate + FLOOR)
    return torch.exp(cavity(reflectance, plate, matte, normal))[0, 0].numpy()


def test_nothing_to_add_to_what_the_normals_explain() -> None:
    inside = ball()[1][0, 0].numpy() > 0
    near = found(torch.ones(SIZE, SIZE))[inside]
    assert np.median(np.abs(near - 1)) < 0.03
    assert np.abs(np.log(near)).mean() < 0.06


def test_creases_stay() -> None:
    lines = torch.ones(SIZE, SIZE)
    lines[96:100, 50:150] = 0.6
    map_ = found(lines)
    assert map_[97:99, 60:140].mean() == pytest.approx(0.6, abs=0.06)
    assert map_[80:86, 60:140].mean() == pytest.approx(1.0, abs=0.08)


def test_a_broad_shadow_is_left_out() -> None:
    """On a wall, where no normal explains it."""
    shadow = torch.ones(1, 1, SIZE, SIZE)
    shadow[..., :100] = 0.5
    plate = 0.4 * shadow.expand(1, 3, -1, -1)
    reflectance = torch.full_like(plate, 0.4).log() - torch.log(plate + FLOOR)
    normal = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1).expand(1, 3, SIZE, SIZE)
    map_ = torch.exp(cavity(reflectance, plate, torch.ones_like(shadow), normal))[0, 0].numpy()
    assert map_[:, 30:50].mean() == pytest.approx(1.0, abs=0.05)
    assert map_[:, 150:170].mean() == pytest.approx(1.0, abs=0.05)


def test_glints_are_bounded() -> None:
    glint = torch.ones(SIZE, SIZE)
    glint[60:66, 110:116] = 8.0
    assert found(glint)[60:66, 110:116].max() <= np.exp(0.5) + 1e-3


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (300, 2)])
def test_any_size(size: tuple[int, int]) -> None:
    one = torch.ones(1, 1, *size)
    normal = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1).expand(1, 3, *size)
    map_ = cavity(one.expand(1, 3, -1, -1), 0.3 * one.expand(1, 3, -1, -1), one, normal)
    assert map_.shape == (1, 1, *size)
    assert torch.isfinite(map_).all()


def test_relighting_multiplies_the_albedo_by_it() -> None:
    height, width = 24, 32
    random = np.random.default_rng(3)

    def field(low: float, high: float, *channels: int) -> np.ndarray:
        return random.uniform(low, high, (height, width, *channels)).astype(np.float32)

    normal = field(-0.3, 0.3, 3) + np.array([0, 0, 1], np.float32)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    albedo, deep = field(0.2, 0.9, 3), field(0.4, 1.3)
    planes = {
        "foreground": albedo, "matte": np.ones((height, width), np.float32), "normal": normal, "albedo": albedo,
        "roughness": field(0.3, 0.8), "reflectivity": field(0.03, 0.05), "light": field(0.1, 2, 3)[:16, :32],
    }  # fmt: skip
    request = Relight(pbr_only=True)
    lit = service.run_job(request, {**planes, "cavity": deep}).planes["pbr"]
    painted = np.clip(albedo * deep[..., None], 0, 1)
    np.testing.assert_allclose(
        lit, service.run_job(request, {**planes, "albedo": painted}).planes["pbr"], rtol=1e-5
    )
    # maps of earlier versions have none
    plain = service.run_job(request, {**planes, "cavity": np.ones_like(deep)}).planes["pbr"]
    np.testing.assert_allclose(service.run_job(request, planes).planes["pbr"], plain, rtol=1e-5)


def test_a_cavity_map_of_another_size_is_refused() -> None:
    one = np.ones((4, 6), np.float32)
    color = np.ones((4, 6, 3), np.float32)
    planes = {
        "foreground": color, "matte": one, "normal": color, "albedo": color, "roughness": one, "reflectivity": one,
        "light": np.ones((4, 8, 3), np.float32), "cavity": one[:2],
    }  # fmt: skip
    with pytest.raises(InputError, match="cavity has another size"):
        service.run_job(Relight(pbr_only=True), planes)
