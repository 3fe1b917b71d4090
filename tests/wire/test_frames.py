"""The pure half of the wire: messages, planes, chunks, and everything that must be refused."""

from __future__ import annotations

import hashlib
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from platelight.protocol import errors
from platelight.protocol import messages as m
from platelight.protocol.errors import InputError, MalformedMessage, ProtocolError
from platelight.protocol.frames import (
    Assembler,
    check_planes,
    chunks,
    describe,
    job_key,
    meta_from_text,
    meta_to_text,
    pack,
    restore,
    unpack_from_client,
    unpack_from_server,
)
from platelight.protocol.requests import Decompose, Refine, Relight

HASH = "0123456789abcdef" * 4
PLANE = m.PlaneInfo("plate", "f2", (4, 6, 3), HASH)
FROM_CLIENT = [
    m.Hello((1,), "test", ("raw",)),
    m.Submit(1, Relight(rotation=90.0), (PLANE,)),
    m.Submit(2**53 - 1, Refine(), (), fresh=False),
    m.Watch(1, HASH),
    m.Cancel(HASH),
    m.Fetch(HASH, HASH, 1024),
    m.Place(HASH),
    m.Filled(HASH),
    m.Locate(HASH, HASH),
    m.Ask(0),
    m.Ping(7),
]
FROM_SERVER = [
    m.Welcome(1, "test", "raw", m.Limits(), {"platelight": "1"}),
    m.Refused("busy", "Later.", "", 3, 1.5),
    m.Need(1, HASH, (HASH,), 8),
    m.Credit(1),
    m.Progress(HASH, m.JobState.RUNNING, 0.5, "normals", 2),
    m.Done(HASH, (PLANE,), "{}"),
    m.Failed(HASH, "bad_input", "No.", "Yes."),
    m.Placed(HASH, "/x"),
    m.Located(HASH, "/x"),
    m.Report(
        1,
        "test",
        1.0,
        {m.JobState.DONE: 1},
        (m.WorkerReport("w", "cpu", "idle", 1),),
        1,
        2,
        3,
        4,
        5,
        False,
        m.Totals(),
        m.Rates(),
    ),
    m.Pong(7),
]


@pytest.mark.parametrize("message", FROM_CLIENT, ids=lambda one: type(one).__name__)
def test_client_messages_round_trip(message: m.Message) -> None:
    assert unpack_from_client(pack(message)) == (message, b"")


@pytest.mark.parametrize("message", FROM_SERVER, ids=lambda one: type(one).__name__)
def test_server_messages_round_trip(message: m.Message) -> None:
    assert unpack_from_server(pack(message)) == (message, b"")


def test_every_message_is_covered() -> None:
    assert {type(one) for one in FROM_CLIENT} | {m.Chunk} == set(m.ClientMessage.__args__)
    assert {type(one) for one in FROM_SERVER} | {m.Chunk} == set(m.ServerMessage.__args__)


def test_vectors() -> None:
    """Fixed bytes: whoever changes these changes the protocol, and must raise its version."""
    assert m.encode(m.Ping(7)) == bytes.fromhex("82a474797065a470696e67a67469636b657407")
    assert m.encode(m.Hello((1,), "x", ("raw",))) == bytes.fromhex(
        "84a474797065a568656c6c6fa876657273696f6e739101a8736f667477617265a178a6636f6465637391a3726177"
    )
    plane = describe("matte", np.array([[0.0, 1.0]], np.float16))
    assert bytes(plane.data) == bytes.fromhex("0000003c")
    assert plane.info.hash == hashlib.sha256(bytes.fromhex("0000003c")).hexdigest()
    assert (
        job_key(Decompose(), [plane.info], "1")
        == "89f4a33d79ec3d8f9d829ac2627a51efd64486e5b3e1643ad7d9eac8b6c4ce5d"
    )


def test_the_key_of_a_job() -> None:
    other = m.PlaneInfo("matte", "f2", (4, 6), HASH)
    key = job_key(Relight(rotation=90), [PLANE, other], "1")
    assert key == job_key(Relight(rotation=90.0), [other, PLANE], "1")
    different = [
        job_key(Relight(rotation=91.0), [PLANE, other], "1"),
        job_key(Refine(rotation=90.0), [PLANE, other], "1"),
        job_key(Relight(rotation=90.0), [PLANE], "1"),
        job_key(Relight(rotation=90.0), [PLANE, other], "2"),
        job_key(Relight(rotation=90.0), [PLANE, m.PlaneInfo("matte", "f2", (6, 4), HASH)], "1"),
    ]
    assert len({key, *different}) == 6


def raw(**fields: object) -> list[bytes]:
    return [msgspec.msgpack.encode(fields)]


