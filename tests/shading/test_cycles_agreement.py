"""Cycles and this package agree on the light's direction, handedness and rotation, and on the lobes."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from platelight.shading import environment, reference
from platelight.shading.sampling import directional_albedo
from shading_scenes import load_exr, perspective_sphere, studio_lights

pytestmark = [pytest.mark.blender, pytest.mark.slow, pytest.mark.timeout(900)]
SIZE, FOV, DISTANCE = 128, 40.0, 3.3


@pytest.fixture(scope="module")
def renders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    out = tmp_path_factory.mktemp("cycles")
    script = Path(__file__).with_name("cycles_sphere.py")
    subprocess.run(
        [sys.executable, str(script), str(studio_lights()["forest"]), str(out)], check=True, timeout=800
    )
    return {p.stem: load_exr(p) for p in out.glob("*.exr")}


@pytest.mark.parametrize(
    ("name", "roughness", "degrees"),
    [
        ("diffuse_0", None, 0.0),
        ("diffuse_70", None, 70.0),
        ("principled3_70", 0.3, 70.0),
        ("principled6_0", 0.6, 0.0),
        ("principled6_70", 0.6, 70.0),
    ],
)
def test_agrees_with_cycles(
    renders: dict[str, torch.Tensor], name: str, roughness: float | None, degrees: float
) -> None:
    normal, view, inside = perspective_sphere(SIZE, FOV, DISTANCE)
    env = environment.resize(load_exr(studio_lights()["forest"]), 128)
    truth = renders[name][:, :3, inside][:, :, None]
    one = torch.ones_like(normal[:, :1])

    def error(turn: float) -> float:
        light = environment.rotate(env, turn)
        r = roughness if roughness is not None else 0.5
        got = reference.integrate(light, normal, 0.5 * one, r * one, 0.04 * one, view)
        if roughness is None:
            total = got.diffuse
        else:
            nv = reference.facing(normal, view)[1]
            total = got.diffuse * (1.0 - directional_albedo(nv, r * one, 0.04 * one)) + got.specular
        assert math.isfinite(float(total.sum()))
        return float((total - truth).abs().mean() / truth.mean())

    right = error(degrees)
    assert right <= 0.02, f"{name}: {100 * right:.2f} %"
    # The comparison must be able to see a wrong sign: the mirrored angle is far off.
    if degrees:
        assert error(-degrees) > 4.0 * right
