"""The one source light of a shot whose camera turns: it stays in the world, and each frame has it as its camera saw it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from platelight import cli
from platelight.images import read_light, write_light
from platelight.pipeline import service
from platelight.shading.environment import directions

pytest.importorskip("pxr", reason="needs usd-core: pip install 'platelight[usd]'")
from pxr import Gf, Usd, UsdGeom

FRAMES = 12
ROWS = 32


def turned(degrees: float, tilt: float) -> np.ndarray:
    """A camera's axes as columns: tilted about its right axis, then turned to the left about the vertical."""
    a, b = np.radians([degrees, tilt])
    yaw = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    return yaw @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])


def light_before(axes: np.ndarray) -> np.ndarray:
    """One light of the world, red at +X, green up, blue at +Z, as a camera sees it."""
    world = directions(ROWS) @ torch.tensor(axes.T, dtype=torch.float32)
    return (0.1 + world.clamp_min(0).pow(4)).numpy()


def axes_at(number: int) -> np.ndarray:
    return turned(7.0 * (number - 1), -12.0)


def run_job(request: Any, planes: Any, progress: Any, cancelled: Any, made: Any = None) -> Any:
    """Networks that read the light well before the camera of a frame, which the plate's level tells."""
    plate = np.asarray(planes["plate"], np.float32)
    number = round(float(plate.mean()) * 100)
    one = np.ones(plate.shape[:2], np.float32)
    normal = np.broadcast_to(np.array([0, 0, 1], np.float32), plate.shape)
    maps = {
        "foreground": plate,
        "matte": one,
        "normal": normal,
        "albedo": plate,
        "roughness": one,
        "depth": one,
    }
    light = light_before(axes_at(number))
    return SimpleNamespace(
        planes={**maps, "reflectivity": one * 0.04, "cavity": one, "light": light}, meta={}
    )


def test_the_source_light_stays_in_the_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "run_job", run_job)
    monkeypatch.setattr(service, "configure", lambda *given: None)
    for number in range(1, FRAMES + 1):
        plate = np.full((20, 24, 3), number / 100, np.float32)
        write_light(tmp_path / f"shot.{number:04d}.exr", plate, {})
    stage = Usd.Stage.CreateNew(str(tmp_path / "shot.usda"))
    camera = UsdGeom.Camera.Define(stage, "/cam")
    placed = UsdGeom.Xformable(camera).AddTransformOp()
    for number in range(1, FRAMES + 1):
        rows = np.eye(4)
        rows[:3, :3] = axes_at(number).T  # USD writes vectors as rows
        placed.Set(Gf.Matrix4d(rows.tolist()), number)
    stage.Save()
    line = ["decompose", str(tmp_path / "shot.####.exr"), "--matte", "full", "--temporal", "on"]
    report = tmp_path / "report.json"

    def done(folder: str, *more: str) -> int:
        assert cli.main([*line, *more, "-o", str(tmp_path / folder), "--report", str(report)]) == 0
        return len(json.loads(report.read_text())["done"])

    def off(folder: str) -> list[float]:
        """The largest errors of the frames' lights, of which the brightest has 1.1."""
        return [
            float(np.abs(read_light(tmp_path / folder / f"shot.{n:04d}.light.exr") - light_before(axes_at(n))).max())
            for n in range(1, FRAMES + 1)
        ]  # fmt: skip

    moving = ["--camera", str(tmp_path / "shot.usda")]
    assert done("moving", *moving) == FRAMES
    assert max(off("moving")) < 0.04
    assert done("standing") == FRAMES
    assert max(off("standing")) > 0.3
    # A part of the shot has the light of the whole.
    assert done("part", *moving, "--frames", "9-10", "--shot", f"1-{FRAMES}") == 2
    for name in ("shot.0009.light.exr", ".platelight/shot.0009.decompose.json"):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "moving" / name).read_bytes()
    assert done("moving", *moving) == 0
    rows[:3, :3] = turned(90.0, 0.0).T
    placed.Set(Gf.Matrix4d(rows.tolist()), FRAMES)  # a key frame's camera: the light is found anew
    stage.Save()
    assert done("moving", *moving) == FRAMES


def test_a_camera_that_stands_leaves_the_light_as_it_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "run_job", run_job)
    monkeypatch.setattr(service, "configure", lambda *given: None)
    for number in (1, 2):
        write_light(tmp_path / f"shot.{number:04d}.exr", np.full((20, 24, 3), 0.01, np.float32), {})
    stage = Usd.Stage.CreateNew(str(tmp_path / "shot.usda"))
    UsdGeom.Xformable(UsdGeom.Camera.Define(stage, "/cam")).AddRotateYOp().Set(33.0)
    stage.Save()
    line = ["decompose", str(tmp_path / "shot.####.exr"), "--matte", "full", "--temporal", "on"]
    assert cli.main([*line, "-o", str(tmp_path / "with"), "--camera", str(tmp_path / "shot.usda")]) == 0
    assert cli.main([*line, "-o", str(tmp_path / "without")]) == 0
    pixels = [read_light(tmp_path / name / "shot.0002.light.exr") for name in ("with", "without")]
    np.testing.assert_array_equal(*pixels)
