"""Dragging turns the light; the shelf shows HDRIs that are here."""

from __future__ import annotations

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
