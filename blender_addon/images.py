"""Arrays to Blender images and back, minding colour spaces, alpha and row order.

Arrays are (H, W), (H, W, 3) or (H, W, 4) float32, row 0 at the top, linear Rec.709; Blender's pixels run
from the bottom row, always with four channels.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import bpy
import numpy as np

from . import color, compat, exr
from .exr import Pixels
from .mapfiles import Source
from .wire import InputError


class Picture(NamedTuple):
    """A picture as the backend wants it: ``pixels`` (H, W, 3) straight linear, ``alpha`` (H, W) or None."""

    pixels: Pixels
    alpha: Pixels | None


def srgb_to_linear(code: Pixels) -> Pixels:
    """Exact piecewise sRGB decoding of values in [0, 1] (IEC 61966-2-1)."""
    low = code <= 0.04045
    return np.where(low, code / 12.92, ((np.maximum(code, 0.0) + 0.055) / 1.055) ** 2.4).astype(np.float32)


def image_pixels(image: Any) -> Pixels:
    """The pixels of a Blender image as (H, W, 4) float32, row 0 at the top, values as Blender holds them."""
    width, height = image.size
    flat = np.empty(width * height * 4, np.float32)
    image.pixels.foreach_get(flat)
    return np.ascontiguousarray(flat.reshape(height, width, 4)[::-1])


def picture_of(image: Any, name: str) -> Picture:
    """Decode a loaded Blender image into straight linear Rec.709.

    Raises:
        InputError: the image has no pixels, or is 8-bit in a colour space that cannot be undone here.
    """
    if image.size[0] == 0 or image.size[1] == 0 or image.channels == 0:
        raise InputError(
            f"{name} is not a picture that Blender can read.", "Give an EXR, PNG, TIFF or JPEG file."
        )
    has_alpha = image.depth in {32, 64, 128} and image.alpha_mode != "NONE"
    pixels = color.applied(image_pixels(image), _matrix_of(image))
    return decoded(pixels, image.is_float, image.colorspace_settings.name, has_alpha, name)


def _matrix_of(image: Any) -> Pixels | None:
    """What takes an image's pixels to linear Rec.709: Blender has made those in floats its working space's, unless they are data."""
    return color.from_working() if image.is_float and not image.colorspace_settings.is_data else None


def decoded(pixels: Pixels, is_float: bool, space: str, has_alpha: bool, name: str) -> Picture:
    """Turn (H, W, 4) as Blender's images hold it into straight linear Rec.709; in a job's thread.

    Blender converts only float buffers and hands out the code values of byte images as they are.

    Args:
        is_float: whether the image has a float buffer, which Blender has made linear and premultiplied; in Rec.709 by now.
        space: color space of the codes where it has none.

    Raises:
        InputError: 8-bit in a color space that cannot be undone here.
    """
    rgb, alpha = pixels[..., :3], pixels[..., 3]
    has_alpha = has_alpha and bool((alpha < 1.0).any())
    if not is_float:
        if color.is_space(space, "sRGB"):
            rgb = srgb_to_linear(rgb)
        elif not color.is_read_as_is(space):
            raise InputError(f"{name} is an 8-bit picture in {space}.", "Convert it to EXR or to sRGB first.")
    elif has_alpha:  # float buffers are premultiplied inside Blender
        safe = np.where(alpha > 1e-6, alpha, 1.0)[..., None]
        rgb = rgb / safe
    return Picture(np.ascontiguousarray(rgb, np.float32), np.ascontiguousarray(alpha) if has_alpha else None)


def load_picture(path: str, colorspace: str = "auto") -> Picture:
    """Read a picture file through Blender's own loaders.

    Args:
        path: an image file; ``//`` paths are relative to the .blend file.
        colorspace: ``auto`` as the file's header tells, else as Blender guesses, or a name of Blender's colour spaces.

    Raises:
        InputError: no such file, or not a picture.
    """
    full = Path(bpy.path.abspath(path))
    if not path or not full.is_file():
        raise InputError(f"{full} is not a file.", "Choose a picture that exists.")
    if colorspace == "auto":
        colorspace = color.said_space(full)
    try:
        image = bpy.data.images.load(str(full), check_existing=False)
    except RuntimeError as error:
        raise InputError(
            f"{full} is not a picture that Blender can read.", "Give an EXR, PNG, TIFF or JPEG."
        ) from error
    try:
        if colorspace != "auto":
            color.set_space(image, colorspace)
        if 0 in image.size and image.type == "MULTILAYER":  # Blender finds out when it is asked for the size
            found = exr_picture(full)
            return found._replace(pixels=color.applied(found.pixels, color.linear_matrix(colorspace)))
        return _in_display_window(picture_of(image, str(full)), full)
    finally:
        bpy.data.images.remove(image)


def _in_display_window(picture: Picture, path: Path) -> Picture:
    """Blender gives an EXR's data window alone; what lies outside of it in the picture is black and transparent."""
    both = exr.windows(path)
    if both is None or both[0] == both[1]:
        return picture
    left, top, right, bottom = both[0]
    if picture.pixels.shape[:2] != (bottom - top + 1, right - left + 1):  # a Blender that places it itself
        return picture
    alpha = picture.alpha
    if alpha is None:
        alpha = np.ones(picture.pixels.shape[:2], np.float32)
    inside = exr.placed(alpha, *both)
    return Picture(
        exr.placed(picture.pixels, *both), inside if picture.alpha is not None or inside.min() < 1 else None
    )


