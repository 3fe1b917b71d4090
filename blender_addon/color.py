"""Color spaces of pictures, by Blender's own names: what the user chose, what an EXR's header says; and the working space that
Blender holds and renders colors in, which is linear Rec.709 unless the file or an OpenColorIO configuration says otherwise."""

from __future__ import annotations

import difflib
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Color

from . import exr
from .exr import Pixels
from .wire import InputError

_PRIMARIES = {
    "ACEScg": (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767),
    "ACES2065-1": (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767),
    "Linear Rec.2020": (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    "Linear DCI-P3 D65": (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
}
_INTEROP = {
    "lin_ap1_scene": "ACEScg",
    "lin_ap0_scene": "ACES2065-1",
    "lin_rec2020_scene": "Linear Rec.2020",
    "lin_p3d65_scene": "Linear DCI-P3 D65",
    "lin_rec709_scene": "Linear Rec.709",
}
"""Of the header that Blender 5 and others write, after the Color Interop Forum's list of texture color spaces."""
_ELSEWHERE = {
    "Linear Rec.709": ("Linear Rec.709 (sRGB)", "Utility - Linear - sRGB", "lin_srgb"),
    "Linear Rec.2020": ("Utility - Linear - Rec.2020", "lin_rec2020"),
    "Linear DCI-P3 D65": ("Linear P3-D65", "Utility - Linear - P3-D65", "lin_p3d65"),
    "ACEScg": ("ACES - ACEScg",),
    "ACES2065-1": ("ACES - ACES2065-1",),
    "Non-Color": ("Raw", "Utility - Raw", "raw"),
    "sRGB": ("sRGB Encoded Rec.709 (sRGB)", "sRGB - Texture", "Utility - sRGB - Texture", "srgb_tx"),
}
"""What the configurations of ACES call the spaces that Blender's own calls so."""
_HEADER_BYTES = 1 << 16


def is_space(name: str, wanted: str) -> bool:
    """Whether ``name`` is what this or another configuration calls one of Blender's own color spaces."""
    return name == wanted or name in _ELSEWHERE[wanted]


def set_space(image: Any, name: str) -> None:
    """Have Blender read an image in one of its color spaces.

    Raises:
        InputError: the configuration that Blender runs with has none of that name.
    """
    known = image.colorspace_settings.bl_rna.properties["name"].enum_items.keys()
    found = next((each for each in (name, *_ELSEWHERE.get(name, ())) if each in known), None)
    if found is None:
        near = difflib.get_close_matches(name, known, 4, 0.4) or known[:4]
        raise InputError(
            f"Blender's configuration has no color space named {name!r}.",
            f"It has {', '.join(near)}, among others.",
        )
    if image.colorspace_settings.name != found:
        image.colorspace_settings.name = found


def said_space(path: Path) -> str:
    """The color space that an EXR's header tells, whose chromaticities Blender does not heed; else ``auto``."""
    if path.suffix.lower() != ".exr" or not path.is_file():
        return "auto"
    with path.open("rb") as stream:
        head = stream.read(_HEADER_BYTES)
    told = _INTEROP.get(exr.interop_id(head))
    if told is not None:
        return told
    found = exr.chromaticities(head)
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


def from_working() -> Pixels | None:
    """The matrix (3, 3) that takes rows of colors as Blender holds them to linear Rec.709; None where these are the same."""
    return _matrix(Color.from_scene_linear_to_rec709_linear)


def to_working() -> Pixels | None:
    """The matrix (3, 3) that takes rows of colors in linear Rec.709 to what Blender holds; None where these are the same."""
    return _matrix(Color.from_rec709_linear_to_scene_linear)


def _matrix(change: Callable[[Color], Color]) -> Pixels | None:
    rows = np.array([change(Color(axis)) for axis in np.eye(3)], np.float32)
    return None if np.allclose(rows, np.eye(3), atol=1e-4) else rows


def applied(pixels: Pixels, matrix: Pixels | None) -> Pixels:
    """Colors (..., 3), or (..., 4) with alpha, premultiplied or not, through a matrix of this module."""
    if matrix is None:
        return pixels
    out = pixels.astype(np.float32, copy=True)
    out[..., :3] = pixels[..., :3] @ matrix
    return out


def to_rec709(pixels: Pixels) -> Pixels:
    """Colors (..., 3 or 4) as Blender holds and renders them in linear Rec.709."""
    return applied(pixels, from_working())


def from_rec709(pixels: Pixels) -> Pixels:
    """Colors (..., 3 or 4) in linear Rec.709 as Blender holds them."""
    return applied(pixels, to_working())


def is_read_as_is(space: str) -> bool:
    """Whether the floats of a file in ``space``, a name or ``auto``, are linear Rec.709 already.

    An EXR that does not say what it is has the space that the configuration gives to pictures in floats.
    """
    if space == "auto":
        working = from_working()
        if working is None:
            return True
        space = _float_space(working.tobytes())
    return any(is_space(space, each) for each in ("Linear Rec.709", "Non-Color")) or space == "Linear"


@functools.cache
def _float_space(_working: bytes) -> str:
    """What the configuration takes floats to be, while the working space is this."""
    probe = bpy.data.images.new("Platelight probe", 1, 1, float_buffer=True)
    try:
        return str(probe.colorspace_settings.name)
    finally:
        bpy.data.images.remove(probe)


def linear_matrix(space: str) -> Pixels | None:
    """The matrix (3, 3) that takes rows of colors in one of Blender's color spaces to linear Rec.709, as Blender itself converts
    them; None where these are the same.

    Raises:
        InputError: no such space, or one that is not linear.
    """
    if is_read_as_is(space):
        return None
    colors = np.concatenate([np.eye(3), np.full((1, 3), 0.25)]).astype(np.float32)
    with tempfile.TemporaryDirectory(prefix="platelight-") as folder:
        path = Path(folder) / "colors.exr"
        exr.write(path, {"": colors[None]})
        image = bpy.data.images.load(str(path), check_existing=False)
        try:
            if space != "auto":
                set_space(image, space)
            flat = np.empty(4 * 4, np.float32)
            image.pixels.foreach_get(flat)
        finally:
            bpy.data.images.remove(image)
    found = to_rec709(flat.reshape(4, 4)[:, :3])
    if not np.allclose(found[3], 0.25 * found[:3].sum(axis=0), atol=1e-3):
        raise InputError(
            f"A multilayer EXR cannot be in {space}, which is not linear.", "Choose another color space."
        )
    return found[:3]
