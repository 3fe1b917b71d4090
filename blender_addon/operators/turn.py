"""Turn the light by dragging in the viewport; the shelf's folders."""

from pathlib import Path
from typing import Any

import bpy

from .. import hdris, preferences
from ..modal import redraw
from .common import refuse

_DEGREES = 0.25  # a pixel
_FINE = 0.1
_SNAP = 5.0
_STOP = 0.1  # EV a notch of the wheel


class PLATELIGHT_OT_turn_light(bpy.types.Operator):
    """Turn the light by dragging left and right, brighten it by the wheel. Shift is fine, Ctrl snaps to 5°, ESC puts it back"""

    bl_idname = "platelight.turn_light"
    bl_label = "Turn Light"
    bl_options = {"REGISTER", "UNDO", "GRAB_CURSOR", "BLOCKING"}

    rotation: bpy.props.FloatProperty(
        name="Rotation", description="Turn about the vertical axis in degrees, as World Mapping Z"
    )
    exposure: bpy.props.FloatProperty(name="Exposure", description="Brightness in stops (EV)")

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a light that can be turned."""
        state = getattr(context.scene, "platelight", None)
        if state is None:
            return refuse(cls, "There is no scene")
        if state.light_from == "SCENE":
            return refuse(cls, "The light is the scene's own: turn its World and lamps")
        if state.light_from == "HDRI" and not state.hdri:
            return refuse(cls, "Choose an HDRI first")
        return True

    def execute(self, context: Any) -> set[str]:
        """Set what is given, and keyframes where Blender's Auto Keying is on."""
        state = context.scene.platelight
        for name in ("rotation", "exposure"):
            if self.properties.is_property_set(name):
                setattr(state, name, getattr(self, name))
        self._keyframe(context)
        return {"FINISHED"}

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Begin to drag."""
        state = context.scene.platelight
        self._before = state.rotation, state.exposure
        self._angle, self._x = state.rotation, event.mouse_x
        context.window_manager.modal_handler_add(self)
        self._tell(context)
        return {"RUNNING_MODAL"}

    def modal(self, context: Any, event: Any) -> set[str]:
        """Follow mouse and wheel."""
        state = context.scene.platelight
        if event.type in {"ESC", "RIGHTMOUSE"} and event.value == "PRESS":
            state.rotation, state.exposure = self._before
            return self._over(context, {"CANCELLED"})
        if event.type in {"LEFTMOUSE", "RET", "NUMPAD_ENTER"} and event.value == "PRESS":
            self.rotation, self.exposure = state.rotation, state.exposure
            self._keyframe(context)
            return self._over(context, {"FINISHED"})
        if event.type == "MOUSEMOVE":
            self._angle += (event.mouse_x - self._x) * _DEGREES * (_FINE if event.shift else 1.0)
            self._x = event.mouse_x
            state.rotation = round(self._angle / _SNAP) * _SNAP if event.ctrl else self._angle
        elif event.type in {"WHEELUPMOUSE", "WHEELDOWNMOUSE"}:
            way = 1.0 if event.type == "WHEELUPMOUSE" else -1.0
            state.exposure += way * _STOP * (_FINE if event.shift else 1.0)
        self._tell(context)
        return {"RUNNING_MODAL"}

    def cancel(self, context: Any) -> None:
        """Blender ends the operator itself: the light goes back."""
        context.scene.platelight.rotation, context.scene.platelight.exposure = self._before
        self._over(context, set())

    def _keyframe(self, context: Any) -> None:
        if context.scene.tool_settings.use_keyframe_insert_auto:
            for name in ("rotation", "exposure"):
                context.scene.platelight.keyframe_insert(name)

    def _tell(self, context: Any) -> None:
        state = context.scene.platelight
        if context.area is not None:
            words = f"Rotation {state.rotation:.1f}°   Exposure {state.exposure:+.2f} EV"
            context.area.header_text_set(words)
        redraw()

    def _over(self, context: Any, result: set[str]) -> set[str]:
        if context.area is not None:
            context.area.header_text_set(None)
        redraw()
        return result


class PLATELIGHT_OT_add_hdri_folder(bpy.types.Operator):
    """Show the HDRIs of a folder of yours, and of the folders in it, in the Light panel"""

    bl_idname = "platelight.add_hdri_folder"
    bl_label = "Add HDRI Folder"

    directory: bpy.props.StringProperty(
        name="Folder", description="Folder with .exr and .hdr files", subtype="DIR_PATH"
    )
    filter_folder: bpy.props.BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Ask for the folder."""
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Any) -> set[str]:
        """Keep it in the preferences."""
        own = preferences.own()
        folder = Path(bpy.path.abspath(self.directory))
        if own is None or not self.directory or not folder.is_dir():
            self.report({"ERROR"}, f"{self.directory or 'Nothing'} is not a folder. Choose one that exists.")
            return {"CANCELLED"}
        if str(folder) not in {item.path for item in own.hdri_folders}:
            own.hdri_folders.add().path = str(folder)
            context.preferences.is_dirty = True
        hdris.refresh()
        context.scene.platelight.shelf = "FOLDERS"
        return {"FINISHED"}


class PLATELIGHT_OT_remove_hdri_folder(bpy.types.Operator):
    """Show the HDRIs of this folder no longer; its files stay"""

    bl_idname = "platelight.remove_hdri_folder"
    bl_label = "Remove HDRI Folder"

    index: bpy.props.IntProperty(name="Index", description="Place in the list, from 0", min=0)

    def execute(self, context: Any) -> set[str]:
        """Take it off the list."""
        own = preferences.own()
        if own is None or self.index >= len(own.hdri_folders):
            self.report({"ERROR"}, "There is no such folder in the list. Choose another.")
            return {"CANCELLED"}
        own.hdri_folders.remove(self.index)
        context.preferences.is_dirty = True
        hdris.refresh()
        return {"FINISHED"}


class PLATELIGHT_OT_refresh_hdris(bpy.types.Operator):
    """Look into the folders of HDRIs again"""

    bl_idname = "platelight.refresh_hdris"
    bl_label = "Refresh HDRIs"

    def execute(self, _context: Any) -> set[str]:
        """Forget what was listed."""
        hdris.refresh()
        redraw()
        return {"FINISHED"}


CLASSES = (
    PLATELIGHT_OT_turn_light,
    PLATELIGHT_OT_add_hdri_folder,
    PLATELIGHT_OT_remove_hdri_folder,
    PLATELIGHT_OT_refresh_hdris,
)
