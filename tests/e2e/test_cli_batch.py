"""Batches that are killed, resumed and fed with bad frames, each as a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from platelight import images
from platelight.images.exr import read_exr

pytestmark = pytest.mark.alone

FRAMES = 24


def command(folder: Path, line: str, seconds: float = 0.0, log: str = "jobs.log") -> subprocess.Popen[str]:
    environment = {
        **os.environ, "PLATELIGHT_CONFIG_DIR": str(folder / "config"), "STAND_IN_SECONDS": str(seconds),
        "STAND_IN_LOG": str(folder / log),
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("stand_in.py")), *line.split()],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def killed(folder: Path, line: str, log: str, kills: int, seconds: float, rng: random.Random) -> int:
    """Run a command that is killed again and again, each time a few jobs on, at any moment; then let it finish.

    Returns how often it was killed at work.
    """
    file, hit = folder / log, 0
    for _ in range(kills):
        process = command(folder, line, seconds, log)
        goal = rng.randint(1, 2 * FRAMES // kills) + (
            len(file.read_text().splitlines()) if file.exists() else 0
        )
        while process.poll() is None and not (file.exists() and len(file.read_text().splitlines()) >= goal):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 2 * seconds))
        hit += process.poll() is None
        process.kill()
        process.communicate()
    assert finished(folder, line, seconds=seconds, log=log)[0] == 0  # type: ignore[arg-type]
    return hit


def finished(folder: Path, line: str, **more: str) -> tuple[int, str, str]:
    process = command(folder, line, **more)  # type: ignore[arg-type]
    out, err = process.communicate(timeout=280)
    return process.returncode, out, err


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, by its sha256."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def shot(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(1, FRAMES + 1):
        attributes = {"timeCode": f"00:00:00:{number:02d}"}
        images.write_light(
            tmp_path / f"shot.{number:04d}.exr", rng.uniform(0.1, 0.7, (24, 32, 3)), attributes
        )
    images.write_light(tmp_path / "sky.exr", np.full((8, 16, 3), 2.0, np.float32), {})
    return tmp_path


LINE = "relight shot.####.exr --light sky.exr --matte full --temporal off -o"


def test_killed_and_resumed_equals_uninterrupted(shot: Path) -> None:
    assert finished(shot, f"{LINE} whole", log="whole.log")[0] == 0
    kills = killed(shot, f"{LINE} killed --progress lines", "jobs.log", 4, 0.02, random.Random(3))
    assert kills >= 3
    assert contents(shot / "killed") == contents(shot / "whole")
    for kind in ("maps", "light", "relit"):  # a plate's own attributes are carried on
        header = read_exr(shot / "whole" / f"shot.0007.{kind}.exr")[0].attributes
        assert header["timeCode"] == "00:00:00:07"
    # No frame twice but those in flight: one being computed and those waiting to be written.
    computed = Counter((shot / "jobs.log").read_text().splitlines())
    assert len(computed) == 2 * FRAMES
    assert sum(computed.values()) - len(computed) <= kills * 2 * 4


def test_a_second_run_skips_and_changes_are_noticed(shot: Path) -> None:
    line = "decompose shot.####.exr --frames 1-4 --matte full --temporal off -o out --report report.json"

    def run(more: str = "") -> dict[str, list[str]]:
        assert finished(shot, f"{line} {more}")[0] == 0
        found: dict[str, list[str]] = json.loads((shot / "report.json").read_text())
        return found

    assert run()["done"] == ["shot.0001", "shot.0002", "shot.0003", "shot.0004"]
    before = contents(shot / "out")
    again = run()
    assert (again["done"], len(again["skipped"])) == ([], 4)
    os.utime(shot / "shot.0001.exr")  # touched only: the content decides
    assert run()["done"] == []
    images.write_light(shot / "shot.0002.exr", np.full((24, 32, 3), 0.5), {})
    assert run()["done"] == ["shot.0002"]
    (shot / "out" / "shot.0003.light.exr").unlink()
    assert run()["done"] == ["shot.0003"]
    damaged = shot / "out" / "shot.0004.maps.exr"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")  # same size, changed after its record
    assert run()["done"] == ["shot.0004"]
    after = contents(shot / "out")
    assert {name for name in after if after[name] != before[name]} == {
        "shot.0002.maps.exr", "shot.0002.light.exr", ".platelight/shot.0002.decompose.json"
    }  # fmt: skip
    assert len(run("--fov 50")["done"]) == 4
    assert len(run("--fov 50 --overwrite")["done"]) == 4


def test_bad_frames_are_named_and_the_rest_is_finished(shot: Path) -> None:
    (shot / "shot.0003.exr").unlink()
    images.write_light(shot / "shot.0005.exr", np.full((12, 16, 3), 0.5), {})
    (shot / "shot.0007.exr").write_bytes(b"\x76\x2f\x31\x01 and no more")
    images.write_light(shot / "shot.0009.exr", np.full((24, 32, 3), 500.0), {})
    line = "decompose shot.####.exr --frames 1-10 --matte full --temporal off -o out --report report.json"
    code, out, err = finished(shot, f"{line} --keep-going")
    assert code == 3
    assert len(out.split()) == 12
    report = json.loads((shot / "report.json").read_text())
    assert [entry["number"] for entry in report["failed"]] == [3, 5, 7, 9]
    why = [entry["why"] for entry in report["failed"]]
    assert why == [
        "shot.0003.exr: no such file. Check the path.",
        "shot.0005.exr is 16×12, but its shot is 32×24. Give frames of one size.",
        "shot.0007.exr is not a readable EXR file. Render or export it again.",
        "shot.0009.exr: The subject is on fire. Put it out.",
    ]
    assert all(f"platelight: {sentence}\n" in err for sentence in why)
    assert "platelight: 6 frames done, 0 skipped, 4 failed" in err
    made = {path.name for path in (shot / "out").iterdir()}
    assert not [name for name in made if "0003" in name or "0005" in name or ".part" in name]
    # Without --keep-going the first failure ends the batch; what went before it is whole and stays.
    code, _, err = finished(shot, line.replace("-o out", "-o other"))
    assert code == 2
    assert "shot.0003.exr: no such file. Check --frames." in err
    code, out, err = finished(shot, line.replace("-o out", "-o other").replace("1-10", "4-10"))
    assert (code, err.splitlines()[-1]) == (2, f"platelight: {why[1]}")
    assert "other/shot.0004.maps.exr" in out


DEADLY = """
import os, signal, sys
if "platelight.images.apart_child" in sys.orig_argv:
    import OpenEXR
    class File(OpenEXR.File):
        def __init__(self, name, **more):
            if "shot.0002" in name and not more.get("header_only"):
                os.kill(os.getpid(), signal.SIGSEGV)
            super().__init__(name, **more)
    OpenEXR.File = File
