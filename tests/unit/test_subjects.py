"""Subjects that are made from seeds: sound meshes, each another."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("trimesh", reason="needs platelight[train]")
pytest.importorskip("embreex", reason="needs platelight[train]")

from platelight.training.figurines import figurine, smooth_minimum
from platelight.training.sculpts import carved_box, cup, paper, plaque, pouch
from platelight.training.subjects import Mesh, objects


def test_subjects_are_closed_enough_to_light() -> None:
    for seed in range(4):
        mesh = objects(np.random.default_rng(seed), hard=seed % 2 == 0)
        assert np.isfinite(mesh.vertices).all()
        assert len(mesh.part) == len(mesh.faces) == len(mesh.normals)
    toy = figurine(np.random.default_rng(1))
    outward = np.einsum(
        "fi,fi->f", toy.vertices[toy.faces].mean(1) - toy.vertices.mean(0), toy.normals.mean(1)
    )
    assert outward.mean() > 0


@pytest.mark.parametrize("maker", [carved_box, cup, paper, plaque, pouch])
def test_sculpts_are_sound_meshes_that_differ_by_seed(maker: Callable[[np.random.Generator], Mesh]) -> None:
    first, again, other = (maker(np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first.vertices, again.vertices)
    assert first.vertices.shape != other.vertices.shape or not np.allclose(first.vertices, other.vertices)
    for mesh in (first, other):
        assert np.isfinite(mesh.vertices).all()
        assert np.abs(mesh.vertices).max() < 4
        np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=-1), 1.0, atol=1e-6)
        assert len(mesh.part) == len(mesh.faces) == len(mesh.normals) > 1000


def test_paper_is_made_of_flat_facets() -> None:
    mesh = paper(np.random.default_rng(0))
    directions = np.unique(np.round(mesh.normals[:, 0], 2), axis=0, return_counts=True)[1]
    assert np.sort(directions)[::-1][:25].sum() > 0.6 * len(mesh.faces)


def test_smooth_minimum_is_the_minimum_away_from_the_seam() -> None:
    a, b = np.array([-1.0, 2.0, 0.0]), np.array([1.0, -2.0, 0.0])
    np.testing.assert_allclose(smooth_minimum(a, b, 0.2), [-1.0, -2.0, -0.05])
