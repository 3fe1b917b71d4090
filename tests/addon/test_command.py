"""``python -m blender_addon``: the command of ``blender --command platelight`` under the bpy wheel, over a real server."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from platelight.images import write_light
from platelight.images.exr import read_exr

pytestmark = [pytest.mark.blender, pytest.mark.slow]
SAVE = """
import sys, bpy, blender_addon
bpy.ops.wm.read_factory_settings(use_empty=True)
blender_addon.register()
scene, ops = bpy.context.scene, bpy.ops.platelight
ops.load_plate(filepath=sys.argv[1] + "/shot.0001.exr", sequence=True, last=2)
ops.set_light(filepath=sys.argv[1] + "/sky.exr")
state = scene.platelight
state.samples, state.exposure = 2, 0.0
state.keyframe_insert("exposure", frame=1)
state.exposure = 2.0
state.keyframe_insert("exposure", frame=2)
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[1] + "/shot.blend")
blender_addon.unregister()
"""
SAVE_LAMP = """
import sys, bpy, blender_addon
bpy.ops.wm.read_factory_settings(use_empty=True)
blender_addon.register()
scene, ops = bpy.context.scene, bpy.ops.platelight
ops.load_plate(filepath=sys.argv[1] + "/shot.0001.exr", sequence=True, last=2)
plate = scene.platelight.plates[0]
plate.distance, plate.fov = 4.0, 40.0
data = bpy.data.lights.new("key", "POINT")
data.shadow_soft_size = 0.0
lamp = bpy.data.objects.new("key", data)
lamp.location = (2.0, 0.0, 1.0)  # the plate's camera looks along +Y
scene.collection.objects.link(lamp)
for frame, data.energy in ((1, 100.0), (2, 300.0)):
    data.keyframe_insert("energy", frame=frame)
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[1] + "/shot.blend")
blender_addon.unregister()
"""


def run(python: str, folder: Path, *line: str, code: str = "") -> tuple[int, str, str]:
    environment = {
        **os.environ, "BLENDER_USER_RESOURCES": str(folder / "blender"), "PLATELIGHT_CONFIG_DIR": str(folder / "config"),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "backend"), str(ROOT)]),
    }  # fmt: skip
    (folder / "blender").mkdir(exist_ok=True)
    start = ["-c", code] if code else ["-m", "blender_addon"]
    done = subprocess.run(
        [python, *start, *line],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def shot(tmp_path: Path) -> Path:
    for number in (1, 2, 4):
        write_light(tmp_path / f"shot.{number:04d}.exr", np.full((24, 32, 3), 0.2, np.float32), {})
    write_light(tmp_path / "sky.exr", np.full((16, 32, 3), 0.5, np.float32), {})
    (tmp_path / "move.csv").write_text("frame,exposure\n1,0\n4,3\n")
    return tmp_path


def middle(path: Path) -> float:
    part = read_exr(path)[0].channels
    return float(np.mean([part[name][8:16, 8:24].mean() for name in "RGB"]))


def test_a_shot_with_the_options_of_the_command(bpy_python: str, shot: Path, server: Path) -> None:
    line = ["relight", "shot.####.exr", "--frames", "1-4", "--light", "sky.exr", "--light-csv", "move.csv",
            "--samples", "2", "--temporal", "off", "-o", "out", "--report", "report.json"]  # fmt: skip
    code, _, err = run(bpy_python, shot, *line)
    assert (code, "shot.0003.exr: no such file" in err) == (2, True), server.read_text()
    code, _, err = run(bpy_python, shot, *line, "--keep-going", "--progress", "lines")
    assert code == 3, err + server.read_text()
    assert "4/4 shot.0004" in err
    report = json.loads((shot / "report.json").read_text())
    assert report["done"] == ["shot.0001", "shot.0002", "shot.0004"]
    assert [entry["number"] for entry in report["failed"]] == [3]
    made = {path.name for path in (shot / "out").iterdir() if path.is_file()}
    assert made == {f"shot.000{n}.{kind}.exr" for n in (1, 2, 4) for kind in ("maps", "light", "relit")}
    first, last = (middle(shot / "out" / f"shot.000{n}.relit.exr") for n in (1, 4))
    assert last == pytest.approx(8 * first, rel=0.15)
    code, _, _ = run(bpy_python, shot, *line, "--keep-going")
    assert code == 3
    assert len(json.loads((shot / "report.json").read_text())["skipped"]) == 3
    code, _, err = run(bpy_python, shot, *line, "--temporal", "on")
    assert (code, err.strip().splitlines()[-1]) == (
        2, "Cycles takes each frame for itself. Add --engine backend, or --temporal off.",
    )  # fmt: skip


def test_a_blend_is_rendered_with_its_keyed_light(bpy_python: str, shot: Path, server: Path) -> None:
    code, out, err = run(bpy_python, shot, str(shot), code=SAVE)
    assert code == 0, out + err
    code, out, err = run(bpy_python, shot, "shot.blend", "render", "-o", "out")
    assert code == 0, out + err + server.read_text()
    one, two = (middle(shot / "out" / f"shot.000{n}.relit.exr") for n in (1, 2))
    assert two == pytest.approx(4 * one, rel=0.15)
    code, _, err = run(bpy_python, shot, "none.blend", "render", "-o", "out")
    assert code == 2
    assert "none.blend" in err


def test_lamps_and_shadows_on_the_command_line(bpy_python: str, shot: Path, server: Path) -> None:
    lamp = "point power={power} at=2,1,0"
    for power in (100, 300):
        line = ["relight", "shot.0001.exr", "--lamp", lamp.format(power=power), "--distance", "4", "--fov", "40", "--pbr-only",
                "--samples", "64", "-o", f"out{power}"]  # fmt: skip
        code, _, err = run(bpy_python, shot, *line)
        assert code == 0, err + server.read_text()
    one, three = (middle(shot / f"out{power}" / "shot.0001.relit.exr") for power in (100, 300))
    assert one > 0.01
    assert three == pytest.approx(3 * one, rel=0.02)
    code, _, err = run(bpy_python, shot, *line, "--shadows", "on")
    assert (code, err.strip()) == (2, "Cycles does not take --shadows. Add --engine backend.")

    # The same lamp in a .blend, by Cycles and by the backend; keyed to be three times as strong in the second frame.
    code, out, err = run(bpy_python, shot, str(shot), code=SAVE_LAMP)
    assert code == 0, out + err
    for engine, shadows in (("cycles", "off"), ("backend", "off"), ("backend", "on")):
        line = [
            "shot.blend",
            "render",
            "-o",
            f"{engine}-{shadows}",
            "--engine",
            engine,
            "--shadows",
            shadows,
            "--samples",
            "64",
        ]
        code, out, err = run(bpy_python, shot, *line)
        assert code == 0, out + err + server.read_text()
    found = {
        way: [middle(shot / way / f"shot.000{n}.relit.exr") for n in (1, 2)]
        for way in ("cycles-off", "backend-off", "backend-on")
    }
    assert found["cycles-off"] == pytest.approx([one, three], rel=0.02)
    assert found["backend-off"] == pytest.approx(found["cycles-off"], rel=0.03)
    assert 0.5 * three < found["backend-on"][1] <= 1.001 * found["backend-off"][1]
    code, _, err = run(bpy_python, shot, "shot.blend", "render", "-o", "out", "--shadows", "on")
    assert (code, err.strip()) == (2, "Cycles does not take --shadows. Add --engine backend.")
