"""Dailies, a movie as the plate, and the farm's template run by openjd: the commands as people call them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from platelight import images
from platelight.images import movie
from platelight.images.exr import read_exr
from platelight.images.movie_out import shown, write_movie
from test_cli_batch import finished

STAND_IN = Path(__file__).with_name("stand_in.py")


@pytest.fixture
def relit(tmp_path: Path) -> Path:
    for number in range(1, 7):
        images.write_light(tmp_path / f"shot.{number:04d}.exr", np.full((24, 32, 3), 0.04 * number), {})
    images.write_light(tmp_path / "sky.exr", np.full((8, 16, 3), 2.0, np.float32), {})
    assert (
        finished(tmp_path, "relight shot.####.exr --light sky.exr --matte full --temporal off -o out")[0] == 0
    )
    return tmp_path


def test_sheet_wipe_and_turntable(relit: Path) -> None:
    code, out, err = finished(relit, "view sheet out -o sheet.png --tiles 4 --columns 2")
    assert (code, out) == (0, "sheet.png\n"), err
    assert images.read_plate(relit / "sheet.png").pixels.shape[1] == 1600
    assert finished(relit, "view wipe out -o wipe.mp4 --rate 25")[0] == 0
    wipe = movie.Movie(relit / "wipe.mp4")
    assert (len(wipe), wipe.rate) == (6, 25)
    wipe.close()
    first = movie.read_frame(relit / "wipe.mp4", 1).color[12, 20]  # the line is at the left: all is plate
    np.testing.assert_allclose(first * 255, shown(np.full((2, 2, 3), 0.04, np.float32))[0, 0], atol=6)
    assert finished(relit, "view turntable out -o turn.mp4 --light sky.exr --steps 8 --pbr-only")[0] == 0
    assert movie.count(relit / "turn.mp4") == 8
    for line, sentence in {
        "view wipe out -o wipe.png": "wipe.png does not end in .mp4.",
        "view wipe . -o wipe.mp4": ". holds no .relit.exr.",
        "view turntable out -o turn.mp4": "A turntable needs a light.",
    }.items():
        code, _, err = finished(relit, line)
        assert code == 2
        assert sentence in err


def test_a_movie_is_a_plate(tmp_path: Path) -> None:
    pictures = [shown(np.full((24, 32, 3), 0.05 * k, np.float32)) for k in range(1, 6)]
    from fractions import Fraction

    write_movie(tmp_path / "take.mp4", pictures, Fraction(25))
    line = "decompose take.mp4 --frames 2-4 --matte full --temporal off -o out --report report.json"
    code, _, err = finished(tmp_path, line)
    assert code == 0, err
    assert json.loads((tmp_path / "report.json").read_text())["done"] == [
        "take.0002",
        "take.0003",
        "take.0004",
    ]
    planes, header = images.read_maps(tmp_path / "out" / "take.0003.maps.exr")
    assert planes["plate"].mean() == pytest.approx(0.15, rel=0.05)
    assert header["framesPerSecond"] == 25
    assert json.loads((tmp_path / "report.json").read_text())["skipped"] == []
    finished(tmp_path, line)
    assert len(json.loads((tmp_path / "report.json").read_text())["skipped"]) == 3
    line = "decompose take.mp4 --frames 2-2 --matte full --temporal off -o lin --colorspace *.mov=srgb --colorspace *.mp4=linear"
    assert finished(tmp_path, line)[0] == 0
    read = read_exr(tmp_path / "lin" / "take.0002.maps.exr")[0]
    assert read.attributes["platelight:colorspace"] == "linear"


@pytest.mark.slow
def test_openjd_checks_and_runs_the_template(relit: Path) -> None:
    pytest.importorskip("openjd.cli")
    from platelight.commands.farm import FILES

    environment = {**os.environ, "PLATELIGHT_CONFIG_DIR": str(relit / "config"), "STAND_IN_SERVER": "1"}

    def openjd(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "openjd", *arguments]
        return subprocess.run(
            line, cwd=relit, env=environment, capture_output=True, text=True, check=False, timeout=240
        )

    checked = openjd("check", str(FILES["openjd"]))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    parameters = {
        "Plates": str(relit / "shot.####.exr"), "Light": str(relit / "sky.exr"), "Output": str(relit / "farmed"),
        "Frames": "1-6", "ChunkSize": "4", "Matte": "full", "Temporal": "off", "Device": "cpu",
        "Command": f"{sys.executable} {STAND_IN}",
    }  # fmt: skip
    given = [part for name, value in parameters.items() for part in ("-p", f"{name}={value}")]
    done = openjd("run", str(FILES["openjd"]), "--step", "Relight", *given)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "openjd_progress: 100.0" in said
    for number in range(1, 7):
        made, alone = (relit / folder / f"shot.{number:04d}.relit.exr" for folder in ("farmed", "out"))
        both = [read_exr(path)[0].channels["R"].astype(np.float32) for path in (made, alone)]
        np.testing.assert_allclose(*both, rtol=2e-3)  # planes travel as half floats to a server
