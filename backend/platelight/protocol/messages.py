"""The messages of the wire: one tagged union per direction, encoded as MessagePack maps.

Every field is bounded and unknown fields are forbidden, so a message either is one of these or is refused.
``Hello`` keeps its three fields for ever: that is what lets any two versions tell each other that they differ.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from platelight.protocol.errors import MalformedMessage
from platelight.protocol.requests import Request

MAX_HEADER_BYTES = 64 * 1024
MAX_META_CHARS = 32 * 1024
MAX_SIDE = 16384
MAX_PLANES = 16
CHUNK_BYTES = 1024 * 1024
CREDIT = 8

Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", max_length=64)]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z", max_length=32)]
Ticket = Annotated[int, Meta(ge=0, lt=2**53)]
Offset = Annotated[int, Meta(ge=0, lt=2**53)]
Size = Annotated[int, Meta(ge=0, lt=2**53)]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
Seconds = Annotated[float, Meta(ge=0.0, le=1e9)]
Total = Annotated[int, Meta(ge=0, lt=2**62)]
Rate = Annotated[float, Meta(ge=0.0, le=1e15)]
Code = Annotated[str, Meta(pattern=r"^[a-z][a-z_]{0,31}\Z", max_length=32)]
Label = Annotated[str, Meta(max_length=200)]
Text = Annotated[str, Meta(max_length=2000)]
Path = Annotated[str, Meta(max_length=4096)]
Count = Annotated[int, Meta(ge=0, lt=2**31)]
Shape = Annotated[tuple[Annotated[int, Meta(ge=1, le=MAX_SIDE)], ...], Meta(min_length=2, max_length=3)]
Dtype = Literal["f2", "f4"]


class JobState(StrEnum):
    """Where a job stands on the server."""

    NEED = "need"
    QUEUED = "queued"
    LEASED = "leased"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """True once nothing more will happen to the job by itself."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class PlaneInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One plane: its name, element type (little-endian), shape (H, W) or (H, W, C) and SHA-256 of its bytes."""

    name: Name
    dtype: Dtype
    shape: Shape
    hash: Hash

    @property
    def nbytes(self) -> int:
        """Bytes of the plane as it travels and as it is stored."""
        size = 2 if self.dtype == "f2" else 4
        for side in self.shape:
            size *= side
        return size


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the server accepts; told in ``Welcome``, the same for every client."""

    chunk_bytes: Annotated[int, Meta(ge=1024, le=CHUNK_BYTES)] = CHUNK_BYTES
    credit: Annotated[int, Meta(ge=1, le=64)] = CREDIT
    max_side: Annotated[int, Meta(ge=1, le=MAX_SIDE)] = MAX_SIDE
    max_planes: Annotated[int, Meta(ge=1, le=MAX_PLANES)] = MAX_PLANES
    max_job_bytes: Size = 4 * 1024**3


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=str.lower, tag_field="type"):
    """Base of all messages; the ``type`` field holds the lower-case class name."""


Planes = Annotated[tuple[PlaneInfo, ...], Meta(max_length=MAX_PLANES)]


# ---- both directions


class Chunk(Message, frozen=True):
    """A piece of a plane; the bytes are the second frame. Offsets are multiples of ``Limits.chunk_bytes``."""

    plane: Hash
    offset: Offset


# ---- client to server


class Hello(Message, frozen=True):
    """First message of a connection. These fields never change between protocol versions."""

    versions: Annotated[tuple[Count, ...], Meta(max_length=64)]
    software: Label
    codecs: Annotated[tuple[Label, ...], Meta(max_length=16)]


class Submit(Message, frozen=True):
    """Ask for a job. Idempotent: the same request and planes are the same job. ``fresh`` retries a failed one."""

    ticket: Ticket
    request: Request
    planes: Planes
    fresh: bool = True


class Watch(Message, frozen=True):
    """Follow a job that this key has submitted before, by its key."""

    ticket: Ticket
    key: Hash


class Cancel(Message, frozen=True):
    """Stop a job. Answered by ``Failed`` with code ``cancelled``, or by nothing if it had ended."""

    key: Hash


class Fetch(Message, frozen=True):
    """Ask for one chunk of a result plane. The client keeps at most ``Limits.credit`` of these open."""

    key: Hash
    plane: Hash
    offset: Offset


class Place(Message, frozen=True):
    """Codec ``mmap``: ask for a file to write a needed plane into, in place of chunks."""

    plane: Hash


class Filled(Message, frozen=True):
    """Codec ``mmap``: the file named by ``Placed`` holds the plane."""

    plane: Hash


class Locate(Message, frozen=True):
    """Codec ``mmap``: ask for the file of a result plane, in place of fetching it."""

    key: Hash
    plane: Hash


class Ask(Message, frozen=True):
    """Ask for a ``Report`` on the server."""

    ticket: Ticket


class Ping(Message, frozen=True):
    """Answered by ``Pong`` with the same ticket."""

    ticket: Ticket


# ---- server to client


class Welcome(Message, frozen=True):
    """Answer to ``Hello``: the version to speak, the codec chosen, the limits and the models that will run."""

    version: Count
    software: Label
    codec: Label
    limits: Limits
    models: Annotated[dict[Label, Label], Meta(max_length=32)]


class Refused(Message, frozen=True):
    """What was asked cannot be had. ``ticket`` is that of the message refused, where it had one."""

    code: Code
    sentence: Text
    remedy: Text = ""
    ticket: Ticket | None = None
    retry_after: Seconds | None = None


class Need(Message, frozen=True):
    """The job is known as ``key``; send these planes (by hash). ``credit`` chunks may be sent at once."""

    ticket: Ticket
    key: Hash
    planes: Annotated[tuple[Hash, ...], Meta(max_length=MAX_PLANES)]
    credit: Count


class Credit(Message, frozen=True):
    """``count`` more chunks may be sent."""

    count: Count


class Progress(Message, frozen=True):
    """Where a job stands; latest wins, none is promised. ``ahead`` is the number of jobs before it in the queue."""

    key: Hash
    state: JobState
    fraction: Fraction
    stage: Label
    ahead: Count = 0


class Done(Message, frozen=True):
    """The job's results can be fetched; ``meta`` is a JSON object as text."""

    key: Hash
    planes: Planes
    meta: Annotated[str, Meta(max_length=MAX_META_CHARS)]


