"""The main job as a stranger runs it: real portrait, real weights, real server, real Blender, one light."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from platelight import cli, demo
from platelight.images import read_maps, read_plate
from platelight.images.exr import read_exr

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.blender,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="needs platelight[blender]"),
]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    command = [
        sys.executable,
        "-m",
        "platelight.cli",
        "demo",
        "--out",
        str(folder),
        "--lights",
        "1",
        "--samples",
        "4",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=560, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--lights", "0", "--lights 0 is out of range. Give 1 to 5."),
        ("--lights", "6", "--lights 6 is out of range. Give 1 to 5."),
        ("--plate", "nowhere.png", "nowhere.png is not a file. Check the path of --plate."),
        ("--plate", ".", ". is not a file. Check the path of --plate."),
    ],
)
def test_bad_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, sentence: str
) -> None:
    assert cli.main(["demo", "--out", str(tmp_path / "out"), option, value]) == 2
    assert capsys.readouterr().err == f"platelight: {sentence}\n"
    assert not (tmp_path / "out").exists()


def test_a_plate_that_is_in_the_folder_already_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> Path:
        raise InterruptedError

    monkeypatch.setattr(demo, "blender_lights", stop)
    plate = tmp_path / "mine.png"
    plate.write_bytes(b"a plate")
    for out in (tmp_path, tmp_path / "other"):
        with pytest.raises(InterruptedError):
            demo.main(["--out", str(out), "--plate", str(plate)])
        assert (out / "mine.png").read_bytes() == b"a plate"


def test_as_many_lights_as_were_asked_for(out: Path) -> None:
    assert [path.name for path in out.glob("*.relit.exr")] == ["astronaut.relit.exr"]


def test_files_are_there_and_whole(out: Path) -> None:
    for name in (
        "normal",
        "albedo",
        "roughness",
        "reflectivity",
        "cavity",
        "matte",
        "depth",
        "light",
        "relit",
    ):
        assert read_plate(out / f"astronaut.{name}.png", colorspace="auto").pixels.size > 0
    assert (out / "contact_sheet.png").stat().st_size > 100_000
    assert not [p.name for p in out.iterdir() if p.name.endswith(".tmp")]


def test_layers_are_those_of_the_design(out: Path) -> None:
    maps = {name for part in read_exr(out / "astronaut.maps.exr") for name in part.channels}
    assert {
        "R",
        "G",
        "B",
        "A",
        "albedo.R",
        "normal.X",
        "roughness.V",
        "reflectivity.V",
        "cavity.V",
        "depth.Z",
        "matte.V",
    } <= maps
    relit = {name for part in read_exr(out / "astronaut.relit.exr") for name in part.channels}
    assert {"R", "G", "B", "A", "pbr.R", "diffuse.R", "specular.R"} <= relit


def test_the_subject_was_found_and_has_form(out: Path) -> None:
    maps, _ = read_maps(out / "astronaut.maps.exr")
    face, sky = maps["matte"][60:200, 190:270], maps["matte"][:60, :60]
    assert face.mean() > 0.9
    assert sky.mean() < 0.1
    solid = maps["matte"] > 0.9
    assert np.ptp(np.percentile(maps["normal"][..., 0][solid], (5, 95))) > 0.5, "normals are flat"
    assert maps["depth"][solid].min() > 0


def test_the_result_is_lit_anew(out: Path) -> None:
    maps, _ = read_maps(out / "astronaut.maps.exr")
    plate, relit = read_plate(out / "astronaut.png").pixels, read_plate(out / "astronaut.relit.exr").pixels
    solid = maps["matte"] > 0.9
    assert np.isfinite(relit).all()
    scale = float(plate[solid].mean() / relit[solid].mean())
    assert np.abs(relit[solid] * scale - plate[solid]).mean() > 0.05 * plate[solid].mean()