SUBMIT = {"type": "submit", "ticket": 1, "request": {"kind": "decompose"}}
GOOD_PLANE = {"name": "plate", "dtype": "f4", "shape": [2, 2], "hash": HASH}
MALFORMED = {
    "no frames": [],
    "empty frame": [b""],
    "three frames": [b"", b"", b""],
    "not msgpack": [b"\xc1"],
    "not a map": [msgspec.msgpack.encode([1, 2])],
    "truncated": [m.encode(m.Watch(1, HASH))[:-3]],
    "trailing bytes": [m.encode(m.Ping(1)) + b"\x00"],
    "unknown type": raw(type="pickle"),
    "no type": raw(ticket=1),
    "unknown field": raw(type="ping", ticket=1, extra=1),
    "missing field": raw(type="ping"),
    "wrong type of field": raw(type="ping", ticket="1"),
    "negative": raw(type="ping", ticket=-1),
    "too large a number": raw(type="ping", ticket=2**60),
    "bool for a number": raw(type="ping", ticket=True),
    "hash too short": raw(type="watch", ticket=1, key="0" * 63),
    "hash with a newline": raw(type="watch", ticket=1, key="0" * 64 + "\n"),
    "hash that is a path": raw(type="watch", ticket=1, key="../" * 21 + "x"),
    "upper-case hash": raw(type="watch", ticket=1, key="A" * 64),
    "not UTF-8": [b"\x82\xa4type\xa4ping\xa6ticket\xa2\xff\xfe"],
    "deep nesting": [b"\x82\xa4type\xa4ping\xa6ticket" + b"\x91" * 50_000 + b"\x00"],
    "oversized header": [b"\xc6" + (70_000).to_bytes(4, "big") + bytes(70_000)],
    "unknown request": raw(**(SUBMIT | {"request": {"kind": "shell"}, "planes": []})),
    "request out of range": raw(**(SUBMIT | {"request": {"kind": "decompose", "fov": 999.0}, "planes": []})),
    "NaN in a request": raw(
        **(SUBMIT | {"request": {"kind": "decompose", "fov": float("nan")}, "planes": []})
    ),
    "unknown field in request": raw(
        **(SUBMIT | {"request": {"kind": "decompose", "path": "/"}, "planes": []})
    ),
    "seventeen planes": raw(**SUBMIT, planes=[GOOD_PLANE] * 17),
    "dtype f8": raw(**SUBMIT, planes=[GOOD_PLANE | {"dtype": "f8"}]),
    "big-endian": raw(**SUBMIT, planes=[GOOD_PLANE | {"dtype": ">f4"}]),
    "zero side": raw(**SUBMIT, planes=[GOOD_PLANE | {"shape": [0, 2]}]),
    "negative side": raw(**SUBMIT, planes=[GOOD_PLANE | {"shape": [-1, 2]}]),
    "16385 side": raw(**SUBMIT, planes=[GOOD_PLANE | {"shape": [2, 16385]}]),
    "one side": raw(**SUBMIT, planes=[GOOD_PLANE | {"shape": [2]}]),
    "four sides": raw(**SUBMIT, planes=[GOOD_PLANE | {"shape": [2, 2, 3, 1]}]),
    "name that is a path": raw(**SUBMIT, planes=[GOOD_PLANE | {"name": "../x"}]),
    "chunk without bytes": [m.encode(m.Chunk(HASH, 0))],
    "chunk of no bytes": [m.encode(m.Chunk(HASH, 0)), b""],
    "chunk over 1 MiB": [m.encode(m.Chunk(HASH, 0)), bytes(2**20 + 1)],
    "ping with bytes": [m.encode(m.Ping(1)), b"x"],
    "server's message": pack(m.Credit(1)),
}


@pytest.mark.parametrize("frames", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_messages_are_refused(frames: list[bytes]) -> None:
    with pytest.raises(MalformedMessage):
        unpack_from_client(frames)


def test_a_client_message_is_none_of_the_servers() -> None:
    with pytest.raises(MalformedMessage):
        unpack_from_server(pack(m.Ask(1)))


def test_pack_refuses_what_cannot_be_unpacked() -> None:
    with pytest.raises(MalformedMessage):
        pack(m.Chunk(HASH, 0))
    with pytest.raises(MalformedMessage):
        pack(m.Ping(1), b"x")
    with pytest.raises(MalformedMessage, match="larger than"):
        pack(m.Done(HASH, (), "x" * 70_000))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=20))
def test_random_bytes_are_refused_or_read(header: bytes, body: bytes) -> None:
    for frames in ([header], [header, body]):
        for unpack in (unpack_from_client, unpack_from_server):
            try:
                unpack(frames)
            except MalformedMessage:
                continue


