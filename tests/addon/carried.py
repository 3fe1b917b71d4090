"""The HDRIs that Blender carries, read without it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def carried_light(name: str) -> Any:
    """One of them as a tensor (1, 3, h, 2h), linear."""
    torch, exr = pytest.importorskip("torch"), pytest.importorskip("OpenEXR")
    spec = importlib.util.find_spec("bpy")
    assert spec is not None
    assert spec.origin is not None
    path = next(Path(spec.origin).parent.rglob(f"studiolights/world/{name}.exr"))
    with exr.File(str(path)) as file:
        channels = file.channels()
        pixels = (channels["RGBA"] if "RGBA" in channels else channels["RGB"]).pixels[..., :3]
    return torch.from_numpy(np.ascontiguousarray(pixels, np.float32)).permute(2, 0, 1)[None]