"""


@pytest.mark.skipif(os.name != "posix", reason="decodes in the same process there")
def test_a_frame_that_crashes_its_decoder_costs_itself_only(
    shot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shot / "site").mkdir()
    (shot / "site" / "sitecustomize.py").write_text(DEADLY)
    monkeypatch.setenv("PYTHONPATH", f"{shot / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    line = "decompose shot.####.exr --frames 1-4 --matte full --temporal off -o out --report report.json"
    code, out, err = finished(shot, f"{line} --keep-going")
    why = "shot.0002.exr is damaged: it crashes its decoder (SIGSEGV). Render or export it again."
    assert (code, len(out.split())) == (3, 6)
    assert [entry["why"] for entry in json.loads((shot / "report.json").read_text())["failed"]] == [why]
    assert f"platelight: {why}\n" in err
    code, _, err = finished(shot, "decompose shot.0002.exr --matte full -o alone")
    assert (code, err.splitlines()[-1]) == (2, f"platelight: {why}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(shot: Path) -> None:
    (shot / "out").mkdir(mode=0o500)
    code, _, err = finished(shot, "decompose shot.####.exr --frames 1-2 --matte full --temporal off -o out")
    assert code == 2
    assert "out/shot.0001.maps.exr cannot be written" in err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48k", "none", str(place)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("a small disk can be mounted by root only")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_named_and_nothing_is_half_written(shot: Path, small_disk: Path) -> None:
    line = f"decompose shot.####.exr --matte full --temporal off -o {small_disk} --keep-going --report report.json"
    code, _, err = finished(shot, line)
    assert code == 3
    assert "could not be written (No space left on device). Check the free space of that disk." in err
    report = json.loads((shot / "report.json").read_text())
    assert report["done"]
    assert report["failed"]
    assert not [path for path in small_disk.rglob("*") if ".part" in path.name]
    for path in small_disk.glob("*.maps.exr"):
        images.read_maps(path)


def test_a_full_read_only_file_system_is_named(shot: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    code, _, err = finished(shot, f"decompose shot.0001.exr --matte full -o {small_disk}")
    assert code in (1, 2)
    assert "shot.0001.maps.exr" in err
    assert "Read-only file system" in err


def test_terminated_ends_clean_with_its_own_code(shot: Path) -> None:
    process = command(
        shot, "decompose shot.####.exr --matte full --temporal off -o out --report r.json", seconds=0.3
    )
    deadline = time.monotonic() + 30
    while not list((shot / "out").glob("*.light.exr")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert f"of {FRAMES} frames are done." in err
    done = json.loads((shot / "r.json").read_text())["done"]
    assert 1 <= len(done) < FRAMES
    assert {path.name for path in (shot / "out").glob("*.maps.exr")} == {f"{stem}.maps.exr" for stem in done}


def test_progress_for_logs_and_for_open_job_description(shot: Path) -> None:
    line = "decompose shot.####.exr --frames 1-3 --matte full --temporal off -o"
    _, _, err = finished(shot, f"{line} a --progress lines")
    assert err.splitlines()[0].startswith("1/3 shot.0001 ")
    assert "frames/s, " in err
    _, out, _ = finished(shot, f"{line} b --progress openjd")
    assert "openjd_progress: 100.0" in out.splitlines()
    assert any(said.startswith("openjd_status: shot.0003 done") for said in out.splitlines())


def test_a_light_that_moves_and_a_light_a_frame(shot: Path) -> None:
    (shot / "move.csv").write_text("frame,rotate,exposure\n1,0,\n3,90,2\n5,,0\n")
    for number in (1, 2, 3, 4):
        images.write_light(shot / f"wall.{number:04d}.exr", np.full((4, 8, 3), float(number)), {})
    line = (
        "relight shot.####.exr --frames 1-4 --matte full --temporal off --exposure 0.5 --light-csv move.csv"
    )
    assert finished(shot, f"{line} --light wall.####.exr -o out")[0] == 0
    said = [
        read_exr(shot / "out" / f"shot.{n:04d}.relit.exr")[0].attributes["platelight:relight"]
        for n in (1, 2, 4)
    ]
    found = [
        (json.loads(one)["rotation"], json.loads(one)["exposure"], json.loads(one)["light"]) for one in said
    ]
    assert found == [(0.0, 2.5, "wall.0001.exr"), (45.0, 2.5, "wall.0002.exr"), (90.0, 1.5, "wall.0004.exr")]
    code, _, err = finished(shot, f"{line.replace('1-4', '1-6')} --light wall.####.exr -o out")
    assert code == 2
    assert "wall.0005.exr: no such file. Frame 5 needs a light." in err
    (shot / "move.csv").write_text("frame,rotate\n5,1\n5,2\n")
    assert "the frames do not ascend" in finished(shot, f"{line} --light sky.exr -o out")[2]
    (shot / "move.csv").write_text("frame,rotate\n1,x\n")
    assert "line 2: 'x' is not a number" in finished(shot, f"{line} --light sky.exr -o out")[2]
    (shot / "move.csv").write_text("frame,exposure\n1,40\n")
    assert "At frame 1 the exposure is 40.5" in finished(shot, f"{line} --light sky.exr -o out")[2]
