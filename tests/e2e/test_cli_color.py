"""Color through the whole command line: a gray and a color checker, with OpenColorIO's own configuration and with one of the test's,
computed here and by a server. What comes out is held against matrices and curves that are written down in this file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platelight import cli, images
from platelight.images import ocio
from platelight.images.color import matrix_to_rec709, srgb_to_linear
from platelight.images.exr import half, read_exr, write_exr
from platelight.pipeline import service

CHECKER = """735244 c29682 627a9d 576c43 8580b1 67bdaa d67e2c 505ba6 c15a63 5e3c6c 9dbc40 e0a32e
383d96 469449 af363c e7c71f bb5695 0885a1 f3f3f2 c8c8c8 a0a0a0 7a7a79 555555 343434"""
"""The 24 patches of the color checker, sRGB codes; the last six are gray."""
AP0 = (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767)
AP1 = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)
REC2020 = (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290)
CONFIG = """ocio_profile_version: 2
name: house
roles: {{aces_interchange: ap0, scene_linear: house wide, default: house wide}}
file_rules:
  - !<Rule> {{name: Default, colorspace: default}}
displays:
  none:
    - !<View> {{name: Raw, colorspace: off}}
active_displays: [none]
active_views: [Raw]
colorspaces:
  - !<ColorSpace>
    name: ap0
  - !<ColorSpace>
    name: house wide
    aliases: [wide]
    to_scene_reference: !<MatrixTransform> {{matrix: [{matrix}]}}
  - !<ColorSpace>
    name: house log
    to_scene_reference: !<GroupTransform>
      children:
        - !<LogTransform> {{base: 10, direction: inverse}}
        - !<MatrixTransform> {{matrix: [{matrix}]}}
  - !<ColorSpace>
    name: off
    isdata: true
"""
JOB = '''
"""The result is the plate, and its render the light: what came in goes out."""
from types import SimpleNamespace
import numpy as np
from platelight.protocol.requests import Decompose

def configure(device, threads):
    pass

def run(request, planes, progress, cancelled, made=None):
    progress(1.0, "done")
    if not isinstance(request, Decompose):
        shown = np.asarray(planes["albedo"], np.float32)
        lit = np.asarray(planes["light"], np.float32)
        relit = np.dstack([shown, np.ones(shown.shape[:2], np.float32)])
        return SimpleNamespace(planes=dict(relit=relit, pbr=lit, diffuse=lit, specular=lit), meta={})
    plate = np.asarray(planes["plate"], np.float32)
    one = np.ones(plate.shape[:2], np.float32)
    normal = np.zeros_like(plate)
    normal[..., 2] = 1
    maps = dict(foreground=plate, matte=one, normal=normal, albedo=plate, roughness=one, reflectivity=one, cavity=one, depth=one)
    return SimpleNamespace(planes={**maps, "light": plate}, meta={"models": {}})
'''


def patches() -> np.ndarray:
    """Linear Rec.709 (12, 24, 3): the checker, four by three times, and a gray card below."""
    codes = np.array([list(bytes.fromhex(code)) for code in CHECKER.split()], np.float32)
    found = np.tile(srgb_to_linear(codes.reshape(4, 6, 3) / 255.0), (3, 4, 1))
    found[8:] = 0.18
    return found


def wide(pixels: np.ndarray) -> np.ndarray:
    """Linear Rec.709 as Rec.2020, both D65."""
    return np.asarray(pixels @ np.linalg.inv(matrix_to_rec709(REC2020)).T)


def acescg(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(pixels @ np.linalg.inv(matrix_to_rec709(AP1)).T)


def log(pixels: np.ndarray) -> np.ndarray:
    return np.log10(np.maximum(wide(pixels), 1e-6))


def store(path: str, pixels: np.ndarray) -> None:
    write_exr(path, {key: np.asarray(pixels[..., i], np.float32) for i, key in enumerate("RGB")}, {})


def off(found: np.ndarray, wanted: np.ndarray) -> float:
    """The greatest error of a patch, as a share of its brightest channel."""
    return float((np.abs(found - wanted) / np.abs(wanted).max(axis=-1, keepdims=True)).max())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLATELIGHT_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.delenv("OCIO", raising=False)
    (tmp_path / "color_job.py").write_text(JOB)
    values = np.eye(4)
    values[:3, :3] = np.linalg.inv(matrix_to_rec709(AP0)) @ matrix_to_rec709(REC2020)
    (tmp_path / "house.ocio").write_text(CONFIG.format(matrix=", ".join(f"{v:.9f}" for v in values.ravel())))
    yield tmp_path
    ocio.choose(None)


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs run in this process, by the stand-in."""
    names: dict[str, Any] = {}
    exec((folder / "color_job.py").read_text(), names)
    monkeypatch.setattr(service, "run_job", names["run"])


