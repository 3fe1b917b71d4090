"""What of a plate's own shading holds in another light: all of it in the same, less the more the light comes from elsewhere."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from platelight.models.networks import RenderNet
from platelight.pipeline import service
from platelight.pipeline.other_light import MOST, OWN, Change, change_of_light, own_detail
from platelight.pipeline.relight import REFINED
from platelight.pipeline.room import Large
from platelight.protocol.requests import Refine
from torch import Tensor
from torch.nn import functional as F

SIZE = 200
LEFT, RIGHT, FRONT = (-0.8, 0.2, 0.5), (0.8, 0.2, 0.5), (0.4, 0.3, 0.8)


def large(image: Tensor, bands: int = 1) -> Large:
    height = image.shape[-2]
    edges = [round(height * k / bands) for k in range(bands + 1)]
    return Large(lambda a, b: image[..., a:b, :], tuple(image.shape), list(pairwise(edges)))


def ball() -> tuple[Tensor, Tensor]:
    """Normals (1, 3, h, w) and matte (1, 1, h, w)."""
    c = (torch.arange(SIZE) + 0.5) / SIZE * 2.2 - 1.1
    y, x = torch.meshgrid(-c, c, indexing="ij")
    matte = (x * x + y * y < 1).float()[None, None]
    normal = torch.stack([x, y, (1 - x * x - y * y).clamp_min(0).sqrt()])[None]
    return torch.where(matte > 0, normal, torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1)), matte


def shaded(towards: tuple[float, float, float], bumps: Tensor | None = None) -> Tensor:
    """A ball (1, 3, h, w) under a lamp and a sky, its normals turned by ``bumps`` (1, 3, h, w)."""
    normal, matte = ball()
    if bumps is not None:
        normal = F.normalize(normal + bumps, dim=1)
    lamp = F.normalize(torch.tensor(towards), dim=0).view(1, 3, 1, 1)
    shading = 0.3 + (normal * lamp).sum(1, keepdim=True).clamp_min(0)
    return (shading * matte).expand(1, 3, -1, -1)


def change(before: Tensor, after: Tensor, bands: int = 1) -> Change:
    normal, matte = ball()
    paint = torch.full_like(before, 0.4)
    return change_of_light(
        *(large(x, bands) for x in (0.4 * before, paint, 0.4 * after, paint, normal, matte))
    )


def at_size(exponent: Tensor) -> Tensor:
    return F.interpolate(exponent, size=(SIZE, SIZE), mode="bilinear")


def test_all_holds_in_the_same_light_however_bright() -> None:
    found = change(shaded(FRONT), 3.0 * shaded(FRONT))
    inside = ball()[1] > 0
    torch.testing.assert_close(
        at_size(found.exponent)[inside], torch.ones(int(inside.sum())), atol=0.02, rtol=0
    )
    assert found.share == pytest.approx(OWN, rel=0.01)


def test_less_holds_the_farther_the_light_goes() -> None:
    near, far = (
        change(shaded(FRONT), shaded((0.1, 0.3, 0.9))),
        change(shaded(FRONT), shaded((-0.9, 0.2, 0.3))),
    )
    assert 0.3 * OWN < near.share < OWN
    assert far.share < 0.5 * near.share
    assert 0.0 <= float(far.exponent.min()) < 0.8
    assert float(far.exponent.max()) <= MOST


def test_relief_too_fine_for_normals_fades_where_the_light_comes_from_elsewhere() -> None:
    """What the exponent leaves of a plate's relief is nearer to that of the new light than all of it is."""
    bumps = 0.25 * torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(4))
    solid = F.avg_pool2d(ball()[1], 15, 1, 7) > 0.99

    def relief(towards: tuple[float, float, float]) -> Tensor:
        return torch.log(shaded(towards, bumps) / shaded(towards).clamp_min(1e-6)).nan_to_num()[:, :1]

    exponent = at_size(change(shaded(RIGHT), shaded(LEFT)).exponent)
    off = (exponent * relief(RIGHT) - relief(LEFT))[solid].square().mean()
    assert off < 0.8 * (relief(RIGHT) - relief(LEFT))[solid].square().mean()


@pytest.mark.parametrize("level", [0.0, 1e6])
def test_black_pictures_and_specks_tell_nothing(level: float) -> None:
    normal, matte = ball()
    image = torch.full((1, 3, SIZE, SIZE), level) * matte
    images = (image, image.clamp(0, 1), image * 0, image.clamp(0, 1), normal, matte)
    for some in (images, [x[..., :1, :1] for x in images], [x * 0 for x in images]):
        found = change_of_light(*map(large, some))
        assert torch.isfinite(found.exponent).all()
        assert 0.0 <= found.share <= OWN


