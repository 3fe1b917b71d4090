"""Shadows from depth: what nothing hides stays exact, and what is hidden is hidden where geometry says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from platelight.pipeline import service
from platelight.pipeline.relight import physical
from platelight.pipeline.shadows import shadowed
from platelight.protocol.errors import InputError
from platelight.protocol.requests import Relight
from platelight.shading import environment, shadow
from platelight.shading.integrate import view_directions
from torch import Tensor

FOV, AWAY = 20.0, 10.0
Maps = dict[str, Tensor]


def scene(depth: Tensor, normal: Tensor, matte: Tensor | None = None) -> Maps:
    one = torch.ones_like(depth)
    return {
        "normal": normal / normal.square().sum(1, keepdim=True).sqrt().clamp_min(1e-9), "depth": depth,
        "matte": one if matte is None else matte, "albedo": 0.5 * one.expand(-1, 3, -1, -1),
        "roughness": 0.5 * one, "reflectivity": 0.04 * one,
    }  # fmt: skip


def rays(size: int) -> Tensor:
    """Rays (3, S, S) with z = -1: a point is depth times its ray."""
    view = view_directions(size, size, FOV)
    return -view / view[2:]


def ground(size: int) -> tuple[Tensor, Tensor]:
    depth = torch.full((1, 1, size, size), AWAY)
    return depth, torch.tensor([0.0, 0.0, 1.0])[None, :, None, None].expand(1, 3, size, size).clone()


def ball(size: int, middle: float, radius: float) -> tuple[Tensor, Tensor, Tensor]:
    """Depth, normal and hit (1, ·, S, S) of a ball on the axis at a depth."""
    r = rays(size)
    center = torch.tensor([0.0, 0.0, -middle])
    a, b = r.square().sum(0), (r * center[:, None, None]).sum(0)
    root = b.square() - a * (center.square().sum() - radius**2)
    hit = root > 0
    t = (b - root.clamp_min(0).sqrt()) / a
    normal = (r * t - center[:, None, None]) / radius
    return t[None, None], normal[None], hit[None, None]


def on_ground(size: int, middle: float, radius: float) -> tuple[Maps, Tensor]:
    """A ball over the ground seen from above, and the ground's positions (S, S, 3)."""
    depth, normal = ground(size)
    t, n, hit = ball(size, middle, radius)
    return scene(torch.where(hit, t, depth), torch.where(hit, n, normal)), (rays(size) * AWAY).permute(
        1, 2, 0
    )


def lamp(towards: tuple[float, float, float], radius: float = 2.0, rows: int = 128) -> Tensor:
    d = torch.tensor(towards)
    cosine = environment.directions(rows) @ (d / d.norm())
    return (cosine > math.cos(math.radians(radius))).float().expand(1, 3, -1, -1) * 100.0


def sky(rows: int = 32) -> Tensor:
    return torch.ones(1, 3, rows, 2 * rows)


def left(maps: Maps, light: Tensor) -> Tensor:
    """The share of the diffuse pass that is left (S, S)."""
    diffuse, specular = physical(maps, light, FOV)
    after = shadowed(maps, light, FOV, diffuse, specular)
    assert all(bool(torch.isfinite(one).all()) for one in after)
    assert all(
        bool((a <= b.clamp_min(0) + 1e-6).all()) for a, b in zip(after, (diffuse, specular), strict=True)
    )
    lit = diffuse > 1e-3 * diffuse.max()
    return torch.where(lit, after[0] / diffuse, 1.0)[0, 1]


@pytest.mark.parametrize(
    "light", [sky(), lamp((0.9, 0.1, 0.4)), lamp((-0.5, 0.6, 0.1))], ids=["sky", "side", "low"]
)
def test_nothing_hides_a_plane_or_a_ball(light: Tensor) -> None:
    r = rays(96)
    tilt = torch.tensor([0.5, -0.3, 1.0])
    plane = scene(
        (-AWAY * tilt[2] / (r * tilt[:, None, None]).sum(0))[None, None],
        tilt[None, :, None, None].expand(1, 3, 96, 96),
    )
    assert float((left(plane, light) - 1.0).abs().max()) < 1e-4
    t, n, hit = ball(96, AWAY, 1.4)
    maps = scene(torch.where(hit, t, AWAY), n * hit, hit.float())
    assert float((left(maps, light) - 1.0)[hit[0, 0]].abs().max()) < 2e-3


