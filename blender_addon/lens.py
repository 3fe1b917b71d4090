"""What a camera sees, as Blender renders it: sensor fit and lens shift included."""

from __future__ import annotations

from typing import Any, NamedTuple


class Frustum(NamedTuple):
    """Tangents, in camera space at a distance of one: half the width and half the height of the picture, and how far its
    middle lies to the right of the axis and above it."""

    across: float
    down: float
    right: float = 0.0
    up: float = 0.0


def stretch(camera: Any) -> float:
    """Scene units along the axis of a camera object that is scaled, in a unit of its own frame."""
    return abs(float(camera.matrix_world.to_scale().z)) or 1.0


def frustum(camera: Any, width: int, height: int) -> Frustum:
    """The frustum of a perspective camera object for a picture of square pixels.

    ``Camera.angle_x`` is not that: it is the sensor's width over the lens, whatever side of the picture the sensor is fitted to.
    """
    data = camera.data
    upright = data.sensor_fit == "VERTICAL" or (data.sensor_fit == "AUTO" and height > width)
    sensor = data.sensor_height if data.sensor_fit == "VERTICAL" else data.sensor_width
    half = sensor / 2 / data.lens
    fitted = height if upright else width
    # A shift of one moves the picture by the whole side that the sensor is fitted to.
    return Frustum(
        half * width / fitted, half * height / fitted, 2 * half * data.shift_x, 2 * half * data.shift_y
    )
