"""OpenEXR files as named channels: reading that trusts nothing, and atomic writing.

The binding prints decode errors and returns a file without parts; header bombs make it allocate; a
channel can be subsampled. Each is refused here by one sentence, so that the rest of the package sees
whole channels only.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import OpenEXR

from platelight.images import apart
from platelight.images.atomic import atomic_path
from platelight.images.quiet import collected_output
from platelight.images.sanitize import HALF_MAX
from platelight.protocol.errors import InputError
from platelight.resources import machine_memory

log = logging.getLogger(__name__)

MAX_SIDE = 32768
MAX_PIXELS = 1 << 28
"""268 megapixels: a 16K square. More is taken for a damaged or hostile header."""

Header = dict[str, Any]

_STRUCTURAL = frozenset(
    {"channels", "compression", "dataWindow", "displayWindow", "lineOrder", "type", "tiles", "name", "view"}
    | {"version", "chunkCount", "maxSamplesPerPixel", "screenWindowCenter", "screenWindowWidth", "preview"}
)
_COLOR = frozenset(
    {"chromaticities", "colorInteropID", "whiteLuminance", "adoptedNeutral", "acesImageContainerFlag"}
)


@dataclass(frozen=True)
class Window:
    """An inclusive EXR rectangle: left, top, right, bottom."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.y1 - self.y0 + 1, self.x1 - self.x0 + 1


@dataclass(frozen=True)
class ExrPart:
    """One part: its name, windows, header without the structural attributes, and its channels.

    ``channels`` are as stored, (height, width) of the data window, float16, float32 or uint32.
    """

    name: str
    data: Window
    display: Window
    attributes: dict[str, Any]
    channels: dict[str, npt.NDArray[Any]]


def read_exr(path: str | os.PathLike[str]) -> list[ExrPart]:
    """Read every flat part of an EXR file; in a process of its own within :func:`apart.decoding_apart`.

    Raises:
        InputError: the file is missing, not an EXR, truncated or damaged, decodes to no part, is deep, has
            subsampled channels, claims more pixels than ``MAX_PIXELS`` or more bytes than the machine has, or kills
            that process.
    """
    name = os.fspath(path)
    if not Path(name).is_file():
        raise InputError(f"{name}: no such file.", "Check the path.")
    check_name(name)
    pool = apart.active()
    if pool is None:
        headers, channels = decode(name)
    else:
        channels = pool.decode("exr", name)
        headers = _headers(name)  # which the child has read without harm
    if len(headers) != len(channels):
        raise InputError(f"{name} changed while it was read.", "Wait until it is rendered.")
    return [_part(header, planes) for header, planes in zip(headers, channels, strict=True)]


def placed(part: ExrPart, channel: str, outside: float = 0.0) -> npt.NDArray[np.float32]:
    """A channel's data window in the display window, (H, W); overscan is cut, what is missing has the value ``outside``."""
    values = part.channels[channel]
    if part.data == part.display:
        return np.asarray(values, dtype=np.float32)
    out = np.full(part.display.size, outside, dtype=np.float32)
    data, shown = part.data, part.display
    x0, y0 = max(data.x0, shown.x0), max(data.y0, shown.y0)
    x1, y1 = min(data.x1, shown.x1) + 1, min(data.y1, shown.y1) + 1
    if x1 > x0 and y1 > y0:
        there = values[y0 - data.y0 : y1 - data.y0, x0 - data.x0 : x1 - data.x0]
        out[y0 - shown.y0 : y1 - shown.y0, x0 - shown.x0 : x1 - shown.x0] = there
    return out


