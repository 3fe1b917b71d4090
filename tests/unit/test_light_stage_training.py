"""A light-stage set as the trainer gets it: batches, noise taken out, shares, runs, suites of what is held out."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from platelight.images import read_light, read_plate
from platelight.models import registry
from platelight.models.networks import decode, encode
from platelight.models.unet import UNet
from platelight.pipeline.evaluate import evaluate, load_suite, read_normal
from platelight.protocol.errors import InputError
from platelight.shading.environment import directions, solid_angles
from platelight.training.cli import main as train_command
from platelight.training.enlarged import Enlarged
from platelight.training.light_stage_lights import fibonacci, rig
from platelight.training.light_stage_noise import without_noise
from platelight.training.light_stage_reader import StageGenerator, StageReader, as_subject, shown_by
from platelight.training.light_stage_store import Store, pack, shard_name
from platelight.training.start import load_mmae
from platelight.training.suite import write_suite
from platelight.training.supply import Mixed
from stage_balls import LAMPS, ball, fill, lights


@pytest.mark.parametrize("targets", [1, 3])
def test_batches_for_the_trainer(targets: int) -> None:
    url = f"memory://platelight-test-batches-{targets}"
    fill(Store(url), 33)
    reader = StageReader(url)
    drawn = [StageGenerator(reader, lights(), 20, seed=4, keep=6) for _ in range(2)]
    first, again = (generator.batch(6, targets) for generator in drawn)
    assert torch.equal(first.plate, again.plate)
    assert first.plate.shape == (6, 3, 20, 20)
    assert first.target is not None
    assert first.target_latlong is not None
    assert torch.isfinite(first.plate).all()
    assert torch.isfinite(first.target).all()
    inside = first.matte > 0.99
    length = first.surface.normal.norm(dim=1, keepdim=True)
    assert torch.allclose(length[inside], torch.ones(()), atol=1e-3)
    # A ball is Lambertian: its target is albedo times the irradiance of the lat-long that comes with it. Mirrored
    # pictures must come with a mirrored light, or this fails.
    d, rows = directions(32).reshape(-1, 3), 32
    edges = torch.cos(torch.arange(rows + 1, dtype=torch.float64) / rows * math.pi)
    area = ((edges[:-1] - edges[1:]) * math.pi / rows).repeat_interleave(2 * rows).float()
    cosine = torch.einsum("nchw,tc->nthw", first.surface.normal, d).clamp_min(0)
    assert len(first.target) == len(first.target_latlong) == 6 * targets
    cosine, paint = (x.repeat_interleave(targets, 0) for x in (cosine, first.surface.albedo))  # view by view
    shading = torch.einsum("nthw,nct,t->nchw", cosine, first.target_latlong.flatten(2), area)
    expected = paint * shading / math.pi
    solid = inside.repeat_interleave(targets, 0).expand_as(expected)
    error = (first.target - expected)[solid].abs().mean() / expected[solid].mean()
    assert error < 0.12  # 64 cells cannot hold small lamps exactly
    assert drawn[0].batch(2, held_out=True).target is None
    assert {s.info["subject"] for s in drawn[0].pools[True]} == {15, 31}
    assert not {s.info["subject"] for s in drawn[0].pools[False]} & {15, 31}


def test_pictures_are_straight_where_the_matte_is_thin(tmp_path: Path) -> None:
    """As a plate's foreground is in use: a ball of one normal under a sky of one color is of one color up to its rim."""
    store = Store(str(tmp_path))
    fill(store, 16)
    for index in range(16):
        shard = ball(index, 48)
        flat = np.broadcast_to(np.float32([0, 0, 1]), shard.maps["normal"].shape)
        soft = cv2.GaussianBlur(shard.maps["alpha"][..., 0], (0, 0), 2.0)[..., None]
        soft *= soft > 0.02
        color = shard.maps["albedo"].max((0, 1))
        cosine = np.clip(rig(LAMPS).directions[:, 2], 0, None) * rig(LAMPS).solid_angles / math.pi
        olat = cosine[:, None, None, None] * color * soft
        shard.maps.update(alpha=soft, normal=flat * (soft > 0), albedo=color * (soft > 0))
        store.write(shard_name(index), pack(replace(shard, olat=olat.astype(np.float32))))
    batch = StageGenerator(StageReader(str(tmp_path)), lights(), 24, seed=1).batch(4, 1)
    assert batch.target is not None
    thin = (batch.matte > 0.1) & (batch.matte < 0.6)
    assert thin.sum() > 50
    for image in (batch.target, batch.surface.albedo):
        for one, here, solid in zip(image, thin, batch.matte > 0.95, strict=True):
            middle = one[:, solid[0]].mean(1, keepdim=True)
            assert ((one[:, here[0]] - middle).abs() / middle).max() < 0.05