@pytest.mark.parametrize("thick", [3, 4, 5, 6, 9])
def test_thin_things_are_not_black(thick: int) -> None:
    """A rod that is solid on the fine raster and not on the one of soft light, beside a body."""
    depth, normal = ground(768)
    matte = torch.zeros_like(depth)
    matte[..., 100:700, 60:600] = 1
    matte[..., 100:700, 650 : 650 + thick] = 1
    share = left(scene(depth, normal, matte), sky())
    assert float(share[120:680, 651 : 649 + thick].min()) > 0.9


@pytest.mark.parametrize("elevation", [30.0, 45.0, 60.0])
def test_a_wall_shades_the_ground_for_its_height_over_the_tangent(elevation: float) -> None:
    size, high = 200, 0.5
    depth, normal = ground(size)
    x = (rays(size) * AWAY)[0]
    step = (x * (AWAY - high) / AWAY < -0.6)[None, None]
    maps = scene(torch.where(step, AWAY - high, depth), normal)
    e = math.radians(elevation)
    share = left(maps, lamp((-math.cos(e), 0.0, math.sin(e)), radius=1.0))[size // 2]
    beyond = x[size // 2]
    dark = (share < 0.5) & ~step[0, 0, size // 2]
    # The strip that perspective hides behind the step's top is in the dark and not in the picture.
    length = float(beyond[dark].max()) + 0.6
    pixel = float(beyond[1] - beyond[0])
    assert length == pytest.approx(high / math.tan(e), abs=max(2.0 * pixel, high / math.tan(e) / 24.0))
    assert float(share[beyond > -0.6 + high / math.tan(e) + 6 * pixel].min()) > 0.99
    assert float(share[x[size // 2] < -0.8].min()) > 0.99  # the wall's top


def test_a_ball_on_the_ground_casts_its_ellipse() -> None:
    maps, points = on_ground(160, AWAY - 0.5, 0.5)
    way = torch.tensor([0.6, 0.2, 0.9])
    way = way / way.norm()
    share = left(maps, lamp(tuple(way.tolist()), radius=1.0))
    apart = torch.tensor([0.0, 0.0, -AWAY + 0.5]) - points
    along = apart @ way
    hidden = (apart.square().sum(-1) - along.square() < 0.25) & (along > 0)
    floor = maps["normal"][0, 2] > 0.9999
    dark = share < 0.5
    union, both = ((dark | hidden) & floor).sum(), (dark & hidden & floor).sum()
    assert float(both / union) > 0.85
    assert float(share[floor & ~hidden & (points[..., 0] > 0.45)].min()) > 0.95  # nothing towards the light


def test_a_dome_takes_its_part_of_a_uniform_sky() -> None:
    maps, points = on_ground(128, AWAY, 0.6)  # half of the ball is in the ground
    share = left(maps, sky())
    for x in (0.75, 0.9, 1.2):
        place = (points[..., 0] - x).abs() + points[..., 1].abs()
        row, column = divmod(int(place.argmin()), 128)
        at = points[row, column] - torch.tensor([0.0, 0.0, -AWAY])
        assert float(share[row, column]) == pytest.approx(1.0 - _dome(float(at[:2].norm()), 0.6), abs=0.035)
    assert float(share[5:20, 5:20].min()) > 0.95


def _dome(x: float, radius: float) -> float:
    """The part of the cosine-weighted hemisphere at (x, 0, 0) that a ball about the origin hides."""
    u, v = torch.meshgrid((torch.arange(400) + 0.5) / 400, (torch.arange(800) + 0.5) / 800, indexing="ij")
    sine, cosine = u.sqrt(), (1 - u).sqrt()
    phi = 2 * math.pi * v
    d = torch.stack((sine * torch.cos(phi), sine * torch.sin(phi), cosine), -1)
    along = -x * d[..., 0]
    return float(((x * x - along.square() < radius**2) & (along > 0)).float().mean())


def test_lamps_are_found_and_no_light_is_lost() -> None:
    light = sky(64) * 0.2 + lamp((0.7, 0.5, 0.4), 3.0, 64) + 0.7 * lamp((-0.6, 0.1, 0.7), 6.0, 64)
    rest, keys = shadow.split(light)
    assert len(keys) == 2
    for key, (towards, radius) in zip(
        sorted(keys, key=lambda k: k.radius), (((0.7, 0.5, 0.4), 3.0), ((-0.6, 0.1, 0.7), 6.0)), strict=True
    ):
        d = torch.tensor(towards)
        assert float(key.towards @ d / d.norm()) > math.cos(math.radians(1.0))
        assert math.degrees(key.radius) == pytest.approx(radius, abs=1.0)
    areas = environment.solid_angles(64)
    kept = (rest * areas).sum((0, 2, 3)) + sum(key.power for key in keys)
    torch.testing.assert_close(kept, (light * areas).sum((0, 2, 3)), rtol=1e-4, atol=1e-4)
    assert shadow.split(sky())[1] == []
    for rows in (1, 2, 3, 4, 6, 16):  # a World of one color comes in few texels
        rest, keys = shadow.split(torch.ones(1, 3, rows, 2 * rows))
        assert keys == []
        torch.testing.assert_close(rest, torch.ones_like(rest))
    assert shadow.split(sky() * 0.0)[1] == []


def test_shadow_takes_the_highlight_with_it() -> None:
    maps, _ = on_ground(128, AWAY - 0.5, 0.5)
    light = lamp((0.5, 0.0, 0.9))
    diffuse, specular = physical(maps, light, FOV)
    dimmed, glossy = shadowed(maps, light, FOV, diffuse, specular)
    dark = (dimmed / diffuse.clamp_min(1e-9))[0, 1] < 0.02
    assert int(dark.sum()) > 100
    assert float((glossy / specular.clamp_min(1e-9))[0, 1][dark].max()) < 0.1


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3)])
def test_tiny_pictures_and_an_empty_matte(size: tuple[int, int]) -> None:
    depth = torch.ones(1, 1, *size)
    normal = torch.tensor([0.0, 0.0, 1.0])[None, :, None, None].expand(1, 3, *size)
    for matte in (depth, depth * 0.0):
        maps = scene(depth, normal, matte)
        before = physical(maps, sky(), FOV)
        for one, other in zip(shadowed(maps, sky(), FOV, *before), before, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_holes_in_depth_and_normals_are_survived() -> None:
    maps, _ = on_ground(64, AWAY - 0.5, 0.5)
    rng = np.random.default_rng(4)
    hole = torch.from_numpy(rng.random((1, 1, 64, 64)) < 0.1)
    maps["depth"] = maps["depth"].masked_fill(hole, 0.0)
    maps["normal"] = maps["normal"] * ~torch.from_numpy(rng.random((1, 1, 64, 64)) < 0.1)
    light = lamp((0.5, 0.5, 0.9)) + 0.1 * sky(128)
    for one in shadowed(maps, light, FOV, *physical(maps, light, FOV)):
        assert bool(torch.isfinite(one).all())


def test_the_request_takes_shadows_and_asks_for_depth() -> None:
    maps, _ = on_ground(48, AWAY - 0.5, 0.5)
    planes = {name: image[0].permute(1, 2, 0).numpy() for name, image in maps.items()}
    planes |= {name: planes[name][..., 0] for name in ("matte", "depth", "roughness", "reflectivity")}
    planes |= {"foreground": planes["albedo"], "light": lamp((0.9, 0.2, 0.6))[0].permute(1, 2, 0).numpy()}
    off = service.run_job(Relight(pbr_only=True, fov=FOV), planes).planes["diffuse"]
    on = service.run_job(Relight(pbr_only=True, fov=FOV, shadows="on"), planes).planes["diffuse"]
    assert (on < 0.2 * off).sum() > 60
    del planes["depth"]
    service.run_job(Relight(pbr_only=True, fov=FOV), planes)
    with pytest.raises(InputError, match="map depth is missing"):
        service.run_job(Relight(pbr_only=True, fov=FOV, shadows="on"), planes)
