"""Lamps: closed forms, sums, shadows at a finite distance, and what the command line says of a wrong one."""

from __future__ import annotations

import argparse
import math

import numpy as np
import pytest
import torch
from platelight.commands.lamps import lamp as parse
from platelight.pipeline import service
from platelight.pipeline.lamps import beam_of, lamp_passes
from platelight.protocol.errors import InputError
from platelight.protocol.lamps import Lamp
from platelight.protocol.requests import Relight
from platelight.shading import beams
from platelight.shading.integrate import view_directions
from torch import Tensor


def irradiance(lamp: Lamp, at: tuple[float, float, float], normal: tuple[float, float, float]) -> float:
    point, facet = torch.tensor([at]), torch.tensor([normal])
    view = -point / point.norm()
    out = beams.lit(beam_of(lamp), point, facet, view, torch.full((1, 1), 0.5))
    assert all(bool(torch.isfinite(one).all()) for one in out)
    return math.pi * float(out[0][0, 1])


def test_closed_forms() -> None:
    up, below = (0.0, 0.0, 1.0), (0.0, 0.0, -3.0)
    assert irradiance(Lamp("point", 100.0, at=(0, 0, -1)), below, up) == pytest.approx(
        100 / (4 * math.pi * 4)
    )
    assert irradiance(Lamp("sun", 3.0, direction=(0, -1, -1)), below, up) == pytest.approx(3 * math.sqrt(0.5))
    spot = Lamp("spot", 100.0, at=(0, 0, -1), cone=30.0)
    assert irradiance(spot, below, up) == pytest.approx(100 / (4 * math.pi * 4))
    assert irradiance(spot, (1.0, 0.0, -3.0), up) == 0.0
    assert irradiance(Lamp("area", 100.0, at=(0, 0, -1), direction=(0, 0, 1)), below, up) == 0.0
    # A rectangle parallel to the surface and above it (Howell's catalog, configuration B-4: four quarters).
    wide, high, away = 1.0, 2.0, 0.8
    a, b = wide / 2 / away, high / 2 / away
    u, v = a / math.sqrt(1 + a * a), b / math.sqrt(1 + b * b)
    factor = 4 / (2 * math.pi) * (u * math.atan(b * u / a) + v * math.atan(a * v / b))
    area = Lamp("area", 100.0, at=(0, 0, -3 + away), size=(wide, high))
    assert irradiance(area, below, up) == pytest.approx(100 / (wide * high) * factor, rel=0.02)


def test_a_lamp_that_the_horizon_cuts_fades() -> None:
    lamp = Lamp("sun", 1.0, direction=(-1, 0, 0), angle=20.0)
    half = irradiance(lamp, (0.0, 0.0, -3.0), (0.0, 0.0, 1.0))
    assert half == pytest.approx(math.sin(math.radians(10.0)) / 4)
    assert irradiance(lamp, (0.0, 0.0, -3.0), (-0.3, 0.0, 0.95)) == 0.0


def floor(size: int = 64, step: bool = False) -> dict[str, Tensor]:
    """The ground 2 m below the camera; with ``step`` its left half is 0.3 m nearer. Depth in units of 2 m."""
    view = view_directions(size, size, 40.0)
    x = (-view / view[2:])[0][None, None] * 2.0
    one = torch.ones(1, 1, size, size)
    depth = torch.where(x < -0.2, 0.85, 1.0) if step else one
    normal = torch.tensor([0.0, 0.0, 1.0])[None, :, None, None].expand(1, 3, size, size)
    return {
        "normal": normal, "depth": depth, "matte": one, "albedo": 0.5 * one.expand(-1, 3, -1, -1),
        "roughness": 0.5 * one, "reflectivity": 0.04 * one, "foreground": one.expand(-1, 3, -1, -1), "x": x,
    }  # fmt: skip


