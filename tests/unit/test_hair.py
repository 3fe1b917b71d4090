"""Hair against skin: as dark as the plate shows it where both face the same way, whatever the networks took it for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from platelight.models.networks import FLOOR
from platelight.pipeline.faces import OVAL, Face
from platelight.pipeline.hair import SHINE, darkened_hair, dulled_hair
from platelight.pipeline.people import heads_in
from torch import Tensor
from torch.nn import functional as F

SIDE = 128
SKIN = 0.4


def face(probability: float = 1.0) -> Face:
    """An outline of 40 x 48 pixels low on a ball of a head, its forehead up."""
    points = np.zeros((468, 3))
    for number, point in enumerate(OVAL):  # from the forehead clockwise
        angle = 2 * math.pi * number / len(OVAL)
        points[point, :2] = 64 + 20 * math.sin(angle), 72 - 24 * math.cos(angle)
    return Face(points, probability)


def head(hair: float, lamp: tuple[float, float, float]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Plate, matte, normals of a ball with a face of skin and ``hair`` about it under a lamp, and where the hair is."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    right, up = (x - 64) / 46, (60 - y) / 46
    inside = np.hypot(right, up) < 1
    normal = np.stack([right, up, np.sqrt(np.maximum(1 - right**2 - up**2, 0.0))])
    normal = np.where(inside, normal, np.array([0.0, 0, 1])[:, None, None])
    light = np.array(lamp) / np.linalg.norm(lamp)
    shading = 0.3 + np.maximum(np.tensordot(light, normal, 1), 0)
    skin = np.hypot((x - 64) / 20, (y - 72) / 24) < 1
    plate = np.where(skin, SKIN, hair) * shading * inside
    hairy = inside & ~skin & (y < 60)
    planes = (np.repeat(plate[None], 3, 0), inside[None].astype(np.float64), normal, hairy[None])
    first, second, third, fourth = (torch.from_numpy(one).float()[None] for one in planes)
    return first, second, F.normalize(third, dim=1), fourth


def told(hair: float, network: float, lamp: tuple[float, float, float], probability: float = 1.0) -> float:
    """The albedo of hair above the forehead over skin's, where a network said ``network`` for the hair."""
    plate, matte, normal, hairy = head(hair, lamp)
    shown = torch.where(hairy > 0, torch.tensor(network), torch.tensor(SKIN))
    reflectance = torch.log(shown.expand_as(plate)) - torch.log(plate + FLOOR)
    found = darkened_hair(reflectance, plate, matte, normal, [face(probability)])
    albedo = torch.exp(found) * (plate + FLOOR)
    torch.testing.assert_close(
        albedo[..., 62:82, 56:72], torch.full((1, 3, 20, 16), SKIN), rtol=1e-3, atol=0.0
    )
    return float(albedo[0, 0, 30:40, 54:74].median()) / SKIN


@pytest.mark.parametrize("lamp", [(0.0, 0.2, 1.0), (0.7, 0.3, 0.6), (-0.5, 0.7, 0.5)])
@pytest.mark.parametrize("hair", [0.08, 0.12, 0.2])
def test_hair_is_nearly_as_dark_as_it_is_shown(hair: float, lamp: tuple[float, float, float]) -> None:
    """Nearly: hair faces farther away from the lamp than any skin does, and shade is taken for light rather than for paint."""
    found = told(hair, network=0.3, lamp=lamp)
    assert 0.9 * hair / SKIN < found
    assert math.log(found * SKIN / hair) < 0.65 * math.log(0.3 / hair)


def test_what_is_not_darker_than_it_was_told_stays() -> None:
    assert told(0.1, network=0.1, lamp=(0.0, 0.2, 1.0)) == pytest.approx(0.1 / SKIN, rel=0.1)
    assert told(0.6, network=0.5, lamp=(0.0, 0.2, 1.0)) == pytest.approx(0.5 / SKIN, rel=0.02)


def test_a_face_in_doubt_changes_less_and_none_nothing() -> None:
    sure, doubted = (told(0.08, 0.3, (0.0, 0.2, 1.0), belief) for belief in (1.0, 0.8))
    assert sure < 0.8 * doubted < 0.3 / SKIN
    plate, matte, normal, _ = head(0.1, (0.0, 0.2, 1.0))
    reflectance = torch.zeros_like(plate)
    assert darkened_hair(reflectance, plate, matte, normal, []) is reflectance


@pytest.mark.parametrize("paint", [(0.2, 0.1, 0.04), (0.05, 0.1, 0.4), (0.3, 0.3, 0.3)])
def test_color_alone_is_no_level(paint: tuple[float, float, float]) -> None:
    """Hair whose albedo is told right stays, whatever its color and that of skin."""
    plate, matte, normal, hairy = head(1.0, (0.0, 0.2, 1.0))
    shading = torch.where(hairy > 0, plate, plate / SKIN)
    skin = torch.tensor((0.42, 0.24, 0.17)).view(1, 3, 1, 1)
    albedo = torch.where(hairy > 0, torch.tensor(paint).view(1, 3, 1, 1), skin).expand_as(plate)
    lit = albedo * shading
    reflectance = torch.log(albedo) - torch.log(lit + FLOOR)
    found = darkened_hair(reflectance, lit, matte, normal, [face()])
    assert float((found - reflectance)[0, 0, 30:40, 54:74].mean()) > -0.15


def test_anothers_face_is_no_hair() -> None:
    plate, matte, normal, _ = head(0.12, (0.0, 0.2, 1.0))
    other = Face(
        face().points * [0.4, 0.4, 0.4] + [38.0, 6.0, 0.0], 1.0
    )  # a small one above, as dark as the hair
    reflectance = torch.log(torch.full_like(plate, 0.3)) - torch.log(plate + FLOOR)
    found = darkened_hair(reflectance, plate, matte, normal, [face(), other])
    middle = (..., slice(32, 38), slice(60, 67))
    torch.testing.assert_close(found[middle], reflectance[middle], atol=0.1, rtol=0)
    assert float((found - reflectance)[..., 38:42, 52:56].mean()) < -0.8


def test_a_blinding_spot_is_survived_and_black_stays() -> None:
    plate, matte, normal, hairy = head(0.08, (0.0, 0.2, 1.0))
    shown = torch.where(hairy > 0, torch.tensor(0.3), torch.tensor(SKIN))
    reflectance = torch.log(shown.expand_as(plate)) - torch.log(plate + FLOOR)
    spotted = plate.clone()
    spotted[..., 34:36, 60:62] = 1e6
    found = darkened_hair(reflectance, spotted, matte, normal, [face()])
    assert torch.isfinite(found).all()
    assert float((found - reflectance)[..., 30:40, 70:74].mean()) < -0.5
    black = torch.zeros_like(plate)
    assert torch.isfinite(darkened_hair(reflectance, black, matte, normal, [face()])).all()


def test_hair_shines_less_and_skin_as_before() -> None:
    plate, matte, _, hairy = head(0.1, (0.0, 0.2, 1.0))
    albedo = torch.where(hairy > 0, torch.tensor(0.05), torch.tensor(SKIN)).expand_as(plate)
    f0 = torch.full_like(matte, 0.04)
    found = dulled_hair(f0, matte, heads_in(albedo, matte, [face()]))
    assert float(found[0, 0, 36, 64]) == pytest.approx(0.04 * SHINE, rel=0.05)
    torch.testing.assert_close(found[..., 62:82, 56:72], f0[..., 62:82, 56:72])
    assert dulled_hair(f0, matte, []) is f0
