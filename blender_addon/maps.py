"""A plate's maps as Blender images over files: kept, found, read; of one frame where the plate is a sequence."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from . import exr, footage, images, mapfiles, preferences
from .exr import Pixels
from .mapfiles import Files, Source
from .plate_properties import MAPS, frames_of, is_analysed
from .wire import InputError

log = logging.getLogger(__name__)
_TITLES = {name: (title, data) for name, title, data in MAPS}
_UNSAVED = "platelight_unsaved"
_FILE = "platelight_file"


def current_frame(plate: Any) -> int | None:
    """The frame of a sequence that the scene stands at, within the plate's range; None for a still."""
    if not plate.is_sequence:
        return None
    return int(min(max(bpy.context.scene.frame_current, plate.frame_first), plate.frame_last))


def map_folder(plate: Any) -> Path:
    """Where new maps of a plate go: a fresh folder for a still, the plate's own one for a sequence."""
    if not plate.is_sequence:
        return mapfiles.new_folder(preferences.user_folder(), plate.uid)
    if not plate.map_folder:
        if bpy.data.filepath:
            name = bpy.path.clean_name(plate.name)
            plate.map_folder = f"//platelight/{name}-{plate.uid[:8]}"
        else:
            plate.map_folder = str(mapfiles.new_folder(preferences.user_folder(), plate.uid))
    return Path(bpy.path.abspath(plate.map_folder))


def attach(plate: Any, files: Files) -> None:
    """Have the plate's images show these files; Blender loads them when they are drawn or rendered."""
    for name, (path, thumbnail) in files.items():
        title, data = _TITLES[name]
        frames = frames_of(plate)
        image = images.attach(
            f"{plate.name} {title}", path, data=data, existing=getattr(plate, name), frames=frames
        )
        image["platelight"] = plate.uid
        image[_UNSAVED] = frames is None
        image[_FILE] = str(path)
        images.set_preview(image, thumbnail)
        setattr(plate, name, image)


def settle_cavity(plate: Any, files: Files) -> None:
    """Let go of the cavity map where an analysis gave none, or frames that an earlier version analyzed have none."""
    lacks = "cavity" not in files
    if plate.is_sequence and not lacks:
        folder, frames = map_folder(plate), range(plate.frame_first, plate.frame_last + 1)
        albedo, cavity = (
            {frame for frame in frames if mapfiles.map_path(folder, name, frame).is_file()}
            for name in ("albedo", "cavity")
        )
        lacks = bool(albedo - cavity)
    if lacks:
        plate.cavity = None


def put_map(plate: Any, name: str, plane: Pixels) -> Any:
    """Keep an array as one of a plate's maps, at once, on the main thread."""
    attach(plate, mapfiles.write_maps(map_folder(plate), {name: plane}, current_frame(plate)))
    return getattr(plate, name)


def source(plate: Any, name: str, frame: int | None = None) -> Source:
    """Where a map's pixels are; cheap unless the map was painted on or came with another .blend.

    Args:
        frame: of a sequence; the current one if None.

    Raises:
        InputError: the map is gone.
    """
    title = _TITLES[name][0].lower()
    image = getattr(plate, name)
    if image is None:
        raise InputError(f"{plate.name} has no {title}.", "Analyze the plate again.")
    if plate.is_sequence and name == "plate":
        return plate_source(plate, frame)
    if plate.is_sequence:
        at = current_frame(plate) if frame is None else frame
        path = mapfiles.map_path(map_folder(plate), name, at)
        if not path.is_file():
            raise InputError(f"{plate.name} has no {title} of frame {at}.", "Analyze that frame.")
        return Source(image.name, path=path)
    if not image.is_dirty:
        if image.packed_file is not None and image.packed_file.size > 0:
            data = bytes(image.packed_file.data)
            if exr.is_readable(data):
                return Source(image.name, data=data)
        elif image.source == "FILE" and Path(path := bpy.path.abspath(image.filepath)).is_file():
            return Source(image.name, path=Path(path))
    width, height = image.size
    if width == 0 or height == 0:
        raise InputError(f"{plate.name} has lost its {title}.", "Analyze the plate again.")
    return images.pixel_source(image)


def plate_source(plate: Any, frame: int | None) -> Source:
    """The plate's own pixels; of a sequence or a movie straight from its files.

    Raises:
        InputError: the frame's file is gone.
    """
    if not plate.is_sequence:
        return source(plate, "plate")
    at = current_frame(plate) if frame is None else frame
    assert at is not None
    path = Path(bpy.path.abspath(plate.filepath))
    return footage.source(path, at, plate.colorspace, plate.frame_offset)


def map_pixels(plate: Any, name: str, channels: int, frame: int | None = None) -> Pixels:
    """A plate's map as (H, W) for one channel, else (H, W, channels), read at once.

    Raises:
        InputError: the map is gone.
    """
    return np.ascontiguousarray(source(plate, name, frame).read(channels))


def has_maps(plate: Any) -> bool:
    """Whether the maps of the current frame are there."""
    if not is_analysed(plate):
        return False
    try:
        source(plate, "albedo")
    except InputError:
        return False
    return True


def is_untouched(plate: Any, name: str) -> bool:
    """Whether a map is still the file that was made for it."""
    image = getattr(plate, name)
    return bool(image is not None and not image.is_dirty and image.packed_file is None and image.get(_FILE))


def stay(path: str) -> None:
    """A file that is saved into another folder finds its plates, mattes, light and maps where they are."""
    if not path or not bpy.data.filepath or Path(path).parent == Path(bpy.data.filepath).parent:
        return
    for scene in bpy.data.scenes:
        state = scene.platelight
        places = [(state, "hdri"), (state, "backdrop_path")]
        places += [
            (plate, name) for plate in state.plates for name in ("filepath", "matte_path", "map_folder")
        ]
        for owner, name in places:
            if getattr(owner, name).startswith("//"):
                setattr(owner, name, bpy.path.abspath(getattr(owner, name)))


def claim(path: str) -> None:
    """Keep the maps of this file's sequences, which no .blend packs, from being cleared in another file."""
    cache = preferences.user_folder()
    for scene in bpy.data.scenes if path else ():
        for plate in scene.platelight.plates:
            folder = Path(bpy.path.abspath(plate.map_folder))
            if plate.map_folder and folder.is_relative_to(cache):
                mapfiles.claim(folder, Path(path).absolute())


def pack() -> None:
    """Put images that exist nowhere else, and maps that were painted on, into the .blend that is about to be saved."""
    for image in bpy.data.images:
        painted = image.get("platelight") and image.is_dirty and image.source != "SEQUENCE"
        if not (image.get(_UNSAVED) or painted):
            continue
        try:
            image.pack()
            image[_UNSAVED] = False
        except RuntimeError as error:  # its file is gone: the others are packed all the same
            log.warning("%s is not packed: %s", image.name, error)


def in_use() -> set[Path]:
    """What of the cache this file uses: folders of maps that its images show, and its HDRIs."""
    paths = {Path(bpy.path.abspath(image.filepath)) for image in bpy.data.images if image.filepath}
    chosen = {Path(bpy.path.abspath(scene.platelight.hdri)) for scene in bpy.data.scenes}
    return paths | chosen | {path.parent for path in paths}