def test_the_light_told_is_the_one_that_the_rig_shows() -> None:
    """A sun is as wide as a lamp's cell on the stage, and of the same power."""
    sun = torch.zeros(1, 3, 32, 64)
    sun[..., 12, 40] = 100.0
    shown = shown_by(sun, 96)
    area = solid_angles(32)
    assert (shown * area).sum() == pytest.approx(float((sun * area).sum()), rel=0.1)
    cell = 4 * math.pi / 96
    assert float(shown.max()) < 1.5 * 100.0 * float(area[12, 0]) / cell
    sky = torch.full((1, 3, 32, 64), 0.7)
    torch.testing.assert_close(shown_by(sky, 96), sky, atol=0.01, rtol=0)


def test_metals_keep_a_share_of_their_color_as_made_pictures_do() -> None:
    shard = ball(3)
    gold = np.array([1.0, 0.78, 0.34], np.float32) * shard.maps["alpha"]
    left = np.arange(shard.maps["alpha"].shape[1])[None, :, None] < 12
    half = {
        "f0": np.where(left, gold, shard.maps["f0"]),
        "albedo": np.where(left, 0, shard.maps["albedo"]),
    }
    found = as_subject(replace(shard, maps={**shard.maps, **half})).albedo.permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, np.where(left, 0.07 * gold, shard.maps["albedo"]), atol=1e-6)


