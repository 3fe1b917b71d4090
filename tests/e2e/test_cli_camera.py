"""``--camera`` on the command line, with a stand-in for the networks."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from platelight.images import write_light
from platelight.images.exr import read_exr

pytest.importorskip("pxr", reason="needs usd-core: pip install 'platelight[usd]'")
from pxr import Usd, UsdGeom


def test_the_camera_on_the_command_line(tmp_path: Path) -> None:
    """Each frame's own fov reaches its request and its record: a lens that is keyed otherwise makes all again."""
    for number in (1, 2, 3):
        write_light(tmp_path / f"shot.{number:04d}.exr", np.full((24, 32, 3), 0.3, np.float32), {})
    write_light(tmp_path / "sky.exr", np.full((8, 16, 3), 1.0, np.float32), {})
    stage = Usd.Stage.CreateNew(str(tmp_path / "shot.usda"))
    camera = UsdGeom.Camera.Define(stage, "/cam")
    camera.GetHorizontalApertureAttr().Set(36.0)
    camera.GetFocalLengthAttr().Set(18.0, 1)
    camera.GetFocalLengthAttr().Set(36.0, 3)
    UsdGeom.Xformable(camera).AddRotateYOp().Set(40.0)
    stage.Save()
    line = "relight shot.####.exr --light sky.exr --camera shot.usda --matte full --temporal {} -o out --report report.json"

    def done(temporal: str = "off") -> int:
        start = [sys.executable, str(Path(__file__).with_name("stand_in.py"))]
        subprocess.run(
            [*start, *line.format(temporal).split()], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL
        )
        return len(json.loads((tmp_path / "report.json").read_text())["done"])

    assert done() == 3
    headers = [read_exr(tmp_path / f"out/shot.{n:04d}.relit.exr")[0].attributes for n in (1, 2, 3)]
    fovs = [2 * math.degrees(math.atan(18 / focal)) for focal in (18, 27, 36)]
    for header, fov in zip(headers, fovs, strict=True):
        relit, apart = (json.loads(header[f"platelight:{name}"]) for name in ("relight", "settings"))
        assert (relit["fov"], apart["fov"]) == pytest.approx((fov, fov), rel=1e-5)
        assert relit["rotation"] == pytest.approx(40.0)
    assert done() == 0
    camera.GetFocalLengthAttr().Set(35.0, 3)
    stage.Save()
    assert done() == 3
    assert done("on") == 3
    assert done("on") == 0
    camera.GetFocalLengthAttr().Set(50.0, 3)  # a neighbor's lens: all are steadied anew
    stage.Save()
    assert done("on") == 3
