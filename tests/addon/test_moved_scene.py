"""The light that Match Scene Light takes moves with the scene: World turned, exposure changed, camera moved and turned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytestmark = [pytest.mark.blender, pytest.mark.slow, pytest.mark.timeout(900)]
BLOCK = 4


def blocks(plane: np.ndarray) -> np.ndarray:
    """Means of 4 by 4 pixels: Cycles' noise averages out, bias stays."""
    rows, columns = plane.shape[0] // BLOCK, plane.shape[1] // BLOCK
    return plane.reshape(rows, BLOCK, columns, BLOCK, -1).mean(axis=(1, 3))


def test_the_light_moves_with_the_scene(run_blender: Callable[..., Any], tmp_path: Path) -> None:
    import torch
    from platelight.pipeline.relight import relight
    from platelight.protocol.requests import Relight

    seen = run_blender("moved_scene.py", tmp_path, timeout=800)
    assert list(seen) == ["first", "turned", "brighter", "moved"]
    for name, errors in seen.items():
        request = msgspec.json.decode((tmp_path / f"{name}.json").read_bytes(), type=Relight)
        assert (request.rotation, request.exposure, request.lamps) == (0.0, 0.0, ())  # all is in the light
        planes = dict(np.load(tmp_path / f"{name}.npz"))
        request = msgspec.structs.replace(request, pbr_only=True)
        ours = blocks(relight(None, planes, request, torch.device("cpu"), lambda *_: None, lambda: False).pbr)
        truth = blocks(np.load(tmp_path / f"{name}.npy")[..., :3])
        rows, columns = np.ogrid[: len(ours), : len(ours)]
        middle = (len(ours) - 1) / 2
        solid = np.hypot(rows - middle, columns - middle) < 4.2  # blocks well within the sphere
        errors["backend"] = float(np.abs(ours[solid] - truth[solid]).mean() / truth[solid].mean())
        print(name, {kind: f"{100 * value:.2f} %" for kind, value in errors.items()})
    for name, errors in seen.items():
        assert 0.0 < errors["diffuse"] <= 0.03, name
        assert 0.0 < errors["glossy"] <= 0.05, name
        assert 0.0 < errors["backend"] <= 0.03, name
        # What was changed shows: the light of the state before would not do.
        assert name == "first" or errors["change"] > 0.2, name