# ---- planes


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([np.float16, np.float32]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([None, 1, 3, 4]),
    st.sampled_from([1024, 2048]),
    st.randoms(use_true_random=False),
)
def test_planes_survive_any_order_of_chunks(
    dtype: type, height: int, width: int, channels: int | None, size: int, rng: random.Random
) -> None:
    shape = (height, width) if channels is None else (height, width, channels)
    array = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    plane = describe("plate", array)
    pieces = list(chunks(plane, size))
    rng.shuffle(pieces)
    buffer = bytearray(plane.info.nbytes)
    assembler = Assembler.into(plane.info, memoryview(buffer), size)
    for chunk, body in pieces:
        assert not assembler.complete
        assembler.add(chunk, body)
    assert assembler.complete
    assert assembler.received == len(pieces)
    back = restore(plane.info, buffer)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.fixture
def started() -> tuple[Assembler, list[tuple[m.Chunk, memoryview]]]:
    plane = describe("plate", np.random.default_rng(0).random((20, 30, 3), dtype=np.float32))
    buffer = memoryview(bytearray(plane.info.nbytes))
    return Assembler.into(plane.info, buffer, 1024), list(chunks(plane, 1024))


Started = tuple[Assembler, list[tuple[m.Chunk, memoryview]]]


def test_duplicates_are_refused(started: Started) -> None:
    assembler, pieces = started
    assembler.add(*pieces[1])
    with pytest.raises(ProtocolError, match="came twice"):
        assembler.add(*pieces[1])


def test_overlaps_are_refused(started: Started) -> None:
    assembler, pieces = started
    assembler.add(*pieces[0])
    with pytest.raises(ProtocolError, match="overlaps"):
        assembler.add(m.Chunk(assembler.info.hash, 512), pieces[0][1])


@pytest.mark.parametrize("offset", [7168 + 1024, 2**40])
def test_out_of_range_is_refused(started: Started, offset: int) -> None:
    assembler, pieces = started
    with pytest.raises(ProtocolError, match="outside the plane"):
        assembler.add(m.Chunk(assembler.info.hash, offset), pieces[0][1])


@pytest.mark.parametrize(("index", "size"), [(0, 1023), (0, 1), (7, 1024)])
def test_wrong_lengths_are_refused(started: Started, index: int, size: int) -> None:
    assembler, pieces = started
    assert len(pieces) == 8
    with pytest.raises(ProtocolError, match="bytes where"):
        assembler.add(pieces[index][0], memoryview(bytes(size)))


def test_other_planes_are_refused(started: Started) -> None:
    assembler, pieces = started
    with pytest.raises(ProtocolError, match="another plane"):
        assembler.add(m.Chunk(HASH, 0), pieces[0][1])


def test_a_flipped_bit_is_seen(started: Started) -> None:
    assembler, pieces = started
    flipped = bytearray(pieces[-1][1])
    flipped[5] ^= 1
    for piece in pieces[:-1]:
        assembler.add(*piece)
    with pytest.raises(ProtocolError, match="do not have the hash"):
        assembler.add(pieces[-1][0], memoryview(flipped))
    assert not assembler.complete
    for piece in pieces:  # it may be sent again
        assembler.add(*piece)
    assert assembler.complete


def test_limits_of_a_job() -> None:
    limits = m.Limits(max_planes=2, max_side=100, max_job_bytes=1000)
    check_planes([PLANE], limits)
    with pytest.raises(InputError, match="at most 2 planes"):
        check_planes([m.PlaneInfo(f"p{index}", "f2", (1, 1), HASH) for index in range(3)], limits)
    with pytest.raises(InputError, match="same name"):
        check_planes([PLANE, PLANE], limits)
    with pytest.raises(InputError, match="101×2 pixels"):
        check_planes([m.PlaneInfo("p", "f2", (2, 101), HASH)], limits)
    with pytest.raises(InputError, match="MiB together"):
        check_planes([m.PlaneInfo("p", "f4", (30, 30), HASH)], limits)


def test_meta() -> None:
    meta = {"models": {"normal": "1"}, "replaced": 3, "notes": ["ä"]}
    assert meta_from_text(meta_to_text(meta)) == meta
    for bad in ({"x": object()}, {"x": float("nan")}, {"x": "y" * 40_000}):
        with pytest.raises(ProtocolError):
            meta_to_text(bad)
    for text in ("", "[]", "{", "[" * 20_000):
        with pytest.raises(MalformedMessage):
            meta_from_text(text)


def test_errors_travel_by_code() -> None:
    for kind in (
        errors.InputError,
        errors.NoSubjectError,
        errors.Poisoned,
        errors.Busy,
        errors.MalformedMessage,
    ):
        error = errors.error_from_code(kind.code, "A.", "B.")
        assert type(error) is kind
        assert str(error) == "A. B."
    unknown = errors.error_from_code("from_the_future", "A.")
    assert type(unknown) is errors.PlatelightError
    assert unknown.code == "from_the_future"
