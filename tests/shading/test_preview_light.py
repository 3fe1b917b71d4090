"""A light as an interactive preview sends it, with a quarter of its texels, against the light itself."""

from __future__ import annotations

import pytest
import torch
from platelight.commands.bench_light import PREVIEW_ROWS
from platelight.shading import environment
from platelight.shading.integrate import prefilter, shade

ROWS, SIDE = 2 * PREVIEW_ROWS, 96


def lights() -> dict[str, torch.Tensor]:
    """A sky with a sun of half a degree, and a dark studio with two softboxes, (1, 3, ROWS, 2 ROWS)."""
    ways = environment.directions(ROWS)
    sky = (0.4 + 0.6 * ways[..., 1].clamp_min(0)).expand(1, 3, -1, -1) * torch.tensor([0.6, 0.8, 1.0]).view(
        1, 3, 1, 1
    )
    sun = ways @ torch.nn.functional.normalize(torch.tensor([-0.5, 0.6, 0.62]), dim=0) > 0.99996
    assert 1 <= int(sun.sum()) <= 12
    boxes = torch.zeros(1, 3, ROWS, 2 * ROWS) + 0.02
    boxes[..., ROWS // 5 : ROWS // 2, ROWS // 3 : ROWS // 2] = 12.0
    boxes[..., ROWS // 4 : ROWS // 3, ROWS + 41 : ROWS + 77] = 30.0
    return {"sun": sky + sun * 2.0e4, "studio": boxes}


def ball(env: torch.Tensor, roughness: float, albedo: float = 0.4) -> torch.Tensor:
    """What is seen of a plastic ball, (3, P)."""
    c = (torch.arange(SIDE) + 0.5) / SIDE * 2.1 - 1.05
    x, y = torch.meshgrid(c, -c, indexing="xy")
    inside = x * x + y * y < 1
    normal = torch.stack([x, y, (1 - x * x - y * y).clamp_min(1e-6).sqrt()])[None]
    normal = torch.where(inside, normal, torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1))
    view = torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1).expand(3, SIDE, SIDE)
    one = torch.ones(1, 1, SIDE, SIDE)
    seen = shade(prefilter(env), normal, albedo * one.expand(1, 3, -1, -1), roughness * one, 0.04 * one, view)
    return (seen.diffuse + seen.specular)[0][:, inside]


@pytest.mark.parametrize("name", ["sun", "studio"])
@pytest.mark.parametrize("roughness", [0.2, 0.3, 0.5, 0.8])
def test_fewer_texels_are_seen_in_mirror_images_only(name: str, roughness: float) -> None:
    light = lights()[name]
    whole, sent = ball(light, roughness), ball(environment.resize(light, PREVIEW_ROWS), roughness)
    assert float((sent - whole).abs().mean() / whole.mean()) < 0.01


@pytest.mark.parametrize("roughness", [0.3, 0.45, 0.7])
def test_no_highlight_is_negative_beside_a_lamp(roughness: float) -> None:
    """The series that tables are summed up of rings around what is small and bright; logarithms follow."""
    ways = environment.directions(32)
    lamp = torch.exp(
        300.0 * (ways @ torch.nn.functional.normalize(torch.tensor([0.5, 0.4, -0.6]), dim=0) - 1)
    )
    env = (lamp / (lamp * environment.solid_angles(32)).sum()).expand(1, 3, -1, -1).contiguous()
    assert float(ball(env, roughness, albedo=0.0).min()) >= 0.0
