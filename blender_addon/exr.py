"""OpenEXR for the extension, in numpy and zlib alone: what Blender itself writes, read back, and the
project's own multilayer files, written.

Blender shows the pixels of a multilayer EXR to no script, 4.2 ships no EXR module, and an extension should
not carry one for this: scan-line files with no, ZIPS, ZIP or RLE compression are a page of code (format:
openexr.com, "OpenEXR File Layout"). Tiled, deep and lossy files are refused with a sentence.
"""

from __future__ import annotations

import functools
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .exr_write import MAGIC, Attribute, write, write_atomically
from .wire import InputError

Pixels = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
_DTYPES: dict[int, np.dtype[Any]] = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}
_LONGEST = 1 << 16  # pixels of a side; a header that claims more is damaged
_LINES = {0: 1, 1: 1, 2: 1, 3: 16}  # scan lines a chunk: NONE, RLE, ZIPS, ZIP
_ORDER = {name: rank for rank, name in enumerate(["R", "G", "B", "A", "X", "Y", "Z", "V"])}


@dataclass(frozen=True)
class ExrFile:
    """``layers`` maps a layer's name ("" for the bare R, G, B, A) to (H, W) or (H, W, C) float32, or as it is kept; row 0
    is the top, channels stand in the order R G B A or X Y Z. ``attributes`` holds string, int and float headers."""

    layers: dict[str, Pixels]
    attributes: dict[str, Attribute]


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at)
    return data[at:end].decode("utf-8", "replace"), end + 1


def _header(data: bytes, at: int) -> tuple[dict[str, tuple[str, bytes]], int]:
    """One header from ``at``: name to (type, value), and where it ends; empty at the end of a list."""
    found: dict[str, tuple[str, bytes]] = {}
    while data[at] != 0:
        name, at = _text(data, at)
        kind, at = _text(data, at)
        (size,) = struct.unpack_from("<i", data, at)
        found[name] = (kind, data[at + 4 : at + 4 + size])
        at += 4 + size
    return found, at + 1


def _channels(value: bytes) -> list[tuple[str, np.dtype[Any]]]:
    found: list[tuple[str, np.dtype[Any]]] = []
    at = 0
    while value[at] != 0:
        name, at = _text(value, at)
        (kind,) = struct.unpack_from("<i", value, at)
        found.append((name, _DTYPES[kind]))
        at += 16
    return found


def _unpack(raw: bytes, compression: int, size: int) -> bytes:
    """Undo one chunk's compression and byte predictor; chunks that would have grown are stored plain."""
    if compression == 0 or len(raw) == size:
        return raw
    if compression == 1:
        out, at = bytearray(), 0
        while at < len(raw):
            (count,) = struct.unpack_from("b", raw, at)
            if count < 0:
                out += raw[at + 1 : at + 1 - count]
                at += 1 - count
            else:
                out += raw[at + 1 : at + 2] * (count + 1)
                at += 2
        packed = np.frombuffer(bytes(out), np.uint8).copy()
    else:
        packed = np.frombuffer(zlib.decompress(raw), np.uint8).copy()
    packed[1:] -= 128
    plain = np.add.accumulate(packed, dtype=np.uint8)
    both = np.empty_like(plain)
    half = (len(plain) + 1) // 2
    both[0::2], both[1::2] = plain[:half], plain[half:]
    return both.tobytes()


def read(path: str | os.PathLike[str]) -> ExrFile:
    """Read a scan-line EXR file, single- or multi-part.

    Raises:
        InputError: not an EXR file, cut short, or of a kind that is not read here.
    """
    return parse(Path(path).read_bytes(), path)


def parse(data: bytes, path: str | os.PathLike[str], *, widen: bool = True) -> ExrFile:
    """Read an EXR file from memory; ``path`` is named in errors. Without ``widen`` halves stay halves in uncompressed files.

    Raises:
        InputError: as ``read``.
    """
    try:
        return _parse(data, path, widen)
    except (struct.error, IndexError, ValueError, KeyError, zlib.error) as error:
        raise InputError(f"{path} is not a complete OpenEXR file.", "Export it again.") from error


def is_readable(data: bytes) -> bool:
    """Whether ``data`` begins as an EXR file with a compression that ``parse`` knows."""
    try:
        magic, version = struct.unpack_from("<ii", data, 0)
        if magic != MAGIC or version & 0x200:
            return False
        header, _ = _header(data, 8)
        return header["compression"][1][0] in _LINES
    except (struct.error, IndexError, ValueError, KeyError):
        return False