def stacked(picture: Picture) -> Pixels:
    """(H, W, 3), or (H, W, 4) with straight alpha where there is one."""
    return picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])


# The last picture that was kept for the jobs to come: reading an HDRI takes the main thread longer than it may.
_kept: dict[tuple[str, int, int, str], Pixels] = {}
_KEPT_PIXELS = 4096 * 2048
_USUAL = frozenset({"sRGB", "Linear Rec.709"})


def _stamp(path: Path) -> tuple[str, int, int, str]:
    status = path.stat()
    space = color.space_of(path)
    # An image that is open tells by name what ``auto`` means.
    return str(path), status.st_mtime_ns, status.st_size, "auto" if space in _USUAL else space


def keep_picture(path: str, pixels: Pixels) -> None:
    """Remember a picture that was just read, so that a job finds it without the main thread."""
    _kept.clear()
    if pixels.shape[0] * pixels.shape[1] <= _KEPT_PIXELS:
        _kept[_stamp(Path(bpy.path.abspath(path)))] = pixels


def picture_source(path: str) -> Source:
    """A picture file as a source: of a linear EXR in the thread itself, of another kind on the main thread.

    Where Blender has the file open already, as the World's, its pixels are taken from there.
    """
    full = Path(bpy.path.abspath(path))
    try:
        with full.open("rb") as stream:
            readable = exr.is_readable(stream.read(1 << 16))
    except OSError as error:
        raise InputError(f"{full} is not a file.", "Choose a picture that exists.") from error
    space = color.space_of(full)
    if readable and color.is_read_as_is(space):
        return Source(str(full), load=lambda: stacked(exr_picture(full)))
    kept = _kept.get(_stamp(full))
    if kept is not None:
        return Source(str(full), load=lambda: kept)
    for image in bpy.data.images:
        if (
            image.source == "FILE"
            and image.is_float
            and image.has_data
            and Path(bpy.path.abspath(image.filepath)) == full
        ):
            return pixel_source(image)
    return Source(str(full), load=lambda: stacked(load_picture(str(full), space)), loads_on_main=True)


def pixel_source(image: Any) -> Source:
    """A loaded image's own pixels, whatever was done to them; colors in linear Rec.709."""
    found, (width, height) = image.name, tuple(image.size)

    def fetch(flat: Pixels) -> None:
        kept = bpy.data.images.get(found)
        if kept is None or tuple(kept.size) != (width, height):
            raise InputError(f"{found} was removed.", "Choose or analyze it again.")
        kept.pixels.foreach_get(flat)

    return Source(found, shape=(height, width), fetch=fetch, matrix=_matrix_of(image))


def exr_picture(path: Path) -> Picture:
    """The colour of an EXR, read without Blender: in a thread, or of a multilayer file, which Blender shows to
    no script.

    Raises:
        InputError: no color in it, or not readable here.
    """
    layers = exr.read(path).layers
    for name in ("", *(key for key in layers if key.rpartition(".")[2] in {"Combined", "rgba", "beauty"})):
        plane = layers.get(name)
        if plane is not None and plane.ndim == 3 and plane.shape[2] >= 3:
            rgb = plane[..., :3]
            if plane.shape[2] == 3:
                return Picture(np.ascontiguousarray(rgb), None)
            alpha = plane[..., 3]
            safe = np.where(alpha > 1e-6, alpha, 1.0)[..., None]
            return Picture(np.ascontiguousarray(rgb / safe), np.ascontiguousarray(alpha))
    raise InputError(
        f"{path} has no colour layer.", "Save the plate as R, G, B or under a layer named Combined."
    )