@pytest.fixture
def served(folder: Path) -> Iterator[None]:
    """A server that has no configuration: colors are its client's matter."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    line = [sys.executable, "-m", "platelight.cli", "serve", "--port", "0", "--job", "color_job:run"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("listening on ")
    yield
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


Turn = Callable[[np.ndarray], np.ndarray]


def comes_through(
    options: list[str], names: tuple[str, str, str], to_space: Turn, to_light: Turn, to_output: Turn
) -> None:
    """Relight the checker under the checker, and hold maps, light and result against it."""
    truth = patches()
    store("plate.exr", to_space(truth))
    store("sky.exr", to_light(truth))
    line = ["relight", "plate.exr", "--light", "sky.exr", "-o", "out", "--matte", "full", "--overwrite"]
    space, light_space, output = names
    spaces = ["--colorspace", space, "--light-colorspace", light_space, "--output-colorspace", output]
    assert cli.main([*line, *spaces, *options]) == 0
    assert off(images.read_maps("out/plate.maps.exr")[0]["plate"], truth) <= 0.005
    part = read_exr("out/plate.relit.exr")[0]
    for prefix in ("", "pbr."):  # the plate and the light
        found = np.stack([part.channels[prefix + key] for key in "RGB"], -1).astype(np.float32)
        assert off(found, to_output(truth)) <= 0.005, prefix
    # Whoever reads the result by the primaries in its header sees what went in.
    assert off(images.read_plate("out/plate.relit.exr").pixels, truth) <= 0.005


def same(pixels: np.ndarray) -> np.ndarray:
    return pixels


def test_the_usual_configuration(here: None) -> None:
    comes_through([], ("ACEScg", "ACEScg", "linear"), acescg, acescg, same)
    comes_through([], ("linear", "Linear Rec.2020", "ACEScg"), same, wide, acescg)


def test_a_configuration_of_ones_own(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    comes_through(["--ocio", "house.ocio"], ("house log", "wide", "house wide"), log, wide, wide)
    monkeypatch.setenv("OCIO", "house.ocio")
    comes_through([], ("scene_linear", "house log", "linear"), wide, log, same)
    assert (
        cli.main(["relight", "plate.exr", "--light", "sky.exr", "-o", "out", "--colorspace", "ACEScg"]) == 2
    )


def test_a_server_computes_in_linear_whatever_the_clients_configuration(served: None) -> None:
    options = ["--ocio", "house.ocio", "--server", "local"]
    comes_through(options, ("house log", "house wide", "wide"), log, wide, wide)
    comes_through(["--server", "local"], ("ACEScg", "ACEScg", "ACEScg"), acescg, acescg, acescg)


def test_a_backdrop_has_a_space_of_its_own(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its color comes as the plate's does, and what is cut out of it is black."""
    truth, seen = patches(), []
    job = service.run_job

    def run(request: Any, planes: Any, *others: Any) -> Any:
        seen.extend([planes["backdrop"]] if "backdrop" in planes else [])
        return job(request, planes, *others)

    monkeypatch.setattr(service, "run_job", run)
    alpha = np.ones(truth.shape[:2], np.float32)
    alpha[:, 12:] = 0.5
    premultiplied = np.dstack([acescg(truth) * alpha[..., None], alpha])
    store("plate.exr", truth)
    write_exr(
        "behind.exr", {key: premultiplied[..., i].astype(np.float32) for i, key in enumerate("RGBA")}, {}
    )
    line = [
        "relight",
        "plate.exr",
        "--light",
        "plate.exr",
        "-o",
        "out",
        "--matte",
        "full",
        "--backdrop",
        "behind.exr",
    ]
    assert cli.main([*line, "--backdrop-colorspace", "ACEScg"]) == 0
    assert off(seen[0], truth * alpha[..., None]) <= 0.005
    assert cli.main(line) == 0  # another space makes the output again
    assert off(seen[1], truth * alpha[..., None]) > 0.05


