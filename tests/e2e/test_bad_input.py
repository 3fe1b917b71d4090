"""Bad input to the real command, as its own process: one sentence on stderr, exit code 2, no output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from platelight.images import write_png_values


def exr(path: Path, channels: dict[str, Any]) -> Path:
    OpenEXR.File({"type": OpenEXR.scanlineimage}, channels).write(str(path))
    return path


def plane(height: int = 40, width: int = 80) -> Any:
    return np.random.default_rng(0).uniform(0.1, 1, (height, width)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    flat = np.full((60, 80, 3), 0.5)
    write_png_values(tmp_path / "flat.png", flat)
    write_png_values(tmp_path / "gray.png", flat[..., 0])
    write_png_values(tmp_path / "one.png", np.ones((1, 1, 3)))
    write_png_values(tmp_path / "square.png", np.full((60, 60), 1.0))
    write_png_values(tmp_path / "black_matte.png", np.zeros((60, 80)))
    (tmp_path / "text.png").write_text("not a picture")
    exr(tmp_path / "alpha.exr", {"A": plane()})
    exr(tmp_path / "light.exr", {leaf: plane() for leaf in "RGB"})
    exr(tmp_path / "square.exr", {leaf: plane(40, 40) for leaf in "RGB"})
    whole = exr(tmp_path / "cut.exr", {leaf: plane() for leaf in "RGB"}).read_bytes()
    (tmp_path / "cut.exr").write_bytes(whole[: len(whole) // 2])
    return tmp_path


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PLATELIGHT_CONFIG_DIR": str(folder / "config")}
    line = [sys.executable, "-m", "platelight.cli", *arguments]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)


NO_SUBJECT = "No subject was found in the plate. Pass --matte full or a matte file."
CASES: dict[str, tuple[str, str]] = {
    "missing": ("decompose nothing.png", "nothing.png: no such file. Check the path."),
    "not an image": (
        "decompose text.png",
        "text.png is not an image that can be read. Give an EXR, PNG, TIFF or JPEG file.",
    ),
    "truncated EXR, which decodes to no part": (
        "decompose cut.exr",
        "cut.exr is a damaged or truncated EXR file: it decodes to no part. Render or export it again.",
    ),
    "alpha only": (
        "decompose alpha.exr",
        "alpha.exr holds only an alpha channel. Give a picture with color.",
    ),
    "no subject": ("decompose flat.png", f"flat.png: {NO_SUBJECT}"),
    "gray, no subject": ("decompose gray.png", f"gray.png: {NO_SUBJECT}"),
    "one pixel, no subject": ("decompose one.png", f"one.png: {NO_SUBJECT}"),
    "no such frames": (
        "decompose shot.####.exr --frames 1-3",
        "shot.0001.exr: no such file (3 frames are missing). Check --frames.",
    ),
    "no such color space": (
        "decompose flat.png --colorspace Kodachrome",
        "flat.png: ocio://studio-config-v2.1.0_aces-v1.3_ocio-v2.3 has no color space named 'Kodachrome'. "
        "It has ACES2065-1, ACEScc, ACEScct, ACEScg, ADX10, ….",
    ),
    "matte of another shape": (
        "decompose flat.png --matte square.png",
        "flat.png: square.png is 60×60 but the plate is 80×60. Give a matte of the plate's shape.",
    ),
    "empty matte": (
        "decompose flat.png --matte black_matte.png",
        "flat.png: black_matte.png is an empty matte: it is black everywhere. Paint the subject white.",
    ),
    "light not 2:1": (
        "relight flat.png --light square.exr",
        "square.exr is 40×40, but a lat-long HDRI is twice as wide as high. Give an equirectangular panorama.",
    ),
    "no light": ("relight flat.png --light none.hdr", "none.hdr: no such file. Check the path."),
    "not maps": (
        "relight --light light.exr --maps light.exr",
        "light.exr is not a Platelight maps file: it lacks matte.V, normal.X, normal.Y, normal.Z. "
        "Make one by 'platelight decompose'.",
    ),
    "nothing to do": (
        "relight --light light.exr",
        "There is nothing to relight. Give a PLATE, or --maps FILE.",
    ),
    "no GPU": (
        "decompose flat.png --device cuda:7",
        "flat.png: The device cuda:7 is not available: PyTorch sees no CUDA GPU. Use --device cpu.",
    ),
    "no suite": (
        "evaluate config_of_nothing",
        "config_of_nothing holds no suite.json. Give the folder of an evaluation suite.",
    ),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_one_sentence_and_exit_code_2(name: str, folder: Path) -> None:
    line, sentence = CASES[name]
    arguments = line.split()
    if arguments[0] != "evaluate":
        arguments += ["-o", "out"]
    if name == "no GPU":
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("this machine has a CUDA GPU")
    done = command(folder, *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"platelight: {sentence}\n"
    assert done.stdout == ""
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "decompose flat.png -o out --working-size 12",
            "Argument --working-size: 12 is not between 64 and 2048.",
        ),
        ("decompose flat.png -o out --fov nan", "Argument --fov: nan is not between 1 and 170."),
        ("decompose flat.png -o out --fov wide", "Argument --fov: 'wide' is not a number."),
        ("decompose flat.png", "The following arguments are required: -o/--output."),
        ("paint flat.png", "Argument COMMAND: invalid choice: 'paint'"),
    ],
)
def test_wrong_options(line: str, sentence: str, folder: Path) -> None:
    done = command(folder, *line.split())
    assert done.returncode == 2
    assert done.stderr.startswith(f"platelight: {sentence}"), done.stderr
    assert done.stderr.count("\n") == 1


def test_no_server(folder: Path) -> None:
    for where in ("local", "tcp://127.0.0.1:9"):
        done = command(folder, "decompose", "flat.png", "-o", "out", "--server", where)
        assert done.returncode == 2
        assert done.stderr.startswith("platelight: ")
        assert done.stderr.count("\n") == 1
        assert "Traceback" not in done.stderr


def poisoned(folder: Path) -> Path:
    pixels = [plane(60, 80) for _ in range(3)]
    pixels[0][0, 0], pixels[1][0, 1], pixels[2][0, 2] = np.nan, np.inf, -1.0
    return exr(folder / "bad.exr", dict(zip("RGB", pixels, strict=True)))


def test_bad_pixels_are_told_before_the_work(folder: Path) -> None:
    poisoned(folder)
    done = command(folder, "decompose", "bad.exr", "-o", "out", "--matte", "nothing.png")
    assert done.stderr.splitlines()[0] == (
        "platelight: bad.exr: 1 NaN, 1 infinite, 1 negative pixel values were replaced."
    )
    assert done.returncode == 2


def test_nearly_2_to_1_warns_and_goes_on(folder: Path) -> None:
    exr(folder / "wide.exr", {leaf: plane(40, 82) for leaf in "RGB"})
    done = command(folder, "relight", "nothing.png", "--light", "wide.exr", "-o", "out")
    assert done.returncode == 2  # the plate is what is wrong
    (folder / "p.png").write_bytes((folder / "flat.png").read_bytes())
    done = command(folder, "relight", "p.png", "--light", "wide.exr", "-o", "out")
    assert done.stderr.splitlines()[0] == "platelight: wide.exr is 82×40, not quite 2:1; it was resampled."