class Failed(Message, frozen=True):
    """The job ended without a result; ``code`` is that of ``platelight.protocol.errors``."""

    key: Hash
    code: Code
    sentence: Text
    remedy: Text = ""


class WorkerReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One worker process: its device, state (starting, idle, busy, silent), memory in bytes, job and process id."""

    name: Label
    device: Label
    state: Label
    memory: Size
    job: Label = ""
    pid: Count = 0


class Totals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts since the server's start; bytes are those of chunks, on the wire."""

    submitted: Total = 0
    executions: Total = 0
    done: Total = 0
    failed: Total = 0
    cancelled: Total = 0
    refused: Total = 0
    workers_lost: Total = 0
    bytes_in: Total = 0
    bytes_out: Total = 0


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Means over the last minute: jobs done a minute, bytes a second; and the mean seconds of recent jobs."""

    jobs_per_minute: Seconds = 0.0
    bytes_in_per_second: Rate = 0.0
    bytes_out_per_second: Rate = 0.0
    job_seconds: Seconds = 0.0


class Placed(Message, frozen=True):
    """Codec ``mmap``: the file to write to. A client that cannot open it sends chunks instead."""

    plane: Hash
    path: Path


class Located(Message, frozen=True):
    """Codec ``mmap``: the file to map, read-only. A client that cannot open it fetches chunks instead."""

    plane: Hash
    path: Path


class Report(Message, frozen=True):
    """Answer to ``Ask``: the server as a whole. ``stored`` and ``quota`` are bytes of planes, ``waiting`` the queue."""

    ticket: Ticket
    software: Label
    uptime: Seconds
    jobs: dict[JobState, Count]
    workers: Annotated[tuple[WorkerReport, ...], Meta(max_length=128)]
    memory: Size
    stored: Size
    quota: Size
    clients: Count
    waiting: Count
    draining: bool
    totals: Totals
    rates: Rates


class Pong(Message, frozen=True):
    """Answer to ``Ping``."""

    ticket: Ticket


ClientMessage = Hello | Submit | Watch | Chunk | Cancel | Fetch | Place | Filled | Locate | Ask | Ping
ServerMessage = (
    Welcome | Refused | Need | Credit | Chunk | Progress | Done | Failed | Placed | Located | Report | Pong
)

_M = TypeVar("_M")
_encoder = msgspec.msgpack.Encoder()
_client_decoder: msgspec.msgpack.Decoder[ClientMessage] = msgspec.msgpack.Decoder(ClientMessage)
_server_decoder: msgspec.msgpack.Decoder[ServerMessage] = msgspec.msgpack.Decoder(ServerMessage)


def encode(message: Message) -> bytes:
    """Return the header frame of a message.

    Raises:
        MalformedMessage: it would exceed ``MAX_HEADER_BYTES``.
    """
    header = _encoder.encode(message)
    if len(header) > MAX_HEADER_BYTES:
        raise MalformedMessage(f"A message header of {len(header)} bytes is larger than {MAX_HEADER_BYTES}.")
    return header


def decode_from_client(header: bytes | memoryview) -> ClientMessage:
    """Return the message in a header frame that a client sent. Raises MalformedMessage."""
    return _decode(_client_decoder, header)


def decode_from_server(header: bytes | memoryview) -> ServerMessage:
    """Return the message in a header frame that a server sent. Raises MalformedMessage."""
    return _decode(_server_decoder, header)


def _decode(decoder: msgspec.msgpack.Decoder[_M], header: bytes | memoryview) -> _M:
    if len(header) > MAX_HEADER_BYTES:
        raise MalformedMessage(f"A message header of {len(header)} bytes is larger than {MAX_HEADER_BYTES}.")
    try:
        return decoder.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise MalformedMessage(f"A message could not be read: {error}.") from error
