"""Color spaces of pictures, by Blender's own names: what the user chose, what an EXR's header says, and the scene's working space."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Color

from . import exr
from .wire import InputError

_PRIMARIES = {
    "ACEScg": (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767),
    "ACES2065-1": (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767),
    "Linear Rec.2020": (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    "Linear DCI-P3 D65": (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
}
_HEADER_BYTES = 1 << 16


def set_space(image: Any, name: str) -> None:
    """Have Blender read an image in one of its color spaces.

    Raises:
        InputError: the configuration that Blender runs with has none of that name.
    """
    if image.colorspace_settings.name == name:
        return
    try:
        image.colorspace_settings.name = name
    except TypeError as error:
        known = image.colorspace_settings.bl_rna.properties["name"].enum_items.keys()
        near = difflib.get_close_matches(name, known, 4, 0.4) or known[:4]
        raise InputError(
            f"Blender's configuration has no color space named {name!r}.",
            f"It has {', '.join(near)}, among others.",
        ) from error


def said_space(path: Path) -> str:
    """The color space that an EXR's chromaticities tell, which Blender does not heed; else ``auto``."""
    if path.suffix.lower() != ".exr" or not path.is_file():
        return "auto"
    with path.open("rb") as stream:
        found = exr.chromaticities(stream.read(_HEADER_BYTES))
    for name, places in _PRIMARIES.items() if found else ():
        if np.allclose(found, places, atol=2e-3):
            return name
    return "auto"


def space_of(path: Path) -> str:
    """The color space of a picture: of the image that Blender has open over it, as the World's, else what its header tells."""
    for image in bpy.data.images:
        if image.source == "FILE" and image.filepath and Path(bpy.path.abspath(image.filepath)) == path:
            return str(image.colorspace_settings.name)
    return said_space(path)


def check_working_space() -> None:
    """Refuse a scene whose pixels are not linear Rec.709 inside Blender, as all maps and what the backend is sent are.

    Raises:
        InputError: it is another, by the file's Working Space or by the OpenColorIO configuration that Blender runs with.
    """
    red = Color((1.0, 0.0, 0.0)).from_rec709_linear_to_scene_linear()
    if not np.allclose(red, (1.0, 0.0, 0.0), atol=1e-3):
        raise InputError(
            "This file's working space is not Linear Rec.709, in which Platelight's maps and lights are.",
            "Set Color Management's Working Space to Linear Rec.709, or start Blender without OCIO.",
        )
