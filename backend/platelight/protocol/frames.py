"""Messages to ZeroMQ frames and back, and planes to chunks and back. Pure: no socket is touched here.

A message is one frame, the header; ``Chunk`` alone has a second frame with the bytes. Planes travel as raw
little-endian half or float, row 0 at the top, in chunks that all have the full chunk size but the last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from platelight.protocol.errors import InputError, MalformedMessage, ProtocolError
from platelight.protocol.messages import (
    CHUNK_BYTES,
    MAX_META_CHARS,
    Chunk,
    ClientMessage,
    Limits,
    Message,
    PlaneInfo,
    ServerMessage,
    decode_from_client,
    decode_from_server,
    encode,
)
from platelight.protocol.requests import Request

Buffer = bytes | bytearray | memoryview
_CHANNELS = (1, 3, 4)
_SUBMITTABLE = msgspec.msgpack.Decoder(Request)


# ---- messages


def pack(message: Message, body: Buffer | None = None) -> list[Buffer]:
    """Return the frames of a message; ``body`` goes with ``Chunk`` and with nothing else."""
    if isinstance(message, Chunk) != (body is not None):
        raise MalformedMessage("A chunk has a body frame and no other message has one.")
    return [encode(message)] if body is None else [encode(message), body]


def unpack_from_client(frames: Sequence[Buffer]) -> tuple[ClientMessage, memoryview]:
    """Return the message and its body (empty unless a chunk). Raises MalformedMessage."""
    message = decode_from_client(_header(frames))
    return message, _body(message, frames)


def unpack_from_server(frames: Sequence[Buffer]) -> tuple[ServerMessage, memoryview]:
    """Return the message and its body (empty unless a chunk). Raises MalformedMessage."""
    message = decode_from_server(_header(frames))
    return message, _body(message, frames)


def _header(frames: Sequence[Buffer]) -> bytes | memoryview:
    if not 1 <= len(frames) <= 2:
        raise MalformedMessage(f"A message has one or two frames, not {len(frames)}.")
    header = frames[0]
    return bytes(header) if isinstance(header, bytearray) else header


def _body(message: Message, frames: Sequence[Buffer]) -> memoryview:
    if isinstance(message, Chunk):
        if len(frames) != 2:
            raise MalformedMessage("A chunk came without its bytes.")
        body = memoryview(frames[1])
        if not 0 < len(body) <= CHUNK_BYTES:
            raise MalformedMessage(f"A chunk has 1 to {CHUNK_BYTES} bytes, not {len(body)}.")
        return body
    if len(frames) != 1:
        raise MalformedMessage(f"A {type(message).__name__.lower()} message came with bytes.")
    return memoryview(b"")


# ---- planes


@dataclass(frozen=True)
class Plane:
    """A described plane and its bytes (a flat view; no copy where the array was contiguous little-endian)."""

    info: PlaneInfo
    data: memoryview


def describe(name: str, array: np.ndarray[Any, Any]) -> Plane:
    """Return a plane ready to travel: float16 or float32, (H, W) or (H, W, C) with 1, 3 or 4 channels.

    Raises:
        InputError: another dtype or shape; the sentence names the plane.
    """
    if array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4):
        raise InputError(
            f"The plane '{name}' holds {array.dtype}, not half or float.", "Convert it to float32 first."
        )
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise InputError(
            f"The plane '{name}' has the shape {array.shape}.", "Planes are (H, W) or (H, W, C)."
        )
    flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1)
    data = flat.view(np.uint8).data
    digest = hashlib.sha256(data).hexdigest()
    dtype = "f2" if array.dtype.itemsize == 2 else "f4"
    try:
        info = msgspec.convert(
            {"name": name, "dtype": dtype, "shape": array.shape, "hash": digest}, PlaneInfo
        )
    except msgspec.ValidationError as error:
        raise InputError(f"The plane '{name}' of shape {array.shape} cannot travel: {error}.") from error
    check_planes([info], Limits())
    return Plane(info, data)


def restore(info: PlaneInfo, data: Buffer) -> np.ndarray[Any, Any]:
    """Return the array of a plane, sharing the buffer's memory."""
    return np.frombuffer(data, dtype="<" + info.dtype).reshape(info.shape)


def check_planes(planes: Sequence[PlaneInfo], limits: Limits) -> None:
    """Refuse planes that break the limits. Raises InputError with the plane's name."""
    if len(planes) > limits.max_planes:
        raise InputError(f"A job has at most {limits.max_planes} planes, not {len(planes)}.")
    if len({plane.name for plane in planes}) != len(planes):
        raise InputError("Two planes of a job have the same name.", "Give each plane a name of its own.")
    if len({plane.hash for plane in planes}) != len({(plane.hash, plane.nbytes) for plane in planes}):
        raise InputError("Two planes of a job have the same hash and differ in size.")
    for plane in planes:
        if len(plane.shape) == 3 and plane.shape[2] not in _CHANNELS:
            raise InputError(
                f"The plane '{plane.name}' has {plane.shape[2]} channels.", "Use 1, 3 or 4 channels."
            )
        if max(plane.shape) > limits.max_side:
            raise InputError(
                f"The plane '{plane.name}' is {plane.shape[1]}×{plane.shape[0]} pixels.",
                f"The longest side may have {limits.max_side} pixels; scale it down.",
            )
    total = sum(plane.nbytes for plane in planes)
    if total > limits.max_job_bytes:
        raise InputError(
            f"The planes of the job have {total / 2**20:.0f} MiB together.",
            f"This server takes {limits.max_job_bytes / 2**20:.0f} MiB; scale the plate down.",
        )


