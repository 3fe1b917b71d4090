"""Plates into a scene and out of it: pictures, numbered files, movies."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import bpy

from . import color, footage, images, mapfiles
from .maps import put_map
from .plate_properties import MAPS, stands
from .wire import InputError


def load_plate(
    scene: Any,
    path: str,
    name: str = "",
    colorspace: str = "auto",
    frames: tuple[int, int] | None = None,
    offset: int = 0,
) -> Any:
    """Read a picture, or the header of a movie, add it to the scene's plates and make it the active one.

    Args:
        frames: first and last file where ``path`` is one file of a sequence; of a movie first and last frame, all if
            None, to the end if the last is 0.
        offset: added to the scene's frame to find the file, or the movie's frame.

    Raises:
        InputError: not a picture or movie that can be read.
    """
    full = Path(bpy.path.abspath(path))
    colorspace = color.said_space(full) if colorspace == "auto" else colorspace
    if footage.is_movie(full):
        image, count = footage.open_movie(full, colorspace)
        frames = frames or (1, count)
        if not 1 <= frames[0] <= (frames[1] or count) <= count:
            bpy.data.images.remove(image)
            raise InputError(f"{full} has frames 1 to {count}.", "Choose first and last among them.")
        frames = frames[0], frames[1] or count
        width, height = image.size
        plate = _new_plate(scene, path, name, colorspace, (width, height))
    else:
        picture = images.load_picture(path, colorspace)
        if frames is None:
            return add_still(scene, picture, name or Path(path).stem, path, colorspace)
        height, width = picture.pixels.shape[:2]
        plate = _new_plate(scene, path, name, colorspace, (width, height))
        image = bpy.data.images.load(str(mapfiles.frame_path(full, frames[0])), check_existing=False)
        image.source = "SEQUENCE"
        images.set_preview(image, mapfiles.thumbnail("plate", picture.pixels))
        if colorspace != "auto":
            color.set_space(image, colorspace)
    plate.is_sequence, plate.frame_offset = True, offset
    plate.frame_first, plate.frame_last = (frame - offset for frame in frames)
    image.name = f"{plate.name} Plate"
    image["platelight"] = plate.uid
    plate.plate = image
    return plate


def add_still(
    scene: Any, picture: images.Picture, name: str, path: str = "", colorspace: str = "auto"
) -> Any:
    """Add pixels as a plate of one frame and make it the active one."""
    height, width = picture.pixels.shape[:2]
    plate = _new_plate(scene, path, name, colorspace, (width, height))
    put_map(plate, "plate", images.stacked(picture))
    return plate


def _new_plate(scene: Any, path: str, name: str, colorspace: str, size: tuple[int, int]) -> Any:
    state = scene.platelight
    plate = state.plates.add()
    plate.uid = uuid.uuid4().hex
    plate.name = name or Path(path).stem
    plate.filepath, plate.colorspace = path, colorspace
    plate.width, plate.height = size
    state.active = len(state.plates) - 1
    return plate


def remove_plate(scene: Any, index: int) -> None:
    """Take a plate out of the scene with the images and objects that were made for it, but what a copy of the scene has too."""
    plate = scene.platelight.plates[index]
    copies = [
        other
        for where in bpy.data.scenes
        if where != scene
        for other in where.platelight.plates
        if other.uid == plate.uid
    ]

    def alone(name: str) -> Any:
        """What the plate points to, if none of its copies does."""
        thing = getattr(plate, name)
        return thing if all(getattr(copy, name) != thing for copy in copies) else None

    collection, material = alone("collection"), alone("material")
    pictures = [image for name, _, _ in MAPS if (image := alone(name)) is not None]
    for thing in set(filter(None, map(alone, ("card", "proxy", "camera", "made_camera")))):
        # A copy of what was made carries its mark as well, but the plate does not point to it, or as the user's.
        if thing.get("platelight") == plate.uid and thing != plate.own_camera:
            bpy.data.objects.remove(thing)
    if collection is not None:
        # What the user put into it stays in the scene.
        whole = scene.collection
        things = [thing for thing in collection.objects if stands(plate, thing)]
        parts = list(collection.children) if collection in whole.children_recursive else []
        bpy.data.collections.remove(collection)
        for part in parts:
            if part not in whole.children_recursive:
                whole.children.link(part)
        for thing in things:
            if not stands(plate, thing):
                whole.objects.link(thing)
    if material is not None:
        bpy.data.materials.remove(material)
    for image in pictures:
        if image.get("platelight") == plate.uid:
            bpy.data.images.remove(image)
    scene.platelight.plates.remove(index)
    scene.platelight.active = max(0, min(scene.platelight.active, len(scene.platelight.plates) - 1))
