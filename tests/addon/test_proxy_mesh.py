"""The shadow proxy's mesh, without Blender."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def proxy_mesh(addon: Callable[[str], Any]) -> Any:
    return addon("proxy_mesh")


def ball(size: int = 96, fov: float = 40.0) -> tuple[np.ndarray, np.ndarray]:
    tangent = math.tan(math.radians(fov) / 2)
    places = ((np.arange(size) + 0.5) / size * 2 - 1) * tangent
    x, y = np.meshgrid(places, -places)
    a = x * x + y * y + 1.0
    q = 16.0 - 15.0 * a
    return ((4.0 - np.sqrt(np.maximum(q, 0))) / a).astype(np.float32), (q > 0).astype(np.float32)


def test_the_mesh_is_closed_and_faces_outward(proxy_mesh: Any) -> None:
    depth, matte = ball()
    points, quads, places = proxy_mesh.proxy_mesh(depth, matte, 40.0, long_side=48)
    edges = np.concatenate([quads[:, [k, (k + 1) % 4]] for k in range(4)])
    pairs = {tuple(edge) for edge in edges.tolist()}
    assert len(pairs) == len(edges)
    assert all((b, a) in pairs for a, b in pairs)
    a, b, c, d = (points[quads[:, k]].astype(float) for k in range(4))
    volume = (np.einsum("ij,ij->i", a, np.cross(b, c)) + np.einsum("ij,ij->i", a, np.cross(c, d))).sum() / 6
    assert 1.0 < volume < 4.5  # a unit ball has 4.19; the unseen rim is missing
    assert places.min() > 0.0
    assert places.max() < 1.0


def test_relief_and_roundness(proxy_mesh: Any) -> None:
    depth, matte = ball()
    flat, _, _ = proxy_mesh.proxy_mesh(depth, matte, 40.0, relief=0.0, roundness=0.0)
    round_, _, _ = proxy_mesh.proxy_mesh(depth, matte, 40.0)
    assert np.ptp(flat[:, 2]) < 0.1 * np.ptp(round_[:, 2])


def test_an_empty_matte_is_a_sentence(proxy_mesh: Any) -> None:
    depth, matte = ball()
    with pytest.raises(proxy_mesh.InputError, match="matte"):
        proxy_mesh.proxy_mesh(depth, matte * 0, 40.0)
    matte[:] = 0
    matte[40, 40] = 1.0
    with pytest.raises(proxy_mesh.InputError, match="too small"):
        proxy_mesh.proxy_mesh(depth, matte, 40.0)
