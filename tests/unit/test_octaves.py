"""Octaves: detail is found where it lies, and none where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from platelight.training.octaves import line, octaves, of_picture


def test_waves_lie_in_their_octave_and_edges_of_the_matte_in_none() -> None:
    x = np.arange(160, dtype=np.float32)
    matte = np.zeros((160, 160), np.float32)
    matte[20:140, 20:140] = 1
    for period, octave in ((3, 0), (6, 1), (12, 2), (24, 3)):
        image = np.broadcast_to(np.sin(2 * np.pi * x / period)[None, :, None], (160, 160, 1))
        found = octaves(np.asarray(image * matte[..., None], np.float32), matte)
        assert found is not None
        assert int(np.argmax(found)) == octave
    even = octaves(np.full((160, 160, 1), 3, np.float32) * matte[..., None], matte)
    assert even == pytest.approx([0, 0, 0, 0], abs=1e-4)
    assert octaves(np.zeros((160, 160, 1), np.float32), np.zeros((160, 160), np.float32)) is None


def test_brightness_does_not_depend_on_exposure() -> None:
    rng = np.random.default_rng(0)
    plate = rng.uniform(0.1, 1, (64, 64, 3)).astype(np.float32)
    normal = np.broadcast_to(np.float32([0, 0, 1]), plate.shape)
    matte = np.ones((64, 64), np.float32)
    one, two = of_picture(plate, normal, matte), of_picture(plate * 8, normal, matte)
    assert one is not None
    assert one == pytest.approx(two, rel=1e-3)
    assert one[0] > 0.05
    assert one[4:] == pytest.approx([0, 0, 0, 0], abs=1e-6)
    assert "| 2 |" in line("two", [one, one])
    assert line("none", []) == "| none | 0 |  |  |"
