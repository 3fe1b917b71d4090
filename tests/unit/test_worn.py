"""Glasses and hats, and the table of what is hard: on a plain head, without Blender."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from platelight.training import weak_spots
from platelight.training.light_stage_reader import as_subject
from platelight.training.subjects import Mesh, Part, build, join
from platelight.training.worn import Worn, glasses, hat, put_on
from stage_balls import ball

EYES = ((-3.0, 3.5, 8.0), (3.0, 3.5, 8.0))


@pytest.fixture
def head() -> Mesh:
    """An egg of 10 x 13 x 11 cm half-widths with eyes and a cap of hair."""
    m = trimesh.creation.icosphere(4)
    v = np.asarray(m.vertices)
    egg = build(v * (8.0, 12.0, 9.5), m.faces, int(Part.SKIN))
    eyes = [build(np.asarray(m.vertices) * 1.2 + at, m.faces, int(Part.SCLERA)) for at in EYES]
    up = m.faces[v[m.faces].mean(1)[:, 1] > 0.3]
    return join([egg, *eyes, build(v * (8.6, 12.6, 10.1), up, int(Part.HAIR))])


def outward(mesh: Mesh) -> float:
    """Share of faces whose shading normal looks away from the vertical axis or up."""
    middle = mesh.vertices[mesh.faces].mean(1)
    away = middle * (1, 0, 1)
    return float(((away * mesh.normals.mean(1)).sum(1) > 0).mean())


@pytest.mark.parametrize("seed", range(6))
def test_a_hat_encloses_the_head_and_takes_its_hair(head: Mesh, seed: int) -> None:
    rng = np.random.default_rng(seed)
    crown = hat(head, rng)
    assert crown.vertices[:, 1].max() > 12.0
    assert np.isfinite(crown.normals).all()
    above = crown.vertices[:, 1] > 9.0
    assert outward(replace(crown, faces=crown.faces[above[crown.faces].all(1)],
                           normals=crown.normals[above[crown.faces].all(1)])) > 0.95  # fmt: skip
    dressed = put_on(head, Worn.HAT, np.random.default_rng(seed))
    hair = dressed.vertices[dressed.faces[dressed.part == int(Part.HAIR)]]
    brim = 3.5 + 0.42 * (12.0 - 3.5)
    assert hair[..., 1].max() <= brim
    solid = trimesh.Trimesh(crown.vertices, crown.faces, process=False)
    inside = head.vertices[(head.vertices[:, 1] > brim + 0.5) & (np.abs(head.vertices[:, 0]) < 8.01)]
    rays = np.tile([0.0, 1.0, 0.0], (len(inside), 1))
    assert solid.ray.intersects_any(inside, rays).mean() > 0.8  # the crown is over them


@pytest.mark.parametrize("dark", [False, True])
def test_glasses_sit_before_the_eyes(head: Mesh, dark: bool) -> None:
    made = glasses(head, dark, np.random.default_rng(3))
    assert made.vertices[:, 2].max() > 8.0 + 1.2  # before the eyeballs
    assert made.vertices[:, 2].min() < 0.0  # and back to the ears
    assert abs(float(made.vertices[:, 0].min() + made.vertices[:, 0].max())) < 0.3
    lens = made.part == int(Part.IRIS)
    assert lens.any() == dark
    if dark:
        assert (made.normals[lens][..., 2] > 0).all()  # lenses face forward
    before = trimesh.Trimesh(made.vertices, made.faces, process=False)
    seen = before.ray.intersects_any(np.array(EYES), np.tile([0.0, 0.0, 1.0], (2, 1)))
    assert seen.all() == dark  # one looks through clear ones


def test_nothing_is_put_on_what_has_no_eyes(head: Mesh) -> None:
    blind = replace(head, part=np.full_like(head.part, int(Part.SKIN)))
    rng = np.random.default_rng(1)
    assert put_on(blind, Worn.SUNGLASSES, rng) is blind
    assert put_on(head, Worn.NOTHING, rng) is head


def test_what_differs_from_the_bare_head_is_the_thing() -> None:
    bare = as_subject(ball(3))
    normal = bare.normal.clone()
    normal[:, :, :5] = normal[:, :, :5].flip(0)
    thing = weak_spots.changed(replace(bare, normal=normal), bare)
    assert thing.any()
    assert not thing[:, 5:].any()
    assert not weak_spots.changed(bare, bare).any()


def test_the_table_tells_means_and_where_the_thing_was_seen() -> None:
    rows = {
        ("hat", "sun"): [
            weak_spots.Errors(20.0, 30.0, 0.2, 0.1),
            weak_spots.Errors(30.0, math.nan, 0.4, 0.3),
        ]
    }
    assert weak_spots.table(rows).splitlines()[-1] == "| hat | sun | 2 | 25.0° | 30.0° in 1 | 0.30 | 0.20 |"
