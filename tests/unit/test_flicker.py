"""The measure of flicker against flows that are known, and a shot in motion with its truth."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("embreex")

from platelight.training.flicker import along, carried
from platelight.training.motion import make


@pytest.fixture(scope="module")
def shot() -> object:
    return make(seed=2, frames=3, size=96)


def truth_of(shot: object) -> dict[str, np.ndarray]:
    return {name: getattr(shot, name) for name in ("mask", "flow", "seen", "turn", "ball")}


def test_true_maps_do_not_flicker_and_shaken_ones_do(shot: object) -> None:
    truth = truth_of(shot)
    normal, albedo = shot.normal, np.log(shot.albedo + 0.05)  # type: ignore[attr-defined]
    still_flicker, still_change = along(list(normal), truth, turned=True)
    assert np.degrees(still_change) < 2.5
    shaken = [plane + 0.3 * (-1) ** k for k, plane in enumerate(albedo)]
    calm, _ = along(list(albedo), truth)
    flicker, change = along(shaken, truth)
    # A step of 0.6 to and fro in three channels: half the second difference is 0.6, and so is the first.
    assert flicker == pytest.approx(0.6 * np.sqrt(3), rel=0.2)
    assert change == pytest.approx(0.6 * np.sqrt(3), rel=0.2)
    assert calm < flicker / 5
    assert still_flicker <= still_change


def test_flow_carries_the_paint(shot: object) -> None:
    there = carried(shot.albedo[1], shot.flow[0])  # type: ignore[attr-defined]
    off = np.abs(there - shot.albedo[0]).mean(-1)[shot.seen[0]]  # type: ignore[attr-defined]
    still = np.abs(shot.albedo[1] - shot.albedo[0]).mean(-1)[shot.seen[0]]  # type: ignore[attr-defined]
    assert np.median(off) < 0.01
    assert off.mean() < still.mean()
