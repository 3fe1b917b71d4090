"""Reading what artists give: plates, mattes and lights, as clean linear Rec.709 floats."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from platelight.images.color import matrix_to_rec709, to_linear
from platelight.images.exr import ExrPart, check_name, placed, read_exr
from platelight.images.ocio import LINEAR
from platelight.images.raster import Raster, read_raster, straight
from platelight.images.sanitize import HALF_MAX, LIGHT_MAX, Counts, Pixels, sanitize
from platelight.protocol.errors import InputError

log = logging.getLogger(__name__)

LIGHT_TOLERANCE = 0.05
"""How far width / (2 × height) of an HDRI may be from 1 before it is refused."""

_LEAVES = {"red": "R", "green": "G", "blue": "B", "alpha": "A"}
_BEAUTY = ("", "rgba", "rgb", "beauty", "combined")


@dataclass(frozen=True)
class Plate:
    """A photographed frame.

    ``pixels`` (H, W, 3) float32 linear Rec.709, straight; ``alpha`` (H, W) in [0, 1] or None; ``attributes``
    the file's own header; ``counts`` the pixels that had to be replaced; ``colorspace`` how it was read.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    colorspace: str = "linear"


def read_plate(path: str | os.PathLike[str], colorspace: str = "auto", empty: bool = False) -> Plate:
    """Read an EXR (OpenEXR) or any picture that OpenImageIO knows.

    An EXR's data window is placed in its display window: missing pixels are black (alpha 0), overscan is cut.
    Premultiplied alpha is divided out, and left out where it cuts nothing out of the data window, or everything out of a
    picture that has color; gray becomes three equal channels; EXIF orientation is applied.

    Args:
        path: the file.
        colorspace: ``auto`` (float files linear, with the EXR's chromaticities if it has any; integer files by their ICC
            profile or a movie's tags, else sRGB unless they say linear), ``linear``, ``srgb``, or a name of the OpenColorIO
            configuration in force.
        empty: whether a keyed picture that is black and transparent everywhere is taken, as in the frames of a shot that its
            subject has left.

    Raises:
        InputError: no such file, not an image, damaged, no color channels, fully transparent, unknown space.
    """
    name = os.fspath(path)
    return plate_of(_read(name), name, colorspace, empty=empty)


def plate_of(
    raster: Raster, name: str, colorspace: str = "auto", ceiling: float = HALF_MAX, empty: bool = False
) -> Plate:
    """The plate that decoded values are, none above ``ceiling``; as :func:`read_plate`, ``name`` being what messages call it."""
    color = raster.color if raster.color.shape[-1] == 3 else np.repeat(raster.color, 3, axis=-1)
    alpha = raster.alpha
    if alpha is not None:
        alpha, _ = sanitize(alpha)
        alpha = np.minimum(alpha, np.float32(1.0))
        if not alpha.any() and np.any(color):  # written as RGBA by who had no alpha
            log.warning("%s: its alpha is 0 everywhere, and is left out.", name)
            alpha = None
        elif not alpha.any() and not empty:
            raise InputError(f"{name} is fully transparent.", "Give a plate with an opaque subject.")
        elif alpha.any() and not np.any(color):
            raise InputError(
                f"{name} holds only an alpha channel; its color is black.", "Give a picture with color."
            )
    space = _auto_space(raster, name) if colorspace == "auto" else colorspace
    if colorspace == "auto" and raster.linear and "chromaticities" in raster.attributes:
        matrix = matrix_to_rec709(raster.attributes["chromaticities"])
        if not np.allclose(matrix, np.eye(3), atol=2e-3):
            color, space = color @ matrix.T.astype(np.float32), "linear with the file's chromaticities"
    elif colorspace == "auto" and raster.profile is not None and color.shape[-1] == 3:
        color, space = raster.profile.to_linear(color), raster.profile.name
    else:
        color = to_linear(color, space)
    aspect = raster.attributes.get("pixelAspectRatio", raster.attributes.get("PixelAspectRatio", 1.0))
    if isinstance(aspect, float | int) and abs(aspect - 1.0) > 0.01 and aspect > 0:
        log.warning(
            "%s has pixels of %.3g to 1, and is taken as it is stored: normals and light of a squeezed picture are squeezed too. "
            "Unsqueeze it first.",
            name,
            aspect,
        )
    pixels, counts = sanitize(color, ceiling)
    if counts.total:
        log.warning("%s", counts.sentence(name))
    return Plate(np.ascontiguousarray(pixels), alpha, raster.attributes, counts, space)


def read_light(path: str | os.PathLike[str], colorspace: str = "auto") -> Pixels:
    """Read a lat-long environment, HDR, EXR or LDR.

    Returns:
        (h, 2h, 3) float32 linear Rec.709 radiance.

    Raises:
        InputError: as :func:`read_plate`, or the picture is more than 5 % off 2:1. Nearer than that it is
            resampled with a warning.
    """
    name = os.fspath(path)
    pixels = plate_of(_read(name), name, colorspace, LIGHT_MAX).pixels
    height, width = pixels.shape[:2]
    off = abs(width / (2.0 * height) - 1.0)
    if off > LIGHT_TOLERANCE:
        raise InputError(
            f"{name} is {width}×{height}, but a lat-long HDRI is twice as wide as high.",
            "Give an equirectangular panorama.",
        )
    if width != 2 * height:
        log.warning("%s is %d×%d, not quite 2:1; it was resampled.", name, width, height)
        rows = max(1, round(width / 2))
        pixels = np.asarray(
            cv2.resize(pixels, (2 * rows, rows), interpolation=cv2.INTER_AREA), dtype=np.float32
        )
    return pixels


