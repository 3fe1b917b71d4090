"""Cycles and this package agree on the light's direction, handedness and rotation, and on the lobes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from platelight.shading import environment, integrate, reference
from platelight.shading.sampling import albedos, layer_share
from shading_scenes import load_exr, perspective_sphere, studio_lights

pytestmark = [pytest.mark.blender, pytest.mark.slow, pytest.mark.timeout(600)]
SIZE, FOV, DISTANCE, BLOCK = 256, 40.0, 3.3, 4
LIGHT = "courtyard"
CASES = {
    "diffuse_0": (None, 0.0),
    "diffuse_70": (None, 70.0),
    "principled3_70": (0.3, 70.0),
    "principled6_0": (0.6, 0.0),
}


@pytest.fixture(scope="module")
def renders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    out = tmp_path_factory.mktemp("cycles")
    script = Path(__file__).with_name("cycles_sphere.py")
    subprocess.run(
        [sys.executable, str(script), str(studio_lights()[LIGHT]), str(out)], check=True, timeout=560
    )
    return {p.stem: load_exr(p) for p in out.glob("*.exr")}


def blocks(image: torch.Tensor) -> torch.Tensor:
    """Means over blocks of pixels: the noise that denoising leaves goes down, a bias does not."""
    return F.avg_pool2d(image, BLOCK)


def errors(
    truth: torch.Tensor, env: torch.Tensor, roughness: float | None, degrees: float, fast: bool
) -> tuple[float, float]:
    """Mean relative error over blocks inside the silhouette, and the signed difference of the means."""
    normal, view, inside = perspective_sphere(SIZE, FOV, DISTANCE)
    # The outermost two pixels are an edge of the mesh or of the filter.
    inner = -F.max_pool2d(-inside[None, None].float(), 5, stride=1, padding=2)
    whole = (blocks(inner) == 1.0)[0, 0]
    if not fast:
        # The sum over every texel takes its time: every fourth row and column of blocks tells enough.
        thinned = torch.zeros_like(whole)
        thinned[::4, ::4] = whole[::4, ::4]
        whole = thinned
    keep = whole.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    pixels = keep[inside]
    normal, view = normal[..., pixels], view[..., pixels]
    one = torch.ones_like(normal[:, :1])
    r = roughness if roughness is not None else 0.5
    light = environment.rotate(env, degrees)
    maps = (normal, 0.5 * one, r * one, 0.04 * one, view)
    if fast:
        got = integrate.shade(integrate.prefilter(light), *maps, layered=roughness is not None)
    else:
        got = reference.integrate(light, *maps)
        if roughness is not None:
            nv = reference.facing(normal, view)[1]
            dimmed = got.diffuse * layer_share(albedos(nv, r * one)[2], 0.04 * one)
            got = reference.Shading(dimmed, got.specular)
    total = got.diffuse if roughness is None else got.total
    image = torch.zeros(1, 3, SIZE, SIZE)
    image[..., keep] = total[0, :, 0]
    ours, theirs = (blocks(x)[..., whole] for x in (image, truth[:, :3]))
    return float((ours - theirs).abs().mean() / theirs.mean()), float(ours.mean() / theirs.mean() - 1.0)


@pytest.mark.parametrize("fast", [False, True], ids=["reference", "shade"])
@pytest.mark.parametrize("name", list(CASES))
def test_agrees_with_cycles(renders: dict[str, torch.Tensor], name: str, fast: bool) -> None:
    roughness, degrees = CASES[name]
    env = environment.resize(load_exr(studio_lights()[LIGHT]), 512 if fast else 128)
    error, bias = errors(renders[name], env, roughness, degrees, fast)
    print(f"{name}: {100 * error:.2f} %, means differ by {100 * bias:+.2f} %")
    assert error <= 0.02, f"{name}: {100 * error:.2f} %, means differ by {100 * bias:+.2f} %"
    # The comparison must be able to see a wrong sign: the mirrored angle is far off.
    if degrees and fast:
        assert errors(renders[name], env, roughness, -degrees, fast)[0] > 4.0 * error
