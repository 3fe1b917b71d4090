"""The files Platelight makes: ``.maps.exr``, ``.light.exr`` and ``.relit.exr``; their layers are fixed here.

Everything is half but depth, which is float32. Alpha is straight in maps and premultiplied in relit frames.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from platelight.images.color import REC709_PRIMARIES, linear_space
from platelight.images.exr import half, placed, portable_attributes, read_exr, write_exr
from platelight.images.sanitize import Pixels
from platelight.protocol.errors import InputError

MAP_CHANNELS: dict[str, tuple[str, ...]] = {
    "plate": ("R", "G", "B"),
    "matte": ("matte.V",),
    "normal": ("normal.X", "normal.Y", "normal.Z"),
    "albedo": ("albedo.R", "albedo.G", "albedo.B"),
    "roughness": ("roughness.V",),
    "reflectivity": ("reflectivity.V",),
    "cavity": ("cavity.V",),
    "depth": ("depth.Z",),
}
"""Channels of ``.maps.exr`` by plane; ``A`` repeats the matte so that viewers show the cut-out."""

_LATER = {"cavity": 1.0}
"""Planes that files of earlier versions and other decomposers' maps lack, and what that means."""

_OUTSIDE = {"normal.Z": 1.0, "roughness.V": 1.0, "reflectivity.V": 0.04, "cavity.V": 1.0, "depth.Z": 1.0}
"""What is not 0 outside of a data window: compositing programs write no more than they were painted in."""

_RELIT_LAYERS = ("pbr", "diffuse", "specular")


def write_maps(
    path: str | os.PathLike[str], planes: Mapping[str, npt.NDArray[Any]], attributes: Mapping[str, Any]
) -> None:
    """Write the maps of a plate as one multi-layer EXR.

    Args:
        path: ``<stem>.maps.exr``.
        planes: all of ``MAP_CHANNELS`` (the cavity may lack): (H, W, 3) and (H, W) arrays of one size, color linear Rec.709,
            straight.
        attributes: the plate's own header and the ``platelight:…`` strings (models, settings).

    Raises:
        ValueError: a plane is missing or of another size.
        InputError: the folder cannot be written.
    """
    missing = [name for name in MAP_CHANNELS if name not in planes and name not in _LATER]
    if missing:
        raise ValueError(f"planes missing from the maps: {', '.join(missing)}")
    channels: dict[str, npt.NDArray[Any]] = {}
    for name, names in MAP_CHANNELS.items():
        if name in planes:
            _add(channels, name, names, planes[name], keep_float=name == "depth")
    channels["A"] = channels["matte.V"]
    write_exr(path, channels, _header(attributes, {"platelight:alpha": "straight"}))


def read_maps(path: str | os.PathLike[str]) -> tuple[dict[str, Pixels], dict[str, Any]]:
    """Read a ``.maps.exr`` back: the planes of ``MAP_CHANNELS`` as float32, and the header's attributes.

    Raises:
        InputError: not a readable EXR, or layers are missing.
    """
    parts = read_exr(path)
    part = next((one for one in parts if "matte.V" in one.channels), parts[0])
    missing = [
        channel
        for name, names in MAP_CHANNELS.items()
        for channel in names
        if channel not in part.channels and name not in _LATER
    ]
    if missing:
        raise InputError(
            f"{os.fspath(path)} is not a Platelight maps file: it lacks {', '.join(missing[:4])}.",
            "Make one by 'platelight decompose'.",
        )
    planes: dict[str, Pixels] = {}
    for name, names in MAP_CHANNELS.items():
        if name in _LATER and names[0] not in part.channels:
            planes[name] = np.full(planes["matte"].shape, _LATER[name], np.float32)
            continue
        stack = [placed(part, channel, _OUTSIDE.get(channel, 0.0)) for channel in names]
        planes[name] = stack[0] if len(stack) == 1 else np.stack(stack, axis=-1)
    return planes, part.attributes


def write_light(path: str | os.PathLike[str], light: npt.NDArray[Any], attributes: Mapping[str, Any]) -> None:
    """Write a lat-long (h, 2h, 3) linear Rec.709 as ``<stem>.light.exr``."""
    channels: dict[str, npt.NDArray[Any]] = {}
    _add(channels, "light", ("R", "G", "B"), light)
    write_exr(path, channels, _header(attributes, {}))


def write_relit(
    path: str | os.PathLike[str],
    planes: Mapping[str, npt.NDArray[Any]],
    attributes: Mapping[str, Any],
    colorspace: str = "linear",
) -> None:
    """Write ``<stem>.relit.exr``: R G B A the result, premultiplied, and the layers pbr, diffuse, specular.

    Args:
        path: the file to make or replace.
        planes: ``relit`` (H, W, 4) premultiplied; ``pbr``, ``diffuse``, ``specular`` (H, W, 3) where given.
        attributes: as for :func:`write_maps`.
        colorspace: linear space that the colors are written in; its primaries stand in the header.

    Raises:
        InputError: the folder cannot be written, or there is no such linear space.
    """
    matrix, primaries = linear_space(colorspace)
    turn = matrix.T.astype(np.float32)
    channels: dict[str, npt.NDArray[Any]] = {}
    relit = planes["relit"]
    if colorspace != "linear":  # premultiplied color may be turned as it is
        relit = np.concatenate([relit[..., :3] @ turn, relit[..., 3:]], axis=-1)
    _add(channels, "relit", ("R", "G", "B", "A"), relit)
    for layer in _RELIT_LAYERS:
        if layer in planes:
            plane = planes[layer] if colorspace == "linear" else planes[layer] @ turn
            _add(channels, layer, tuple(f"{layer}.{leaf}" for leaf in "RGB"), plane)
    own = {"platelight:alpha": "premultiplied"}
    if colorspace != "linear":
        own["platelight:output_colorspace"] = colorspace
    write_exr(path, channels, {**_header(attributes, own), "chromaticities": primaries})


def _add(
    channels: dict[str, npt.NDArray[Any]],
    name: str,
    names: tuple[str, ...],
    plane: npt.NDArray[Any],
    keep_float: bool = False,
) -> None:
    stack = plane[..., None] if plane.ndim == 2 else plane
    if stack.ndim != 3 or stack.shape[-1] != len(names):
        raise ValueError(f"plane {name} has shape {plane.shape}, expected {len(names)} channels")
    if channels and next(iter(channels.values())).shape != stack.shape[:2]:
        raise ValueError(
            f"plane {name} is {stack.shape[:2]}, the others {next(iter(channels.values())).shape}"
        )
    for index, channel in enumerate(names):
        values = stack[..., index]
        channels[channel] = values.astype(np.float32) if keep_float else half(values)


def _header(attributes: Mapping[str, Any], own: Mapping[str, str]) -> dict[str, Any]:
    return {**portable_attributes(attributes), **own, "chromaticities": REC709_PRIMARIES}
