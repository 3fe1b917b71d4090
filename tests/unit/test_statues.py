"""People of stone, reliefs, rocks and draped cloth, from seeds alone."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("trimesh")
pytest.importorskip("embreex")

import trimesh
from platelight.training.raycast import Kind, Mix, make_view, photograph, place
from platelight.training.statues import ROUGH, statue
from platelight.training.subjects import Mesh, Part, build


def person() -> Mesh:
    """A ball of skin with hair on its upper half, in centimeters."""
    ball = trimesh.creation.icosphere(4)
    points, faces = np.asarray(ball.vertices) * 12.0, np.asarray(ball.faces)
    part = np.where(points[faces].mean(1)[:, 1] > 3, int(Part.HAIR), int(Part.SKIN))
    return build(points, faces, part)


def sound(mesh: Mesh) -> None:
    assert np.isfinite(mesh.vertices).all()
    assert mesh.faces.max() < len(mesh.vertices) == len(mesh.rest)
    assert len(mesh.faces) == len(mesh.normals) == len(mesh.part)
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=-1), 1.0, atol=1e-6)


def test_statues_are_of_one_or_two_stuffs_and_some_are_reliefs() -> None:
    reliefs, stuffs = 0, set()
    for seed in range(24):
        made, flattened = statue(person(), 15.0, np.random.default_rng(seed))
        sound(made)
        kinds = set(np.unique(made.part).tolist())
        assert kinds <= {int(Part.OBJECT_A), int(Part.OBJECT_B)}
        stuffs.add(len(kinds))
        reliefs += flattened
        size = np.linalg.norm(made.vertices, axis=1).max()
        assert size < 2.0 if flattened else 8.0 < size < 30.0
    assert 2 <= reliefs <= 16
    assert stuffs == {1, 2}


@pytest.mark.parametrize("make", ROUGH)
def test_rough_things_are_sound_unlike_and_made_again_from_their_seed(make: object) -> None:
    assert callable(make)
    first, again, other = (make(np.random.default_rng(seed)) for seed in (1, 1, 2))
    sound(first)
    np.testing.assert_array_equal(first.vertices, again.vertices)
    assert first.vertices.shape != other.vertices.shape or not np.allclose(first.vertices, other.vertices)
    view = photograph(*place(first, Kind.OBJECT, np.random.default_rng(0)), 48, np.random.default_rng(0))
    seen = view["part"] > 0
    assert 0.05 < seen.mean() < 0.95
    assert (view["normal"][seen][:, 2] > -0.2).mean() > 0.9  # what is seen faces the camera


def test_a_share_of_views_is_rough_and_without_it_seeds_give_what_they_gave() -> None:
    plain = Mix(heads=0.0, figurines=0.0, sculpts=0.0, hard=1.0)
    rough = Mix(heads=0.0, figurines=0.0, sculpts=0.0, hard=1.0, rough=0.5)
    same = [
        np.array_equal(make_view(seed, None, 32, plain)["normal"], make_view(seed, None, 32, rough)["normal"])
        for seed in range(0, 32, 2)
    ]
    assert 3 <= sum(same) <= 13
