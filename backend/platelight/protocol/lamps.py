"""Lamps as a request carries them: Blender's four kinds, in the camera's frame and in Blender's units."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Coordinate = Annotated[float, Meta(ge=-1e6, le=1e6)]
Vector = tuple[Coordinate, Coordinate, Coordinate]
Length = Annotated[float, Meta(ge=0.0, le=1e6)]
Positive = Annotated[float, Meta(ge=1e-6, le=1e6)]
MOST = 32


class Lamp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One lamp. Lengths are in meters, in the camera's frame: the camera at the origin, +X right, +Y up, +Z behind it.

    Attributes:
        kind: which of Blender's lights.
        power: W of point, spot and area; W/m² of a sun, facing it. As Blender's Power and Strength.
        color: linear Rec.709 factor.
        at: position; a sun has none.
        direction: where a sun, spot or area shines, of any length but zero.
        up: an area's height lies along it (made square to ``direction``).
        radius: of point and spot.
        angle: angular diameter of a sun in degrees.
        cone: full angle of a spot in degrees.
        blend: soft part of a spot's cone, 0 to 1.
        size: width and height of an area.
    """

    kind: Literal["point", "sun", "area", "spot"]
    power: Annotated[float, Meta(ge=0.0, le=1e12)]
    color: tuple[Length, Length, Length] = (1.0, 1.0, 1.0)
    at: Vector = (0.0, 0.0, 0.0)
    direction: Vector = (0.0, 0.0, -1.0)
    up: Vector = (0.0, 1.0, 0.0)
    radius: Length = 0.0
    angle: Annotated[float, Meta(ge=0.0, le=180.0)] = 0.526
    cone: Annotated[float, Meta(ge=1.0, le=180.0)] = 45.0
    blend: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.15
    size: tuple[Positive, Positive] = (1.0, 1.0)