def check_name(name: str) -> None:
    """Refuse a file whose name the decoders, which take UTF-8, cannot be told. Raises InputError."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name}: the name is not UTF-8.", "Rename the file.") from error


def decode(name: str, limit: Callable[[int], None] = lambda size: None) -> tuple[list[Header], apart.Arrays]:
    """Headers and channels of all parts, decoded in this process; raises as :func:`read_exr`.

    ``limit`` is told, before pixels are decoded, how many bytes the headers promise.
    """
    headers = _headers(name)
    limit(sum(_bytes_of(header) for header in headers))
    with collected_output() as said:
        try:
            parts = list(OpenEXR.File(name, separate_channels=True).parts) if headers else []
        except MemoryError as error:
            raise InputError(
                f"{name} needs more memory to decode than its size tells, or than there is.",
                "Render or export it again, or free some memory.",
            ) from error
        except (RuntimeError, ValueError) as error:
            raise _unreadable(name, error) from error
    if said:
        log.debug("%s: %s", name, said[0])
    if not parts:
        raise InputError(
            f"{name} is a damaged or truncated EXR file: it decodes to no part.", "Render or export it again."
        )
    channels = [_channels(name, part) for part in parts]
    if not any(channels):
        raise InputError(f"{name} holds no flat image channels.", "Deep files must be flattened first.")
    return headers, channels


def _headers(name: str) -> list[Header]:
    OpenEXR.setMaxImageSize(MAX_SIDE, MAX_SIDE)
    with collected_output():
        try:
            headers = [dict(part.header) for part in OpenEXR.File(name, header_only=True).parts]
        except (RuntimeError, ValueError, MemoryError) as error:
            raise _unreadable(name, error) from error
    for header in headers:
        _check_size(name, _window(header, "dataWindow"))
        _check_size(name, _window(header, "displayWindow"))
    size, there = sum(_bytes_of(header) for header in headers), machine_memory()
    if size > there:
        raise InputError(
            f"{name} claims {size / 2**30:.0f} GiB of pixels, and this machine has {there / 2**30:.0f} GiB of memory.",
            "Render or export it again with fewer channels.",
        )
    return headers


def _unreadable(name: str, error: Exception) -> InputError:
    log.debug("%s: %s", name, error)
    return InputError(f"{name} is not a readable EXR file.", "Render or export it again.")


def _bytes_of(header: Header) -> int:
    """What the flat channels of a part take decoded, as the header tells; at most 4 bytes each are assumed."""
    height, width = _window(header, "dataWindow").size
    return height * width * 4 * len(header.get("channels", ()))


def write_exr(
    path: str | os.PathLike[str], channels: Mapping[str, npt.NDArray[Any]], attributes: Mapping[str, Any]
) -> None:
    """Write one scanline part, ZIP-compressed, whole or not at all.

    Args:
        path: the file to make or replace.
        channels: (H, W) arrays by full channel name; float16 is clipped to ±65504 before it would overflow.
        attributes: header attributes; what OpenEXR cannot store as it is becomes a string.

    Raises:
        InputError: the folder cannot be written.
        PlatelightError: the disk is full.
    """
    header: dict[str, Any] = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    stored = {key: _storable(value) for key, value in attributes.items() if key not in _STRUCTURAL}
    header.update({key: value for key, value in stored.items() if value is not None})
    with atomic_path(path) as temporary:
        try:
            OpenEXR.File(header, {key: np.ascontiguousarray(value) for key, value in channels.items()}).write(
                str(temporary)
            )
        except (RuntimeError, ValueError) as error:
            # The binding hides errno; the message carries the reason ("File too large", "No space left").
            raise OSError(str(error).rstrip(".").rsplit('"', 1)[-1].strip(" .") or str(error)) from error


def half(values: npt.NDArray[Any]) -> npt.NDArray[np.float16]:
    """Convert to float16 without making infinities; halves are given back as they are."""
    if values.dtype == np.float16:
        return values
    return np.clip(values, -HALF_MAX, HALF_MAX).astype(np.float16)


def portable_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a plate that still hold for our outputs: all but those that say how its own pixels are to be read."""
    return {
        key: value
        for key, value in attributes.items()
        if key not in _COLOR | _STRUCTURAL and not key.startswith("oiio:")
    }


def _channels(path: str, part: Any) -> dict[str, npt.NDArray[Any]]:
    data = _window(part.header, "dataWindow")
    channels: dict[str, npt.NDArray[Any]] = {}
    for key, channel in part.channels.items():
        pixels = channel.pixels
        if not isinstance(pixels, np.ndarray) or pixels.dtype == object:
            continue  # deep samples
        if channel.xSampling != 1 or channel.ySampling != 1:
            raise InputError(
                f"{path}: channel {key} is subsampled (luminance-chroma).", "Export the file as plain RGB."
            )
        if pixels.shape != data.size:
            raise InputError(
                f"{path} is a damaged EXR file: channel {key} is {pixels.shape[1]}×{pixels.shape[0]} "
                f"where the header says {data.size[1]}×{data.size[0]}.",
                "Render or export it again.",
            )
        channels[key] = pixels
    return channels


def _part(header: Header, channels: dict[str, npt.NDArray[Any]]) -> ExrPart:
    attributes = {key: value for key, value in header.items() if key not in _STRUCTURAL}
    data, display = _window(header, "dataWindow"), _window(header, "displayWindow")
    return ExrPart(str(header.get("name", "")), data, display, attributes, channels)


def _window(header: Mapping[str, Any], key: str) -> Window:
    low, high = header[key]
    return Window(int(low[0]), int(low[1]), int(high[0]), int(high[1]))


def _check_size(path: str, window: Window) -> None:
    height, width = window.size
    if height < 1 or width < 1 or height * width > MAX_PIXELS or max(height, width) > MAX_SIDE:
        raise InputError(f"{path} claims a size of {width}×{height} pixels.", "Render or export it again.")


def _storable(value: Any) -> Any:
    """A value that OpenEXR has a type for, else its words; None for raw bytes, which no header attribute holds."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and not -(2**31) <= value < 2**31:
        return float(value)
    if isinstance(value, str | int | float | Fraction) or type(value).__module__.startswith("OpenEXR"):
        return value
    if isinstance(value, bytes) or (isinstance(value, np.ndarray) and value.dtype.kind not in "if"):
        return None
    if isinstance(value, np.ndarray):
        known = value.shape in ((2,), (3,), (3, 3), (4, 4)) or (value.dtype.kind == "f" and value.ndim == 1)
        return (
            value
            if known and value.dtype != np.float16 and value.dtype.itemsize <= 8
            else str(value.tolist())
        )
    if isinstance(value, tuple) and len(value) == 2 and all(np.shape(item) == (2,) for item in value):
        return value  # a box
    if isinstance(value, tuple) and (
        (len(value) in (2, 3) and len({type(item) for item in value} & {int, float}) == 1)
        or (len(value) == 8 and all(isinstance(item, float) for item in value))
    ):
        return value
    return str(value)
