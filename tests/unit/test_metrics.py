"""The measures against closed forms, and evaluation with oracles on a suite made here."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platelight import images
from platelight.images.exr import write_exr
from platelight.pipeline import evaluate as evaluation
from platelight.pipeline import metrics
from platelight.pipeline.sheets import write_sheet
from platelight.protocol.errors import InputError

SHARED = Path(__file__).parents[3] / "shared" / "suites"
RNG = np.random.default_rng(0)


def tilted(degrees: float, shape: tuple[int, int] = (8, 8)) -> np.ndarray:
    vector = np.array([np.sin(np.radians(degrees)), 0, np.cos(np.radians(degrees))], np.float32)
    return np.tile(vector, (*shape, 1))


def test_normal_error_of_a_known_tilt() -> None:
    predicted = tilted(0.0)
    truth = tilted(20.0)
    truth[:4] = tilted(40.0)[:4]
    truth[0, 0] = 0.0  # unknown: must not count
    matte = np.ones((8, 8), np.float32)
    matte[:, :2] = 0.4  # outside
    error = metrics.normal_error(predicted, truth, matte)
    assert error.mean == pytest.approx(30.0, abs=1e-3)
    assert (error.under_11, error.under_22, error.under_30) == (0.0, 0.5, 0.5)
    assert metrics.normal_error(truth * 3.0, truth, matte).mean == pytest.approx(0.0, abs=0.05)
    assert metrics.normal_error(np.zeros_like(truth), truth, matte).mean == pytest.approx(90.0)


def test_albedo_error_ignores_one_scale_but_not_color() -> None:
    truth = RNG.uniform(0, 1, (16, 16, 3)).astype(np.float32)
    matte = np.ones((16, 16), np.float32)
    assert metrics.albedo_error(truth * 0.1, truth, matte).psnr == 100.0
    assert math.isnan(metrics.albedo_error(truth * math.nan, truth, matte).psnr)  # never taken for perfect
    tinted = metrics.albedo_error(truth * np.array([1.0, 0.5, 0.2]), truth, matte)
    assert tinted.psnr < 20.0
    half = np.ones((16, 16, 3), np.float32)
    half[:8] = 0.0
    one = metrics.albedo_error(np.ones_like(half), half, matte)  # best scale 0.5, error 0.25 everywhere
    assert one.mse == pytest.approx(0.25)
    assert one.psnr == pytest.approx(-10 * np.log10(0.25))
    assert metrics.albedo_error(np.zeros_like(half), half, matte).mse == pytest.approx(0.5)


def test_relit_error_is_scale_free_and_looks_inside_only() -> None:
    truth = RNG.uniform(0, 1, (32, 32, 3)).astype(np.float32)
    matte = np.zeros((32, 32), np.float32)
    matte[8:24, 8:24] = 1.0
    spoiled = truth * 7.0
    spoiled[:8] = 1000.0
    error = metrics.relit_error(spoiled, truth, matte)
    assert error.psnr > 90.0
    assert error.ssim > 0.999
    worse = metrics.relit_error(truth[:, ::-1], truth, matte)
    assert worse.psnr < 15.0
    assert worse.ssim < 0.5


def test_a_gray_ball_under_a_uniform_sky_is_evenly_lit() -> None:
    ball = metrics.gray_ball(np.full((16, 32, 3), 2.0, np.float32))
    np.testing.assert_allclose(ball, 2.0 * np.pi, rtol=0.02)


def test_light_error_is_scale_free_and_knows_left_from_right() -> None:
    light = np.full((16, 32, 3), 0.1, np.float32)
    light[6:9, 23:26] = 50.0  # at three quarters of the width: +X, the camera's right
    assert metrics.light_error(light * 7, light) < 1e-6
    assert metrics.light_error(light[:, ::-1], light) > 0.5
    normals_right = metrics.gray_ball(light, 33).reshape(-1, 3)
    c = (np.arange(33) + 0.5) / 33 * 2 - 1
    x = np.meshgrid(c, -c)[0][np.add.outer(c * c, c * c) < 1]
    assert normals_right[x > 0.3].mean() > 3 * normals_right[x < -0.3].mean()


def test_finish_error_looks_inside_the_matte() -> None:
    truth, matte = np.full((4, 4), 0.5), np.ones((4, 4))
    matte[0] = 0
    spoiled = truth + 0.1
    spoiled[0] = 9
    assert metrics.finish_error(spoiled, truth, matte) == pytest.approx(0.1)


def suite(folder: Path) -> Path:
    """A suite of two cases: a ramp of normals under two lights, albedo in two colors."""
    folder.mkdir()
    size = (24, 32)
    normal = np.stack([np.linspace(-0.6, 0.6, 32)[None].repeat(24, 0), np.zeros(size), np.zeros(size)], -1)
    normal[..., 2] = np.sqrt(1 - normal[..., 0] ** 2)
    albedo = np.where(np.arange(24)[:, None, None] < 12, [0.8, 0.3, 0.2], [0.2, 0.5, 0.9]) * np.ones(
        (24, 32, 1)
    )
    light = np.full((4, 8, 3), 0.5)
    plate, other = albedo * (0.6 + normal[..., :1]), albedo * (0.7 - normal[..., :1])
    for name, pixels in (
        ("plate", plate),
        ("other", other),
        ("normal", normal),
        ("albedo", albedo),
        ("l", light),
    ):
        planes = {leaf: pixels[..., index].astype(np.float32) for index, leaf in enumerate("RGB")}
        write_exr(folder / f"{name}.exr", planes, {})
    matte = np.zeros(size)
    matte[2:-2, 2:-2] = 1.0
    images.write_png_values(folder / "matte.png", matte)
    both = {"plate": "plate.exr", "matte": "matte.png", "normal": "normal.exr"}
    cases = [
        {"id": "a", **both, "albedo": "albedo.exr"},
        {"id": "b", **both, "relit": [{"light": "l.exr", "image": "other.exr"}]},
    ]
    (folder / "suite.json").write_text(json.dumps({"name": "made", "note": "here", "cases": cases}))
    return folder


def oracle(folder: Path) -> tuple[evaluation.Decomposer, evaluation.Relighter]:
    normal = evaluation.read_normal(folder / "normal.exr", (24, 32))
    albedo = images.read_plate(folder / "albedo.exr").pixels
    other = images.read_plate(folder / "other.exr").pixels

    def decompose(plate: Any, matte: Any) -> dict[str, Any]:
        return {"normal": normal, "albedo": albedo * 0.25, "foreground": plate, "matte": matte}

    def relight(maps: Any, light: Any) -> dict[str, Any]:
        assert light.shape == (4, 8, 3)
        return {
            "relit": np.dstack([other * maps["matte"][..., None], maps["matte"]]) * 3.0,
            "pbr": other * 0.1,
        }

    return decompose, relight


def test_an_oracle_is_perfect_and_the_baselines_are_not(tmp_path: Path) -> None:
    folder = suite(tmp_path / "made")
    seen: dict[str, Any] = {}
    steps: list[float] = []
    report = evaluation.evaluate(
        folder,
        *oracle(folder),
        progress=lambda f, s: steps.append(f),
        seen=lambda case, p: seen.update({case: p}),
    )
    assert [case.id for case in report.cases] == ["a", "b"]
    assert report.mean["normal_mean"] < 0.05
    assert report.mean["normal_under_11"] == 1.0
    assert report.mean["normal_flat"] > 10.0
    assert report.mean["albedo_psnr"] > 90.0
    assert 5.0 < report.mean["albedo_plate"] < 30.0
    assert 5.0 < report.mean["albedo_constant"] < 30.0
    assert report.mean["relit_psnr"] > 90.0
    assert report.mean["pbr_ssim"] > 0.999
    assert report.mean["relit_plate"] < 30.0
    assert "relit_psnr" not in report.cases[0].measures
    assert steps[0] == 0.0
    assert steps[-1] == 1.0
    for case, pictures in seen.items():
        write_sheet(tmp_path / f"{case}.png", pictures, height=24)
    assert images.read_plate(tmp_path / "a.png").pixels.shape == (24, 32 * 6, 3)
    content = json.loads(evaluation.as_json([report]))
    assert content["suites"][0]["mean"]["normal_mean"] == report.mean["normal_mean"]


def test_limit_and_refusals(tmp_path: Path) -> None:
    folder = suite(tmp_path / "made")
    assert len(evaluation.evaluate(folder, *oracle(folder), limit=1).cases) == 1
    readme = tmp_path / "README.md"
    readme.write_text("x")
    assert evaluation.find_suites([readme, folder]) == [folder]
    with pytest.raises(InputError, match=r"README\.md holds no suite\.json"):
        evaluation.find_suites([readme])
    for text in ("{", '{"name": "x"}', '{"name": "x", "cases": [{"id": 3}]}'):
        (folder / "suite.json").write_text(text)
        with pytest.raises(InputError, match="is not a suite description"):
            evaluation.load_suite(folder)


@pytest.mark.shared
@pytest.mark.skipif(not os.path.isdir(SHARED), reason="the project's evaluation suites are not here")
def test_baselines_are_the_documented_marks() -> None:
    """Without any network: these figures pin the definitions in platelight.pipeline.metrics."""

    def nothing(plate: Any, matte: Any) -> dict[str, Any]:
        flat = np.zeros_like(plate)
        flat[..., 2] = 1.0
        return {"normal": flat, "albedo": plate, "foreground": plate, "matte": matte}

    def same(maps: Any, light: Any) -> dict[str, Any]:
        return {"relit": np.dstack([maps["foreground"], maps["matte"]]), "pbr": maps["foreground"]}

    objects = evaluation.evaluate(SHARED / "mit_berkeley", nothing, same).mean
    assert objects["normal_mean"] == pytest.approx(44.1, abs=0.1)
    assert objects["albedo_psnr"] == objects["albedo_plate"] == pytest.approx(12.76, abs=0.02)
    assert objects["albedo_constant"] == pytest.approx(14.26, abs=0.02)
    lamps = evaluation.evaluate(SHARED / "uw", nothing, same).mean
    assert lamps["normal_mean"] == pytest.approx(46.3, abs=0.1)
    assert lamps["relit_plate"] == pytest.approx(19.04, abs=0.02)
    assert lamps["relit_plate_ssim"] == pytest.approx(0.812, abs=0.002)