def test_a_plate_cut_out_by_its_own_alpha_stands_before_black(
    here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the same picture with a matte file: straight color would be taken apart as if a backdrop shone through it."""
    sent: list[tuple[np.ndarray, np.ndarray]] = []
    job = service.run_job

    def run(request: Any, planes: Any, *others: Any) -> Any:
        if "matte" in planes and "normal" not in planes:
            sent.append((planes["plate"], planes["matte"]))
        return job(request, planes, *others)

    monkeypatch.setattr(service, "run_job", run)
    truth = patches()
    alpha = np.full(truth.shape[:2], 0.25, np.float32)
    alpha[:, 6:] = 1.0
    stored = truth * alpha[..., None]
    write_exr(
        "cut.exr",
        {key: np.dstack([stored, alpha])[..., i].astype(np.float32) for i, key in enumerate("RGBA")},
        {},
    )
    store("whole.exr", stored)
    images.write_png_values("matte.png", alpha)
    line = ["decompose", "-o", "out"]
    assert cli.main([*line, "cut.exr"]) == 0
    assert cli.main([*line, "whole.exr", "--matte", "matte.png"]) == 0
    for cut, whole in zip(*sent, strict=True):
        np.testing.assert_allclose(cut, whole, atol=3e-3)
    assert off(images.read_maps("out/cut.maps.exr")[0]["plate"], stored) <= 0.005


def test_another_configuration_makes_outputs_again(here: None) -> None:
    store("plate.exr", wide(patches()))
    line = ["decompose", "plate.exr", "-o", "out", "--matte", "full", "--colorspace", "wide", "--ocio"]
    written = []
    config = Path("house.ocio").read_text()
    for text in (config, config, config.replace("matrix: [0.6", "matrix: [0.5")):
        Path("house.ocio").write_text(text)
        ocio._load.cache_clear()
        ocio._processor.cache_clear()
        assert cli.main([*line, "house.ocio"]) == 0
        written.append(Path("out/plate.maps.exr").stat().st_mtime_ns)
    assert written[0] == written[1] < written[2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--colorspace", "ACEScgg"], ["ocio://studio", "no color space named 'ACEScgg'", "It has ACEScg"]),
        (["--ocio", "house.ocio", "--colorspace", "hous wide"], ["house.ocio", "'hous wide'", "house wide"]),
        (["--ocio", "gone.ocio", "--colorspace", "wide"], ["gone.ocio: no such OpenColorIO configuration"]),
        (["--ocio", "plate.exr", "--colorspace", "wide"], ["plate.exr is no OpenColorIO configuration"]),
        (["--ocio", "lone.ocio", "--colorspace", "wide"], ["lone.ocio", "aces_interchange"]),
        (["--ocio", "house.ocio", "--output-colorspace", "house log"], ["house log is not linear"]),
        (["--output-colorspace", "sRGB - Texture"], ["not linear"]),
    ],
)
def test_what_is_wrong_is_one_sentence(
    here: None, capsys: pytest.CaptureFixture[str], options: list[str], words: list[str]
) -> None:
    store("plate.exr", patches())
    config = Path("house.ocio").read_text()
    # Nor does it hold a space that OpenColorIO recognizes by its numbers.
    lone = config.replace("aces_interchange: ap0, ", "").replace("ap0", "house reference")
    Path("lone.ocio").write_text(lone.replace("matrix: [0.6", "matrix: [0.4"))
    code = cli.main(
        ["relight", "plate.exr", "--light", "plate.exr", "-o", "out", "--matte", "full", *options]
    )
    said = capsys.readouterr().err
    assert code == 2, said
    assert said.count("\n") == 1
    for word in words:
        assert word in said, said
    assert not list(Path().glob("out/*.exr"))


def test_half_floats_hold_the_checker() -> None:
    assert off(half(patches()).astype(np.float32), patches()) <= 0.001
