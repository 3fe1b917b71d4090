"""OpenEXR files written with numpy and zlib alone: see `exr.py` for why."""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .wire import InputError

MAGIC = 20000630
Pixels = npt.NDArray[np.float32]
Attribute = str | int | float


def _suffixes(plane: Pixels, layer: str) -> tuple[str, ...]:
    if plane.ndim == 2:
        if not layer:
            return ("Y",)  # Blender shows a lone Y as gray
        return ("Z",) if layer.endswith("depth") else ("V",)
    return ("X", "Y", "Z") if layer.endswith("normal") else ("R", "G", "B", "A")[: plane.shape[2]]


def write(
    path: str | os.PathLike[str],
    layers: Mapping[str, Pixels],
    attributes: Mapping[str, Attribute] | None = None,
    *,
    half: bool = False,
    compress: bool = True,
) -> None:
    """Write layers, all of one size, as one EXR: temporary file, fsync, rename.

    Layer ``""`` takes the bare names R, G, B, A, or Y if it is (H, W); ``normal`` gets X, Y, Z, ``depth`` Z, other
    (H, W) planes V. ``compress`` by ZIP, which takes a core some 30 times as long as none.

    Raises:
        InputError: the file cannot be written.
        ValueError: the layers differ in size, or there is none.
    """
    sizes = {plane.shape[:2] for plane in layers.values()}
    if len(sizes) != 1:
        raise ValueError(f"layers of one EXR must have one size, these have {sorted(sizes)}")
    ((height, width),) = sizes
    kind = np.dtype("<f2" if half else "<f4")
    limit = float(np.finfo(kind).max)
    channels: dict[str, npt.NDArray[Any]] = {}
    for layer, plane in layers.items():
        stack = plane[..., None] if plane.ndim == 2 else plane
        for index, suffix in enumerate(_suffixes(plane, layer)):
            samples = stack[..., index]
            if samples.dtype != kind:
                samples = np.clip(samples, -limit, limit).astype(kind)
            channels[f"{layer}.{suffix}" if layer else suffix] = samples
    names = sorted(channels, key=lambda name: name.encode())
    block = np.stack([channels[name] for name in names], axis=1)  # (H, channels, W): a chunk's own order

    listing = b"".join(n.encode() + b"\0" + struct.pack("<iiii", 1 if half else 2, 0, 1, 1) for n in names)
    box = struct.pack("<iiii", 0, 0, width - 1, height - 1)
    header = bytearray(struct.pack("<ii", MAGIC, 2 | 0x400))

    def put(name: str, type_name: str, value: bytes) -> None:
        header.extend(
            name.encode() + b"\0" + type_name.encode() + b"\0" + struct.pack("<i", len(value)) + value
        )

    put("channels", "chlist", listing + b"\0")
    put("compression", "compression", b"\3" if compress else b"\0")
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

    lengths, chunks = _zipped(block) if compress else _plain(block)
    offsets = np.cumsum([len(header) + 8 * len(lengths), *lengths[:-1]], dtype="<u8")
    write_atomically(path, [bytes(header), offsets.tobytes(), *chunks])


def _zipped(block: npt.NDArray[Any]) -> tuple[list[int], list[bytes]]:
    """Sizes and bytes of chunks of 16 lines, with EXR's byte split and predictor; those that would grow stay plain."""
    chunks = []
    for first in range(0, block.shape[0], 16):
        raw = block[first : first + 16].tobytes()
        plain = np.frombuffer(raw, np.uint8)
        split = np.concatenate([plain[0::2], plain[1::2]])
        packed = split.copy()
        packed[1:] -= split[:-1]
        packed[1:] += 128
        body = zlib.compress(packed, 4)
        body = raw if len(body) >= len(raw) else body
        chunks.append(struct.pack("<ii", first, len(body)) + body)
    return [len(chunk) for chunk in chunks], chunks


def _plain(block: npt.NDArray[Any]) -> tuple[list[int], list[memoryview]]:
    """Sizes and bytes of chunks of one line each, as an uncompressed file has them; the bytes are in one piece.

    A view of each line would be thousands of objects at once, for which Python collects garbage in the middle of a job:
    all of Blender's objects are looked at, and the main thread stands still meanwhile.
    """
    height, line = block.shape[0], block[0].nbytes
    rows = np.empty((height, 8 + line), np.uint8)
    rows[:, :4] = np.arange(height, dtype="<i4")[:, None].view(np.uint8)
    rows[:, 4:8] = np.full((height, 1), line, "<i4").view(np.uint8)
    rows[:, 8:] = block.reshape(height, -1).view(np.uint8)
    return [8 + line] * height, [memoryview(rows).cast("B")]


def write_atomically(path: str | os.PathLike[str], content: bytes | Iterable[bytes | memoryview]) -> None:
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
                stream.writelines([content] if isinstance(content, bytes) else content)
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
