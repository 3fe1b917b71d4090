"""The instant preview by the backend: what comes back is its physical render, the newest wish wins, nothing waits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from carried import carried_light

pytestmark = pytest.mark.blender
FOV, BASE, ROUGH = 40.0, (0.5, 0.4, 0.3), 0.45  # of scripts/live.py


def expected(light: str, turn: float, gain: float, size: int) -> np.ndarray:
    """The physical render of the sphere at a size, (H, W, 3), as the backend gives it, and where it is solid."""
    import torch
    from platelight.pipeline.relight import physical
    from platelight.shading import environment

    normal = torch.from_numpy(sphere(size)).permute(2, 0, 1)[None]
    one = torch.ones(1, 1, size, size)
    maps = {
        "normal": normal,
        "albedo": torch.tensor(BASE)[None, :, None, None] * one,
        "roughness": ROUGH * one,
        "reflectivity": 0.04 * one,
    }
    passes = physical(maps, environment.resize(carried_light(light), 256) * gain, FOV, turn)
    return np.asarray((passes[0] + passes[1])[0].permute(1, 2, 0).numpy())


def sphere(size: int) -> np.ndarray:
    """Its normals at a size, as ``blender_kit.sphere_maps`` has them."""
    tangent = np.tan(np.radians(FOV) / 2)
    places = ((np.arange(size) + 0.5) / size * 2 - 1) * tangent
    x, y = np.meshgrid(places, -places)
    ray = np.stack([x, y, -np.ones_like(x)], -1)
    a, b = (ray * ray).sum(-1), -4.0 * ray[..., 2]
    q = np.maximum(b * b - 15.0 * a, 0.0)
    normal = ray * ((b - np.sqrt(q)) / a)[..., None] + np.array([0.0, 0.0, 4.0])
    return (normal / np.linalg.norm(normal, axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_the_backend_draws_the_instant_preview(
    run_blender: Callable[..., Any], backend_program: Callable[..., str], tmp_path: Path
) -> None:
    own = {"PLATELIGHT_BACKEND": backend_program(), "PLATELIGHT_CACHE_DIR": str(tmp_path / "cache")}
    out = run_blender("live.py", environment=own)
    assert (out["card needs a window"], out["needs maps"]) == (True, True)
    assert (out["switched on"], out["switched off"]) == (["FINISHED"], ["FINISHED"])
    first, turned, stronger, city = out["drawn"]
    assert first == 1
    assert 1 <= turned - first <= 40
    assert (stronger - turned, city - stronger) == (1, 1)
    assert out["nothing changed"]
    assert out["longest"] < 0.05
    assert "gone.exr is not a file" in out["gone"]
    assert out["killed"], "nothing was said of a server that is gone"
    assert out["started anew"]
    assert (out["images left"], out["threads left"]) == ([], [])
    with np.load(tmp_path / "live.npz") as stored:
        seen: dict[str, np.ndarray] = {name: stored[name] for name in stored.files}
    gain = 2.0**0.5
    assert seen["first"].shape == (400, 400, 4)
    solid = seen["first"][..., 3] > 0.999
    for name, light, turn, factor in (
        ("first", "forest", 70.0, 1.5 * gain),
        ("turned", "forest", -110.0, 1.5 * gain),
        ("stronger", "forest", -110.0, 3.0 * gain),
        ("city", "city", -110.0, 3.0 * gain),
    ):
        wanted = expected(light, turn, factor, 400)[solid]
        error = np.abs(seen[name][solid][:, :3] - wanted).mean() / wanted.mean()
        print(f"{name}: {100 * error:.2f} %")
        assert error <= 0.01
