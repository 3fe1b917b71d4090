"""Faces: found where they are and nowhere else, and their form in the normals."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from platelight.images.color import srgb_to_linear
from platelight.pipeline import face_form, faces
from platelight.pipeline.face_form import faces_in, with_faces
from platelight.pipeline.faces import Face, find_faces


@pytest.fixture(scope="module")
def portrait() -> faces.Picture:
    return (skimage.data.astronaut() / 255.0).astype(np.float32)


@pytest.fixture(scope="module")
def face(portrait: faces.Picture) -> Face:
    found = find_faces(portrait)
    assert len(found) == 1
    return found[0]


def test_the_astronaut_has_one_face(face: Face) -> None:
    eyes = face.points[[faces.RIGHT_CORNER, faces.LEFT_CORNER], :2]
    # Outer corners of her eyes, read off the photograph.
    np.testing.assert_allclose(eyes, [[193, 101], [259, 104]], atol=4)
    assert face.probability > 0.99


def test_a_mirrored_portrait_has_the_mirrored_face(portrait: faces.Picture, face: Face) -> None:
    (other,) = find_faces(np.ascontiguousarray(portrait[:, ::-1]))
    corners = other.points[[faces.LEFT_CORNER, faces.RIGHT_CORNER], :2]
    corners[:, 0] = portrait.shape[1] - corners[:, 0]
    np.testing.assert_allclose(corners, face.points[[faces.RIGHT_CORNER, faces.LEFT_CORNER], :2], atol=4)


@pytest.mark.parametrize("degrees", [-35, 25])
def test_a_head_that_is_tilted(portrait: faces.Picture, face: Face, degrees: float) -> None:
    turn = cv2.getRotationMatrix2D((222, 130), degrees, 1.0)
    (other,) = find_faces(np.asarray(cv2.warpAffine(portrait, turn, (512, 512)), np.float32))
    expected = face.points[:, :2] @ turn[:, :2].T + turn[:, 2]
    assert np.abs(other.points[:, :2] - expected).mean() < 0.03 * face.size


def test_faces_far_away_and_several(portrait: faces.Picture) -> None:
    wide = np.full((512, 1024, 3), 0.3, np.float32)
    small = np.asarray(
        cv2.resize(portrait[:300, 80:380], (200, 200), interpolation=cv2.INTER_AREA), np.float32
    )
    wide[40:240, 100:300], wide[200:400, 700:900] = small, small
    assert sorted(round(f.points[:, 0].mean() / 100) for f in find_faces(wide)) == [2, 8]


@pytest.mark.parametrize("name", ["coffee", "cat", "rocket", "brick"])
def test_things_and_animals_have_none(name: str) -> None:
    picture = getattr(skimage.data, name)() / 255.0
    picture = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, 2)
    assert find_faces(picture.astype(np.float32)) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (23, 40), (24, 24)])
def test_tiny_plates_have_none(shape: tuple[int, int]) -> None:
    assert find_faces(np.full((*shape, 3), 0.5, np.float32)) == []


def test_a_flat_field_gets_the_form_of_the_face(portrait: faces.Picture, face: Face) -> None:
    size = portrait.shape[:2]
    flat = torch.zeros(1, 3, *size)
    flat[:, 2] = 1
    made = with_faces(flat, torch.ones(1, 1, *size), [face])
    assert torch.allclose(made.norm(dim=1), torch.ones(1, *size), atol=1e-5)
    x, y = (face.points[[1, 33, 263, 152], k] for k in (0, 1))  # tip of the nose, corners of the eyes, chin
    reach = 0.07 * face.size

    def at(column: float, row: float) -> torch.Tensor:
        return made[0, :, round(row), round(column)]

    bridge = (y[1] + y[2]) / 2 + 0.5 * (y[0] - (y[1] + y[2]) / 2)
    assert at(x[0] - reach, bridge)[0] < -0.15 < 0.15 < at(x[0] + reach, bridge)[0]  # sides of the nose
    assert at(x[0], y[0] + 0.8 * reach)[1] < -0.2  # under the nose
    box = face.points[:, :2]
    outside = torch.ones(size, dtype=torch.bool)
    low, high = np.floor(box.min(0)).astype(int), np.ceil(box.max(0)).astype(int)
    outside[low[1] : high[1] + 1, low[0] : high[0] + 1] = False
    assert torch.equal(made[0][:, outside], flat[0][:, outside])


def test_a_doubtful_face_is_believed_by_degrees(portrait: faces.Picture, face: Face) -> None:
    """At a gate, normals of a face in motion blur would come and go from frame to frame."""
    blurred = cv2.blur(portrait, (23, 1))
    beliefs = []
    for seed in range(10):
        grain = np.random.default_rng(seed).normal(0, 0.01, portrait.shape)
        (found,) = find_faces(np.clip(blurred + grain, 0, 1).astype(np.float32))
        beliefs.append(found.belief)
    assert min(beliefs) > 0.7
    flat = torch.zeros(1, 3, *portrait.shape[:2])
    flat[:, 2] = 1
    cover = torch.ones(1, 1, *portrait.shape[:2])
    sure, enough, half, none = (
        with_faces(flat, cover, [Face(face.points, probability)]) for probability in (1.0, 0.98, 0.84, 0.7)
    )
    assert torch.equal(enough, sure)
    assert torch.equal(none, flat)
    assert 0.4 < float((half - flat).norm() / (sure - flat).norm()) < 0.6


def test_a_doubtful_face_gives_way_to_a_sure_one(portrait: faces.Picture) -> None:
    """In this picture one hint leads to a face of 0.92, twice as large as hers and about it."""
    grain = np.random.default_rng(0).normal(0, 0.01, portrait.shape)
    (found,) = find_faces(np.clip(cv2.blur(portrait, (21, 1)) + grain, 0, 1).astype(np.float32))
    assert found.probability > 0.98
    assert found.size < 130


def test_the_networks_detail_stays(portrait: faces.Picture, face: Face) -> None:
    """What is finer than the points' spacing is kept where the points decide the form."""
    size = portrait.shape[:2]
    waves = 0.3 * torch.sin(torch.arange(size[1]) * (2 * np.pi / 4.0)).expand(1, 1, *size)
    rough = torch.nn.functional.normalize(torch.cat([waves, 0 * waves, torch.ones_like(waves)], 1), dim=1)
    flat = torch.zeros_like(rough)
    flat[:, 2] = 1
    cover = torch.ones(1, 1, *size)
    change = with_faces(rough, cover, [face]) - with_faces(flat, cover, [face])
    x, y = (round(float(v)) for v in face.points[1, :2])
    kept = change[0, 0, y - 10 : y + 10, x - 10 : x + 10].std()
    assert kept > 0.8 * rough[0, 0].std()


def test_a_face_outside_the_matte_is_not_seen(portrait: faces.Picture) -> None:
    plate = torch.from_numpy(srgb_to_linear(portrait)).permute(2, 0, 1)[None]
    matte = torch.ones(1, 1, 512, 512)
    (seen,) = faces_in(plate, matte, (256, 256))
    assert 90 < seen.points[:, 0].mean() < 130
    matte[..., :300, :] = 0
    assert faces_in(plate, matte, (256, 256)) == []


def test_a_face_at_the_border_is_cut() -> None:
    """Points may lie outside of the picture."""
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.uniform(-60, 40, (468, 2)), rng.normal(size=(468, 1))], 1)
    shape = face_form.drawn(Face(points, 1.0), 50, 50)
    assert shape.normal.shape[:2] == shape.trust.shape
    away = face_form.drawn(Face(points - [300, 0, 0], 1.0), 50, 50)
    assert away.trust.size == 0
