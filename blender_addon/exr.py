"""OpenEXR for the extension, in numpy and zlib alone: what Blender itself writes, read back, and the
project's own multilayer files, written.

Blender shows the pixels of a multilayer EXR to no script, 4.2 ships no EXR module, and an extension should
not carry one for this: scan-line files with no, ZIPS, ZIP or RLE compression are a page of code (format:
openexr.com, "OpenEXR File Layout"). Tiled, deep and lossy files are refused with a sentence.
"""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .wire import InputError

_MAGIC = 20000630
Pixels = npt.NDArray[np.float32]
_DTYPES: dict[int, np.dtype[Any]] = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}
_LONGEST = 1 << 16  # pixels of a side; a header that claims more is damaged
_LINES = {0: 1, 1: 1, 2: 1, 3: 16}  # scan lines a chunk: NONE, RLE, ZIPS, ZIP
_ORDER = {name: rank for rank, name in enumerate(["R", "G", "B", "A", "X", "Y", "Z", "V"])}
Attribute = str | int | float


@dataclass(frozen=True)
class ExrFile:
    """``layers`` maps a layer's name ("" for the bare R, G, B, A) to (H, W) or (H, W, C) float32; row 0 is the
    top, channels stand in the order R G B A or X Y Z. ``attributes`` holds string, int and float headers."""

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
    data = Path(path).read_bytes()
    try:
        return _parse(data, path)
    except (struct.error, IndexError, ValueError, KeyError, zlib.error) as error:
        raise InputError(f"{path} is not a complete OpenEXR file.", "Export it again.") from error


def _parse(data: bytes, path: str | os.PathLike[str]) -> ExrFile:
    magic, version = struct.unpack_from("<ii", data, 0)
    if magic != _MAGIC:
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
        tables.append(struct.unpack_from(f"<{count}Q", data, at))
        at += 8 * count
        for name, (kind, value) in header.items():
            if kind == "string":
                attributes.setdefault(name, value.decode("utf-8", "replace"))
            elif kind in {"float", "int"}:
                attributes.setdefault(name, struct.unpack("<f" if kind == "float" else "<i", value)[0])
    for header, table in zip(headers, tables, strict=True):
        part = header["name"][1].decode() if multipart and "name" in header else ""
        for name, plane in _part(data, header, table, 4 if multipart else 0).items():
            planes[name if "." in name or not part else f"{part}.{name}"] = plane
    return ExrFile(_grouped(planes), attributes)


def _part(
    data: bytes, header: dict[str, tuple[str, bytes]], table: tuple[int, ...], skip: int
) -> dict[str, Pixels]:
    """Every channel of one part as (H, W) float32."""
    x0, y0, x1, y1 = struct.unpack("<iiii", header["dataWindow"][1])
    width, height = x1 - x0 + 1, y1 - y0 + 1
    if not 0 < width <= _LONGEST or not 0 < height <= _LONGEST:
        raise ValueError(f"a data window of {width} by {height}")
    compression = header["compression"][1][0]
    channels = _channels(header["channels"][1])
    line = width * sum(kind.itemsize for _, kind in channels)
    planes = {name: np.zeros((height, width), np.float32) for name, _ in channels}
    for offset in table:
        y, size = struct.unpack_from("<ii", data, offset + skip)
        first = y - y0
        lines = min(_LINES[compression], height - first)
        start = offset + skip + 8
        block = np.frombuffer(_unpack(data[start : start + size], compression, lines * line), np.uint8)
        rows = block.reshape(lines, line)
        column = 0
        for name, kind in channels:
            part = np.ascontiguousarray(rows[:, column : column + width * kind.itemsize])
            planes[name][first : first + lines] = part.view(kind)
            column += width * kind.itemsize
    return planes


def _grouped(planes: Mapping[str, Pixels]) -> dict[str, Pixels]:
    groups: dict[str, list[str]] = {}
    for name in planes:
        groups.setdefault(name.rpartition(".")[0], []).append(name)
    layers = {}
    for layer, names in groups.items():
        names.sort(key=lambda name: (_ORDER.get(name.rpartition(".")[2], 99), name))
        layers[layer] = planes[names[0]] if len(names) == 1 else np.stack([planes[n] for n in names], axis=2)
    return layers


