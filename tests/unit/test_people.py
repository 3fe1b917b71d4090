"""Hair about a face and clothes below it are rough; skin, black things and pictures without faces stay as they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from platelight.pipeline.faces import OVAL, Face
from platelight.pipeline.people import CLOTH, HAIR, heads_in, with_hair_and_clothes
from torch import Tensor

SIDE = 128
SKIN, BROWN, BLACK = (0.5, 0.35, 0.28), (0.12, 0.08, 0.05), (0.03, 0.03, 0.03)


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


def test_hair_and_clothes_are_rough_and_skin_is_not() -> None:
    albedo, matte = head(BROWN)
    given = torch.full((1, 1, SIDE, SIDE), 0.4)
    found = with_hair_and_clothes(given, albedo, matte, heads_in(albedo, matte, [face()]))[0, 0]
    assert float(found[32, 64]) == pytest.approx(HAIR, abs=0.02)  # above
    assert float(found[55, 40]) == pytest.approx(HAIR, abs=0.02)  # beside
    assert float(found[50:80, 54:74].max()) == pytest.approx(0.4)  # skin
    assert float(found[110:].mean()) == pytest.approx(CLOTH, abs=0.02)  # clothes
    assert float(found.min()) >= 0.4 - 1e-6


def test_black_clothes_keep_their_gloss_and_black_hair_does_not() -> None:
    albedo, matte = head(BLACK)
    found = with_hair_and_clothes(
        torch.full((1, 1, SIDE, SIDE), 0.4), albedo, matte, heads_in(albedo, matte, [face()])
    )[0, 0]
    assert float(found[32, 64]) == pytest.approx(HAIR, abs=0.02)
    assert float(found[100:].max()) < 0.42


def test_a_face_of_another_color_in_front_of_clothes_is_no_cloth() -> None:
    albedo, matte = head(BROWN)
    other = face()
    other.points[:, :2] = (other.points[:, :2] - 64) * 0.6 + (64, 108)
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    dark = torch.from_numpy(np.hypot((x - 64) / 10.2, (y - 108) / 12) < 1)
    albedo[0][:, dark] = torch.tensor((0.2, 0.1, 0.06))[:, None]
    given = torch.full((1, 1, SIDE, SIDE), 0.4)
    alone = with_hair_and_clothes(given, albedo, matte, heads_in(albedo, matte, [face()]))[0, 0]
    both = with_hair_and_clothes(given, albedo, matte, heads_in(albedo, matte, [face(), other]))[0, 0]
    assert float(alone[108, 64]) > 0.6
    assert float(both[100:117, 58:70].max()) == pytest.approx(0.4)
    assert float(both[108, 20]) == pytest.approx(CLOTH, abs=0.02)


def test_hair_of_one_is_not_on_anothers_cheek() -> None:
    albedo, matte = head(BROWN)
    other = face()
    other.points[:, 0] += 34  # beside the first one's, where its hair would be
    given = torch.full((1, 1, SIDE, SIDE), 0.4)
    alone = with_hair_and_clothes(given, albedo, matte, heads_in(albedo, matte, [other]))[0, 0]
    both = with_hair_and_clothes(given, albedo, matte, heads_in(albedo, matte, [face(), other]))[0, 0]
    middle = (slice(60, 72), slice(90, 106))
    assert float(alone[middle].max()) == pytest.approx(0.4, abs=0.02)
    assert float(both[middle].max()) == pytest.approx(0.4, abs=0.02)


def test_a_doubtful_face_makes_rough_by_degrees_and_takes_nothing_from_others() -> None:
    albedo, matte = head(BROWN)
    given = torch.full((1, 1, SIDE, SIDE), 0.4)
    sure, enough, half, none = (
        with_hair_and_clothes(
            given, albedo, matte, heads_in(albedo, matte, [Face(face().points, probability)])
        )
        for probability in (1.0, 0.98, 0.84, 0.7)
    )
    assert torch.equal(enough, sure)
    torch.testing.assert_close(none, given)
    torch.testing.assert_close(half - given, (sure - given) / 2, atol=0.03, rtol=0)
    other = face()
    other.points[:, 0] += 34  # beside the first one's, where its hair is
    both = with_hair_and_clothes(
        given, albedo, matte, heads_in(albedo, matte, [face(), Face(other.points, 0.7)])
    )
    torch.testing.assert_close(both, sure)


def test_a_bald_head_and_rough_hair_stay() -> None:
    given = torch.full((1, 1, SIDE, SIDE), 0.4)
    albedo, matte = head(SKIN)
    torch.testing.assert_close(
        with_hair_and_clothes(given, albedo, matte, heads_in(albedo, matte, [face()])), given
    )
    albedo, matte = head(BROWN)
    rough = torch.full_like(given, 0.9)
    torch.testing.assert_close(
        with_hair_and_clothes(rough, albedo, matte, heads_in(albedo, matte, [face()])), rough
    )


def test_a_head_upside_down_has_its_hair_below() -> None:
    albedo, matte = head(BROWN)
    matte = torch.ones_like(matte)
    found = with_hair_and_clothes(
        torch.full((1, 1, SIDE, SIDE), 0.4), albedo, matte, heads_in(albedo, matte, [face(math.pi)])
    )[0, 0]
    assert float(found[94, 64]) > 0.72
    assert float(found[10, 64]) == pytest.approx(CLOTH, abs=0.02)  # below the chin


@pytest.mark.parametrize("shape", [(1, 1), (3, 200)])
def test_pictures_without_a_face_and_faces_outside_change_nothing(shape: tuple[int, int]) -> None:
    given, albedo = torch.full((1, 1, *shape), 0.4), torch.full((1, 3, *shape), 0.2)
    matte = torch.ones(1, 1, *shape)
    assert with_hair_and_clothes(given, albedo, matte, heads_in(albedo, matte, [])) is given
    torch.testing.assert_close(
        with_hair_and_clothes(given, albedo, matte, heads_in(albedo, matte, [face()])), given
    )
