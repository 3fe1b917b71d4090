"""Shadows from depth against ray-cast truth: a head of balls, whose hidden sides cast shadows too."""

from __future__ import annotations

import math

import pytest
import torch
from platelight.pipeline.relight import physical
from platelight.pipeline.shadows import shadowed
from platelight.shading import environment
from platelight.shading.integrate import view_directions
from shadow_figures import decibels
from torch import Tensor

SIZE, FOV = 96, 24.0
BALLS = torch.tensor(
    [
        (0.0, 0.3, -10.0, 1.0),  # skull
        (0.0, 0.12, -8.92, 0.2),  # nose
        (-0.36, 0.52, -9.13, 0.22), (0.36, 0.52, -9.13, 0.22),  # brows
        (0.0, -0.42, -9.3, 0.32),  # chin
        (-1.0, 0.25, -9.9, 0.22), (1.0, 0.25, -9.9, 0.22),  # ears
        (0.0, -1.1, -10.2, 0.55),  # neck
        (-1.0, -1.75, -10.2, 0.7), (1.0, -1.75, -10.2, 0.7), (0.0, -1.9, -10.1, 0.75),  # shoulders, chest
    ]
)  # fmt: skip
"""Centers in the camera's frame, and radii: a camera 10 units away."""


def near_hit(start: Tensor, way: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (N,) along unit rays to the first ball, infinite where there is none, and which ball."""
    apart = BALLS[:, :3] - start[:, None]
    along = (apart * way[:, None]).sum(-1)
    root = along.square() - apart.square().sum(-1) + BALLS[:, 3].square()
    far = torch.where(root > 0, along - root.clamp_min(0).sqrt(), math.inf)
    return torch.where(far > 0, far, math.inf).min(1)


@pytest.fixture(scope="module")
def head() -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Maps of the head, and positions and normals (P, 3) of its pixels."""
    view = view_directions(SIZE, SIZE, FOV)
    way = -view.flatten(1).T
    far, which = near_hit(torch.zeros_like(way), way)
    hit = far.isfinite()
    point = way * torch.where(hit, far, 0.0)[:, None]
    normal = (point - BALLS[which, :3]) / BALLS[which, 3:] * hit[:, None]

    def picture(values: Tensor) -> Tensor:
        return values.T.reshape(1, -1, SIZE, SIZE)

    one = picture(hit.float()[:, None])
    depth = picture(torch.where(hit, -point[:, 2], 10.0)[:, None])
    maps = {
        "normal": picture(normal), "depth": depth, "matte": one, "albedo": 0.5 * one.expand(-1, 3, -1, -1),
        "roughness": torch.ones_like(one), "reflectivity": torch.zeros_like(one),
    }  # fmt: skip
    return maps, point[hit], normal[hit]


def cast(light: Tensor, point: Tensor, normal: Tensor) -> Tensor:
    """Irradiance (P, 3) under a light by rays to each of its texels."""
    rows = light.shape[-2]
    ways = environment.directions(rows).reshape(-1, 3)
    power = (light[0] * environment.solid_angles(rows)).flatten(1).T
    found = torch.zeros_like(point)
    start = point + 1e-3 * normal
    for way, sent in zip(ways[power.amax(1) > 0], power[power.amax(1) > 0], strict=True):
        facing = (normal @ way).clamp_min(0.0)
        lit = facing > 0
        seen = near_hit(start[lit], way.expand(int(lit.sum()), 3))[0].isinf()
        found[lit] += (facing[lit] * seen)[:, None] * sent
    return found


def lamp(towards: tuple[float, float, float], radius: float) -> Tensor:
    d = torch.tensor(towards)
    cosine = environment.directions(64) @ (d / d.norm())
    return (cosine > math.cos(math.radians(radius))).float().expand(1, 3, -1, -1) * 50.0


def sky() -> Tensor:
    """Bright above, dim below, colored from side to side."""
    d = environment.directions(24)
    up = 0.15 + 0.85 * (0.5 + 0.5 * d[..., 1]).square()
    return torch.stack((up * (1.2 + d[..., 0]), up, up * (1.2 - d[..., 0])))[None]


LIGHTS = {
    "sky": (sky, 11.0), "key": (lambda: lamp((-0.6, 0.5, 0.62), 4.0), 10.5), "side": (lambda: lamp((0.95, 0.2, 0.2), 4.0), 8.5),
    "top": (lambda: lamp((0.1, 0.95, 0.3), 6.0), 19.0), "window": (lambda: lamp((-0.7, 0.3, 0.4), 14.0), 7.0),
}  # fmt: skip
"""Lights, and by how many decibels shadows have to bring the render nearer to the truth."""


@pytest.mark.parametrize("name", LIGHTS)
def test_shadows_bring_the_render_nearer_to_the_truth(
    head: tuple[dict[str, Tensor], Tensor, Tensor], name: str
) -> None:
    maps, point, normal = head
    light, bound = LIGHTS[name][0](), LIGHTS[name][1]
    solid = maps["matte"][0, 0] > 0.5
    truth = torch.zeros(1, 3, SIZE, SIZE)
    truth[0][:, solid] = cast(light, point, normal).T * 0.5 / math.pi
    passes = physical(maps, light, FOV)
    plain, shaded = (one[0] * maps["matte"] for one in (passes, shadowed(maps, light, FOV, *passes)))
    one, two = (decibels(picture, truth, maps["matte"]) for picture in (plain, shaded))
    level = float(shaded[0][:, solid].mean() / truth[0][:, solid].mean()) - 1.0
    print(f"| {name} | {one:.2f} | {two:.2f} | {two - one:+.2f} | {100 * level:+.1f} % |")
    assert two - one >= bound
    assert abs(level) < 0.04  # as bright on the whole, too
