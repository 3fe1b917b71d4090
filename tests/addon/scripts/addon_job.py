"""A job function for the real server: exact maps of the sphere that ``flow.py`` uses as its plate, without
networks. ``fov`` of 41 works slowly and heeds cancel, 42 finds no subject."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from platelight.protocol.errors import Cancelled, NoSubjectError
from platelight.protocol.requests import Decompose, Refine, Relight

Planes = dict[str, np.ndarray]
SLOW, NOBODY = 41.0, 42.0


@dataclass(frozen=True)
class Result:
    planes: Planes
    meta: dict[str, Any] = field(default_factory=dict)


def sphere(height: int, width: int, fov: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normal, depth and hit mask of a unit sphere four units away."""
    tangent = math.tan(math.radians(fov) / 2)
    x = ((np.arange(width) + 0.5) / width * 2 - 1) * tangent
    y = -((np.arange(height) + 0.5) / height * 2 - 1) * tangent * height / width
    ray = np.stack([*np.meshgrid(x, y), -np.ones((height, width))], -1)
    a, b = (ray * ray).sum(-1), -4.0 * ray[..., 2]
    q = b * b - 15.0 * a
    depth = (b - np.sqrt(np.maximum(q, 0))) / a
    normal = ray * depth[..., None] + np.array([0.0, 0.0, 4.0])
    return normal / np.linalg.norm(normal, axis=-1, keepdims=True), depth, q > 0


def by_torch(request: Relight, planes: Planes) -> Planes:
    """The real physical render, not refined."""
    import msgspec
    import torch
    from platelight.pipeline.relight import relight

    plain = msgspec.structs.replace(request, pbr_only=True)
    done = relight(None, planes, plain, torch.device("cpu"), lambda *_: None, lambda: False)
    return {"pbr": done.pbr, "relit": done.relit, "diffuse": done.diffuse, "specular": done.specular}


def run_job(
    request: Any, planes: Planes, progress: Callable[[float, str], None], cancelled: Callable[[], bool],
    *_: Any,
) -> Result:  # fmt: skip
    """Stand in for ``platelight.pipeline.service.run_job``."""
    if request.fov == NOBODY:
        raise NoSubjectError("No subject was found in the plate.", "Give a matte.")
    for part in range(100 if request.fov == SLOW else 2):
        progress(part / 100, "thinking")
        if cancelled():
            raise Cancelled("The job was cancelled.")
        time.sleep(0.05)
    if isinstance(request, Decompose):
        plate = planes["plate"]
        normal, depth, hit = sphere(*plate.shape[:2], request.fov)
        matte = planes.get("matte", hit) if request.matte != "full" else np.ones_like(depth)
        ones = np.ones_like(depth)
        made = {
            "foreground": plate,
            "matte": matte,
            "normal": normal,
            "albedo": np.stack([ones * 0.6, ones * 0.4, ones * 0.3], -1),
            "roughness": ones * 0.4,
            "reflectivity": ones * 0.05,
            "cavity": ones * 0.8,
            "depth": depth,
            "light": np.ones((16, 32, 3)),
        }
        kinds = dict.fromkeys(made, np.float16 if request.halves else np.float32)
        kinds["depth"] = kinds["light"] = np.float32
        return Result(
            {name: np.asarray(plane, kinds[name]) for name, plane in made.items()},
            {"models": {"sphere": "1"}},
        )
    if isinstance(request, Relight):
        return Result(by_torch(request, planes), {"models": {}})
    assert isinstance(request, Refine)
    pbr = planes["diffuse"] + planes["specular"]
    matte = planes["matte"][..., None]
    relit = np.concatenate([pbr * matte, matte], -1)
    assert request.composite_only
    assert not request.halves
    return Result({"relit": relit.astype(np.float32)}, {"models": {}})