def traced(carried: tuple[float, ...]) -> tuple[Any, ...]:
    """A ball with fine stripes, half of it without the lamps of the left, as Cycles photographs it with 96 paths a pixel.

    Of the paths each carries one of the factors ``carried``. What is returned: its pictures without and with noise (L, H, W, 3), cover,
    paint, normals and lamps.
    """
    size, lamps, paths = 72, 64, 96
    subject = as_subject(ball(3, size=size))
    solid = subject.alpha[0].numpy() > 0.99
    normal = subject.normal.permute(1, 2, 0).numpy()
    towards = fibonacci(lamps)
    share = np.maximum(normal @ towards.T, 0)
    share[:, size // 2 :, towards[:, 0] < 0] = 0
    share[~solid] = 0
    share /= np.maximum(share.sum(-1, keepdims=True), 1e-9)
    stripes = (0.3 + 0.4 * (np.arange(size) % 4 < 2))[None, :, None] * np.array([1.0, 0.8, 0.6])
    paint = np.broadcast_to(stripes, (size, size, 3)) * solid[..., None]
    rng = np.random.default_rng(1)
    met = np.zeros_like(share)
    # Twice as many at random are as good as Cycles' own, which are spread evenly.
    each = 2 * paths // len(carried)
    for factor in carried:
        met[solid] += factor * rng.multinomial(
            rng.poisson(each, int(solid.sum())) if len(carried) > 1 else each, share[solid]
        )
    truth, noisy = (
        np.moveaxis(one[..., None] * paint[:, :, None], 2, 0).astype(np.float32)
        for one in (share, met / (2 * paths))
    )
    return truth, noisy, solid, paint, normal, towards


def test_noise_goes_and_texture_and_shadows_stay() -> None:
    truth, noisy, solid, paint, normal, towards = traced((1.0,))
    found = without_noise(noisy, solid, paint, normal, 96)
    assert found.shape == noisy.shape
    np.testing.assert_allclose(found.sum(0), noisy.sum(0), atol=2e-3)
    before, after = (float(np.sqrt(((one - truth)[:, solid] ** 2).mean())) for one in (noisy, found))
    assert after < 0.35 * before
    # Under the lamps of the left together: stripes as they were, and a shadow as sharp as it was.
    left, middle = towards[:, 0] < -0.3, len(solid) // 2
    lit, seen = truth[left].sum(0)[middle], found[left].sum(0)[middle]
    beside = [middle - 3, middle - 2, middle - 1]
    np.testing.assert_allclose(seen[beside], lit[beside], rtol=0.12)
    assert seen[[middle, middle + 1]].max() < 0.08 * lit[beside].max()


def test_noise_of_what_paths_carry_goes_too() -> None:
    """As in skin: most paths are lost in it, few come back with much."""
    truth, noisy, solid, paint, normal, _ = traced((0.0, 0.0, 0.0, 4.0))
    found = without_noise(noisy, solid, paint, normal, 96)

    def error(stack: Any) -> float:
        return float(np.sqrt(((stack.sum(0) - truth.sum(0))[solid] ** 2).mean()))

    assert error(noisy) > 0.02
    assert error(found) < 0.5 * error(noisy)


def test_pictures_smaller_than_a_window_keep_what_they_are() -> None:
    one = np.full((12, 5, 5, 3), 0.1, np.float32)
    flat = np.broadcast_to([0.0, 0.0, 1.0], (5, 5, 3))
    for inside in (True, False):
        found = without_noise(one * inside, np.full((5, 5), inside), 0.5 + 0 * flat, flat, 64)
        np.testing.assert_allclose(found, one * inside, rtol=1e-3)


def test_what_is_black_under_every_lamp_stays_black() -> None:
    black, flat = np.zeros((12, 30, 30, 3), np.float32), np.broadcast_to([0.0, 0.0, 1.0], (30, 30, 3))
    assert (without_noise(black, np.ones((30, 30), bool), 0 * flat, flat, 64) == 0).all()


def test_decoding_undoes_encoding() -> None:
    pixels = torch.tensor([0.0, 1e-4, 0.02, 0.5, 1.0, 40.0])
    assert torch.allclose(decode(encode(pixels)), pixels, rtol=1e-4, atol=1e-6)


def test_a_share_of_a_batch_is_the_sets(tmp_path: Path) -> None:
    url = str(tmp_path / "balls")
    fill(Store(url), 16)

    def balls(seed: int) -> StageGenerator:
        return StageGenerator(StageReader(url), lights(), 20, seed)

    both = Mixed(balls(1), balls(2), 0.3, torch.device("cpu"))
    batch = both.batch(8, targets=1)
    assert torch.equal(batch.plate[:6], balls(1).batch(6, targets=1).plate)
    photographed = balls(2).batch(2, targets=1)
    assert torch.equal(batch.surface.normal[6:], photographed.surface.normal)
    assert batch.target is not None
    assert photographed.target is not None
    assert torch.equal(batch.target[6:], photographed.target)
    assert both.batch(8).target is None
    assert len(both.batch(2).plate) == 2


def test_a_network_learns_from_a_set_alone(tmp_path: Path) -> None:
    url, hdris = str(tmp_path / "balls"), tmp_path / "hdris"
    fill(Store(url), 16)
    hdris.mkdir()
    for k in range(2):
        cv2.imwrite(str(hdris / f"sky{k}.hdr"), np.full((16, 32, 3), 0.5 + k, np.float32))
    run = [
        "normal", "--lights", str(hdris), "--stage-set", url, "--run", str(tmp_path / "run"),
        "--weights", str(tmp_path / "weights"), "--start", "random", "--size", "32", "--batch", "4",
    ]  # fmt: skip
    assert train_command([*run, "--steps", "1", "--stage-share", "0"]) == 2
    assert train_command([*run, "--steps", "4", "--stage-share", "1"]) == 0
    notes = registry.describe("normal", tmp_path / "weights").notes
    assert notes["light_stage_share"] == "1.0"
    assert notes["step"] == "4"
    registry.publish("mmae", UNet(4, 3), tmp_path / "mmae", {})
    enlarged = [*run, "--further", "--steps", "6", "--stage-share", "1", "--enlarge", str(tmp_path / "mmae")]
    enlarged[enlarged.index(str(tmp_path / "run"))] = str(tmp_path / "another")
    assert train_command(enlarged) == 0
    assert registry.describe("normal", tmp_path / "weights").notes["enlarged"] == "True"
    del enlarged[enlarged.index("--stage-set") : enlarged.index("--stage-set") + 2]
    assert train_command(enlarged) == 2  # no set to enlarge


def test_the_autoencoder_enlarges_a_set(tmp_path: Path) -> None:
    url = str(tmp_path / "balls")
    fill(Store(url), 16)
    torch.manual_seed(0)
    network = UNet(4, 3)
    registry.publish("mmae", network, tmp_path / "mmae", {})

    def balls() -> StageGenerator:
        return StageGenerator(StageReader(url), lights(), 64, 5)

    plain = balls().batch(8, targets=1)
    enlarged = Enlarged(balls(), load_mmae(tmp_path / "mmae"), 0.5, 5)
    batch = enlarged.batch(8, targets=1)
    for name in ("albedo", "normal", "roughness"):
        assert torch.equal(getattr(batch.surface, name), getattr(plain.surface, name))
    differs = ((batch.plate - plain.plate).abs() > 1e-3).any(1)
    filled = differs.flatten(1).any(1)
    assert 0 < int(filled.sum()) < 8
    hidden = (differs & (plain.matte[:, 0] > 0.99))[filled].float().mean((1, 2))
    inside = (plain.matte[:, 0] > 0.99)[filled].float().mean((1, 2))
    assert 0.01 < float((hidden / inside).mean()) < 0.4
    assert not (differs & (plain.matte[:, 0] == 0)).any()  # what lies beside the subject stays
    held = balls()
    held.generator.set_state(enlarged.maker.generator.get_state())  # type: ignore[attr-defined]
    assert torch.equal(enlarged.batch(4, held_out=True).plate, held.batch(4, held_out=True).plate)


def test_held_out_subjects_become_a_suite_that_truth_passes(tmp_path: Path) -> None:
    store = Store("memory://suite-of-balls")
    fill(store, 16)
    maker = StageGenerator(StageReader("memory://suite-of-balls"), lights(), 32, seed=4)
    out = write_suite(maker, tmp_path / "balls", 2, "balls")
    folder, suite = load_suite(out)
    truths = iter(suite.cases)

    def true_maps(plate: Any, matte: Any) -> dict[str, Any]:
        case = next(truths)
        read = {
            name: read_plate(folder / str(getattr(case, name))).pixels
            for name in ("albedo", "roughness", "f0")
        }
        return {
            "normal": read_normal(folder / str(case.normal), plate.shape[:2]), "albedo": read["albedo"],
            "roughness": read["roughness"][..., 0], "reflectivity": read["f0"][..., 0],
            "light": read_light(folder / str(case.light)), "foreground": plate, "matte": matte,
            "target": read_plate(folder / case.relit[0].image).pixels,
        }  # fmt: skip

    def true_picture(maps: Any, light: Any) -> dict[str, Any]:
        return {
            "relit": np.dstack([maps["target"] * maps["matte"][..., None], maps["matte"]]),
            "pbr": maps["target"],
        }

    mean = evaluate(out, true_maps, true_picture).mean
    assert mean["normal_mean"] < 0.5
    assert mean["albedo_psnr"] > 50
    assert max(mean["roughness_mae"], mean["f0_mae"], mean["light_ball"]) < 0.01
    assert mean["light_mean"] > 0.02
    assert mean["relit_psnr"] > 30
    with pytest.raises(InputError, match="exists"):
        write_suite(maker, out, 1, "")
