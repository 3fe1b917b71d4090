"""``--server``: the command line through a real server process, and the refusals of a wrong one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from platelight import cli, images

JOB = '''
"""A stand-in for the pipeline: maps that are functions of the plate."""
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from platelight.protocol.errors import NoSubjectError

def configure(device, threads):
    pass

def run(request, planes, progress, cancelled, made):
    kind = type(request).__name__
    with open(Path(__file__).with_name("asked.txt"), "a") as file:
        print(kind, request.halves, *sorted(f"{name}:{plane.dtype}" for name, plane in planes.items()), file=file)
    if kind == "Relight":
        albedo = planes["albedo"].astype(np.float32)
        return SimpleNamespace(planes={"relit": np.dstack([albedo, albedo[..., 0] * 0 + 1])}, meta={})
    plate = np.asarray(planes["plate"], np.float32)
    if request.fov == 99.0:
        raise NoSubjectError("No subject was found in the plate.", "Pass --matte full or a matte file.")
    progress(0.5, "half")
    one = np.ones(plate.shape[:2], np.float32)
    normal = np.zeros_like(plate)
    normal[..., 2] = 1
    planes = dict(foreground=plate, matte=one, normal=normal, albedo=plate * 0.5, roughness=one, reflectivity=one, cavity=one,
                  depth=one, light=np.full((4, 8, 3), request.fov, np.float32))
    if request.halves:
        planes = {name: plane if name in ("depth", "light") else plane.astype(np.float16) for name, plane in planes.items()}
    return SimpleNamespace(planes=planes, meta={"models": {"normal": "served"}})
'''


def start(folder: Path, config: Path) -> tuple[subprocess.Popen[str], str]:
    (folder / "served_job.py").write_text(JOB)
    environment = {**os.environ, "PLATELIGHT_CONFIG_DIR": str(config), "PYTHONPATH": str(folder)}
    line = [sys.executable, "-m", "platelight.cli", "serve", "--port", "0", "--job", "served_job:run"]
    with open(folder / f"{config.name}.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=log, env=environment, text=True)
    assert process.stdout is not None
    said = process.stdout.readline()
    assert said.startswith("listening on "), (folder / f"{config.name}.log").read_text()
    return process, said.split()[-1]


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLATELIGHT_CONFIG_DIR", str(tmp_path / "config"))
    images.write_png("plate.png", np.random.default_rng(0).uniform(0.1, 0.7, (24, 32, 3)), bits=16)
    process, endpoint = start(tmp_path, tmp_path / "config")
    yield endpoint
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def test_decompose_through_a_server(served: str, capsys: pytest.CaptureFixture[str]) -> None:
    for place in ("local", served):
        assert cli.main(f"decompose plate.png -o out --matte full --fov 33 --server {place}".split()) == 0
    assert "out/plate.maps.exr" in capsys.readouterr().out
    planes, header = images.read_maps("out/plate.maps.exr")
    plate = images.read_plate("plate.png").pixels
    np.testing.assert_allclose(planes["albedo"], plate * 0.5, rtol=2e-3, atol=1e-3)
    assert images.read_light("out/plate.light.exr").max() == 33.0
    assert json.loads(header["platelight:models"]) == {"normal": "served"}


def test_maps_travel_as_the_files_hold_them(served: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Halves from the server, and back to it as they came, so that it knows them by their hashes and nothing is sent."""
    images.write_light("studio.exr", np.ones((8, 16, 3), np.float32), {})
    line = [
        "relight",
        "plate.png",
        "--light",
        "studio.exr",
        "-o",
        "out",
        "--matte",
        "full",
        "--png",
        "--server",
        "local",
    ]
    assert cli.main(line) == 0, capsys.readouterr().err
    apart, again = Path("asked.txt").read_text().splitlines()
    assert apart == "Decompose True plate:float32"
    maps = ("albedo", "cavity", "foreground", "matte", "normal", "reflectivity", "roughness")
    kinds = {"light": "float32", "source_light": "float32", **dict.fromkeys(maps, "float16")}
    assert again == " ".join(["Relight False", *sorted(f"{name}:{kind}" for name, kind in kinds.items())])
    made = {
        "plate",
        "foreground",
        "matte and others",
        "normal",
        "albedo",
        "depth",
        "light",
        "studio",
        "relit",
    }
    assert len(list(Path("config/store/blobs").iterdir())) == len(made)
    plate = images.read_plate("plate.png").pixels
    np.testing.assert_allclose(
        images.read_maps("out/plate.maps.exr")[0]["albedo"], plate * 0.5, rtol=2e-3, atol=1e-3
    )


def test_the_servers_sentence_names_the_file(served: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.main(
            ["decompose", "plate.png", "-o", "out", "--matte", "full", "--fov", "99", "--server", "local"]
        )
        == 2
    )
    sentence = "plate.png: No subject was found in the plate. Pass --matte full or a matte file."
    assert capsys.readouterr().err == f"platelight: {sentence}\n"


def test_a_stranger_is_told_that_the_key_is_wrong(
    served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = json.loads((tmp_path / "config" / "server.json").read_text())
    monkeypatch.setenv("PLATELIGHT_CONFIG_DIR", str(tmp_path / "stranger"))
    (tmp_path / "stranger").mkdir(mode=0o700)
    (tmp_path / "stranger" / "server.json").touch(mode=0o600)
    (tmp_path / "stranger" / "server.json").write_text(json.dumps(connection))
    assert cli.main(["decompose", "plate.png", "-o", "out", "--server", "local"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "key" in said
    assert not Path("out").exists()
