"""The lights of a relight: one everywhere, or several, each taken at its own place in the plate and blended in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from platelight.images.sanitize import LIGHT_MAX, sanitize
from platelight.pipeline.decompose import to_tensor
from platelight.protocol.errors import InputError
from platelight.protocol.requests import Place, light_planes
from platelight.shading import environment

Map = npt.NDArray[Any]


def lights_of(planes: dict[str, Map], places: Sequence[Place], device: torch.device) -> Tensor:
    """The target lights (N, 3, h, 2h), sanitized, as high as the highest of them.

    Raises:
        InputError: one is missing or no lat-long, there are more lights than places, or two places are one.
    """
    names = light_planes(places)
    sent = sum(name == "light" or name.startswith("light_") for name in planes)
    if sent > len(names):
        raise InputError(
            f"There are {sent} lights, but {len(places)} places.", "Give each light a place in the plate."
        )
    lights = [to_tensor(_checked(planes, name), device) for name in names]
    rows = max(light.shape[-2] for light in lights)
    return torch.cat([environment.resize(light, rows) for light in lights])


def _checked(planes: dict[str, Map], name: str) -> npt.NDArray[np.float32]:
    light = planes.get(name)
    if light is None or light.ndim != 3 or light.shape[2] != 3 or light.shape[1] != 2 * light.shape[0]:
        which = "" if name == "light" else f" {name.removeprefix('light_')}"
        raise InputError(
            f"The target light{which} is missing or not a 2:1 lat-long.",
            "Give an HDRI that is twice as wide as high.",
        )
    return sanitize(light, LIGHT_MAX)[0]


def shares(places: Sequence[Place], size: tuple[int, int], top: int, bottom: int) -> Tensor:
    """What each of several lights counts in rows ``top`` to ``bottom`` of a plate, (N, 1, bottom - top, W); sums to 1.

    Gradient bands (R. S. Johansen, "Automated Semi-Procedural Animation for Character Locomotion", 2009):
    a light counts 1 at its place and falls linearly to 0 at each other one's. Along a row of places this is
    linear interpolation between neighbors, and the last light alone beyond the ends; everywhere it is continuous.

    Args:
        places: (u, v) in [0, 1] from the plate's upper left corner, no two alike.
        size: the plate's (height, width).
    """
    height, width = size
    scale = torch.tensor((width, height), dtype=torch.float32)
    points = torch.tensor(places, dtype=torch.float32) * scale
    x, y = torch.arange(width) + 0.5, torch.arange(top, bottom) + 0.5
    here = torch.stack((x.expand(len(y), width), y[:, None].expand(len(y), width)), -1)
    counted = []
    for i, point in enumerate(points):
        others = torch.cat((points[:i], points[i + 1 :])) - point
        along = (here - point) @ (others / others.square().sum(1, keepdim=True)).T
        counted.append((1.0 - along).clamp(0.0, 1.0).amin(-1) if len(others) else torch.ones(here.shape[:2]))
    both = torch.stack(counted)[:, None]
    # The nearest place counts a half at least, so the sum is never near 0.
    return both / both.sum(0)
