"""Load plates: from files, or from the clips and images that the .blend has already."""

import math
from pathlib import Path
from typing import Any

import bpy

from .. import footage, images, loading, mapfiles, wire
from .common import idle, told


class PLATELIGHT_OT_load_plate(bpy.types.Operator):
    """Load a picture, numbered files or a movie of the subject that is to be relit, as a new plate of this scene"""

    bl_idname = "platelight.load_plate"
    bl_label = "Load Plate"
    bl_options = {"REGISTER", "UNDO"}

    filepath: bpy.props.StringProperty(
        name="File", description="The picture or movie to relight", subtype="FILE_PATH"
    )
    filter_image: bpy.props.BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})
    filter_movie: bpy.props.BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})
    filter_folder: bpy.props.BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})
    name: bpy.props.StringProperty(name="Name", description="Name of the plate; empty takes the file's")
    colorspace: bpy.props.StringProperty(
        name="Color Space", description="auto, or the name of one of Blender's color spaces", default="auto"
    )

    sequence: bpy.props.BoolProperty(
        name="Sequence",
        description="Load all frames beside the file whose names differ by their number only",
        default=False,
    )
    first: bpy.props.IntProperty(
        name="First Frame",
        description="First file of the sequence, or frame of the movie; 0 takes the first there is",
        default=0,
        min=0,
    )
    last: bpy.props.IntProperty(
        name="Last Frame",
        description="Last file of the sequence, or frame of the movie; 0 takes the last there is",
        default=0,
        min=0,
    )
    offset: bpy.props.IntProperty(
        name="Frame Offset",
        description="Added to the scene's frame to find the file's number or the movie's frame",
        default=0,
    )

    @classmethod
    def poll(cls, _context: Any) -> bool:
        """Loading waits for a job to end."""
        return idle(cls)

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Ask for the file."""
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    @told
    def execute(self, context: Any) -> set[str]:
        """Load the file."""
        path, frames = Path(bpy.path.abspath(self.filepath)), None
        if footage.is_movie(path):
            frames = self.first or 1, self.last
        elif self.sequence:
            found = mapfiles.frame_range(path)
            if found == (0, 0):
                raise wire.InputError(f"{path} has no frame number.", "Choose a file such as shot.1001.exr.")
            frames = self.first or found[0], self.last or found[1]
        plate = loading.load_plate(
            context.scene, self.filepath, self.name, self.colorspace, frames, self.offset
        )
        self.report({"INFO"}, f"{plate.name}: {plate.width} by {plate.height}")
        return {"FINISHED"}


class PLATELIGHT_OT_use_footage(bpy.types.Operator):
    """Make a plate of a movie clip or an image of this file; a solved clip brings its lens and its camera"""

    bl_idname = "platelight.use_footage"
    bl_label = "Use Footage"
    bl_options = {"REGISTER", "UNDO"}

    kind: bpy.props.EnumProperty(
        name="Kind",
        description="Where the footage is kept",
        items=[
            ("CLIP", "Movie Clip", "A movie clip"),
            ("IMAGE", "Image", "An image, image sequence or movie"),
        ],
    )
    name: bpy.props.StringProperty(name="Name", description="Name of the movie clip or image in this file")

    @classmethod
    def poll(cls, _context: Any) -> bool:
        """Loading waits for a job to end."""
        return idle(cls)

    @told
    def execute(self, context: Any) -> set[str]:
        """Load its file, with its frames and color space."""
        found = (bpy.data.movieclips if self.kind == "CLIP" else bpy.data.images).get(self.name)
        if found is None:
            raise wire.InputError(f"This file has no {self.name}.", "Choose another.")
        load = _from_clip if self.kind == "CLIP" else _from_image
        plate = load(context.scene, found)
        self.report({"INFO"}, f"{plate.name}: {plate.width} by {plate.height}")
        return {"FINISHED"}


def offered() -> tuple[list[Any], list[Any]]:
    """Movie clips, and images that can be plates: not ours, not renders."""
    pictures = [
        image
        for image in bpy.data.images
        if not image.get("platelight") and image.source in {"FILE", "SEQUENCE", "MOVIE"} and image.filepath
    ]
    return list(bpy.data.movieclips), pictures


def _from_clip(where: Any, clip: Any) -> Any:
    """Frame ``frame_start`` of the scene shows the clip's first frame."""
    path = Path(bpy.path.abspath(clip.filepath))
    shift = clip.frame_offset - clip.frame_start
    if footage.is_movie(path):
        frames, offset = (1, clip.frame_duration), shift + 1
    else:
        number = mapfiles.frame_number(path) or 0  # Blender counts from the clip's own file
        frames, offset = (number, mapfiles.frame_range(path)[1]), number + shift
    plate = loading.load_plate(where, str(path), clip.name, clip.colorspace_settings.name, frames, offset)
    camera = clip.tracking.camera
    if clip.tracking.reconstruction.is_valid:
        plate.fov = math.degrees(2.0 * math.atan(camera.sensor_width / (2.0 * camera.focal_length)))
    for thing in where.objects:
        if thing.type == "CAMERA" and any(
            constraint.type == "CAMERA_SOLVER"
            and (constraint.clip == clip or (constraint.use_active_clip and where.active_clip == clip))
            for constraint in thing.constraints
        ):
            plate.own_camera = thing
    return plate


def _from_image(where: Any, image: Any) -> Any:
    space = image.colorspace_settings.name
    path = Path(bpy.path.abspath(image.filepath))
    if image.source == "FILE" and not path.is_file():  # packed, or painted and not saved
        return loading.add_still(where, images.picture_of(image, image.name), image.name)
    frames = mapfiles.frame_range(path) if image.source == "SEQUENCE" else None
    return loading.load_plate(where, str(path), image.name, space, frames)


CLASSES = (PLATELIGHT_OT_load_plate, PLATELIGHT_OT_use_footage)
