"""Dragging turns the light and gives the subject its scale; the shelf shows HDRIs that are here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.blender


def test_dragging_and_the_shelf(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("turn.py")
    assert "Choose an HDRI first" in seen["no light"]
    assert "turn its World" in seen["scene"]
    assert seen["escape"] == ["CANCELLED", 10.0, 1.0]
    assert seen["done"] == ["FINISHED", 30.0, 0.9]
    assert seen["fine"] == ["FINISHED", 31.0, 0.9]
    assert seen["snap"] == ["FINISHED", 35.0, 0.9]
    assert (seen["keyframes off"], seen["keyframes on"]) == (True, True)
    assert seen["header"] == ["Rotation 60.0°   Exposure +1.00 EV", None]
    assert seen["carried"] == [8, 0, True]
    assert seen["thumbnail"] == [256, 128]
    assert seen["folders"] == [48, 2]
    assert seen["filter"] == ["sky_07.exr"]
    assert seen["refresh"] == [50, 51]


def test_one_drag_gives_the_scale(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("drag_distance.py")
    away = 2.0 * math.exp(0.55)  # 100 pixels, and 100 fine ones
    assert seen["distance"] == pytest.approx(away, rel=1e-4)
    assert seen["moved"] > 1.0
    assert seen["header"].startswith("Distance 3.47   Width ")
    assert seen["done"] == ["FINISHED"]
    assert max(seen["built"]) < 1e-3, "what was shown while dragging is not what is built"
    assert seen["scales"] == [[1.0, 1.0, 1.0]] * 2
    assert seen["escape"][0] == "CANCELLED"
    assert seen["escape"][1] == pytest.approx(away, rel=1e-4)
    assert seen["escape"][2] < 1e-3
    assert seen["headers left"] is None
    assert seen["by a script"] == pytest.approx(5.0, rel=1e-3)
