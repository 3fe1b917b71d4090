"""The light, and the scene that it lights."""

from contextlib import ExitStack
from typing import Any

import bpy

from .. import compat, latlong, light, mapfiles, maps, scene, wire
from ..plate_properties import is_analysed
from ..properties import active_plate
from ..session import session
from .common import has_maps, has_plate, has_scene, idle, refuse, told


class PLATELIGHT_OT_set_light(bpy.types.Operator):
    """Choose the HDRI that lights the plates of this scene"""

    bl_idname = "platelight.set_light"
    bl_label = "Choose HDRI"
    bl_options = {"REGISTER", "UNDO"}

    filepath: bpy.props.StringProperty(name="HDRI", description="Lat-long picture", subtype="FILE_PATH")
    filter_image: bpy.props.BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})
    filter_folder: bpy.props.BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})
    rotation: bpy.props.FloatProperty(
        name="Rotation", description="Turn about the vertical axis in degrees, as World Mapping Z"
    )
    exposure: bpy.props.FloatProperty(name="Exposure", description="Brightness in stops (EV)")

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Ask for the file; rotation and exposure stay."""
        self.rotation, self.exposure = context.scene.platelight.rotation, context.scene.platelight.exposure
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    @told
    def execute(self, context: Any) -> set[str]:
        """Check the file, keep it, and light the scene if it stands already."""
        state = context.scene.platelight
        with ExitStack() as undo:
            for name in ("light_from", "hdri"):  # put back in the other order
                undo.callback(setattr, state, name, getattr(state, name))
            state.hdri, state.light_from = self.filepath, "HDRI"
            light.file_pixels(self.filepath)
            light.refresh(context.scene, active_plate(state))
            undo.pop_all()  # the file is good: nothing is put back
        for name in ("rotation", "exposure"):
            if self.properties.is_property_set(name):
                setattr(state, name, getattr(self, name))
        return {"FINISHED"}


class PLATELIGHT_OT_use_plate_light(bpy.types.Operator):
    """Light the scene with the light that a plate was shot under: CG things sit in the plate, and other plates take its light"""

    bl_idname = "platelight.use_plate_light"
    bl_label = "Use Plate's Light"
    bl_options = {"REGISTER", "UNDO"}

    name: bpy.props.StringProperty(
        name="Plate", description="Name of the plate that lends its light; empty is the active one"
    )

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a plate with maps."""
        return idle(cls) and has_plate(cls, context)

    @told
    def execute(self, context: Any) -> set[str]:
        """Solve the strength and make it the World."""
        state = context.scene.platelight
        active = active_plate(state)
        lender = active if not self.name else state.plates.get(self.name)
        if lender is None:
            raise wire.InputError(f"This scene has no plate {self.name}.", "Give the name of one.")
        if lender.source_light is None or not is_analysed(lender):
            raise wire.InputError(f"{lender.name} has no light yet.", "Analyze it first.")
        cavity = maps.map_pixels(lender, "cavity", 1) if lender.cavity else None
        state.light_gain = latlong.card_strength(
            maps.map_pixels(lender, "source_light", 3),
            maps.map_pixels(lender, "foreground" if lender.foreground else "plate", 3),
            mapfiles.paint(maps.map_pixels(lender, "albedo", 3), cavity),
            maps.map_pixels(lender, "normal", 3),
            maps.map_pixels(lender, "matte_map", 1),
        )
        state.light_plate, state.light_from = lender.uid, "PLATE"
        state.rotation = state.exposure = 0.0
        light.refresh(context.scene, active)
        session.say(f"The light of {lender.name}, times {state.light_gain:.3g}.")
        return {"FINISHED"}


class PLATELIGHT_OT_update_light(bpy.types.Operator):
    """Set World and Sun up again after the light's settings were changed"""

    bl_idname = "platelight.update_light"
    bl_label = "Update Light"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs the card in the scene."""
        return idle(cls) and has_scene(cls, context)

    @told
    def execute(self, context: Any) -> set[str]:
        """Update the World."""
        light.update_world(context.scene, active_plate(context.scene.platelight))
        return {"FINISHED"}


class PLATELIGHT_OT_build_scene(bpy.types.Operator):
    """Build or update camera, plate card, material and World from the plate's maps and the HDRI"""

    bl_idname = "platelight.build_scene"
    bl_label = "Build Scene"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs maps."""
        return idle(cls) and has_maps(cls, context)

    @told
    def execute(self, context: Any) -> set[str]:
        """Build it."""
        plate = active_plate(context.scene.platelight)
        scene.build(context.scene, plate)
        session.say(f"{plate.name} stands in the scene.")
        return {"FINISHED"}


class PLATELIGHT_OT_rendered_view(bpy.types.Operator):
    """Look through the plate's camera with rendered shading"""

    bl_idname = "platelight.rendered_view"
    bl_label = "Rendered View"

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a 3D Viewport and the card in the scene."""
        if context.space_data is None or context.space_data.type != "VIEW_3D":
            return refuse(cls, "Use it in a 3D Viewport")
        return has_scene(cls, context)

    def execute(self, context: Any) -> set[str]:
        """Set the viewport that the button is in."""
        context.scene.render.engine = compat.engine_id(context.scene.platelight.engine)
        context.space_data.region_3d.view_perspective = "CAMERA"
        context.space_data.shading.type = "RENDERED"
        return {"FINISHED"}


CLASSES = (
    PLATELIGHT_OT_set_light,
    PLATELIGHT_OT_use_plate_light,
    PLATELIGHT_OT_update_light,
    PLATELIGHT_OT_build_scene,
    PLATELIGHT_OT_rendered_view,
)
