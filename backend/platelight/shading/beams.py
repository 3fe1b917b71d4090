"""Lamps at their true distance: point, sun, spot and area, in Blender's units, pixel by pixel.

A lamp of P watts radiates P in all, whatever its size: intensity P/4π for a sphere (spots too: a cone only cuts off), radiance
P/(πA) for an area that emits to one side by Lambert's law; a sun's strength is irradiance. An area is summed over a grid.
The angular size of lamps, or of an area's cells, widens the specular lobe (as in :mod:`.lamps`) and softens the
cosine where the horizon cuts them. Units: W, m, sr; radiance comes out as Cycles gives it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from platelight.shading import brdf
from platelight.shading.reference import MIN_NV

GRID = 6
"""Cells of an area along each side."""


@dataclass(frozen=True)
class Beam:
    """A lamp in the camera's frame; vectors are (3,) tensors, ``direction`` and ``up`` unit and square to each other.

    ``power`` is in W for each color (W/m² for a sun); ``half_angle`` in rad is the radius of a sun or of a spot's cone.
    """

    kind: Literal["point", "sun", "area", "spot"]
    power: Tensor
    at: Tensor
    direction: Tensor
    up: Tensor
    radius: float = 0.0
    half_angle: float = 0.0
    blend: float = 0.0
    size: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class Arrival:
    """Light that arrives at P points: unit direction to it (P, 3), its irradiance if it were faced (P, 3), and its
    angular radius (P, 1) in rad."""

    towards: Tensor
    facing: Tensor
    radius: Tensor


def arrivals(beam: Beam, point: Tensor) -> Iterator[Arrival]:
    """What a lamp sends to points ``(P, 3)``: one arrival, or one for each cell of an area."""
    if beam.kind == "sun":
        count = len(point)
        size = point.new_full((count, 1), beam.half_angle)
        yield Arrival(-beam.direction.expand(count, 3), beam.power.expand(count, 3), size)
        return
    if beam.kind != "area":
        towards, distance = _apart(beam.at, point)
        facing = beam.power / (4.0 * math.pi * distance.square())
        if beam.kind == "spot":
            facing = facing * _cone(beam, -(towards @ beam.direction))[:, None]
        yield Arrival(towards, facing, torch.atan(beam.radius / distance))
        return
    width, height = (side / GRID for side in beam.size)
    right = torch.linalg.cross(beam.direction, beam.up)
    radiance = beam.power / (math.pi * beam.size[0] * beam.size[1])
    cell = width * height
    for row in range(GRID):
        for column in range(GRID):
            x, y = ((k + 0.5 - 0.5 * GRID) * side for k, side in ((column, width), (row, height)))
            towards, distance = _apart(beam.at + x * right + y * beam.up, point)
            leaving = (-(towards @ beam.direction)[:, None]).clamp_min(0.0)
            # A cell's area over π is the square of its radius as a disk.
            size = torch.atan(math.sqrt(cell / math.pi) / distance)
            yield Arrival(towards, radiance * cell * leaving / distance.square(), size)


def lit(
    beam: Beam, point: Tensor, normal: Tensor, view: Tensor, roughness: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What a lamp makes of a surface that nothing shades.

    Args:
        point, normal, view: ``(P, 3)``: position in m, unit normal, unit vector to the camera.
        roughness: ``(P, 1)`` perceptual.

    Returns:
        irradiance over π, and the specular radiance for F = 1 and for F = (1 - l·h)⁵, each ``(P, 3)``.
    """
    nv = (normal * view).sum(1, keepdim=True)
    bent = normal + (MIN_NV - nv).clamp_min(0.0) * view
    bent = bent / bent.square().sum(1, keepdim=True).clamp_min(1e-12).sqrt()
    nv = nv.clamp(MIN_NV, 1.0)
    narrow = brdf.alpha_from_roughness(roughness).square()
    lambert, white, edge = (torch.zeros_like(point) for _ in range(3))
    for light in arrivals(beam, point):
        lambert = (
            lambert + _cosine((normal * light.towards).sum(1, keepdim=True), light.radius) * light.facing
        )
        nl = (bent * light.towards).sum(1, keepdim=True)
        half = (2.0 + 2.0 * (view * light.towards).sum(1, keepdim=True)).clamp_min(1e-8).sqrt()
        # A half vector turns by half of what its light does, and a disk's deviation is half its radius.
        alpha = (narrow + (0.25 * light.radius).square()).sqrt()
        lobe = brdf.ggx_distribution((nl + nv) / half, alpha) * brdf.smith_visibility(nl, nv, alpha)
        glossy = lobe * nl.clamp_min(0.0) * light.facing
        white, edge = white + glossy, edge + glossy * brdf.schlick_weight(0.5 * half)
    return lambert / math.pi, white, edge


def _apart(at: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
    apart = at - point
    distance = apart.square().sum(1, keepdim=True).clamp_min(1e-12).sqrt()
    return apart / distance, distance


def _cosine(cosine: Tensor, radius: Tensor) -> Tensor:
    """Mean over a small disk of the cosine above the horizon: exact away from it, smooth where it cuts the disk."""
    s = torch.sin(radius).clamp_min(1e-6)
    return torch.where(cosine.abs() < s, (cosine + s).square() / (4.0 * s), cosine.clamp_min(0.0))


def _cone(beam: Beam, cosine: Tensor) -> Tensor:
    """Share of a spot's light at an angle from its axis: Blender's smoothstep over the cosine."""
    edge = math.cos(beam.half_angle)
    soft = max((1.0 - edge) * beam.blend, 1e-4)
    t = ((cosine - edge) / soft).clamp(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
