"""Plates: forget one, look at its maps, save them."""

import math
from pathlib import Path
from typing import Any

import bpy

from .. import exr, loading, maps, materials, scene, wire
from ..plate_properties import MAPS, PLANES, is_built
from ..properties import active_plate
from .common import has_maps, has_plate, idle, refuse, told


class PLATELIGHT_OT_remove_plate(bpy.types.Operator):
    """Take the plate out of this scene, with its maps, card and camera"""

    bl_idname = "platelight.remove_plate"
    bl_label = "Remove Plate"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a plate."""
        return has_plate(cls, context)

    @told
    def execute(self, context: Any) -> set[str]:
        """Remove it."""
        loading.remove_plate(context.scene, context.scene.platelight.active)
        return {"FINISHED"}


class PLATELIGHT_OT_show_map(bpy.types.Operator):
    """Show a map of the plate in the Image Editor"""

    bl_idname = "platelight.show_map"
    bl_label = "Show Map"

    name: bpy.props.EnumProperty(
        name="Map",
        description="Which map is shown",
        items=[(name, title, "Show this map") for name, title, _ in MAPS],
    )

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a plate."""
        return has_plate(cls, context)

    @told
    def execute(self, context: Any) -> set[str]:
        """Put the image into every open Image Editor."""
        plate = active_plate(context.scene.platelight)
        image = getattr(plate, self.name)
        if image is None:
            raise wire.InputError(f"{plate.name} has no such map yet.", "Analyze it first.")
        editors = [
            a for w in context.window_manager.windows for a in w.screen.areas if a.type == "IMAGE_EDITOR"
        ]
        for area in editors:
            area.spaces.active.image = image
            if plate.is_sequence and image.source == "SEQUENCE":
                user = area.spaces.active.image_user
                materials.follow_frames(user, plate.frame_first, plate.frame_last)
                if self.name == "plate":  # its files have numbers of their own
                    user.frame_offset += plate.frame_offset
        if not editors:
            self.report({"INFO"}, f"Open an Image Editor to see {image.name}")
        return {"FINISHED"}


class PLATELIGHT_OT_save_maps(bpy.types.Operator):
    """Save the plate's maps as one multilayer EXR, and the light it was shot under beside it"""

    bl_idname = "platelight.save_maps"
    bl_label = "Save Maps"

    filepath: bpy.props.StringProperty(
        name="File", description="Name of the .maps.exr file; .light.exr goes beside it", subtype="FILE_PATH"
    )

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs maps."""
        return has_maps(cls, context)

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Ask for the file."""
        plate = active_plate(context.scene.platelight)
        beside = plate.filepath or f"//{bpy.path.clean_name(plate.name)}.exr"
        self.filepath = str(Path(bpy.path.abspath(beside)).with_suffix(".maps.exr"))
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    @told
    def execute(self, context: Any) -> set[str]:
        """Write both files."""
        plate = active_plate(context.scene.platelight)
        target = Path(bpy.path.abspath(self.filepath))
        stem = target.name.removesuffix(".exr").removesuffix(".maps")
        matte = maps.map_pixels(plate, "matte_map", 1)
        picture = maps.map_pixels(plate, "plate", 4)
        picture[..., 3] = matte
        layers = {"": picture, "matte": matte}
        for plane, name in PLANES.items():
            if plane in {"normal", "albedo"}:
                layers[plane] = maps.map_pixels(plate, name, 3)
            elif plane in {"roughness", "reflectivity", "depth"} or (plane == "cavity" and plate.cavity):
                layers[plane] = maps.map_pixels(plate, name, 1)
        attributes: dict[str, exr.Attribute] = {
            "platelight:version": wire.version,
            "platelight:plate": plate.filepath,
            "platelight:fov": scene.field_of_view(plate),
            "platelight:notes": plate.notes,
            "platelight:depthScale": float(plate.card["platelight_depth_scale"]) if plate.card else 1.0,
        }
        exr.write(target.with_name(f"{stem}.maps.exr"), layers, attributes)
        if plate.source_light is not None:
            light = maps.map_pixels(plate, "source_light", 3)
            exr.write(target.with_name(f"{stem}.light.exr"), {"": light}, attributes)
        self.report({"INFO"}, f"Saved {stem}.maps.exr")
        return {"FINISHED"}


class PLATELIGHT_OT_scale_from_width(bpy.types.Operator):
    """Set the plate's distance from the true width of the subject, so that lamps and shadows have their true size"""

    bl_idname = "platelight.scale_from_width"
    bl_label = "Scale From Width"
    bl_options = {"REGISTER", "UNDO"}

    width: bpy.props.FloatProperty(
        name="Width",
        description="Width of the subject between its outermost solid pixels",
        default=0.5,
        min=1e-4,
        max=1e5,
        subtype="DISTANCE",
        unit="LENGTH",
    )

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs maps."""
        return idle(cls) and has_maps(cls, context)

    def invoke(self, context: Any, _event: Any) -> Any:
        """Show the width as it is now."""
        self.width = scene.subject_width(active_plate(context.scene.platelight))
        return context.window_manager.invoke_props_dialog(self)

    @told
    def execute(self, context: Any) -> set[str]:
        """Scale the distance, and what stands in the scene already."""
        plate = active_plate(context.scene.platelight)
        plate.distance *= self.width / scene.subject_width(plate)
        if is_built(plate):
            scene.build(context.scene, plate)
        return {"FINISHED"}


class PLATELIGHT_OT_fov_from_lens(bpy.types.Operator):
    """Set the plate's field of view from the lens and the sensor that it was taken with"""

    bl_idname = "platelight.fov_from_lens"
    bl_label = "Field of View From Lens"
    bl_options = {"REGISTER", "UNDO"}

    focal_length: bpy.props.FloatProperty(
        name="Focal Length (mm)",
        description="Focal length of the lens in mm, the true one and not the equivalent of another format",
        default=50.0,
        min=1.0,
        soft_max=300.0,
        max=5000.0,
    )
    sensor_width: bpy.props.FloatProperty(
        name="Sensor Width (mm)",
        description="Width of that part of the sensor that the plate shows, in mm; full frame has 36, Super 35 about 24.9",
        default=36.0,
        min=1.0,
        max=200.0,
    )

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a plate without a camera of the user's."""
        if not (idle(cls) and has_plate(cls, context)):
            return False
        own = active_plate(context.scene.platelight).own_camera
        return own is None or refuse(cls, "The plate takes its field of view from its camera")

    def invoke(self, context: Any, _event: Any) -> Any:
        """Show the lens that the field of view has now, on that sensor."""
        half = math.radians(active_plate(context.scene.platelight).fov) / 2
        self.focal_length = self.sensor_width / 2 / math.tan(half)
        return context.window_manager.invoke_props_dialog(self)

    @told
    def execute(self, context: Any) -> set[str]:
        """Set the angle, and what stands in the scene already."""
        plate = active_plate(context.scene.platelight)
        plate.fov = 2.0 * math.degrees(math.atan(self.sensor_width / 2 / self.focal_length))
        if is_built(plate):
            scene.build(context.scene, plate)
        return {"FINISHED"}


CLASSES = (
    PLATELIGHT_OT_fov_from_lens,
    PLATELIGHT_OT_scale_from_width,
    PLATELIGHT_OT_remove_plate,
    PLATELIGHT_OT_show_map,
    PLATELIGHT_OT_save_maps,
)
