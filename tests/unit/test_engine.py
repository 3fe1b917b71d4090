"""Engines give what PyTorch gives, are chosen with a reason, and say in a sentence what is missing."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from platelight.commands import doctor, options
from platelight.models import engine, precision, registry
from platelight.models.engine import Engine
from platelight.models.networks import DiffuseNet, NormalNet
from platelight.pipeline import service
from platelight.protocol.errors import InputError
from platelight.protocol.requests import Decompose
from platelight.server.config import ServeConfig

CPU = torch.device("cpu")
INSTALLED = importlib.util.find_spec("openvino") is not None
openvino = pytest.mark.skipif(not INSTALLED, reason="the extra openvino is not installed")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLATELIGHT_CACHE_DIR", str(tmp_path))
    return tmp_path / "networks"


def pictures(channels: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(height))


def taken_apart(height: int, width: int, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """What DiffuseNet sees when the pipeline takes a lit, painted sphere apart: errors of rounding depend on what is rounded."""
    seen: list[torch.Tensor] = []
    forward = DiffuseNet.forward

    def watched(self: DiffuseNet, x: torch.Tensor) -> torch.Tensor:
        seen.append(x.detach().float().clone())
        return forward(self, x)

    y, x = np.mgrid[:height, :width].astype(np.float32) + 0.5
    across, up = (x - width / 2) / (0.45 * width), (height / 2 - y) / (0.45 * height)
    inside = across**2 + up**2 < 1
    toward = np.sqrt(np.clip(1 - across**2 - up**2, 0, 1))
    light = np.clip(0.5 * across + 0.5 * up + 0.7 * toward, 0.05, None)[..., None]
    paint = np.where((np.sin(across * 9) * np.sin(up * 7))[..., None] > 0, (0.6, 0.35, 0.2), (0.2, 0.3, 0.5))
    with monkeypatch.context() as patched:
        patched.setattr(DiffuseNet, "forward", watched)
        service.run_job(
            Decompose(matte="given", faces="off"),
            {
                "plate": (light * paint * inside[..., None]).astype(np.float32),
                "matte": inside.astype(np.float32),
            },
        )
    return seen[0]


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Root mean square of the difference over that of what should be."""
    return float((one - other).square().mean().sqrt() / other.square().mean().sqrt())


@openvino
def test_openvino_gives_the_same_at_any_size(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, other, third = (registry.load("diffuse") for _ in range(3))
    assert isinstance(plain, DiffuseNet)
    engine.equip(other, Engine.OPENVINO, "diffuse")
    files = {file.name: file.stat().st_mtime_ns for file in cache.iterdir()}
    assert (
        sorted(name.partition("-")[2].partition("-")[0] for name in files)
        == ["decoder"] * 2 + ["encoder"] * 2
    )
    engine.equip(third, Engine.OPENVINO, "diffuse")  # of the files
    assert {file.name: file.stat().st_mtime_ns for file in cache.iterdir()} == files
    with torch.inference_mode():
        for size in ((96, 160), (160, 96), (160, 160)):
            x = taken_apart(*size, monkeypatch)
            exact = plain(x)
            assert apart(other(x), exact) < 1e-4
            assert torch.equal(other(x), third(x))
            with torch.autocast("cpu", torch.bfloat16):
                rounded = other(x)
                allowed = apart(plain(x), exact)  # PyTorch's own error in bfloat16
            assert rounded.dtype == torch.float32
            if precision.has_bf16(CPU):
                assert 0.0 < apart(rounded, exact) < max(1.25 * allowed, 0.01)


@openvino
def test_a_damaged_file_is_made_again_and_a_folder_that_cannot_be_written_stops_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain, other = registry.load("specular"), registry.load("specular")
    x = pictures(10, 64, 64)
    engine.equip(other, Engine.OPENVINO, "specular")
    for file in cache.glob("*.xml"):
        file.write_text("<net")
    with torch.inference_mode():
        for _ in range(2):
            again = registry.load("specular")
            engine.equip(again, Engine.OPENVINO, "specular")
            assert apart(again(x), plain(x)) < 1e-4
            (tmp_path / "file").write_text("")
            monkeypatch.setenv("PLATELIGHT_CACHE_DIR", str(tmp_path / "file"))


@openvino
def test_normals_and_features_come_from_the_engine_too(cache: Path) -> None:
    plain, other = registry.load("normal"), registry.load("normal")
    assert isinstance(plain, NormalNet)
    assert isinstance(other, NormalNet)
    engine.equip(other, Engine.OPENVINO, "normal")
    plate, matte = pictures(3, 96, 128), torch.ones(1, 1, 96, 128)
    with torch.inference_mode():
        features, normal, hints = plain.everything(plate, matte)
        got = other.everything(plate, matte)
    assert apart(got[1], normal) < 1e-4
    assert apart(got[2], hints) < 1e-4
    assert all(apart(a, b) < 1e-4 for a, b in zip(got[0], features, strict=True))


@openvino
def test_openvino_tells_its_maker_nothing() -> None:
    """Its package of telemetry, where installed, is never imported: each import of OpenVINO would be reported."""
    code = (
        "import sys; from platelight.models import vino; vino._openvino();"
        "assert not [name for name, module in sys.modules.items() if 'openvino_telemetry' in name and module]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("g++") is None or not Path(sysconfig.get_path("include"), "Python.h").is_file(),
    reason="torch.compile needs a C++ compiler and Python's headers on processors",
)
def test_compiled_networks_give_the_same(caplog: pytest.LogCaptureFixture) -> None:
    plain, other = registry.load("specular"), registry.load("specular")
    engine.equip(other, Engine.COMPILE)
    x = pictures(10, 64, 96)
    with torch.inference_mode():
        assert apart(other(x), plain(x)) < 1e-4
    assert "uncompiled" not in caplog.text


def test_what_does_not_compile_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object, **__: object) -> object:
        def call(*_: object) -> object:
            raise RuntimeError("Cannot find a working triton installation\nand more")

        return call

    monkeypatch.setattr(torch, "compile", fails)
    plain, other = registry.load("specular"), registry.load("specular")
    engine.equip(other, Engine.COMPILE)
    x = pictures(10, 64, 64)
    with torch.inference_mode(), caplog.at_level(logging.WARNING):
        assert torch.equal(other(x), plain(x))
        other(x)
    assert caplog.text.count("networks run uncompiled: Cannot find a working triton installation") == 2


