"""Renders: the preview with its passes, and the scene's own light."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import bpy

from .. import bake, exr, images, light, mapfiles, maps, scene, wire
from ..plate_properties import is_analysed
from ..properties import active_plate, plate_by_uid
from ..render_modal import RenderOperator
from ..rendering import RenderSetup
from .common import has_plate, has_scene, idle, refuse


def _found(uid: str) -> tuple[Any, Any]:
    """Scene and plate."""
    found = plate_by_uid(uid)
    if found is None:
        raise wire.InputError("The plate was removed while it was rendered.", "Load it again.")
    return found


class PLATELIGHT_OT_render_preview(RenderOperator, bpy.types.Operator):
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

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs the card in the scene."""
        return idle(cls) and has_scene(cls, context)

    def setup(self, context: Any, target: Path) -> AbstractContextManager[Any]:
        """The plate alone, with its passes."""
        plate = active_plate(context.scene.platelight)
        self._uid, self._frame = plate.uid, maps.current_frame(plate)
        return RenderSetup(context.scene, plate, target, self.samples)

    def digest(self, _context: Any) -> Callable[[Path], mapfiles.Files]:
        """Passes out of the file, into maps, and into the file that was asked for."""
        _, plate = _found(self._uid)
        folder, frame = maps.map_folder(plate), self._frame  # the timeline may show another by now
        saved = Path(bpy.path.abspath(self.filepath)) if self.filepath else None
        if saved is not None and frame is not None:
            saved = scene.numbered(saved, frame)
        if saved is not None:
            scene.check_picture(saved)
        self._picture = saved if saved is not None and saved.suffix.lower() == ".png" else None

        def read(path: Path) -> mapfiles.Files:
            combined, diffuse, specular = scene.read_passes(path)
            if saved is not None and saved.suffix.lower() == ".exr":
                layers = {"": combined, "diffuse": diffuse, "specular": specular}
                exr.write(saved, layers, {"platelight:version": wire.version})
            planes = {"preview": combined, "diffuse_pass": diffuse, "specular_pass": specular}
            return mapfiles.write_maps(folder, planes, frame)

        return read

    def take(self, _context: Any, files: mapfiles.Files) -> str:
        """Keep preview and passes."""
        _, plate = _found(self._uid)
        maps.attach(plate, files)
        if self._picture is not None:
            images.save_displayed(maps.map_pixels(plate, "preview", 4, self._frame), self._picture)
        return f"{plate.name} is rendered."


class PLATELIGHT_OT_match_scene_light(RenderOperator, bpy.types.Operator):
    """Photograph what the scene sends to the subject's place (World, lamps, glowing things and bounces) and relight the plate with it"""

    bl_idname = "platelight.match_scene_light"
    bl_label = "Match Scene Light"

    filepath: bpy.props.StringProperty(
        name="File",
        description="Where to save the light as .exr, several with their numbers; empty keeps it in Blender",
        subtype="FILE_PATH",
    )
    samples: bpy.props.IntProperty(
        name="Samples",
        description="Samples a pixel; 0 takes the scene's setting",
        default=0,
        min=0,
        max=65536,
    )

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a camera to say where the subject is."""
        if not (idle(cls) and has_plate(cls, context)):
            return False
        plate = active_plate(context.scene.platelight)
        if plate.camera is None and plate.own_camera is None:
            return refuse(cls, "Build the scene first, or choose a camera of yours")
        return True

    def setup(self, context: Any, target: Path) -> AbstractContextManager[Any]:
        """Panoramas from the subject's place, or from several."""
        plate = active_plate(context.scene.platelight)
        self._uid = plate.uid
        found = None
        if is_analysed(plate):
            found = (maps.map_pixels(plate, "depth", 1), maps.map_pixels(plate, "matte_map", 1))
        self._bake = bake.setup_for(context.scene, plate, found, target, self.samples)
        return self._bake

    def digest(self, _context: Any) -> Callable[[Path], list[exr.Pixels]]:
        """The lights out of the file, and into the files that were asked for."""
        saved = Path(bpy.path.abspath(self.filepath)) if self.filepath else None
        points, views = self._bake.points, self._bake.views

        def read(path: Path) -> list[exr.Pixels]:
            lights = bake.read_bake(path, views)
            if saved is not None:
                # A light group that is to be brighter is added again, or taken away, wherever the file goes.
                parts = zip(lights, bake.read_groups(path, views), points, strict=True)
                for number, (pixels, groups, point) in enumerate(parts, 1):
                    notes = {
                        "platelight:version": wire.version,
                        "platelight:place": "{:g},{:g}".format(*point.place),
                    }
                    name = saved.with_stem(f"{saved.stem}.{number}") if views else saved
                    exr.write(name, {"": pixels, **groups}, notes)
            return lights

        return read

    def take(self, _context: Any, lights: list[exr.Pixels]) -> str:
        """Keep the lights and make them the target."""
        home, plate = _found(self._uid)  # another scene may be shown by now
        places = [point.place for point in self._bake.points]
        light.keep_baked(home, plate, list(zip(lights, places, strict=True)), self._bake.heading)
        home.platelight.light_from = "SCENE"
        where = f", from {len(lights)} places" if len(lights) > 1 else ""
        return f"{plate.name} takes the light of the scene{where}."


CLASSES = (PLATELIGHT_OT_render_preview, PLATELIGHT_OT_match_scene_light)
