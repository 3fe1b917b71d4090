"""The command line in this process, with a stand-in for the networks where only the plumbing is tested."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platelight import cli, images
from platelight.commands import relight as relight_command
from platelight.images.exr import read_exr
from platelight.pipeline import service
from platelight.protocol.errors import Cancelled, JobFailed
from platelight.protocol.requests import Decompose, Relight

SIZE = (24, 32)


def fake_job(
    request: Any,
    planes: dict[str, Any],
    progress: Callable[[float, str], None],
    cancelled: Callable[[], bool],
) -> service.JobResult:
    """Maps that are functions of what came in, so that a lost or swapped plane shows."""
    progress(0.5, "half")
    if cancelled():
        raise Cancelled("The job was cancelled.")
    if isinstance(request, Decompose):
        plate = planes["plate"]
        matte = planes["matte"] if request.matte == "given" else np.ones(plate.shape[:2], np.float32)
        normal = np.zeros_like(plate)
        normal[..., 2] = 1.0
        scalar = {
            "roughness": matte * 0.5,
            "reflectivity": matte * 0.04,
            "cavity": matte,
            "depth": matte + 1.0,
        }
        light = np.full((4, 8, 3), request.fov, np.float32)
        maps = {"foreground": plate, "matte": matte, "normal": normal, "albedo": plate * 0.5, "light": light}
        return service.JobResult({**maps, **scalar}, {"models": {"normal": "abc"}})
    assert isinstance(request, Relight)
    shown = planes["albedo"] * planes["light"].mean()
    if request.backdrop == "given":
        shown = planes["backdrop"]
    relit = np.dstack([shown * planes["matte"][..., None], planes["matte"]])
    passes = {"diffuse": shown, "specular": shown * 0, "pbr": shown}
    return service.JobResult({**passes, "relit": relit}, {"models": {"render": "def"}})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLATELIGHT_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setattr(service, "run_job", fake_job)
    rng = np.random.default_rng(0)
    for number in (1, 2, 3):
        images.write_png(tmp_path / f"shot.{number:04d}.png", rng.uniform(0.1, 0.7, (*SIZE, 3)), bits=16)
    images.write_light("sky.exr", np.full((8, 16, 3), 2.0, np.float32), {})
    matte = np.zeros(SIZE)
    matte[4:20, 8:24] = 1.0
    images.write_png_values("matte.png", matte)
    return tmp_path


def test_decompose_a_sequence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "decompose shot.####.png --frames 1-3x2 -o out --temporal off --matte matte.png --fov 55 --png"
    assert cli.main(line.split()) == 0
    made = capsys.readouterr().out.split()
    assert made[:2] == ["out/shot.0001.maps.exr", "out/shot.0001.light.exr"]
    assert "out/shot.0003.maps.exr" in made
    assert all(Path(path).is_file() for path in made)
    assert not list(Path("out").glob("*0002*"))
    planes, header = images.read_maps("out/shot.0001.maps.exr")
    plate = images.read_plate("shot.0001.png").pixels
    np.testing.assert_allclose(planes["plate"], plate, rtol=1e-3)
    np.testing.assert_allclose(planes["albedo"], plate * 0.5, rtol=1e-3, atol=1e-4)
    assert planes["matte"].mean() == pytest.approx(256 / 768)
    assert json.loads(header["platelight:settings"])["fov"] == 55.0
    assert json.loads(header["platelight:models"]) == {"normal": "abc"}
    assert header["platelight:source"] == "shot.0001.png"
    assert images.read_light("out/shot.0001.light.exr").max() == 55.0


def test_relight_takes_apart_first_and_from_maps_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "relight shot.0001.png --light sky.exr -o one --matte full --rotate -30 --exposure 1.5 --pbr-only --png"
    assert cli.main(line.split()) == 0
    made = capsys.readouterr().out.split()
    assert {"one/shot.0001.maps.exr", "one/shot.0001.light.exr", "one/shot.0001.relit.exr"} < set(made)
    part = read_exr("one/shot.0001.relit.exr")[0]
    settings = json.loads(part.attributes["platelight:relight"])
    assert (settings["rotation"], settings["exposure"], settings["pbr_only"]) == (-30.0, 1.5, True)
    assert settings["light"] == "sky.exr"
    plate = images.read_plate("shot.0001.png").pixels
    np.testing.assert_allclose(part.channels["R"].astype(np.float32), plate[..., 0], rtol=2e-3, atol=1e-3)
    assert cli.main(["relight", "--maps", "one/shot.0001.maps.exr", "--light", "sky.exr", "-o", "two"]) == 0
    assert capsys.readouterr().out.split() == ["two/shot.0001.relit.exr"]
    again = read_exr("two/shot.0001.relit.exr")[0].channels["R"].astype(np.float32)
    np.testing.assert_allclose(again, part.channels["R"].astype(np.float32), rtol=3e-3, atol=1e-3)


def test_backdrop_file_is_resized(folder: Path) -> None:
    images.write_png("wall.png", np.full((6, 8, 3), 0.25), bits=16)
    assert (
        cli.main(
            [
                "relight",
                "shot.0001.png",
                "--light",
                "sky.exr",
                "-o",
                "out",
                "--matte",
                "full",
                "--backdrop",
                "wall.png",
            ]
        )
        == 0
    )
    np.testing.assert_allclose(read_exr("out/shot.0001.relit.exr")[0].channels["G"], 0.25, rtol=1e-3)


def test_a_backdrop_of_another_shape_covers_and_is_not_stretched() -> None:
    rows, columns = np.mgrid[:60, :80].astype(np.float32)
    behind = np.stack([columns, rows, 0 * rows], -1)
    for size in ((90, 160), (40, 40), (30, 120)):
        shown = relight_command._covering(behind, *size)
        assert shown.shape == (*size, 3)
        across, down = shown[0, -1, 0] - shown[0, 0, 0], shown[-1, 0, 1] - shown[0, 0, 1]
        assert across / down == pytest.approx(size[1] / size[0], rel=0.06)  # a circle stays one
        assert shown[..., 0].mean() == pytest.approx(39.5, abs=0.6)
        assert shown[..., 1].mean() == pytest.approx(29.5, abs=0.6)
    np.testing.assert_array_equal(relight_command._covering(behind, 60, 80), behind)


def test_a_plate_with_alpha_is_its_own_matte(folder: Path) -> None:
    alpha = np.zeros(SIZE)
    alpha[:12] = 1.0
    images.write_png_values("cut.png", np.full((*SIZE, 3), 0.5), alpha=alpha)
    assert cli.main(["decompose", "cut.png", "-o", "out"]) == 0
    np.testing.assert_array_equal(images.read_maps("out/cut.maps.exr")[0]["matte"], alpha)


def test_cancel_and_failure_have_their_exit_codes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(request: Any, planes: Any, progress: Any, cancelled: Any) -> service.JobResult:
        os.kill(os.getpid(), signal.SIGINT)
        deadline = time.monotonic() + 5.0
        while not cancelled() and time.monotonic() < deadline:
            time.sleep(0.01)
        return fake_job(request, planes, progress, cancelled)

    monkeypatch.setattr(service, "run_job", interrupted)
    assert cli.main(["decompose", "shot.0001.png", "-o", "out", "--matte", "full"]) == 130
    assert capsys.readouterr().err == "platelight: The job was cancelled.\n"
    assert not Path("out").exists()

    def failing(*_: Any) -> service.JobResult:
        raise JobFailed("The worker died.", "Look at the log.")

    monkeypatch.setattr(service, "run_job", failing)
    assert cli.main(["decompose", "shot.0001.png", "-o", "out", "--matte", "full"]) == 1
    assert capsys.readouterr().err == "platelight: shot.0001.png: The worker died. Look at the log.\n"

    def broken(*_: Any) -> service.JobResult:
        raise RuntimeError("a bug")

    monkeypatch.setattr(service, "run_job", broken)
    assert cli.main(["decompose", "shot.0001.png", "-o", "out", "--matte", "full"]) == 1
    assert capsys.readouterr().err.startswith(
        "platelight: Internal error at shot.0001.png (RuntimeError: a bug)."
    )


def test_doctor_tells_each_thing_and_fails_when_one_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from platelight.commands import doctor

    cli.main(["doctor", "--json"])
    found = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    for name in (
        "platelight",
        "torch",
        "OpenEXR",
        "device",
        "matting network",
        "config folder",
        "encryption",
        "server",
    ):
        assert name in found
    assert found["OpenEXR"]["state"] == "ok"
    assert found["server"]["state"] == "note"
    monkeypatch.setitem(doctor.PACKAGES, "numpyy", "numpyy")
    assert cli.main(["doctor"]) == 1
    assert "pip install numpyy" in capsys.readouterr().out


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    script = (
        "import sys; from platelight.cli import main; code = main(['--help']); "
        "heavy = {'torch', 'numpy', 'cv2', 'OpenEXR', 'zmq', 'rich', 'scipy'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("decompose", "relight", "evaluate", "doctor", "serve", "train", "demo"):
        assert command in done.stdout


def test_forwarded_commands_have_their_own_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--help"]) == 0
    assert "platelight serve" in capsys.readouterr().out
    assert cli.main(["train", "--help"]) == 0
    assert "platelight train" in capsys.readouterr().out
