"""The composite: its arithmetic, and the compositor group in Blender."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


@pytest.mark.blender
def test_the_group_composites(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("composite.py")
    assert seen["plain"] <= 0.03  # where the subject hides nine tenths, the backdrop is filled in
    assert seen["alpha"] <= 1e-3
    maps = ["albedo", "cavity", "depth", "diffuse", "matte", "normal", "reflectivity", "relit", "roughness"]
    assert seen["layers"] == ["", *maps, "specular"]
    assert [seen[name] for name in ("roughness", "reflectivity", "cavity")] == [0.0, 0.0, 0.0]
    assert seen["cavity values"] == [0.75, 1.25]
    assert seen["edge rim"] < -0.01  # the dark backdrop comes nearer
    assert seen["edge inside"] <= 1e-3
    assert seen["wrap rim"] > 0.01
    assert seen["wrap outside"] <= 1e-3
    assert seen["added"] == pytest.approx(0.04, rel=0.1)
    assert seen["grain"] == pytest.approx(seen["backdrop grain"], rel=0.15)
    assert (seen["scenes"], seen["linked"], seen["groups"], seen["light"]) == (1, True, 1, False)


def test_grain_is_measured(addon: Callable[[str], Any]) -> None:
    plates = addon("plates")
    y, x = np.mgrid[:64, :64] / 64.0
    ramp = np.dstack([0.2 + 0.5 * x, 0.3 + 0.4 * y, 0.4 * np.ones_like(x)]).astype(np.float32)
    everywhere = np.ones((64, 64), np.float32)
    assert plates.grain_of(ramp, everywhere) < 1e-3
    for deviation in (0.01, 0.05):
        level = np.sqrt(ramp.mean(axis=2, keepdims=True) / plates.MIDDLE_GRAY)
        noisy = ramp + deviation * level * plates.grain_picture(64, 64)
        assert plates.grain_of(noisy, everywhere) == pytest.approx(deviation, rel=0.1)
    assert plates.grain_of(ramp, everywhere * 0) == 0.0


def test_holes_are_filled_from_around(addon: Callable[[str], Any]) -> None:
    plates = addon("plates")
    picture = np.full((37, 50, 3), 0.25, np.float32)
    weight = np.ones((37, 50), np.float32)
    weight[10:30, 10:40] = 0.0
    picture[10:30, 10:40] = 99.0
    assert plates.filled(picture, weight) == pytest.approx(0.25, abs=1e-5)
