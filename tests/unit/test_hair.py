"""Hair about a face is rough; skin, what lies below, and pictures without faces stay as they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from platelight.pipeline.faces import OVAL, Face
from platelight.pipeline.hair import ROUGHNESS, with_hair
from torch import Tensor

SIDE = 128
SKIN, BROWN = (0.5, 0.35, 0.28), (0.12, 0.08, 0.05)


def face(tilt: float = 0.0) -> Face:
    """An outline about the middle of the picture, 40 pixels high, its forehead up, turned by ``tilt`` radians."""
    points = np.zeros((468, 3))
    for number, point in enumerate(OVAL):  # from the forehead clockwise
        angle = 2 * math.pi * number / len(OVAL) + tilt
        points[point, :2] = 64 + 17 * math.sin(angle), 64 - 20 * math.cos(angle)
    return Face(points, 1.0)


def head(hair: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
    """Albedo and matte: a ball of hair behind a face, and a neck and a shirt of the same color as the hair."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    albedo = np.broadcast_to(np.array(hair, np.float32), (SIDE, SIDE, 3)).copy()
    albedo[np.hypot((x - 64) / 17, (y - 64) / 20) < 1] = SKIN
    matte = (np.hypot(x - 64, y - 58) < 34) | (y > 90)
    return torch.from_numpy(albedo).permute(2, 0, 1)[None], torch.from_numpy(
        matte[None, None].astype(np.float32)
    )


def test_hair_above_and_beside_is_rough_and_skin_and_clothes_are_not() -> None:
    albedo, matte = head(BROWN)
    given = torch.full((1, 1, SIDE, SIDE), 0.4)
    found = with_hair(given, albedo, matte, [face()])[0, 0]
    assert float(found[32, 64]) == pytest.approx(ROUGHNESS, abs=0.02)  # above
    assert float(found[55, 40]) == pytest.approx(ROUGHNESS, abs=0.02)  # beside
    assert float(found[50:80, 54:74].max()) == pytest.approx(0.4)  # skin
    assert float(found[95:].max()) < 0.42  # clothes
    assert float(found.min()) >= 0.4 - 1e-6


def test_a_bald_head_and_rough_hair_stay() -> None:
    given = torch.full((1, 1, SIDE, SIDE), 0.4)
    albedo, matte = head(SKIN)
    torch.testing.assert_close(with_hair(given, albedo, matte, [face()]), given)
    albedo, matte = head(BROWN)
    rough = torch.full_like(given, 0.9)
    torch.testing.assert_close(with_hair(rough, albedo, matte, [face()]), rough)


def test_a_head_upside_down_has_its_hair_below() -> None:
    albedo, matte = head(BROWN)
    matte = torch.ones_like(matte)
    found = with_hair(torch.full((1, 1, SIDE, SIDE), 0.4), albedo, matte, [face(math.pi)])[0, 0]
    assert float(found[94, 64]) > 0.7
    assert float(found[34, 64]) < 0.42


@pytest.mark.parametrize("shape", [(1, 1), (3, 200)])
def test_pictures_without_a_face_and_faces_outside_change_nothing(shape: tuple[int, int]) -> None:
    given, albedo = torch.full((1, 1, *shape), 0.4), torch.full((1, 3, *shape), 0.2)
    matte = torch.ones(1, 1, *shape)
    assert with_hair(given, albedo, matte, []) is given
    torch.testing.assert_close(with_hair(given, albedo, matte, [face()]), given)
