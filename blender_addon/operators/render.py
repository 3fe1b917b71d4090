"""Render the preview with Cycles and keep its passes."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

from .. import images, scene, wire
from ..modal import TICK, redraw
from ..properties import active_plate, plate_by_uid
from ..rendering import RenderSetup
from ..session import session
from .common import has_scene, idle


class PLATELIGHT_OT_render_preview(bpy.types.Operator):
    """Render the plate under the light, with the diffuse and specular passes that the refiner takes"""

    bl_idname = "platelight.render_preview"
    bl_label = "Render Preview"

    filepath: bpy.props.StringProperty(
        name="File",
        description="Where to save the preview: .exr with its passes, or .png as displayed; empty saves nothing",
        subtype="FILE_PATH",
    )
    samples: bpy.props.IntProperty(
        name="Samples",
        description="Samples a pixel; 0 takes the scene's setting",
        default=0,
        min=0,
        max=65536,
    )

    _setup: RenderSetup | None = None

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs the card in the scene."""
        return idle(cls) and has_scene(cls, context)

    def _begin(self, context: Any) -> RenderSetup:
        plate = active_plate(context.scene.platelight)
        self._uid = plate.uid
        self._folder = tempfile.TemporaryDirectory(prefix="platelight-", ignore_cleanup_errors=True)
        self._file = Path(self._folder.name) / "passes.exr"
        return RenderSetup(context.scene, plate, self._file, self.samples)

    def execute(self, context: Any) -> set[str]:
        """Render and wait."""
        setup = self._begin(context)
        try:
            with setup:
                bpy.ops.render.render(write_still=True, scene=context.scene.name)
            return self._finish()
        except wire.PlatelightError as error:
            return self._fail(str(error))
        finally:
            self._folder.cleanup()

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Render in Blender's own way, without blocking."""
        if bpy.app.background or context.window is None:
            return self.execute(context)
        self._setup = self._begin(context)
        self._outcome = ""
        self._setup.__enter__()
        self._handlers = [
            (bpy.app.handlers.render_complete, self._marker("complete")),
            (bpy.app.handlers.render_cancel, self._marker("cancelled")),
        ]
        for handlers, function in self._handlers:
            handlers.append(function)
        session.rendering = True
        manager = context.window_manager
        self._timer = manager.event_timer_add(TICK, window=context.window)
        session.timers.append((manager, self._timer))
        manager.modal_handler_add(self)
        bpy.ops.render.render("INVOKE_DEFAULT", write_still=True, scene=context.scene.name)
        return {"RUNNING_MODAL"}

    def _marker(self, outcome: str) -> Callable[..., None]:
        def mark(*_args: Any) -> None:
            self._outcome = outcome

        return mark

    def modal(self, context: Any, event: Any) -> set[str]:
        """Wait for the render's own end; ESC is the render's to take."""
        if event.type != "TIMER" or not self._outcome:
            return {"PASS_THROUGH"}
        self.cancel(context)
        try:
            if self._outcome == "cancelled":
                session.say("Cancelled.")
                return {"CANCELLED"}
            return self._finish()
        except wire.PlatelightError as error:
            return self._fail(str(error))
        finally:
            self._folder.cleanup()
            redraw()

    def cancel(self, _context: Any) -> None:
        """Put settings, handlers and the timer back."""
        session.rendering = False
        session.drop_timers()
        for handlers, function in self._handlers:
            if function in handlers:
                handlers.remove(function)
        self._handlers = []
        if self._setup is not None:
            self._setup.__exit__(None, None, None)
            self._setup = None

    def _fail(self, message: str) -> set[str]:
        session.say(message, error=True)
        self.report({"ERROR"}, message)
        return {"CANCELLED"}

    def _finish(self) -> set[str]:
        found = plate_by_uid(self._uid)
        if found is None:
            raise wire.InputError("The plate was removed while it was rendered.", "Load it again.")
        if not self._file.is_file():
            raise wire.JobFailed("The render wrote no file.", "Look at Blender's console.")
        _, plate = found
        scene.keep_passes(plate, self._file)
        if self.filepath:
            layers = {
                "": images.image_pixels(plate.preview),
                "diffuse": scene.map_pixels(plate, "diffuse_pass", 3),
                "specular": scene.map_pixels(plate, "specular_pass", 3),
            }
            scene.save_picture(self.filepath, plate.preview, layers, {"platelight:version": wire.version})
        session.say(f"{plate.name} is rendered.")
        return {"FINISHED"}


CLASSES = (PLATELIGHT_OT_render_preview,)
