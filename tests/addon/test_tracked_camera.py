"""A camera of the user's that zooms, shifts, is scaled and turns along a shot, and film exposure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

FILLS = [pytest.approx([0.0] * 2, abs=1e-4), pytest.approx([1.0] * 2, abs=1e-4)]


@pytest.mark.blender
def test_the_plate_follows_its_camera(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("tracked_camera.py")
    assert seen["zoom"] == {fit: [FILLS] * 3 for fit in ("AUTO", "VERTICAL")}
    assert seen["own camera gone"] == [FILLS, 0]
    saved, own = seen["saved"]
    assert saved == pytest.approx(own, rel=1e-5)
    near, far, distance, skin = seen["scaled"]["1.0"]
    assert (near, far, distance) == pytest.approx((3.0,) * 3, rel=1e-5)
    assert seen["scaled"]["4.0"] == pytest.approx([3.0, 3.0, 3.0, skin], rel=1e-5)
    assert [text.endswith("left the lens shift of the camera out.") for text in seen["told"]] == [False, True]
    aim = seen["aim"]
    built, sun = aim["built"]
    assert built == pytest.approx(90.0, abs=1e-3)
    assert aim["by hand"] == aim["in the shot"] == pytest.approx([built + 20.0, sun + 20.0], abs=1e-3)
    assert aim["another camera"] == pytest.approx([built - 30.0, sun - 30.0], abs=1e-3)
    assert seen["film"] == pytest.approx([2.5] * 5, rel=1e-3)  # HDRI, both previews, lamp, plain World
    assert seen["film of the scene's light"] == pytest.approx([1.0] * 3, rel=1e-4)
