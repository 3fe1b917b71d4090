"""The fast integrator against the reference, closed forms, bounds, gradients and the light's cache."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from platelight.shading import environment, integrate, lobes, reference, surface
from platelight.shading.sampling import directional_albedo
from platelight.shading.store import Store
from shading_scenes import load_exr, perspective_sphere, studio_lights
from torch import Tensor

NAMES = ("city", "courtyard", "forest", "interior", "night", "studio", "sunrise", "sunset")
# Rows of the light for each roughness: the reference takes texels as points, so they must be finer than the lobe.
ROWS = {0.1: 512, 0.2: 512, 0.3: 256, 0.45: 256, 0.6: 128, 0.8: 128, 1.0: 128}


def maps(normal: Tensor, roughness: float) -> tuple[Tensor, Tensor, Tensor]:
    one = torch.ones_like(normal[:, :1])
    return 0.5 * one, roughness * one, 0.04 * one


def relative(got: Tensor, truth: Tensor) -> float:
    return float((got - truth).abs().mean() / truth.mean())


def measure(roughness: float, fov: float, count: int) -> dict[str, tuple[float, float]]:
    """Mean relative errors of specular and of diffuse over ``count`` pixels spread over a sphere, light by light."""
    lights = [environment.resize(load_exr(studio_lights()[name]), ROWS[roughness]) for name in NAMES]
    normal, view, _ = perspective_sphere(64, fov, 3.3)
    chosen = ((torch.arange(count) + 0.37) * (normal.shape[-1] / count)).long()
    normal, view = normal[..., chosen], view[..., chosen]
    # The lights are channels of one: the lobes, which cost the time, are summed once for all of them.
    truth = reference.integrate(torch.cat(lights, 1), normal, *maps(normal, roughness), view)
    off = {}
    for k, (name, env) in enumerate(zip(NAMES, lights, strict=True)):
        got = integrate.shade(integrate.prefilter(env), normal, *maps(normal, roughness), view)
        own = slice(3 * k, 3 * k + 3)
        off[name] = (
            relative(got.specular, truth.specular[:, own]),
            relative(got.diffuse, truth.diffuse[:, own]),
        )
    return off


def uniform(h: int = 32, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(1, 3, h, 2 * h, dtype=dtype)


def test_lambert_under_a_uniform_sky_is_its_albedo() -> None:
    normal, view, _ = perspective_sphere(24, 40.0, 3.3)
    for run in (
        integrate.shade(integrate.prefilter(uniform()), normal, *maps(normal, 0.5), view),
        reference.integrate(uniform(), normal, *maps(normal, 0.5), view),
    ):
        assert torch.allclose(run.diffuse, torch.full_like(run.diffuse, 0.5), rtol=3e-3)


@pytest.mark.parametrize("roughness", [0.05, 0.1, 0.3, 0.7, 1.0])
def test_white_furnace_gives_the_albedo_and_no_more_than_one(roughness: float) -> None:
    normal, view, _ = perspective_sphere(24, 40.0, 3.3)
    one = torch.ones_like(normal[:, :1])
    light = integrate.prefilter(uniform())
    for f0 in (0.04, 1.0):
        got = integrate.shade(light, normal, one, roughness * one, f0 * one, view).specular
        assert float(got.max()) <= 1.0 + 1e-4
        expected = directional_albedo(reference.facing(normal, view)[1], roughness * one, f0 * one)
        assert torch.allclose(got, expected.expand_as(got), atol=2e-4)
        if roughness >= 0.3:
            exact = reference.integrate(uniform(64), normal, one, roughness * one, f0 * one, view).specular
            assert float(exact.max()) <= 1.005
            assert relative(got, exact) <= 0.005


def test_a_smooth_surface_mirrors_the_light_in_the_reflected_direction() -> None:
    dirs = environment.directions(128)
    normal, view, _ = perspective_sphere(24, 40.0, 3.3)
    smooth = torch.exp(2.0 * dirs @ torch.tensor((0.6, 0.64, -0.48)))[None, None].expand(1, 3, -1, -1)
    one = torch.ones_like(normal[:, :1])
    got = integrate.shade(integrate.prefilter(smooth), normal, one, 0.05 * one, one, view).specular
    mirror = 2.0 * (normal * view).sum(1, keepdim=True) * normal - view
    expected = environment.sample(smooth, mirror)
    facing = ((normal * view).sum(1) > 0.15)[0, 0]
    assert relative(got[..., facing], expected[..., facing]) <= 0.02


def test_a_lamp_is_exact() -> None:
    env = 0.01 * uniform(128)
    env[..., 30, 100] = 5000.0
    normal, view, _ = perspective_sphere(24, 40.0, 3.3)
    light = integrate.prefilter(env)
    # A texel of 1.4° is four blocks of 0.7°.
    assert light.specular[0].lamps.strong == 4
    for roughness in (0.3, 0.8):
        truth = reference.integrate(env, normal, *maps(normal, roughness), view)
        got = integrate.shade(light, normal, *maps(normal, roughness), view)
        assert relative(got.specular, truth.specular) <= 0.005


def test_a_light_is_kept_and_turned_and_exposed_without_filtering_it_again() -> None:
    env = environment.resize(torch.rand(1, 3, 8, 16, generator=torch.Generator().manual_seed(3)), 64)
    env[..., 20, 50] = 500.0
    light = integrate.prefilter(env)
    assert integrate.prefilter(env.clone()) is light
    turned = light.rotated(50.0).rotated(-5.0).exposed(2.0)
    assert turned.specular[0].rest is light.specular[0].rest
    normal, view, _ = perspective_sphere(24, 40.0, 3.3)
    for roughness in (0.2, 0.5):
        expected = integrate.shade(
            integrate.prefilter(4.0 * environment.rotate(env, 45.0)), normal, *maps(normal, roughness), view
        )
        got = integrate.shade(turned, normal, *maps(normal, roughness), view)
        assert relative(got.specular, expected.specular) <= 2e-3
        assert relative(got.diffuse, expected.diffuse) <= 1e-4
        still = integrate.shade(light.exposed(2.0), normal, *maps(normal, roughness), view)
        assert relative(still.specular, expected.specular) >= 0.1


def test_chunks_on_two_threads_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    env = torch.rand(1, 3, 8, 16, generator=torch.Generator().manual_seed(3))
    normal, view, _ = perspective_sphere(48, 40.0, 3.3)
    light = integrate.prefilter(env)
    once = integrate.shade(light, normal, *maps(normal, 0.5), view).total
    monkeypatch.setattr(surface, "_CHUNK", 100)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    with torch.inference_mode():
        shared = integrate.shade(light, normal, *maps(normal, 0.5), view).total
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert torch.allclose(shared, once, rtol=1e-5)


@pytest.mark.parametrize("roughness", [0.15, 0.5])
def test_a_kept_picture_is_shaded_as_its_maps_are(roughness: float) -> None:
    normal, view, _ = perspective_sphere(24, 40.0, 3.3)
    albedo, rough, f0 = maps(normal, roughness)
    picture = integrate.pictures(normal, albedo, rough, f0, view, layered=True)[0].kept()
    for seed in (1, 2):
        env = torch.rand(1, 3, 8, 16, generator=torch.Generator().manual_seed(seed))
        env[..., 2, 5] = 300.0
        light = integrate.prefilter(env).rotated(20.0 * seed).exposed(1.0)
        got = integrate.relit(light, picture)
        expected = integrate.shade(light, normal, albedo, rough, f0, view, layered=True)
        assert torch.allclose(got.diffuse, expected.diffuse, rtol=1e-6)
        assert torch.allclose(got.specular, expected.specular, rtol=1e-6)


def test_kernels_that_turning_takes_are_made_ahead(tmp_path: Path) -> None:
    store = Store(tmp_path)
    env = torch.rand(1, 3, 8, 16, generator=torch.Generator().manual_seed(9))
    integrate.prefilter(env, store).specular[0].rows(3, 5)
    Store.flush()
    integrate._cache.clear()
    lobes.kernel.cache_clear()
    light = integrate.prefilter(env, store)
    light.specular[0].rows(3, 5)
    assert lobes.kernel.cache_info().currsize == 0  # tables came from disk
    assert [integrate.ready() for _ in range(4)] == [True, True, True, False]
    made = lobes.kernel.cache_info().misses
    light.rotated(5.0).specular[0].rows(3, 5)
    assert lobes.kernel.cache_info().misses == made


def test_a_light_kept_in_inference_mode_serves_gradients() -> None:
    env = torch.rand(1, 3, 8, 16, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        light = integrate.prefilter(env + 0.0)
    normal, view, _ = perspective_sphere(4, 40.0, 3.3)
    roughness = torch.full_like(normal[:, :1], 0.4).requires_grad_()
    one = torch.ones_like(roughness)
    integrate.shade(light, normal, one, roughness, 0.04 * one, view).total.sum().backward()  # type: ignore[no-untyped-call]
    assert roughness.grad is not None
    assert float(roughness.grad.abs().sum()) > 0.0


def tiny() -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(5)
    shape = (1, 1, 1, 3)
    tilt = torch.rand(1, 3, 1, 3, generator=generator, dtype=torch.float64) - 0.5
    axis = torch.tensor((0.0, 0.0, 1.0), dtype=torch.float64).reshape(1, 3, 1, 1)
    albedo = 0.2 + 0.6 * torch.rand(1, 3, 1, 3, generator=generator, dtype=torch.float64)
    roughness = torch.tensor((0.33, 0.52, 0.77), dtype=torch.float64).reshape(shape)
    f0 = torch.full(shape, 0.06, dtype=torch.float64)
    return tuple(t.requires_grad_() for t in (axis + tilt, albedo, roughness, f0))


@pytest.mark.parametrize("fast", [False, True], ids=["reference", "shade"])
def test_gradients_of_the_maps(fast: bool) -> None:
    env = torch.rand(1, 3, 4, 8, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    view = integrate.view_directions(1, 3, 40.0, dtype=torch.float64)
    light = integrate.prefilter(env)

    def run(normal: Tensor, albedo: Tensor, roughness: Tensor, f0: Tensor) -> Tensor:
        normal = normal / normal.norm(dim=1, keepdim=True)
        if fast:
            return integrate.shade(light, normal, albedo, roughness, f0, view, layered=True).total
        return reference.integrate(env, normal, albedo, roughness, f0, view).total

    assert torch.autograd.gradcheck(run, tiny(), atol=1e-5)


def test_gradients_reach_the_light() -> None:
    env = torch.rand(1, 3, 8, 16, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    normal, albedo, roughness, f0 = (t.detach() for t in tiny())
    normal = normal / normal.norm(dim=1, keepdim=True)
    view = integrate.view_directions(1, 3, 40.0, dtype=torch.float64)

    def run(light: Tensor) -> Tensor:
        return integrate.shade(integrate.prefilter(light), normal, albedo, roughness, f0, view).total.sum()

    leaf = env.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(run(leaf), leaf)
    # Radiance is linear in the light but for which blocks are lamps, so one step tells the derivative.
    step = 1e-4 * torch.rand(env.shape, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    assert float(run(env + step) - run(env - step)) == pytest.approx(
        2.0 * float((gradient * step).sum()), rel=0.02
    )
    assert math.isfinite(float(gradient.sum()))


@pytest.mark.slow
@pytest.mark.parametrize("roughness", list(ROWS))
def test_agrees_with_the_reference(roughness: float) -> None:
    # Without perspective the tables are exact in the plane of incidence, so that one roughness stands for all.
    for fov in (40.0, 0.0) if roughness == 0.45 else (40.0,):
        for name, (specular, diffuse) in measure(roughness, fov, 200 if roughness > 0.25 else 60).items():
            print(f"{name} r {roughness} fov {fov:g}: {100 * specular:.2f} %, diffuse {100 * diffuse:.2f} %")
            assert specular <= 0.01, name
            assert diffuse <= 0.005, name
