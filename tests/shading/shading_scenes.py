"""Spheres and lights that the tests of shading share."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
import torch
from platelight.shading.reference import view_directions
from torch import Tensor


def load_exr(path: Path) -> Tensor:
    """``(1, C, H, W)`` float32 of an EXR with RGB or RGBA."""
    with OpenEXR.File(str(path)) as file:
        channels = file.channels()
        pixels = (channels["RGBA"] if "RGBA" in channels else channels["RGB"]).pixels
    return torch.from_numpy(np.ascontiguousarray(pixels[..., :3], dtype=np.float32)).permute(2, 0, 1)[None]


def studio_lights() -> dict[str, Path]:
    """The eight HDRIs that Blender ships; skips where bpy is absent."""
    spec = importlib.util.find_spec("bpy")
    if spec is None or spec.origin is None:
        pytest.skip("the bpy wheel with its eight HDRIs is not installed")
    found = sorted(Path(spec.origin).parent.rglob("studiolights/world/*.exr"))
    if len(found) < 8:
        pytest.skip("this bpy wheel carries no HDRIs")
    return {p.stem: p for p in found}


def perspective_sphere(size: int, fov: float, distance: float) -> tuple[Tensor, Tensor, Tensor]:
    """A unit sphere ahead of a camera: normals and views ``(1, 3, 1, P)`` and its pixels ``(size, size)``."""
    view = view_directions(size, size, fov)
    if fov == 0.0:
        x = ((torch.arange(size) + 0.5) / size * 2.0 - 1.0) / 0.95
        normal = torch.stack(torch.meshgrid(-x, x, indexing="ij")[::-1])
        z2 = 1.0 - normal.square().sum(0)
        inside = z2 > 0.0
        normal = torch.cat((normal, z2.clamp_min(0.0).sqrt()[None]))
    else:
        along = view[2] * distance
        root = along * along - (distance * distance - 1.0)
        inside = root > 0.0
        t = along - root.clamp_min(0.0).sqrt()
        normal = -view * t
        normal[2] += distance
        normal = normal / normal.norm(dim=0)
    assert math.isfinite(float(normal[:, inside].sum()))
    return normal[:, inside][None, :, None], view[:, inside][None, :, None], inside