def test_a_step_casts_the_shadow_of_a_near_lamp() -> None:
    maps = floor(96, step=True)
    lamp = Lamp("point", 10.0, at=(-0.6, 0.0, -1.4))
    off, on = (lamp_passes(maps, [lamp], 2.0, 40.0, shadows)[0][0, 1, 48] for shadows in (False, True))
    x = maps["x"][0, 0, 48]
    share = on / off
    # The ray over the edge (-0.2, 0.3 above the ground) from (-0.6, 0.6 above) meets the ground at 0.2.
    dark = (share < 0.5) & (x > -0.15)
    assert float(x[dark].max()) == pytest.approx(0.2, abs=0.05)
    assert float(share[x > 0.36].min()) > 0.99
    assert float(share[x < -0.3].min()) > 0.99


def test_what_lies_beyond_a_lamp_does_not_hide_it() -> None:
    """A lamp between two walls that face each other lights both."""
    size = 96
    maps = floor(size)
    x = (torch.arange(size) + 0.5) / size * 2 - 1
    out = (x.abs() - 0.3).clamp_min(0)  # a trough whose walls rise on both sides of the axis
    depth = (maps["depth"] - 0.8 * out).expand(1, 1, size, size)
    slope = -torch.sign(x) * 1.0 * (out > 0)
    normal = torch.stack([slope.expand(size, size), torch.zeros(size, size), torch.ones(size, size)])[None]
    maps = {**maps, "depth": depth, "normal": torch.nn.functional.normalize(normal, dim=1)}
    lamp = Lamp("point", 10.0, at=(0.0, 0.0, -1.7))
    off, on = (lamp_passes(maps, [lamp], 2.0, 40.0, shadows)[0][0, 1, 48] for shadows in (False, True))
    wall = (out > 0.1) & (off > 1e-4)
    assert int(wall.sum()) > 20
    assert float((on / off)[wall].mean()) > 0.95


def test_lamps_add_up_and_need_no_hdri() -> None:
    maps = floor(24)
    planes = {name: image[0].permute(1, 2, 0).numpy() for name, image in maps.items() if name != "x"}
    planes |= {name: planes[name][..., 0] for name in ("matte", "depth", "roughness", "reflectivity")}
    one, two = Lamp("point", 5.0, at=(0.3, 0, -1)), Lamp("spot", 9.0, (1, 0.5, 0.2), at=(-0.4, 0.2, -0.5))
    sky = {"light": np.full((8, 16, 3), 0.3, np.float32)}

    def run(*lamps: Lamp, light: bool = False) -> np.ndarray:
        request = Relight(pbr_only=True, lamps=lamps, distance=2.0)
        return service.run_job(request, {**planes, **(sky if light else {})}).planes["pbr"]

    np.testing.assert_allclose(run(one, two), run(one) + run(two), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(run(one, light=True), run(one) + run(light=True), rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match="target light is missing"):
        run()
    with pytest.raises(InputError, match="direction of length 0"):
        run(Lamp("sun", 1.0, direction=(0, 0, 0)))


def test_the_command_line_reads_lamps() -> None:
    assert parse("point power=200 at=1,0.5,-1 radius=0.1") == Lamp("point", 200, at=(1, 0.5, -1), radius=0.1)
    spot = parse("spot power=1 at=0,1,0 to=0,0,-2 cone=30 color=1,0.5,0")
    assert spot == Lamp("spot", 1, (1, 0.5, 0), at=(0, 1, 0), direction=(0, -1, -2), cone=30)


@pytest.mark.parametrize(("text", "said"), [
    ("", "begins with none of"), ("lamp power=1", "begins with none of"), ("point power=1", "lacks at"),
    ("point power=x at=1,2,3", "power=x is not a number"), ("point power=1 at=1,2", "not 3 numbers"),
    ("sun power=1 direction=0,-1,0 cone=3", "none of what a sun takes"), ("sun power=1 direction=0,0,0", "shines nowhere"),
    ("area power=1 at=0,0,0 to=0,0,-1 direction=0,0,-1", "both"), ("point power=-1 at=0,0,0", ">= 0"),
    ("point power=1 power=2 at=0,0,0", "given twice"), ("point power=nan at=0,0,0", "float"),
])  # fmt: skip
def test_a_wrong_lamp_is_a_sentence(text: str, said: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=said):
        parse(text)
