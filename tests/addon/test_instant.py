"""The instant preview as Blender draws it (5.2, which can without a window), against the torch reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from carried import carried_light

pytestmark = [pytest.mark.blender, pytest.mark.alone]
FOV = 40.0  # of scripts/blender_kit.py, and the albedo there
BASE = (0.5, 0.4, 0.3)


def expected(
    seen: Any, turn: float, gain: float, light: str = "forest", shift: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """What the reference says of the sphere of ``scripts/instant.py``, layered as Principled BSDF; ``shift`` as ``Frustum``'s."""
    torch = pytest.importorskip("torch")
    from platelight.shading import environment, reference
    from platelight.shading.sampling import albedos, layer_share

    env = environment.rotate(environment.resize(carried_light(light), 256), turn) * gain
    size = seen["normal"].shape[0]
    normal = torch.from_numpy(seen["normal"]).permute(2, 0, 1)[None]
    rough = torch.from_numpy(np.ascontiguousarray(seen["rough"]))[None, None]
    chosen = torch.from_numpy(seen["solid"]).flatten().nonzero()[:, 0]
    view = reference.view_directions(size, size, FOV)[None]
    view = view / view[:, 2:] - torch.tensor([*shift, 0.0])[None, :, None, None]
    view = view / view.norm(dim=1, keepdim=True)
    normal, rough, view = (m.flatten(2)[:, :, None, chosen] for m in (normal, rough, view))
    one = torch.ones_like(rough)
    albedo = torch.tensor(BASE)[None, :, None, None] * one
    found = reference.integrate(env, normal, albedo, rough, 0.04 * one, view)
    _, nv = reference.facing(normal, view)
    kept = layer_share(albedos(nv, rough)[2], 0.04 * one)
    return np.asarray((found.diffuse * kept + found.specular)[0, :, 0].T.numpy())


def test_blender_draws_what_the_reference_says(run_blender: Callable[..., Any], tmp_path: Path) -> None:
    out = run_blender("instant.py")
    assert out["off in background"]
    if "skip" in out:
        pytest.skip(out["skip"])
    assert out["steps end"]
    assert (out["turn is a change"], out["turn reads nothing"], out["view is a change"]) == (True, True, True)
    assert out["settings kept"] == "PNG"
    assert out["images left"] == []
    assert out["standard needs no table"]
    assert out["new light reads"]
    assert "gone.exr is not a file" in out["gone"]
    assert (out["handlers left"], out["on"], out["off after unregister"]) == (0, [True, True], True)
    with np.load(tmp_path / "instant.npz") as stored:
        seen: dict[str, np.ndarray] = {name: stored[name] for name in stored.files}
    hit = seen["hit"]
    assert (seen["linear"][..., 3] == hit).all()
    solid = hit & np.roll(hit, 1, 0) & np.roll(hit, -1, 0) & np.roll(hit, 1, 1) & np.roll(hit, -1, 1)
    seen["solid"] = solid
    gain = 1.5 * 2.0**0.5
    wide = 2.0 * math.tan(math.radians(FOV / 2))  # a lens shift of one
    for name, turn, factor, light, shift in (
        ("linear", 70.0, gain, "forest", (0.0, 0.0)),
        ("turned", -110.0, 1.5, "forest", (0.0, 0.0)),
        ("shifted", -110.0, 1.5, "forest", (0.5 * wide, -0.3 * wide)),
        ("studio", -110.0, 1.5, "studio", (0.0, 0.0)),
    ):
        wanted = expected(seen, turn, factor, light, shift)
        error = np.abs(seen[name][solid][:, :3] - wanted).mean() / wanted.mean()
        print(f"{name}: {100 * error:.2f} %")
        assert error <= 0.01
    linear = np.clip(seen["linear"][..., :3], 0.0, 1.0)
    coded = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-6) ** (1 / 2.4) - 0.055
    )
    assert np.abs(seen["srgb"][..., :3] - coded)[hit].max() < 2e-3
    # The table of displayed colors is interpolated: what Blender itself saves is at most two codes of 255 away.
    assert np.abs(seen["viewed"] - seen["viewed wanted"])[hit][:, :3].max() < 2.0 / 255.0
    assert np.abs(seen["viewed"] - seen["srgb"])[hit][:, :3].max() > 0.05
