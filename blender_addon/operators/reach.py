"""Give the subject its true scale by dragging it nearer or farther in the viewport."""

import math
from typing import Any

import bpy

from .. import scene
from ..modal import redraw
from ..properties import active_plate
from .common import has_scene, idle, told

_PER_PIXEL = 0.005  # of the distance
_FINE = 0.1


class PLATELIGHT_OT_drag_distance(bpy.types.Operator):
    """Move the subject nearer or farther by dragging left and right; in the picture it stays as it is. Shift is fine, ESC puts it back"""

    bl_idname = "platelight.drag_distance"
    bl_label = "Drag Distance"
    bl_options = {"REGISTER", "UNDO", "GRAB_CURSOR", "BLOCKING"}

    distance: bpy.props.FloatProperty(
        name="Distance",
        description="Distance from the camera to the middle of the subject; lamps near it need the true one",
        default=2.0,
        min=0.01,
        max=1e5,
        subtype="DISTANCE",
        unit="LENGTH",
    )

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs the card in the scene."""
        return idle(cls) and has_scene(cls, context)

    @told
    def execute(self, context: Any) -> set[str]:
        """Set the distance, and what stands in the scene."""
        plate = active_plate(context.scene.platelight)
        plate.distance = self.distance
        scene.build(context.scene, plate)
        return {"FINISHED"}

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Begin to drag."""
        self._x = event.mouse_x
        return self._begin(context)

    @told
    def _begin(self, context: Any) -> set[str]:
        plate = active_plate(context.scene.platelight)
        self._before = plate.distance
        self._width = scene.subject_width(plate) / plate.distance
        context.window_manager.modal_handler_add(self)
        self._show(context, plate.distance)
        return {"RUNNING_MODAL"}

    def modal(self, context: Any, event: Any) -> set[str]:
        """Follow the mouse."""
        plate = active_plate(context.scene.platelight)
        if event.type in {"ESC", "RIGHTMOUSE"} and event.value == "PRESS":
            self.cancel(context)
            return {"CANCELLED"}
        if event.type in {"LEFTMOUSE", "RET", "NUMPAD_ENTER"} and event.value == "PRESS":
            self.distance = plate.distance
            self._over(context)
            return self.execute(context)
        if event.type == "MOUSEMOVE":
            moved = (event.mouse_x - self._x) * _PER_PIXEL * (_FINE if event.shift else 1.0)
            self._x = event.mouse_x
            self._show(context, plate.distance * math.exp(moved))
        return {"RUNNING_MODAL"}

    def cancel(self, context: Any) -> None:
        """Put the subject back."""
        active_plate(context.scene.platelight).distance = self._before
        self._over(context)

    def _show(self, context: Any, distance: float) -> None:
        """Card and proxy stand in the camera's frame: their scale moves them along its rays until they are built anew."""
        plate = active_plate(context.scene.platelight)
        plate.distance = distance
        self._scale(plate, plate.distance / self._before)
        if context.area is not None:
            width = self._width * plate.distance
            context.area.header_text_set(f"Distance {plate.distance:.3g}   Width {width:.3g}")
        redraw()

    def _scale(self, plate: Any, factor: float) -> None:
        for thing in filter(None, (plate.card, plate.proxy)):
            thing.scale = (factor,) * 3

    def _over(self, context: Any) -> None:
        self._scale(active_plate(context.scene.platelight), 1.0)
        if context.area is not None:
            context.area.header_text_set(None)
        redraw()


CLASSES = (PLATELIGHT_OT_drag_distance,)
