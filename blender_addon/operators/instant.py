"""The instant preview, on and off."""

from typing import Any

import bpy

from .. import instant
from ..wire import InputError
from .common import has_maps, refuse, told


class PLATELIGHT_OT_instant_preview(bpy.types.Operator):
    """Show the plate relit at once as the light is turned: over its pictures in the Image Editor, through its camera in the 3D Viewport"""

    bl_idname = "platelight.instant_preview"
    bl_label = "Instant Preview"

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs maps, and a graphics card or the backend; it can always be switched off."""
        if instant.is_on():
            return True
        state = getattr(context.scene, "platelight", None)
        if bpy.app.background and (state is None or state.instant_by == "GPU"):
            return refuse(cls, "Needs a window")
        return has_maps(cls, context)

    @told
    def execute(self, _context: Any) -> set[str]:
        """Switch."""
        if instant.is_on():
            instant.stop()
            return {"FINISHED"}
        try:
            instant.start()
        except Exception as error:  # whatever a driver says
            raise InputError(
                f"The graphics card refuses the instant preview: {error}.", "Use Render Preview instead."
            ) from error
        return {"FINISHED"}


CLASSES = (PLATELIGHT_OT_instant_preview,)
