"""Lamps of the Blender scene reach the backend as they light the preview: where, how strong, which, and when."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytestmark = [pytest.mark.blender, pytest.mark.timeout(900)]
BLOCK = 4
HARD = ["area", "point", "spot", "sun"]


def near(*values: float) -> Any:
    return pytest.approx(values, abs=1e-4)


def test_what_is_sent(run_blender: Callable[..., Any], tmp_path: Path) -> None:
    seen = run_blender("scene_lamps.py", tmp_path, "quick")
    area, point, spot, sun = seen["sent"]
    assert [each["kind"] for each in seen["sent"]] == HARD
    assert area["at"] == near(-1.8, 0.6, -1.5)
    assert area["size"] == near(1.2, 0.6)
    assert (area["power"], point["power"], spot["power"], sun["power"]) == (60, 80, 200, 3)
    assert point["at"] == near(1.5, 1.0, -1.2)
    assert point["radius"] == pytest.approx(0.1)
    assert point["color"] == near(1.0, 0.8, 0.5)
    assert spot["at"] == near(-1.2, 1.5, -0.8)
    way = np.array([1.3, -1.3, -2.2])
    assert spot["direction"] == near(*(way / np.linalg.norm(way)))
    assert (spot["cone"], spot["blend"], spot["radius"]) == near(40.0, 0.4, 0.0)
    assert sun["angle"] == pytest.approx(2.0, abs=1e-4)
    assert sun["direction"] == near(*(np.array([-0.7, -0.5, -0.6]) / math.sqrt(1.1)))
    kinds = [each["kind"] for each in seen["there and back"]]
    assert kinds == HARD
    for there, back in zip(seen["sent"], seen["there and back"], strict=True):
        for key, value in there.items():
            if there["kind"] != "point" or key not in ("direction", "up"):
                assert back[key] == pytest.approx(value, abs=1e-4), key
    # A unit of 1 cm: lengths in meters, power so that the light stays what Cycles makes of it.
    small = seen["in cm"]
    assert small[0]["size"] == near(0.012, 0.006)
    assert small[1]["at"] == near(0.015, 0.010, -0.012)
    assert [each["power"] for each in small] == pytest.approx([0.006, 0.008, 0.02, 3.0])
    assert seen["distance"] == pytest.approx(3.0, rel=1e-4)
    assert seen["distance in cm"] == pytest.approx(0.03, rel=1e-4)

    assert seen["no collection"] == seen["none"] == seen["in the scene's light"] == []
    assert seen["collection"] == ["spot", "sun"]
    assert seen["hidden for it"] == seen["hidden in the bake"] == ["area", "point"]
    assert seen["back after it"] is True
    assert seen["hidden for none"] == []
    assert seen["collection hidden"] == ["spot"]
    assert seen["hidden"] == seen["dark"] == ["area", "spot", "sun"]
    assert seen["linked elsewhere"] == ["point", "spot", "sun"]
    assert seen["linked here"] == HARD
    assert seen["nested elsewhere"] == seen["nested out"] == ["point", "spot", "sun"]
    assert seen["nested here"] == HARD
    assert seen["unseen"] == ["area", "spot", "sun"]
    assert "The lamp point is hidden from diffuse or from glossy rays." in seen["half seen"]
    assert "The lamp area has a Spread below 180°." in seen["spread"]
    assert "The lamp point takes light away." in seen["negative"]
    assert "33 lamps light the plate; the backend takes 32." in seen["too many"]

    assert seen["keyed"] == [near(x, 1.0, -1.2, 80 + 100 * x) for x in (0.0, 0.5, 1.0)]
    assert seen["stays hidden"] is True
    assert seen["dark world"] == ""
    assert seen["request"] == ["Relight", 4, "on", False, False]
    assert seen["passes kept"] == pytest.approx(0.25, rel=1e-3)
    assert seen["preview kept"] == pytest.approx(0.5, rel=1e-3)
    assert seen["world"] == near(0.1, 0.15, 0.2)
    assert "Nothing lights the plate." in seen["nothing lights"]
    assert seen["undone"] == [True, "COLLECTION", "rig"]
    assert seen["loaded"] == [True, "COLLECTION", "rig", "BACKEND"]


@pytest.mark.slow
def test_the_backend_agrees_with_the_preview(run_blender: Callable[..., Any], tmp_path: Path) -> None:
    import torch
    import torch.nn.functional as F
    from platelight.pipeline.relight import relight
    from platelight.protocol.requests import Relight

    run_blender("scene_lamps.py", tmp_path, "render", timeout=800)
    errors = {}
    for name in (*HARD, "collection", "disk", "plain world"):
        request = msgspec.json.decode((tmp_path / f"{name}.json").read_bytes(), type=Relight)
        planes = dict(np.load(tmp_path / f"{name}.npz"))
        theirs = planes.pop("cycles")
        request = msgspec.structs.replace(request, pbr_only=True)
        ours = relight(None, planes, request, torch.device("cpu"), lambda *_: None, lambda: False).pbr
        matte = torch.from_numpy(planes["matte"])[None, None]
        inner = -F.max_pool2d(-matte, 5, stride=1, padding=2)
        whole = (F.avg_pool2d(inner, BLOCK)[0, 0] == 1.0).numpy()
        one, other = (
            F.avg_pool2d(torch.from_numpy(x).permute(2, 0, 1)[None], BLOCK)[0].numpy()[:, whole]
            for x in (ours, theirs)
        )
        error, bias = np.abs(one - other).mean() / other.mean(), one.mean() / other.mean() - 1.0
        errors[name] = float(error)
        print(f"{name}: {100 * error:.2f} %, means differ by {100 * bias:+.2f} %")
        assert other.mean() > 0.005, name
    assert max(errors.values()) <= 0.008, errors