def read_matte(path: str | os.PathLike[str], size: tuple[int, int], empty: bool = False) -> Pixels:
    """Read a matte: the alpha channel if it says anything, else the mean of the color channels, undecoded.

    Args:
        path: any picture.
        size: (H, W) of the plate.
        empty: whether one that is black everywhere is taken, as in the frames of a shot that its subject has left.

    Returns:
        (H, W) float32 in [0, 1]; resampled when only the scale differs.

    Raises:
        InputError: unreadable, another aspect ratio than the plate's, or empty.
    """
    name = os.fspath(path)
    raster = _read(name, any_channel=True)
    alpha = raster.alpha
    matte = alpha if alpha is not None and (alpha < 1.0).any() else raster.color.mean(axis=-1)
    matte, _ = sanitize(matte)
    matte = np.minimum(matte, np.float32(1.0))
    height, width = matte.shape
    if (height, width) != size:
        if abs((width / height) / (size[1] / size[0]) - 1.0) > 0.02:
            raise InputError(
                f"{name} is {width}×{height} but the plate is {size[1]}×{size[0]}.",
                "Give a matte of the plate's shape.",
            )
        smaller = width > size[1]
        matte = cv2.resize(matte, size[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    if not empty and not matte.any():
        raise InputError(f"{name} is an empty matte: it is black everywhere.", "Paint the subject white.")
    return np.asarray(matte, dtype=np.float32)


def _read(name: str, any_channel: bool = False) -> Raster:
    if not Path(name).exists():
        raise InputError(f"{name}: no such file.", "Check the path.")
    if Path(name).is_dir():
        raise InputError(f"{name} is a folder.", "Name the pictures in it.")
    check_name(name)
    return _from_exr(name, any_channel) if _is_exr(name) else read_raster(name)


def _is_exr(name: str) -> bool:
    try:
        with open(name, "rb") as stream:
            magic = stream.read(4)
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror}).", "Check its permissions.") from error
    return magic == b"\x76\x2f\x31\x01" or name.lower().endswith(".exr")


def _from_exr(name: str, any_channel: bool) -> Raster:
    parts = read_exr(name)
    held_by = [(part, found) for part in parts if (found := _find_color(part, any_channel)) is not None]
    if held_by:
        part, (names, alpha_name) = min(held_by, key=lambda one: not _is_beauty(one[0], one[1][0][0]))
        color = np.stack([placed(part, channel) for channel in names], axis=-1)
        # Where it cuts nothing out, the data window alone would be the matte.
        cuts = alpha_name is not None and bool((part.channels[alpha_name] < 1.0).any())
        alpha = placed(part, alpha_name) if alpha_name and cuts else None
        return Raster(color if alpha is None else straight(color, alpha), alpha, True, dict(part.attributes))
    held = sorted({key for part in parts for key in part.channels})
    if all(key.rpartition(".")[2] == "A" for key in held):
        raise InputError(f"{name} holds only an alpha channel.", "Give a picture with color.")
    raise InputError(
        f"{name} holds no color channels (only {', '.join(held[:6])}).", "Give a file with R, G and B."
    )


def _is_beauty(part: ExrPart, channel: str) -> bool:
    """Whether a part, or the layer of one of its channels, has the beauty's name."""
    layer = channel.rpartition(".")[0].rpartition(".")[2]
    return any(name and name.lower() in _BEAUTY for name in (layer, *part.name.split(".")))


def _find_color(part: ExrPart, any_channel: bool) -> tuple[list[str], str | None] | None:
    """The channels of the beauty layer: R, G, B (any case) or a lone Y, with or without a prefix."""
    usable = [key for key, value in part.channels.items() if value.dtype != np.uint32]
    layers: dict[str, dict[str, str]] = {}
    for key in usable:
        prefix, _, leaf = key.rpartition(".")
        layers.setdefault(prefix, {})[_LEAVES.get(leaf.lower(), leaf.upper())] = key
    order = sorted(layers, key=lambda prefix: (prefix.rpartition(".")[2].lower() not in _BEAUTY, prefix))
    for prefix in order:
        leaves = layers[prefix]
        if all(leaf in leaves for leaf in "RGB"):
            return [leaves[leaf] for leaf in "RGB"], leaves.get("A")
    for prefix in order:
        leaves = layers[prefix]
        if "Y" in leaves and "X" not in leaves:
            return [leaves["Y"]], leaves.get("A")
    if any_channel and usable:
        return [usable[0]], None
    return None


def _auto_space(raster: Raster, name: str) -> str:
    said = str(raster.attributes.get("oiio:ColorSpace", "")).lower()
    if "log" in said:
        log.warning(
            "%s says that it is %s, and is read as sRGB. Name its color space by --colorspace.", name, said
        )
    if raster.linear or said in ("linear", "lin_srgb", "lin_rec709", "scene_linear", LINEAR.lower()):
        return "linear"
    return "srgb"
