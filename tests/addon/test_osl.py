"""The OSL shader says what ``platelight.shading`` says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SHADER = Path(__file__).resolve().parents[2] / "shaders" / "osl" / "platelight_cook_torrance.osl"


@pytest.mark.blender
def test_parity_with_torch(run_blender: Callable[..., Any]) -> None:
    torch = pytest.importorskip("torch")
    from platelight.shading.brdf import alpha_from_roughness, cook_torrance, lambert

    seen = run_blender("osl_parity.py", SHADER)
    table = np.array(seen["table"])
    light, view, azimuth = np.radians(table[:, :3]).T
    way_in = np.stack([np.sin(light) * np.cos(azimuth), np.sin(light) * np.sin(azimuth), np.cos(light)], -1)
    way_out = np.stack([np.sin(view), 0 * view, np.cos(view)], -1)
    half = way_in + way_out
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    nl, nv, nh, lh = (
        torch.tensor(values)
        for values in (way_in[:, 2], way_out[:, 2], half[:, 2], (way_in * half).sum(axis=1))
    )
    alpha = alpha_from_roughness(torch.tensor(table[:, 3]))
    brdf = cook_torrance(nl, nv, nh, lh, alpha, torch.tensor(table[:, 4])) + lambert(
        torch.tensor(seen["albedo"], dtype=torch.float64)
    )
    wanted = (brdf * nl).numpy()
    # A pixel's center is known to a few parts in a thousand; D of a narrow lobe turns that into more.
    broad = table[:, 3] > 0.3
    error = np.abs(table[:, 5] - wanted) / wanted
    assert broad.sum() > 400
    assert len(table) == 15 * 64
    assert float(np.median(error)) < 1e-3
    assert float(error[broad].max()) <= 0.01, table[broad][error[broad].argmax()]
