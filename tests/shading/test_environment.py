"""The lat-long convention, rotation, resizing and spherical harmonics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from platelight.protocol.errors import InputError
from platelight.shading import environment, lamps, spherical
from scipy import ndimage

DOUBLE = torch.float64


def test_cardinal_directions() -> None:
    dirs = environment.directions(64, dtype=DOUBLE)
    half = math.pi / 64
    assert torch.allclose(dirs[32, 63:65].mean(0), torch.tensor((0.0, 0.0, -1.0), dtype=DOUBLE), atol=half)
    assert torch.allclose(dirs[31:33, 95:97].mean((0, 1)), torch.tensor((1.0, 0, 0), dtype=DOUBLE), atol=2e-3)
    assert float(dirs[0, :, 1].min()) > 0.99
    assert torch.allclose(dirs.norm(dim=-1), torch.ones((), dtype=DOUBLE))


def test_sampling_at_the_centers_is_the_identity_and_the_seam_wraps() -> None:
    env = torch.rand(2, 3, 16, 32, dtype=DOUBLE)
    dirs = environment.directions(16, dtype=DOUBLE).permute(2, 0, 1)[None]
    assert torch.allclose(environment.sample(env, dirs), env, atol=1e-9)
    behind = torch.tensor((0.0, 0.0, 1.0), dtype=DOUBLE).reshape(1, 3, 1, 1)
    seam = environment.sample(env, behind)[..., 0, 0]
    assert torch.allclose(seam, env[:, :, 7:9][..., (0, -1)].mean((-2, -1)), atol=1e-9)


def test_an_enlarged_light_is_the_spline_of_its_logarithms_and_wraps() -> None:
    env = torch.rand(1, 3, 8, 16, dtype=DOUBLE) * 5.0
    env[0, :, 3, 5] = 4000.0  # a sun of one texel
    dirs = environment.directions(40, dtype=DOUBLE).permute(2, 0, 1)[None][..., 10:30, :]
    floor = 1e-3 * float(environment.average_luminance(env))
    u, v = environment.coordinates(dirs)
    at = (v[0].numpy() * 8 - 0.5 + 8, u[0].numpy() * 16 - 0.5 + 16)  # in three by three of it
    for c in range(3):
        logs = np.log(np.tile(env[0, c].numpy(), (3, 3)) + floor)
        wanted = np.exp(ndimage.map_coordinates(logs, at, order=3, prefilter=False)) - floor
        np.testing.assert_allclose(environment.enlarged(env)(dirs)[0, c].numpy(), wanted, rtol=1e-6)


@pytest.mark.parametrize("degrees", [0.0, 37.0, 123.4, -70.0])
def test_a_lamp_turns_to_the_right(degrees: float) -> None:
    h = 64
    dirs = environment.directions(h, dtype=DOUBLE)
    blob = torch.exp(-40.0 * (1.0 + dirs[..., 2]))[None, None]
    turned = environment.rotate(blob, degrees)
    center = (turned[0, 0, ..., None] * dirs * environment.solid_angles(h, dtype=DOUBLE)[..., None]).sum(
        (0, 1)
    )
    angle = math.degrees(math.atan2(float(center[0]), -float(center[2])))
    assert (angle - degrees + 180.0) % 360.0 - 180.0 == pytest.approx(0.0, abs=0.05)


def test_rotation_by_a_whole_turn_is_the_identity_and_a_batch_turns_by_its_own_angles() -> None:
    env = torch.rand(2, 3, 8, 16)
    assert torch.equal(environment.rotate(env, 360.0), env)
    both = environment.rotate(env, torch.tensor((22.5, 50.0)))
    assert torch.allclose(both[1:], environment.rotate(env[1:], 50.0))
    assert torch.allclose(both[:1], env[:1].roll(1, -1))


@pytest.mark.parametrize("h", [1, 5, 16, 40])
def test_resize_keeps_the_energy(h: int) -> None:
    env = torch.rand(1, 3, 16, 32, dtype=DOUBLE)
    assert torch.allclose(environment.average(environment.resize(env, h)), environment.average(env))


def test_solid_angles_and_exposure() -> None:
    assert float(environment.solid_angles(7, dtype=DOUBLE).sum()) == pytest.approx(4.0 * math.pi)
    gray = torch.full((1, 3, 4, 8), 0.25)
    assert float(environment.average_luminance(environment.expose(gray, 2.0))) == pytest.approx(1.0, rel=1e-5)


def test_a_picture_that_is_no_lat_long_is_refused() -> None:
    with pytest.raises(InputError, match="lat-long"):
        environment.resize(torch.zeros(1, 3, 10, 10), 5)


def test_harmonics_are_orthonormal_and_rebuild_a_smooth_light() -> None:
    dirs = environment.directions(64, dtype=DOUBLE)
    y = spherical.basis(dirs, 4)
    gram = torch.einsum("hwi,hwj,hw->ij", y, y, environment.solid_angles(64, dtype=DOUBLE))
    assert torch.allclose(gram, torch.eye(25, dtype=DOUBLE), atol=2e-3)
    env = (1.0 + dirs[..., 0] + 0.5 * dirs[..., 1] * dirs[..., 2])[None, None]
    again = spherical.evaluate(spherical.project(env), dirs.permute(2, 0, 1)[None])
    assert torch.allclose(again, env, atol=5e-3)


def test_irradiance_of_a_uniform_and_of_a_linear_light() -> None:
    dirs = environment.directions(32, dtype=DOUBLE)
    normal = dirs.permute(2, 0, 1)[None]
    env = (1.0 + dirs[..., 1])[None, None]
    got = spherical.irradiance(spherical.project(env), normal)
    assert torch.allclose(got, (math.pi + 2.0 * math.pi / 3.0 * dirs[..., 1])[None, None], atol=1e-2)


def test_enlarging_repeats_and_a_whole_reduction_takes_it_back() -> None:
    env = torch.rand(1, 3, 8, 16, generator=torch.Generator().manual_seed(2))
    large = environment.resize(env, 24)
    assert torch.equal(large[..., 1::3, 2::3], env)
    assert torch.allclose(environment.resize(large, 8), env, rtol=1e-5)


def test_what_surrounds_a_lamp_is_the_darkest_block_around_it_across_the_seam() -> None:
    blocks = torch.rand(1, 3, 8, 16, generator=torch.Generator().manual_seed(3))
    wrapped = torch.nn.functional.pad(blocks, (2, 2, 0, 0), mode="circular")
    expected = -torch.nn.functional.max_pool2d(-wrapped, 5, 1, (2, 0))
    assert torch.equal(lamps._darkest(blocks), expected)