def _suffixes(plane: Pixels, layer: str) -> tuple[str, ...]:
    if plane.ndim == 2:
        return ("Z",) if layer.endswith("depth") else ("V",)
    return ("X", "Y", "Z") if layer.endswith("normal") else ("R", "G", "B", "A")[: plane.shape[2]]


def write(
    path: str | os.PathLike[str],
    layers: Mapping[str, Pixels],
    attributes: Mapping[str, Attribute] | None = None,
    *,
    half: bool = False,
) -> None:
    """Write layers, all of one size, as one ZIP-compressed EXR: temporary file, fsync, rename.

    Layer ``""`` takes the bare names R, G, B, A; ``normal`` gets X, Y, Z, ``depth`` Z, other (H, W) planes V.

    Raises:
        InputError: the file cannot be written.
        ValueError: the layers differ in size, or there is none.
    """
    sizes = {plane.shape[:2] for plane in layers.values()}
    if len(sizes) != 1:
        raise ValueError(f"layers of one EXR must have one size, these have {sorted(sizes)}")
    ((height, width),) = sizes
    kind = _DTYPES[1 if half else 2]
    channels: dict[str, npt.NDArray[Any]] = {}
    for layer, plane in layers.items():
        stack = plane[..., None] if plane.ndim == 2 else plane
        for index, suffix in enumerate(_suffixes(plane, layer)):
            limit = float(np.finfo(kind).max)
            samples = np.clip(stack[..., index], -limit, limit).astype(kind)
            channels[f"{layer}.{suffix}" if layer else suffix] = samples
    names = sorted(channels, key=lambda name: name.encode())
    block = np.stack([channels[name] for name in names], axis=1)  # (H, channels, W): a chunk's own order

    listing = b"".join(n.encode() + b"\0" + struct.pack("<iiii", 1 if half else 2, 0, 1, 1) for n in names)
    box = struct.pack("<iiii", 0, 0, width - 1, height - 1)
    header = bytearray(struct.pack("<ii", _MAGIC, 2 | 0x400))

    def put(name: str, type_name: str, value: bytes) -> None:
        header.extend(
            name.encode() + b"\0" + type_name.encode() + b"\0" + struct.pack("<i", len(value)) + value
        )

    put("channels", "chlist", listing + b"\0")
    put("compression", "compression", b"\3")
    put("dataWindow", "box2i", box)
    put("displayWindow", "box2i", box)
    put("lineOrder", "lineOrder", b"\0")
    put("pixelAspectRatio", "float", struct.pack("<f", 1.0))
    put("screenWindowCenter", "v2f", struct.pack("<ff", 0.0, 0.0))
    put("screenWindowWidth", "float", struct.pack("<f", 1.0))
    for name, value in (attributes or {}).items():
        if name in {"pixelAspectRatio", "screenWindowWidth", "name", "type"}:
            continue
        if isinstance(value, str):
            put(name, "string", value.encode())
        elif isinstance(value, int):
            put(name, "int", struct.pack("<i", value))
        else:
            put(name, "float", struct.pack("<f", value))
    header.append(0)

    chunks = []
    for first in range(0, height, 16):
        raw = block[first : first + 16].tobytes()
        plain = np.frombuffer(raw, np.uint8)
        split = np.concatenate([plain[0::2], plain[1::2]])
        packed = split.copy()
        packed[1:] -= split[:-1]
        packed[1:] += 128
        body = zlib.compress(packed.tobytes(), 4)
        body = raw if len(body) >= len(raw) else body
        chunks.append(struct.pack("<ii", first, len(body)) + body)
    offset = len(header) + 8 * len(chunks)
    table = bytearray()
    for chunk in chunks:
        table += struct.pack("<Q", offset)
        offset += len(chunk)
    write_atomically(path, b"".join([bytes(header), bytes(table), *chunks]))


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Put bytes into a file so that a kill leaves the old file or the new one, never half.

    Raises:
        InputError: the folder cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(name, 0o644)
            os.replace(name, target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(
            f"{target} cannot be written: {error.strerror}.", "Choose another folder."
        ) from error
