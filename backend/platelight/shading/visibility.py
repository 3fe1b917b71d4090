"""What a surface hides from itself, found by marching its depth map in the picture.

A depth map is a height field over the camera's rays. The plane through the camera, a pixel and the next pixel in some
heading of the picture holds all directions that lie on that side of the line of sight, so one march along the heading
tells which angles θ to the line of sight are blocked: the horizon of Max, "Horizon mapping: shadows for bump-mapped
surfaces", The Visual Computer 4(2), 1988, in screen space as in Bavoil, Sainz and Dimitrov, "Image-space horizon-based
ambient occlusion", SIGGRAPH 2008 talks, with angles to the line of sight as in Jimenez et al., "Practical real-time
strategies for accurate indirect occlusion", 2016. What is seen has a back, too: each sample blocks the angles from its
front to a back behind it (Therrien, Levesque and Gilet, "Screen space indirect lighting with visibility bitmask",
The Visual Computer 39, 2023), here with a thickness of its own for each pixel.

Everything here is in the camera's frame (+X right, +Y up, +Z to the camera), free of scale: depth in any unit will do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

BIAS = 0.05
"""Sine of the height over the tangent plane below which nothing blocks: neither noise of the depth nor its raster."""
NEAR_BIAS = 0.1
"""Added to the bias at a distance of one pixel, falling with distance: what rounding a position can lift a sample."""


@dataclass(frozen=True)
class Relief:
    """The part of a depth map that is there, and the whole of it to march over.

    Attributes:
        point, normal, view: ``(P, 3)`` of the pixels inside: position, unit normal, unit vector to the camera.
        row, column: ``(P,)`` their places in the picture, as floats.
        inside: ``(H, W)`` bool.
        table: ``(H * W + 1, 4)`` position and thickness of every pixel; thickness is 0 where nothing is, as in the
            last row, which stands for what lies outside the picture.
    """

    point: Tensor
    normal: Tensor
    view: Tensor
    row: Tensor
    column: Tensor
    inside: Tensor
    table: Tensor

    def spread(self, values: Tensor, fill: float = 0.0) -> Tensor:
        """Values ``(P, C)`` of the pixels inside as a picture ``(1, C, H, W)``."""
        height, width = self.inside.shape
        out = values.new_full((height * width, values.shape[1]), fill)
        out[self.inside.flatten()] = values
        return out.T.reshape(1, -1, height, width)


def relief(depth: Tensor, thickness: Tensor, normal: Tensor, matte: Tensor, view: Tensor) -> Relief:
    """A depth map as something to march over.

    Args:
        depth: ``(1, 1, H, W)`` along −Z, larger is farther; nothing is where it is not above 0.
        thickness: ``(1, 1, H, W)`` how far what is seen goes on behind what is seen, in the unit of ``depth``.
        normal: ``(1, 3, H, W)`` unit; nothing is where it is zero.
        matte: ``(1, 1, H, W)``; the surface is where it is above one half.
        view: ``(1, 3, H, W)`` unit vectors to the camera.
    """
    point = (-view / view[:, 2:]) * depth
    length = normal.square().sum(1, keepdim=True).sqrt()
    inside = ((matte > 0.5) & (depth > 0.0) & (length > 1e-3))[0, 0]
    solid = thickness.clamp_min(1e-9) * inside
    table = torch.cat((point, solid), 1)[0].flatten(1).T
    table = torch.cat((table, table.new_zeros(1, 4)))
    row, column = torch.nonzero(inside, as_tuple=True)
    at = row * inside.shape[1] + column
    facing, eye = ((m[0].flatten(1).T)[at] for m in (normal / length.clamp_min(1e-3), view))
    return Relief(table[at, :3], facing, eye, row.to(depth.dtype), column.to(depth.dtype), inside, table)


def heading(surface: Relief, towards: Tensor) -> tuple[Tensor, Tensor]:
    """Where a light lies as each pixel sees it.

    Args:
        towards: ``(P or 1, 3)`` unit, from the surface to the light.

    Returns:
        the unit heading in the picture ``(P, 2)`` (columns, rows) in which the point would move if it went to the
        light, and the angle ``(P,)`` in rad between the light and the line of sight.
    """
    (x, y, z), (a, b, c) = surface.point.unbind(1), towards.unbind(1)
    move = torch.stack((a * -z + x * c, -(b * -z + y * c)), 1)
    move = move / move.square().sum(1, keepdim=True).clamp_min(1e-24).sqrt()
    return move, torch.acos((surface.view * towards).sum(1).clamp(-1.0, 1.0))


def tangent(surface: Relief, azimuth: float) -> Tensor:
    """The unit directions ``(P, 3)`` at right angles to the lines of sight for one heading of the picture.

    ``azimuth`` counts from +X towards +Y, in rad; ``cos θ view + sin θ tangent`` are the directions of that heading.
    """
    way = surface.view.new_tensor((math.cos(azimuth), math.sin(azimuth), 0.0))
    across = way - (surface.view @ way)[:, None] * surface.view
    return across / across.square().sum(1, keepdim=True).clamp_min(1e-12).sqrt()


def blocked(
    surface: Relief,
    way: Tensor,
    theta: Tensor,
    width: float | Tensor,
    growth: float,
    away: Tensor | None = None,
) -> Tensor:
    """The share ``(P, S)`` of lights at angles to the line of sight that the surface itself hides.

    Args:
        way: heading in the picture, ``(P or 1, 2)`` unit (columns, rows).
        theta: ``(P or 1, S)`` angles in rad between light and line of sight.
        width: half the angle in rad over which a light goes from seen to hidden, a number or ``(P, 1)``.
        growth: factor between one step of the march and the next; steps are one pixel at least.
        away: ``(P, 1)`` distance of the lights: what lies beyond hides none.
    """
    height, columns = surface.inside.shape
    out = surface.point.new_zeros(surface.point.shape[0], theta.shape[1])
    for reach in _steps(math.hypot(height, columns), growth):
        x = (surface.column + reach * way[:, 0]).round()
        y = (surface.row + reach * way[:, 1]).round()
        within = (x >= 0) & (x < columns) & (y >= 0) & (y < height)
        index = torch.where(within, y * columns + x, float(height * columns)).to(torch.int64)
        sample = surface.table[index]
        apart, thickness = sample[:, :3] - surface.point, sample[:, 3:]
        distance = apart.square().sum(1).clamp_min(1e-20).sqrt()
        lift = (apart * surface.normal).sum(1) / distance
        # From nothing at the bias to all at twice the bias, so that no edge shows where it begins.
        counts = ((lift - NEAR_BIAS / reach) / BIAS - 1.0).clamp(0.0, 1.0) * (thickness[:, 0] > 0.0)
        if away is not None:
            counts = counts * (distance < away[:, 0])
        front = _angle(apart, surface.view)
        back = _angle(apart - thickness * surface.view, surface.view)
        share = ((theta - front) / (2.0 * width) + 0.5).clamp(0.0, 1.0)
        share = share * ((back - theta) / (2.0 * width) + 0.5).clamp(0.0, 1.0)
        out = torch.maximum(out, share * counts[:, None])
    return out


def _angle(apart: Tensor, view: Tensor) -> Tensor:
    length = apart.square().sum(1, keepdim=True).clamp_min(1e-20).sqrt()
    return torch.acos(((apart * view).sum(1, keepdim=True) / length).clamp(-1.0, 1.0))


def _steps(far: float, growth: float) -> Iterator[float]:
    reach = 1.0
    while reach < far:
        yield reach
        reach = max(reach + 1.0, reach * growth)