def test_the_choice_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_version", lambda: "2026.4.1")
    chosen, why = engine.choose(Engine.AUTO, CPU)
    assert chosen is Engine.TORCH
    assert why.startswith("OpenVINO 2026.4.1 is faster once loaded, but")
    assert engine.choose(Engine.AUTO, torch.device("cuda"))[0] is Engine.COMPILE
    assert engine.choose(Engine.AUTO, torch.device("mps"))[0] is Engine.TORCH
    assert engine.choose(Engine.TORCH, CPU) == (Engine.TORCH, "asked for")
    with pytest.raises(InputError, match="on processors only, not on cuda:1"):
        engine.choose(Engine.OPENVINO, torch.device("cuda:1"))


def test_what_is_not_installed_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_version", lambda: None)
    with pytest.raises(InputError) as told:
        service.choose_engine("openvino")
    assert str(told.value) == (
        "The engine openvino needs the package openvino. "
        "Install it: pip install 'platelight[openvino]', or use --networks torch."
    )
    chosen, why = engine.choose(Engine.AUTO, CPU)
    assert chosen is Engine.TORCH
    assert why.endswith("is not installed: pip install 'platelight[openvino]'")
    monkeypatch.setattr(doctor, "_kind", lambda: "cpu")
    assert doctor._engine() == doctor.Finding("engine", doctor.State.OK, f"torch: {why}")


@pytest.mark.parametrize("other", [0.03, 0.07])
def test_doctor_measures_what_it_chose(other: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_version", lambda: "2026.4.1")
    monkeypatch.setattr(engine, "compared", lambda *_: (0.05, other))
    monkeypatch.setattr(doctor, "_kind", lambda: "cpu")
    finding = doctor._engine()
    assert finding.state == "ok"
    assert finding.text.startswith("torch: OpenVINO 2026.4.1 is faster once loaded")
    assert f"{1000 * other:.0f} ms a pass of a network by openvino, 50 by PyTorch as it is" in finding.text
    assert finding.text.endswith("--networks openvino") == (other < 0.05)
    monkeypatch.setattr(doctor, "_kind", lambda: "cuda")
    on_gpu = doctor._engine()
    assert on_gpu.text.startswith("compile")
    assert (on_gpu.state == "note") == ("--networks torch is faster here" in on_gpu.text) == (other > 0.05)


@openvino
def test_engines_are_compared_by_the_clock(cache: Path) -> None:
    plain, other = engine.compared(lambda: registry.load("specular"), Engine.OPENVINO, CPU)
    assert 0.0 < plain < 60.0
    assert 0.0 < other < 60.0


def test_commands_and_servers_know_the_same_engines() -> None:
    parser = argparse.ArgumentParser()
    options.add_networks(parser)
    (action,) = (a for a in parser._actions if a.dest == "networks")
    assert tuple(action.choices or ()) == tuple(Engine) == get_args(get_type_hints(ServeConfig)["engine"])
    assert action.default == ServeConfig().engine == Engine.AUTO
