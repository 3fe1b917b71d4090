"""Lamps agree with Cycles' within 1.2 % on a sphere: units, falloff, cones, areas, both lobes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch
import torch.nn.functional as F
from platelight.pipeline.lamps import beam_of, lamp_passes
from platelight.protocol.lamps import Lamp
from platelight.shading import beams
from platelight.shading.integrate import view_directions
from shading_scenes import load_exr
from torch import Tensor

pytestmark = [pytest.mark.blender, pytest.mark.slow, pytest.mark.timeout(900)]
SIZE, FOV, DISTANCE, BLOCK = 128, 40.0, 3.3, 4
LAMPS = {
    "point": Lamp("point", 200.0, (1.0, 0.8, 0.5), at=(1.5, 1.0, -1.6), radius=0.1),
    "sun": Lamp("sun", 3.0, direction=(-0.7, -0.5, -0.6), angle=2.0),
    "spot": Lamp("spot", 400.0, at=(-1.2, 1.5, -1.0), direction=(1.1, -1.3, -2.2), cone=40.0, blend=0.4),
    "area": Lamp("area", 150.0, at=(-1.8, 0.6, -2.0), direction=(1.6, -0.5, -1.1), size=(1.2, 0.6)),
}


@pytest.fixture(scope="module")
def renders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    out = tmp_path_factory.mktemp("lamps")
    script = Path(__file__).with_name("cycles_lamps.py")
    lamps = json.dumps({name: msgspec.to_builtins(lamp) for name, lamp in LAMPS.items()})
    subprocess.run([sys.executable, str(script), lamps, str(out)], check=True, timeout=860)
    return {path.stem: load_exr(path) for path in out.glob("*.exr")}


def sphere() -> dict[str, Tensor]:
    """Maps of the sphere, in m."""
    rays = -view_directions(SIZE, SIZE, FOV)
    rays = rays / -rays[2:]
    a = rays.square().sum(0)
    root = DISTANCE**2 - a * (DISTANCE**2 - 1.0)
    depth = (DISTANCE - root.clamp_min(0.0).sqrt()) / a
    normal = rays * depth + torch.tensor([0.0, 0.0, DISTANCE])[:, None, None]
    matte = (root > 0.0).float()[None, None]
    one = torch.ones_like(matte)
    return {
        "normal": normal[None], "depth": depth[None, None], "matte": matte, "albedo": 0.5 * one.expand(-1, 3, -1, -1),
        "roughness": 0.5 * one, "reflectivity": 0.04 * one,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["diffuse", "principled"])
@pytest.mark.parametrize("name", list(LAMPS))
def test_agrees_with_cycles(renders: dict[str, Tensor], name: str, kind: str) -> None:
    maps = sphere()
    inner = -F.max_pool2d(-maps["matte"], 5, stride=1, padding=2)
    whole = F.avg_pool2d(inner, BLOCK)[0, 0] == 1.0
    if kind == "diffuse":
        rays = view_directions(SIZE, SIZE, FOV)
        flat = [m.flatten(1).T for m in (-rays / rays[2:] * maps["depth"][0], maps["normal"][0], rays)]
        lambert = beams.lit(beam_of(LAMPS[name]), *flat, torch.ones(SIZE * SIZE, 1))[0]
        picture = 0.5 * lambert.T.reshape(1, 3, SIZE, SIZE)
    else:
        picture = sum(lamp_passes(maps, [LAMPS[name]], 1.0, FOV, shadows=False))
    ours, theirs = (F.avg_pool2d(x, BLOCK)[..., whole] for x in (picture, renders[f"{name}_{kind}"][:, :3]))
    error = float((ours - theirs).abs().mean() / theirs.mean())
    bias = float(ours.mean() / theirs.mean()) - 1.0
    print(f"{name} {kind}: {100 * error:.2f} %, means differ by {100 * bias:+.2f} %")
    assert error <= 0.012
