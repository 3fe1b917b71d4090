"""PNG, TIFF, JPEG, HDR and the like through OpenImageIO, straight floats; and PNG out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import OpenImageIO as oiio  # noqa: N813  (its manual's own alias)

from platelight.images import apart
from platelight.images.atomic import write_bytes
from platelight.images.color import linear_to_srgb, shoulder
from platelight.images.exr import MAX_PIXELS
from platelight.images.icc import Profile, profile_of
from platelight.images.sanitize import Pixels, sanitize
from platelight.protocol.errors import InputError

_BAND = 1 << 18
"""Pixels that are made ready to be written at once."""
_ORIENTATIONS = {
    2: (False, "x"),
    3: (False, "xy"),
    4: (False, "y"),
    5: (True, ""),
    6: (True, "x"),
    7: (True, "xy"),
    8: (True, "y"),
}


@dataclass(frozen=True)
class Raster:
    """Decoded values as stored, integers scaled to [0, 1], alpha straight, upright.

    ``color`` is (H, W, 1) or (H, W, 3); ``alpha`` (H, W) or None; ``linear`` tells whether values are light
    (float files) or encoded (integer files). ``profile`` is an embedded ICC profile's, where it says anything.
    """

    color: Pixels
    alpha: Pixels | None
    linear: bool
    attributes: dict[str, Any]
    profile: Profile | None = None


def read_raster(path: str | os.PathLike[str]) -> Raster:
    """Read the first image of a file that OpenImageIO knows.

    Raises:
        InputError: missing, not an image, damaged, empty of color, or too large.
    """
    name = os.fspath(path)
    if not Path(name).is_file():
        raise InputError(f"{name}: no such file.", "Check the path.")
    pool = apart.active()
    if pool is None:
        values, spec = decode_raster(name)
    else:
        values = pool.decode("raster", name)[0]["values"]
        source = _opened(name)  # whose header the child has read without harm
        spec = source.spec()
        source.close()
        if values.shape != (spec.height, spec.width, spec.nchannels):
            raise InputError(f"{name} changed while it was read.", "Wait until it is written.")
    # OpenImageIO's binding falls over what it found inside of some profiles: of those only the bytes are asked for.
    attributes = {
        attribute.name: attribute.value
        for attribute in spec.extra_attribs
        if not attribute.name.startswith("ICCProfile:")
    }
    embedded = attributes.pop("ICCProfile", None)
    values = _upright(values, int(spec.get_int_attribute("Orientation", 1)))
    color, alpha = _split(name, values, spec)
    linear = spec.format.basetype in (oiio.HALF, oiio.FLOAT, oiio.DOUBLE)
    # Of integer files only TIFF has color multiplied by alpha, and says so by not saying the contrary.
    multiplied = linear or name.lower().endswith((".tif", ".tiff"))
    if alpha is not None and multiplied and not spec.get_int_attribute("oiio:UnassociatedAlpha", 0):
        color = straight(color, alpha)
    attributes.pop("Orientation", None)  # it holds no more
    profile = profile_of(embedded) if embedded is not None and not linear else None
    return Raster(color, alpha, linear, attributes, None if profile is None or profile.is_srgb else profile)


def decode_raster(name: str, limit: Callable[[int], None] = lambda size: None) -> tuple[Pixels, Any]:
    """Values (H, W, C) as stored and the file's header, decoded in this process; raises as :func:`read_raster`.

    ``limit`` is told, before pixels are decoded, how many bytes the header promises.
    """
    source = _opened(name)
    try:
        spec = source.spec()
        if spec.width * spec.height * max(spec.depth, 1) > MAX_PIXELS:
            raise InputError(
                f"{name} claims a size of {spec.width}×{spec.height} pixels.", "Export it again."
            )
        limit(spec.width * spec.height * spec.nchannels * 4)
        values = source.read_image(0, 0, 0, spec.nchannels, oiio.FLOAT)
        if values is None:
            source.geterror()
            raise InputError(f"{name} is a damaged or truncated image.", "Export it again.")
    finally:
        source.close()
    return np.asarray(values, dtype=np.float32).reshape(spec.height, spec.width, spec.nchannels), spec


def _opened(name: str) -> Any:
    hint = oiio.ImageSpec()
    hint["oiio:UnassociatedAlpha"] = 1  # straight values as stored: no premultiplying of encoded integers
    source = oiio.ImageInput.open(name, hint)
    if source is None:
        oiio.geterror()
        raise InputError(f"{name} is not an image that can be read.", "Give an EXR, PNG, TIFF or JPEG file.")
    return source


def straight(color: Pixels, alpha: Pixels) -> Pixels:
    """Divide premultiplied (H, W, C) by alpha (H, W); where alpha is (nearly) 0 the color stays as it is."""
    solid = alpha > 1e-4
    return np.asarray(color / np.where(solid, alpha, np.float32(1.0))[..., None], dtype=np.float32)


def write_png(
    path: str | os.PathLike[str],
    pixels_linear: npt.NDArray[Any],
    *,
    alpha: npt.NDArray[Any] | None = None,
    bits: int = 8,
    highlights: str = "shoulder",
    premultiplied: bool = False,
) -> None:
    """Write linear Rec.709 as an sRGB PNG, whole or not at all. What is reckoned is reckoned in bands of rows.

    Args:
        path: the file to make or replace.
        pixels_linear: (H, W, 3) or (H, W), straight unless ``premultiplied`` by ``alpha``.
        alpha: (H, W) in [0, 1], stored straight.
        bits: 8 or 16.
        highlights: ``shoulder`` rolls values above 0.8 off into [0.8, 1) (see :func:`.color.shoulder`);
            ``clip`` cuts at 1, which keeps every value below 1 exact.

    Raises:
        ValueError: on other ``bits`` or ``highlights``.
        InputError: the folder cannot be written.
    """
    if highlights not in ("shoulder", "clip"):
        raise ValueError(f"highlights must be 'shoulder' or 'clip', not {highlights!r}")

    def shown(rows: slice) -> Pixels:
        clean = np.asarray(pixels_linear[rows], np.float32)
        if premultiplied and alpha is not None:
            clean = clean / np.maximum(np.asarray(alpha[rows], np.float32), 1e-4)[..., None]
        clean, _ = sanitize(clean)
        clean = shoulder(clean) if highlights == "shoulder" else clean
        return linear_to_srgb(np.clip(clean, 0.0, 1.0))

    _write_codes(path, pixels_linear.shape, shown, alpha, bits)


def write_normal_png(
    path: str | os.PathLike[str], normal: npt.NDArray[Any], *, directx: bool = False, bits: int = 8
) -> None:
    """Write camera-space normals (H, W, 3) as ``0.5 n + 0.5``, OpenGL (+Y up) or DirectX (green flipped)."""
    signs = np.array([1.0, -1.0 if directx else 1.0, 1.0], dtype=np.float32)

    def shown(rows: slice) -> Pixels:
        return np.asarray(normal[rows], np.float32) * signs * np.float32(0.5) + np.float32(0.5)

    _write_codes(path, normal.shape, shown, None, bits)


def write_png_values(
    path: str | os.PathLike[str],
    values: npt.NDArray[Any],
    *,
    alpha: npt.NDArray[Any] | None = None,
    bits: int = 8,
) -> None:
    """Write values in [0, 1] as they are, (H, W, 3) or (H, W), for encoded color or for data (mattes)."""
    _write_codes(path, values.shape, lambda rows: np.asarray(values[rows], np.float32), alpha, bits)


def _write_codes(
    path: str | os.PathLike[str],
    shape: tuple[int, ...],
    values: Callable[[slice], Pixels],
    alpha: npt.NDArray[Any] | None,
    bits: int,
) -> None:
    """Write what ``values`` gives of some rows, in [0, 1]."""
    if bits not in (8, 16):
        raise ValueError(f"a PNG has 8 or 16 bits a channel, not {bits}")
    height, width, colors = *shape[:2], shape[2] if len(shape) == 3 else 1
    top, kind = (255, np.uint8) if bits == 8 else (65535, np.uint16)
    count = colors + (alpha is not None)
    # OpenCV's order; gray with alpha is written as color.
    order = {1: [0], 2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[count]
    codes: npt.NDArray[np.integer[Any]] = np.empty((height, width, len(order)), kind)
    step = max(1, _BAND // width)
    for first in range(0, height, step):
        rows = slice(first, first + step)
        planes = values(rows).reshape(-1, width, colors)
        if alpha is not None:
            planes = np.concatenate([planes, np.asarray(alpha[rows], np.float32)[..., None]], axis=-1)
        codes[rows] = np.rint(np.nan_to_num(planes).clip(0.0, 1.0) * top)[..., order]
    # OpenImageIO's PNG writer stays silent on a full disk, so the file is made in memory and written here.
    made, encoded = cv2.imencode(".png", codes)
    if not made:
        raise ValueError(f"an array of shape {codes.shape} cannot be a PNG")
    write_bytes(path, encoded.tobytes())


def _upright(values: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation."""
    if orientation not in _ORIENTATIONS:
        return values
    swap, flips = _ORIENTATIONS[orientation]
    values = values.swapaxes(0, 1) if swap else values
    values = values[:, ::-1] if "x" in flips else values
    values = values[::-1] if "y" in flips else values
    return np.ascontiguousarray(values)


def _split(name: str, values: Pixels, spec: Any) -> tuple[Pixels, Pixels | None]:
    count, alpha_index = spec.nchannels, spec.alpha_channel
    alpha = values[..., alpha_index] if alpha_index >= 0 else None
    colors = [index for index in range(count) if index != alpha_index][:3]
    if not colors:
        raise InputError(f"{name} holds only an alpha channel.", "Give a picture with color.")
    if len(colors) == 2:
        colors = colors[:1]
    return np.ascontiguousarray(values[..., colors]), None if alpha is None else np.ascontiguousarray(alpha)