def interop_id(data: bytes) -> str:
    """The name of the color space in the header that ``data`` begins with, as the Color Interop Forum's list has it; "" without one."""
    try:
        kind, value = _header(data, 8)[0].get("colorInteropID", ("", b""))
    except (struct.error, IndexError, ValueError):
        return ""
    return value.decode("utf-8", "replace") if kind == "string" else ""


def chromaticities(data: bytes) -> tuple[float, ...] | None:
    """x and y of red, green, blue and white, as the header that ``data`` begins with tells; None where it does not."""
    try:
        if struct.unpack_from("<i", data, 0)[0] != MAGIC:
            return None
        found = _header(data, 8)[0].get("chromaticities")
        return None if found is None else struct.unpack("<8f", found[1])
    except (struct.error, IndexError, ValueError, KeyError):
        return None


def _parse(data: bytes, path: str | os.PathLike[str], widen: bool) -> ExrFile:
    magic, version = struct.unpack_from("<ii", data, 0)
    if magic != MAGIC:
        raise InputError(f"{path} is not an OpenEXR file.", "Give a picture that its name tells truly.")
    if version & 0xA00:
        raise InputError(f"{path} is a tiled or deep EXR file.", "Save it with scan lines.")
    multipart = bool(version & 0x1000)
    at = 8
    headers = []
    while True:
        header, at = _header(data, at)
        if not header:
            break
        headers.append(header)
        if not multipart:
            break
    planes: dict[str, Pixels] = {}
    attributes: dict[str, Attribute] = {}
    tables = []
    for header in headers:
        _, y0, _, y1 = struct.unpack("<iiii", header["dataWindow"][1])
        compression = header["compression"][1][0]
        if compression not in _LINES:
            raise InputError(f"{path} uses an EXR compression that is not read here.", "Save it as ZIP.")
        count = -(-(y1 - y0 + 1) // _LINES[compression])
        table = struct.unpack_from(f"<{count}Q", data, at)
        at += 8 * count
        tables.append(table if any(table) or multipart else _chunks(data, at, count))
        for name, (kind, value) in header.items():
            if kind == "string":
                attributes.setdefault(name, value.decode("utf-8", "replace"))
            elif kind in {"float", "int"}:
                attributes.setdefault(name, struct.unpack("<f" if kind == "float" else "<i", value)[0])
    for header, table in zip(headers, tables, strict=True):
        part = header["name"][1].decode() if multipart and "name" in header else ""
        view = header["view"][1].decode() if multipart and "view" in header else ""
        for name, plane in _part(data, header, table, 4 if multipart else 0, widen).items():
            if "." not in name:
                planes[f"{part}.{name}" if part else name] = plane
                continue
            # Views have parts of their own in Blender 5, and stand in the channels' names before it: one way here.
            layer, _, channel = name.rpartition(".")
            planes[f"{layer}.{view}.{channel}" if view else name] = plane
    return ExrFile(_grouped(planes), attributes)


def _chunks(data: bytes, at: int, count: int) -> tuple[int, ...]:
    """Where the chunks stand in a file without its table, as Blender packs them since 5.2: one behind the other."""
    table = []
    for _ in range(count):
        table.append(at)
        at += 8 + struct.unpack_from("<i", data, at + 4)[0]
    return tuple(table)


def _part(
    data: bytes, header: dict[str, tuple[str, bytes]], table: tuple[int, ...], skip: int, widen: bool
) -> dict[str, Pixels]:
    """Every channel of one part as (H, W) float32, or without ``widen`` as it is kept."""
    x0, y0, x1, y1 = struct.unpack("<iiii", header["dataWindow"][1])
    width, height = x1 - x0 + 1, y1 - y0 + 1
    if not 0 < width <= _LONGEST or not 0 < height <= _LONGEST:
        raise ValueError(f"a data window of {width} by {height}")
    compression = header["compression"][1][0]
    channels = _channels(header["channels"][1])
    line = width * sum(kind.itemsize for _, kind in channels)
    place = _display(header)
    if compression == 0:
        whole = _uncompressed(data, table, skip, line, y0)
        if whole is not None:
            return {name: place(plane) for name, plane in _split(whole, channels, width, widen).items()}
    planes = {name: np.zeros((height, width), np.float32) for name, _ in channels}
    for first, rows in _blocks(data, table, skip, line, (y0, y1), compression):
        for name, part in _split(rows, channels, width).items():
            planes[name][first : first + len(part)] = part
    return {name: place(plane) for name, plane in planes.items()}


Box = tuple[int, int, int, int]


def windows(path: str | os.PathLike[str]) -> tuple[Box, Box] | None:
    """Data and display window (left, top, right, bottom, inclusive) of an EXR's first part; None of another file."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(1 << 16)
        if struct.unpack_from("<i", data, 0)[0] != MAGIC:
            return None
        return _windows(_header(data, 8)[0])
    except (OSError, struct.error, IndexError, ValueError, KeyError):
        return None


def _windows(header: dict[str, tuple[str, bytes]]) -> tuple[Box, Box]:
    seen = header["dataWindow"][1]
    return struct.unpack("<iiii", seen), struct.unpack("<iiii", header.get("displayWindow", ("", seen))[1])


def placed(plane: Pixels, data: Box, display: Box) -> Pixels:
    """A picture (h, w, ...) of the data window in its display window: 0 where there is none, cut where there is more."""
    height, width = display[3] - display[1] + 1, display[2] - display[0] + 1
    if data == display or not 0 < width <= _LONGEST or not 0 < height <= _LONGEST:
        return plane
    out = np.zeros((height, width, *plane.shape[2:]), plane.dtype)
    left, top = max(data[0], display[0]), max(data[1], display[1])
    right, bottom = min(data[2], display[2]), min(data[3], display[3])
    if right >= left and bottom >= top:
        rows, columns = slice(top - data[1], bottom - data[1] + 1), slice(left - data[0], right - data[0] + 1)
        y, x = top - display[1], left - display[0]
        out[y : y + bottom - top + 1, x : x + right - left + 1] = plane[rows, columns]
    return out


def _display(header: dict[str, tuple[str, bytes]]) -> Callable[[Pixels], Pixels]:
    return functools.partial(placed, data=(both := _windows(header))[0], display=both[1])


def _split(
    rows: Bytes, channels: Sequence[tuple[str, np.dtype[Any]]], width: int, widen: bool = True
) -> dict[str, Pixels]:
    """Every channel of some rows (lines, line) as (lines, width) float32, or without ``widen`` halves as such."""
    planes, column = {}, 0
    for name, kind in channels:
        part = np.ascontiguousarray(rows[:, column : column + width * kind.itemsize])
        samples = part.view(kind)
        planes[name] = samples if kind == np.float16 and not widen else samples.astype(np.float32, copy=False)
        column += width * kind.itemsize
    return planes


def _blocks(
    data: bytes, table: tuple[int, ...], skip: int, line: int, span: tuple[int, int], compression: int
) -> Iterator[tuple[int, Bytes]]:
    """Each chunk's first row, from 0, and its rows as bytes (lines, line)."""
    for offset in table:
        y, size = struct.unpack_from("<ii", data, offset + skip)
        lines = min(_LINES[compression], span[1] - y + 1)
        start = offset + skip + 8
        block = np.frombuffer(_unpack(data[start : start + size], compression, lines * line), np.uint8)
        yield y - span[0], block.reshape(lines, line)


def _uncompressed(data: bytes, table: tuple[int, ...], skip: int, line: int, y0: int) -> Bytes | None:
    """All rows (height, line) of a file whose lines stand one behind the other, as most do; None where they do not.

    Row by row numpy would hold Python's lock through thousands of small copies into cleared memory, and the main thread
    would wait while the system finds and clears it; large copies let go of the lock.
    """
    stride = skip + 8 + line
    if any(offset != table[0] + index * stride for index, offset in enumerate(table)):
        return None
    rows = np.frombuffer(data, np.uint8, len(table) * stride, table[0]).reshape(len(table), stride)
    heads = np.ascontiguousarray(rows[:, skip : skip + 8]).view("<i4")
    in_order = (heads[:, 0] == y0 + np.arange(len(table))).all() and (heads[:, 1] == line).all()
    return rows[:, skip + 8 :] if in_order else None


def _grouped(planes: Mapping[str, Pixels]) -> dict[str, Pixels]:
    groups: dict[str, list[str]] = {}
    for name in planes:
        groups.setdefault(name.rpartition(".")[0], []).append(name)
    layers = {}
    for layer, names in groups.items():
        names.sort(key=lambda name: (_ORDER.get(name.rpartition(".")[2], 99), name))
        layers[layer] = planes[names[0]] if len(names) == 1 else np.stack([planes[n] for n in names], axis=2)
    return layers


__all__ = [
    "Attribute",
    "ExrFile",
    "Pixels",
    "chromaticities",
    "interop_id",
    "is_readable",
    "parse",
    "read",
    "write",
    "write_atomically",
]