def as_rgba(plane: Pixels) -> Pixels:
    """Widen (H, W), (H, W, 3) or (H, W, 4) to (H, W, 4), grey repeated, alpha 1 where there is none."""
    if plane.ndim == 2:
        plane = plane[..., None].repeat(3, axis=2)
    if plane.shape[2] == 4:
        return np.ascontiguousarray(plane, np.float32)
    out = np.ones((*plane.shape[:2], 4), np.float32)
    out[..., :3] = plane
    return out


def put_image(name: str, plane: Pixels, *, data: bool, existing: Any = None) -> Any:
    """Put an array into a float Blender image and return it.

    Args:
        name: name of the image, used when a new one is made.
        plane: (H, W), (H, W, 3) or (H, W, 4), row 0 at the top; colour is linear Rec.709.
        data: True for maps that are not colour (normal, depth, matte).
        existing: an image to fill again, so that its users follow.
    """
    height, width = plane.shape[:2]
    image = existing
    if image is not None and (not image.is_float or image.source != "GENERATED"):
        image = None
    if image is None:
        # The colour space has to be right at birth: setting it later would wipe the pixels.
        image = bpy.data.images.new(
            name,
            width,
            height,
            alpha=plane.ndim == 3 and plane.shape[2] == 4,
            float_buffer=True,
            is_data=data,
        )
    elif tuple(image.size) != (width, height):
        image.scale(width, height)
    held = as_rgba(plane) if data else color.from_rec709(as_rgba(plane))
    image.pixels.foreach_set(held[::-1].ravel())
    image.update()
    return image


def attach(
    name: str, path: Path, *, data: bool, existing: Any = None, frames: tuple[int, int] | None = None
) -> Any:
    """A Blender image over an EXR file that this extension wrote; nothing is loaded before it is needed.

    Args:
        name, data: as ``put_image``.
        existing: an image to point at the file, so that its users follow.
        frames: first and last frame where the file is one of a sequence.
    """
    image = existing
    if image is not None and image.source in {"FILE", "SEQUENCE"}:
        if image.packed_file is not None:
            image.unpack(method="REMOVE")
        image.filepath = str(path)
    else:
        image = bpy.data.images.load(str(path), check_existing=False)
        if existing is not None:  # an array of an earlier version: its users follow the file
            existing.user_remap(image)
            bpy.data.images.remove(existing)
        image.name = name
    color.set_space(image, "Non-Color" if data else "Linear Rec.709")
    image.alpha_mode = "CHANNEL_PACKED"  # alpha is as in the file, whatever Blender makes of EXR
    if image.source != ("FILE" if frames is None else "SEQUENCE"):
        image.source = "FILE" if frames is None else "SEQUENCE"
    image.reload()
    return image


def set_preview(image: Any, thumbnail: Pixels) -> None:
    """Give an image its thumbnail (h, w, 4), bottom row first: panels may only draw it."""
    preview = image.preview_ensure()
    preview.image_size = (thumbnail.shape[1], thumbnail.shape[0])
    preview.image_pixels_float.foreach_set(np.ascontiguousarray(thumbnail, np.float32).ravel())


def save_displayed(pixels: Pixels, target: Path) -> None:
    """Save (H, W, 4), premultiplied, as 8-bit PNG through the scene's own view transform, temporary file and rename.

    Raises:
        InputError: the file cannot be written.
    """
    scene = bpy.context.scene
    settings = scene.render.image_settings
    before = compat.image_settings(settings)
    # An array of its own: of a sequence Blender would look for frame 0, and of our maps it takes alpha for another channel.
    image = put_image("Platelight scratch", pixels, data=False)
    try:
        with tempfile.TemporaryDirectory(prefix="platelight-") as folder:
            scratch = Path(folder) / "shown.png"
            compat.set_still_format(settings, "PNG")
            settings.color_mode, settings.color_depth = "RGBA", "8"
            try:
                image.save_render(str(scratch), scene=scene)
            except RuntimeError as error:
                raise InputError(f"{target} cannot be written.", "Choose another folder.") from error
            exr.write_atomically(target, scratch.read_bytes())
    finally:
        bpy.data.images.remove(image)
        compat.restore_image_settings(settings, before)
