"""Messages between the broker and its worker processes, over an ipc socket in a 0700 folder."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from platelight.protocol.messages import Code, Fraction, Hash, Label, PlaneInfo, Size, Text
from platelight.protocol.requests import Request


class Inside(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=str.lower, tag_field="type"):
    """Base of these messages."""


class Ready(Inside, frozen=True):
    """The worker has loaded its code and waits for a job; ``device`` is what it computes on, never ``auto``."""

    pid: int
    device: Label


class Unable(Inside, frozen=True):
    """The worker cannot serve at all and ends; for example its device is not there."""

    sentence: Text
    remedy: Text = ""


class Beat(Inside, frozen=True):
    """The worker lives; its resident memory in bytes."""

    memory: Size


class Run(Inside, frozen=True):
    """To the worker: do this job. ``lease`` names this attempt, so that answers of an earlier one are known.

    ``lean``: an earlier attempt ran out of memory; take less.
    """

    lease: int
    key: Hash
    request: Request
    planes: tuple[PlaneInfo, ...]
    lean: bool = False


class Stop(Inside, frozen=True):
    """To the worker: end this lease at the next tile."""

    lease: int


class Working(Inside, frozen=True):
    """The job is under way."""

    lease: int
    fraction: Fraction
    stage: Label


class Finished(Inside, frozen=True):
    """The job's planes are in the blob folder."""

    lease: int
    planes: tuple[PlaneInfo, ...]
    meta: str


class Broken(Inside, frozen=True):
    """The job ended with an error; the worker goes on."""

    lease: int
    code: Code
    sentence: Annotated[str, Meta(max_length=2000)]
    remedy: Text = ""


FromWorker = Ready | Unable | Beat | Working | Finished | Broken
ToWorker = Run | Stop

encode = msgspec.msgpack.Encoder().encode
decode_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
decode_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
