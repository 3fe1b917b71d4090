"""Dressed, posed people of MakeHuman's body: true to their data, the same for a seed, and seen by the ray caster."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("trimesh", reason="the train extra is not installed")

from platelight.protocol.errors import InputError
from platelight.training.bodies import APART, EYES, Bodies, folder_of
from platelight.training.body_pose import turns
from platelight.training.light_stage_subjects import Casting, Family
from platelight.training.raycast import Kind, Mix, make_view, photograph, place
from platelight.training.subjects import Part

DATA = Path(__file__).parents[2] / ".venv" / "test-data" / "body_mpfb2"


@pytest.fixture(scope="module")
def bodies() -> Bodies:
    if not DATA.is_dir():
        pytest.skip("MakeHuman's body could not be had when the environment was set up")
    return Bodies(DATA)


def test_a_seed_gives_one_person_with_all_parts(bodies: Bodies) -> None:
    (one, shown), (same, _), (other, _) = (bodies.sample(np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(one.vertices, same.vertices)
    assert len(other.vertices) != len(one.vertices) or not np.allclose(other.vertices, one.vertices)
    assert {Part.SKIN, Part.CLOTH, Part.SCLERA, Part.IRIS, Part.TEETH} <= {
        Part(p) for p in np.unique(one.part)
    }
    assert np.isfinite(one.vertices).all()
    assert 10 < shown < 200  # centimeters
    assert np.allclose(np.linalg.norm(one.normals, axis=-1), 1, atol=1e-6)


def test_eyes_lie_where_paint_looks_for_them(bodies: Bodies) -> None:
    mesh, _ = bodies.sample(np.random.default_rng(8))
    eyes = mesh.rest[np.unique(mesh.faces[np.isin(mesh.part, (Part.SCLERA, Part.IRIS))])]
    left = eyes[eyes[:, 0] > 0].mean(0)
    assert np.abs(left - EYES - np.array([APART, 0, 0])).max() < 0.3


def test_bones_turn_and_do_not_stretch(bodies: Bodies) -> None:
    rng = np.random.default_rng(2)
    shaped = bodies._shape(rng)
    transforms = bodies._pose(shaped, rng)
    place_of = {b.name: (k, shaped[list(b.at)].mean(0)) for k, b in enumerate(bodies.bones)}

    def posed(name: str, by: str) -> np.ndarray:
        m = transforms[place_of[by][0]]
        return np.asarray(m[:3, :3] @ place_of[name][1] + m[:3, 3])

    assert np.abs(transforms[:, :3, :3] @ transforms[:, :3, :3].transpose(0, 2, 1) - np.eye(3)).max() < 1e-9
    for upper, lower in (("upperarm01.L", "lowerarm01.L"), ("upperleg01.R", "lowerleg01.R")):
        parent = next(b.parent for b in bodies.bones if b.name == lower)
        assert parent is not None
        assert np.allclose(posed(lower, parent), posed(lower, lower), atol=1e-9)  # joints stay joined
        moved = np.linalg.norm(posed(upper, upper) - posed(lower, lower))
        assert moved == pytest.approx(np.linalg.norm(place_of[upper][1] - place_of[lower][1]), rel=1e-9)


def test_fingers_curl_towards_the_palm(bodies: Bodies) -> None:
    place_of = {b.name: bodies.base[list(b.at)].mean(0) for b in bodies.bones}
    for seed in range(12):
        turned = turns(place_of, np.random.default_rng(seed))
        for side in ("L", "R"):
            way = place_of[f"finger3-3.{side}"] - place_of[f"finger3-2.{side}"]
            wrist = place_of[f"wrist.{side}"]
            back = np.cross(place_of[f"finger2-1.{side}"] - wrist, place_of[f"finger5-1.{side}"] - wrist)
            back = back if back[1] > 0 else -back
            before, after = way @ back, (turned[f"finger3-2.{side}"] @ way) @ back
            assert after <= before + 0.16 * np.linalg.norm(way) * np.linalg.norm(
                back
            )  # 8 degrees the other way at most


def test_a_person_is_photographed(bodies: Bodies) -> None:
    rng = np.random.default_rng(12)
    mesh, shown = bodies.sample(rng)
    view = photograph(*place(mesh, Kind.BODY, rng, shown), 64, rng)
    seen = view["part"] > 0
    assert seen.mean() > 0.1
    facing = view["normal"][seen].astype(np.float64)
    assert np.allclose(np.linalg.norm(facing, axis=-1), 1, atol=2e-3)
    assert (facing[:, 2] > -0.35).all()  # a camera sees what faces it, but for perspective and smooth shading


def test_a_person_is_cast_for_the_light_stage(bodies: Bodies) -> None:
    subject = Casting(DATA.parent).draw(91, 17, Family.BODY)
    assert subject.family is Family.BODY
    assert subject.mesh.vertices[:, 2].max() < 0  # in front of the camera
    assert any("CC0" in source for source in subject.sources)


def test_without_people_a_seed_gives_what_it_gave(bodies: Bodies) -> None:
    mix = Mix(heads=0.0, figurines=0.0, sculpts=0.0, hard=0.5)
    without = make_view(5, None, 32, mix)
    none = make_view(5, None, 32, Mix(heads=0.0, figurines=0.0, sculpts=0.0, hard=0.5, bodies=0.0), bodies)
    assert all(np.array_equal(without[name], none[name]) for name in without)
    person = make_view(5, None, 32, Mix(bodies=1.0), bodies)
    assert (person["part"] == Part.SKIN).any() or (person["part"] == Part.CLOTH).any()


def test_missing_data_is_named(bodies: Bodies, tmp_path: Path) -> None:
    broken = tmp_path / "body_mpfb2"
    shutil.copytree(DATA / "3dobjs", broken / "3dobjs")
    assert folder_of(tmp_path) == broken
    with pytest.raises(InputError, match=r"rig\.default\.json is missing"):
        Bodies(broken)
