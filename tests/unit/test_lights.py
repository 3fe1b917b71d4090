"""Several lights, each taken at a place in the plate: what each counts where, the blended render, what is refused."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from platelight.pipeline import service
from platelight.pipeline.lights import shares
from platelight.protocol.errors import InputError
from platelight.protocol.requests import Relight

ROWS, COLUMNS = 60, 40
TOP, MIDDLE, BOTTOM = (0.5, 0.25), (0.5, 0.5), (0.5, 0.75)


def lit(request: Relight, **lights: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    one = np.ones((ROWS, COLUMNS), np.float32)
    normal = rng.normal(size=(ROWS, COLUMNS, 3)).astype(np.float32)
    normal[..., 2] = np.abs(normal[..., 2]) + 0.5
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    color = np.full((ROWS, COLUMNS, 3), 0.5, np.float32)
    maps = {
        "foreground": color, "albedo": color, "normal": normal, "matte": one, "roughness": 0.5 * one,
        "reflectivity": 0.04 * one, "depth": one,
    }  # fmt: skip
    return service.run_job(request, {**maps, **lights}).planes


def sky(*color: float) -> np.ndarray:
    light = np.full((16, 32, 3), 0.2, np.float32)
    light[2:6, 8:20] = color
    return light


def test_shares_are_linear_between_neighbors_and_sum_to_one() -> None:
    rows = (np.arange(ROWS) + 0.5) / ROWS
    got = shares((MIDDLE, TOP, BOTTOM), (ROWS, COLUMNS), 0, ROWS)[:, 0]
    np.testing.assert_allclose(got.sum(0), 1.0, atol=1e-6)
    for share, place in zip(got, (MIDDLE, TOP, BOTTOM), strict=True):
        values = [float(other is place) for other in (TOP, MIDDLE, BOTTOM)]
        wanted = np.interp(rows, [0.25, 0.5, 0.75], values)
        np.testing.assert_allclose(share, np.broadcast_to(wanted[:, None], share.shape), atol=1e-5)
    part = shares((MIDDLE, TOP, BOTTOM), (ROWS, COLUMNS), 20, 33)[:, 0]
    assert torch.equal(part, got[:, 20:33])


def test_shares_in_the_plane_are_continuous_and_one_at_their_places() -> None:
    places = ((0.1, 0.2), (0.8, 0.3), (0.3, 0.9), (0.6, 0.55))
    size = (200, 300)
    got = shares(places, size, 0, 200)[:, 0]
    np.testing.assert_allclose(got.sum(0), 1.0, atol=1e-6)
    assert float(got.min()) >= 0.0
    for i, (u, v) in enumerate(places):
        assert float(got[i, int(v * 200), int(u * 300)]) > 0.98
    steps = max(float(got.diff(dim=1).abs().max()), float(got.diff(dim=2).abs().max()))
    # The nearest places are 75 pixels apart; a jump would be many times as large as a slope over that.
    assert steps < 4 / 75


@pytest.mark.parametrize("shadows", ["off", "on"])  # in bands; and at once
def test_the_render_is_the_blend_of_the_renders_under_each_light(shadows: str) -> None:
    two = (TOP, BOTTOM)
    red, blue = sky(9.0, 1.0, 1.0), sky(1.0, 2.0, 12.0)[::-1].copy()
    plain = Relight(pbr_only=True, shadows=shadows, rotation=20.0, exposure=0.5)  # type: ignore[arg-type]
    both = lit(msgspec.structs.replace(plain, places=two), light=red, light_2=blue)
    one, other = lit(plain, light=red), lit(plain, light=blue)
    first, second = shares(two, (ROWS, COLUMNS), 0, ROWS)[:, 0, :, :, None].numpy()
    for name in ("diffuse", "specular"):
        np.testing.assert_allclose(both[name], first * one[name] + second * other[name], rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(
        both["pbr"][:10], one["pbr"][:10], rtol=1e-5
    )  # above the first place it is alone
    assert np.abs(one["pbr"] - other["pbr"]).mean() > 0.1 * one["pbr"].mean()


def test_lights_may_differ_in_size() -> None:
    light = sky(5.0, 5.0, 5.0)
    fine = light.repeat(4, 0).repeat(4, 1)
    got = lit(Relight(pbr_only=True, places=(TOP, BOTTOM)), light=light, light_2=fine)["pbr"]
    np.testing.assert_allclose(got, lit(Relight(pbr_only=True), light=fine)["pbr"], rtol=1e-3, atol=1e-4)


def test_what_does_not_fit_is_told() -> None:
    light = sky(1.0, 1.0, 1.0)
    with pytest.raises(InputError, match="target light 2 is missing"):
        lit(Relight(pbr_only=True, places=(TOP, BOTTOM)), light=light)
    with pytest.raises(InputError, match="There are 2 lights, but 0 places"):
        lit(Relight(pbr_only=True), light=light, light_2=light)
    with pytest.raises(InputError, match="Two lights are at one place"):
        lit(Relight(pbr_only=True, places=(TOP, TOP)), light=light, light_2=light)
    for places in ([[0.5, 1.5]], [[0.1 * k, 0.5] for k in range(5)]):
        with pytest.raises(msgspec.ValidationError, match="places"):
            msgspec.convert({"kind": "relight", "places": places}, Relight)