def chunks(plane: Plane, chunk_bytes: int = CHUNK_BYTES) -> Iterator[tuple[Chunk, memoryview]]:
    """Yield the chunks of a plane in order, each a header and a view of its bytes."""
    for offset in range(0, plane.info.nbytes, chunk_bytes):
        yield Chunk(plane.info.hash, offset), plane.data[offset : offset + chunk_bytes]


class Assembler:
    """Puts the chunks of one plane together, in any order, and checks the hash as they come.

    Args:
        info: the plane that is expected.
        chunk_bytes: the size of every chunk but the last.
        write: stores bytes at an offset.
        read: returns the bytes stored from one offset to another; only asked for when chunks came out of order.

    ``add`` refuses chunks of other planes, duplicates, overlaps, bytes out of range and a wrong hash by
    raising ProtocolError.
    """

    def __init__(
        self,
        info: PlaneInfo,
        chunk_bytes: int,
        write: Callable[[int, memoryview], object],
        read: Callable[[int, int], Buffer],
    ) -> None:
        self.info = info
        self._chunk_bytes = chunk_bytes
        self._write = write
        self._read = read
        self._total = -(-info.nbytes // chunk_bytes)
        self._seen: set[int] = set()
        self._hashed = 0
        self._hash = hashlib.sha256()

    @classmethod
    def into(cls, info: PlaneInfo, buffer: memoryview, chunk_bytes: int = CHUNK_BYTES) -> Assembler:
        """Return an assembler that fills a writable buffer of ``info.nbytes`` bytes."""

        def write(offset: int, data: memoryview) -> None:
            buffer[offset : offset + len(data)] = data

        return cls(info, chunk_bytes, write, lambda start, stop: buffer[start:stop])

    @property
    def complete(self) -> bool:
        """True when every chunk has come and the hash was right."""
        return self._hashed == self._total

    @property
    def received(self) -> int:
        """Number of chunks that have come."""
        return len(self._seen)

    def add(self, chunk: Chunk, body: memoryview) -> None:
        """Take one chunk. Raises ProtocolError when it does not fit."""
        index, rest = divmod(chunk.offset, self._chunk_bytes)
        if chunk.plane != self.info.hash:
            raise ProtocolError(f"A chunk of another plane was sent as '{self.info.name}'.")
        if index >= self._total:
            raise ProtocolError(f"A chunk at {chunk.offset} is outside the plane '{self.info.name}'.")
        if rest:
            raise ProtocolError(
                f"A chunk at {chunk.offset} of plane '{self.info.name}' overlaps its neighbor."
            )
        expected = min(self._chunk_bytes, self.info.nbytes - chunk.offset)
        if len(body) != expected:
            raise ProtocolError(
                f"A chunk of plane '{self.info.name}' has {len(body)} bytes where {expected} are due."
            )
        if index in self._seen:
            raise ProtocolError(f"The chunk at {chunk.offset} of plane '{self.info.name}' came twice.")
        self._write(chunk.offset, body)
        self._seen.add(index)
        self._advance(index, body)

    def _advance(self, index: int, body: memoryview) -> None:
        if index != self._hashed:
            return
        self._hash.update(body)
        self._hashed += 1
        while self._hashed < self._total and self._hashed in self._seen:
            start = self._hashed * self._chunk_bytes
            self._hash.update(self._read(start, min(start + self._chunk_bytes, self.info.nbytes)))
            self._hashed += 1
        if self.complete and self._hash.hexdigest() != self.info.hash:
            self._seen.clear()
            self._hashed = 0
            self._hash = hashlib.sha256()
            raise ProtocolError(f"The bytes of plane '{self.info.name}' do not have the hash that was told.")


# ---- jobs


def job_key(request: Request, planes: Sequence[PlaneInfo], model: str) -> str:
    """Return the content key of a job: SHA-256 over the model version, the parameters and the planes.

    The bytes hashed are MessagePack of ``["platelight-job-2", model, parameters, planes]``, parameters the map of
    all fields of the request in order (numbers of float fields as float64), planes a list of
    ``[name, dtype, [sides], hash]`` sorted by name. Only the server has to compute it.
    """
    normal = _SUBMITTABLE.decode(msgspec.msgpack.encode(request))
    described = sorted([plane.name, plane.dtype, list(plane.shape), plane.hash] for plane in planes)
    content = msgspec.msgpack.encode(["platelight-job-2", model, normal, described])
    return hashlib.sha256(content).hexdigest()


def meta_to_text(meta: Mapping[str, Any]) -> str:
    """Return a job's meta as JSON text. Raises ProtocolError when it is not JSON-like or too long."""
    try:
        text = json.dumps(dict(meta), ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"The job's meta cannot be sent: {error}.") from error
    if len(text) > MAX_META_CHARS:
        raise ProtocolError(f"The job's meta has {len(text)} characters, more than {MAX_META_CHARS}.")
    return text


def meta_from_text(text: str) -> dict[str, Any]:
    """Return a job's meta. Raises MalformedMessage when the text is not a JSON object."""
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"The job's meta could not be read: {error}.") from error
    if not isinstance(meta, dict):
        raise MalformedMessage("The job's meta is not a JSON object.")
    return meta
