"""The OSL shader says what ``platelight.shading`` says."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SHADER = Path(__file__).resolve().parents[2] / "shaders" / "osl" / "platelight_cook_torrance.osl"


@pytest.mark.blender
def test_parity_with_torch(run_blender: Callable[..., Any]) -> None:
    torch = pytest.importorskip("torch")
    from platelight.shading.brdf import alpha_from_roughness, cook_torrance, lambert

    seen = run_blender("osl_parity.py", SHADER)
    table = np.array(seen["table"])
    light, view, azimuth = np.radians(table[:, :3]).T
    way_in = np.stack([np.sin(light) * np.cos(azimuth), np.sin(light) * np.sin(azimuth), np.cos(light)], -1)
    way_out = np.stack([np.sin(view), 0 * view, np.cos(view)], -1)
    half = way_in + way_out
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    nl, nv, nh, lh = (
        torch.tensor(values)
        for values in (way_in[:, 2], way_out[:, 2], half[:, 2], (way_in * half).sum(axis=1))
    )
    alpha = alpha_from_roughness(torch.tensor(table[:, 3]))
    brdf = cook_torrance(nl, nv, nh, lh, alpha, torch.tensor(table[:, 4])) + lambert(
        torch.tensor(seen["albedo"], dtype=torch.float64)
    )
    wanted = (brdf * nl).numpy()
    # A pixel's center is known to a few parts in a thousand; D of a narrow lobe turns that into more.
    broad = table[:, 3] > 0.3
    error = np.abs(table[:, 5] - wanted) / wanted
    assert broad.sum() > 400
    assert len(table) == 15 * 64
    assert float(np.median(error)) < 1e-3
    assert float(error[broad].max()) <= 0.01, table[broad][error[broad].argmax()]


CASES = ("forest,0.3,0.04", "city,0.45,0.3", "studio,0.7,0.6")


@pytest.mark.blender
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_table_for_torch_shader_and_osl(run_blender: Callable[..., Any], tmp_path: Path) -> None:
    """A sphere under HDRIs: OSL in Cycles, the preview's GLSL and the torch renderer, each against the reference."""
    torch = pytest.importorskip("torch")
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shading"))
    try:
        from gl_relight import Relight, addon_module
    finally:
        sys.path.pop(0)
    from platelight.shading import integrate, reference

    relight = Relight()
    facts = run_blender("osl_sphere.py", SHADER, *CASES)
    with np.load(tmp_path / "sphere.npz") as stored:
        seen = {name: stored[name] for name in stored.files}
    size = facts["size"]
    # Means of 4 by 4 pixels that lie inside: what is left of Cycles' noise averages out.
    whole = seen["solid"].reshape(size // 4, 4, size // 4, 4).all(axis=(1, 3))
    assert whole.sum() > 50

    def blocks(picture: np.ndarray) -> np.ndarray:
        return np.asarray(picture.reshape(size // 4, 4, size // 4, 4, 3).mean(axis=(1, 3))[whole])

    inside = whole.repeat(4, 0).repeat(4, 1)
    normal = torch.from_numpy(seen["normal"][inside].T.copy())[None, :, None]
    view = reference.view_directions(size, size, facts["fov"])[:, torch.from_numpy(inside)][None, :, None]
    one = torch.ones_like(normal[:, :1])

    def picture(values: np.ndarray) -> np.ndarray:
        out = np.zeros((size, size, 3), np.float32)
        out[inside] = values
        return blocks(out)

    for case in CASES:
        roughness, f0 = (float(value) for value in case.split(",")[1:])
        light = seen[f"{case} light"]
        env = torch.from_numpy(light.copy()).permute(2, 0, 1)[None]
        maps = normal, facts["albedo"] * one, roughness * one, f0 * one, view
        truth = picture(reference.integrate(env, *maps).total[0, :, 0].T.numpy())
        shade = picture(integrate.shade(integrate.prefilter(env), *maps).total[0, :, 0].T.numpy())
        points = [np.ascontiguousarray(m[0, :, 0].T.numpy()) for m in (normal, view)]
        drawn = relight.shade(
            addon_module("prefilter").prefilter(light), *points, roughness, f0, facts["albedo"]
        )
        errors = {
            name: float(np.abs(got - truth).mean() / truth.mean())
            for name, got in (
                ("torch", shade),
                ("GLSL", picture(drawn.diffuse + drawn.specular)),
                ("OSL", blocks(seen[f"{case} seen"])),
            )
        }
        print(f"\n{case}: " + ", ".join(f"{name} {100 * error:.2f} %" for name, error in errors.items()))
        assert min(errors.values()) > 0.0
        assert max(errors.values()) <= 0.01, (case, errors)