def test_fine_detail_becomes_the_plates_and_broad_shading_stays_the_renders() -> None:
    matte = ball()[1]
    lines = 1 + 0.4 * torch.sin(torch.arange(SIZE) * 1.5).view(1, 1, 1, SIZE)
    plate, made = 0.4 * shaded(RIGHT) * lines, 0.4 * shaded(FRONT)
    told = own_detail(large(plate), large(made), large(matte), 1.0)(0, SIZE)
    solid = F.avg_pool2d(matte, 41, 1, 20) > 0.99
    fine = torch.log(lines).expand(1, 3, SIZE, SIZE)
    off = (told - (fine - fine.mean()))[solid.expand_as(told)]
    assert off.square().mean() < 0.05 * fine.var()
    half = own_detail(large(plate), large(made), large(matte), 0.5)(0, SIZE)
    torch.testing.assert_close(half, told / 2, atol=1e-5, rtol=1e-4)


def test_bands_leave_no_seam() -> None:
    matte = ball()[1]
    plate, made = shaded(RIGHT), shaded(FRONT)
    whole = own_detail(large(plate), large(made), large(matte), 0.7)(0, SIZE)
    banded = own_detail(large(plate, 4), large(made, 4), large(matte, 4), 0.7)
    parts = torch.cat([banded(a, a + 50) for a in range(0, SIZE, 50)], 2)
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        change(plate, made, 4).exponent, change(plate, made).exponent, atol=1e-4, rtol=1e-4
    )


def test_where_nothing_is_solid_nothing_of_the_old_light_comes_back() -> None:
    """A wire beside a ball is thinner than the raster: no broad shading of it is known, so all of it would be taken for detail."""
    matte = ball()[1].repeat(1, 1, 5, 5)
    matte[..., : 2 * SIZE, :] = 0
    matte[..., 300, :] = 1
    plate, made = torch.full((1, 3, 5 * SIZE, 5 * SIZE), 0.2), torch.full((1, 3, 5 * SIZE, 5 * SIZE), 0.6)
    told = own_detail(large(plate), large(made), large(matte), OWN)(0, 5 * SIZE)
    assert float(told[..., 300, :].abs().max()) < 0.05


@pytest.mark.parametrize("beyond", [0.0, 0.9])
def test_rims_are_not_darkened_by_what_lies_beyond_the_matte(beyond: float) -> None:
    matte = ball()[1]
    made = 0.4 * shaded(RIGHT)
    told = own_detail(large(torch.where(matte > 0, made, beyond)), large(made), large(matte), OWN)(0, SIZE)
    assert float(told[matte.expand_as(told) > 0].abs().max()) < 1e-4


def test_what_cannot_tell_is_not_taken_for_the_same_light() -> None:
    normal, matte = ball()
    wall = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1).expand_as(normal)
    image = 0.4 * shaded(RIGHT) + 0.1
    paint = torch.full_like(image, 0.4)
    hair = torch.zeros_like(matte)
    hair[..., ::8] = 0.3
    for way, cover in ((wall, torch.ones_like(matte)), (normal, hair)):
        images = (image, paint, image, paint, way, cover)
        assert change_of_light(*map(large, images)).share == 0.0


def test_the_refiner_keeps_a_part_of_the_render_and_the_plates_detail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a network that changes nothing, under the plate's own light and under one from the other side."""
    normal, matte = ball()
    solid = (F.avg_pool2d(matte, 31, 1, 15) > 0.99)[0, 0].numpy()
    lines = 1 + 0.3 * torch.sin(torch.arange(SIZE) * 1.5).view(1, 1, 1, SIZE)
    paint, lit, far = torch.full((1, 3, SIZE, SIZE), 0.4), 0.4 * shaded(RIGHT), 0.4 * shaded(LEFT)
    monkeypatch.setattr(RenderNet, "predict", lambda self, p, m, n, a, d, s: d + s)

    def planes(passed: Tensor) -> dict[str, np.ndarray]:
        given = {
            "foreground": lit * lines,
            "normal": normal,
            "albedo": paint,
            "diffuse": passed,
            "specular": 0 * passed,
        }
        return {"matte": matte[0, 0].numpy(), **{k: v[0].permute(1, 2, 0).numpy() for k, v in given.items()}}

    def stripes(passed: Tensor) -> float:
        """How much of the lines' contrast is in what comes out."""
        out = service.run_job(Refine(working_size=SIZE, backdrop="none"), planes(passed)).planes["relit"][
            ..., 1
        ]
        seen = np.log(np.maximum(out, 1e-4) / passed[0, 1].numpy().clip(1e-4))[solid]
        wave = np.log(lines.expand(1, 1, SIZE, SIZE)[0, 0].numpy())[solid]
        return float(np.cov(seen, wave)[0, 1] / wave.var())

    assert stripes(lit) == pytest.approx(OWN * REFINED, abs=0.12)
    assert abs(stripes(far)) < 0.15

    def refined() -> np.ndarray:
        return service.run_job(Refine(working_size=SIZE, backdrop="none"), planes(far)).planes["relit"][
            ..., 1
        ]

    same = refined()
    monkeypatch.setattr(
        RenderNet, "predict", lambda self, p, m, n, a, d, s: (d + s) * torch.exp(0.5 * n[:, :1])
    )
    told = np.log(refined()[solid] / same[solid])
    slope = np.polyfit(normal[0, 0].numpy()[solid], told, 1)[0]
    assert slope == pytest.approx(0.5 * REFINED, abs=0.08)
