"""Every bad input that the wire can meet, and the exact sentence that answers it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import toys
from conftest import Server, configured
from platelight.client import Client
from platelight.protocol import messages as m
from platelight.protocol.errors import InputError, UnknownJob, VersionSkew
from platelight.protocol.frames import Plane, chunks, describe
from platelight.protocol.requests import Decompose
from platelight.protocol.version import PROTOCOL_VERSION
from test_abuse import Peer, refused
from test_frames import GOOD_PLANE, SUBMIT

PLATE = np.random.default_rng(21).random((400, 400, 3), dtype=np.float32)
HASH = "0123456789abcdef" * 4


@pytest.fixture
def peer(shared_server: Server) -> Iterator[Peer]:
    peer = Peer(shared_server)
    yield peer
    peer.close()


def said(peer: Peer) -> tuple[str, str]:
    message = refused(peer)
    return message.code, f"{message.sentence} {message.remedy}".strip()


def test_values_travel_as_they_are(shared_server: Server) -> None:
    """NaN, infinities, negative numbers, more than half holds, zero alpha: the pipeline counts and replaces those."""
    plane = np.zeros((2, 3, 4), np.float32)
    plane[0, :, 0] = (np.nan, np.inf, -np.inf)
    plane[1, :, 1] = (-1.0, 65504.0, 1e30)
    with shared_server.client() as client:
        result = client.run(Decompose(fov=toys.ECHO), {"plate": plane}, timeout=60)
    np.testing.assert_array_equal(result.planes["plate"].view(np.uint32), plane.view(np.uint32))


def test_more_than_half_holds_is_no_silent_infinity(shared_server: Server) -> None:
    plane = np.full((2, 2), 70000.0, np.float32)
    with shared_server.client() as client:
        result = client.run(Decompose(fov=toys.ECHO), {"plate": plane}, timeout=60)
    assert result.planes["plate"].dtype == np.float32
    assert np.isfinite(result.planes["plate"]).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 16384), (16384, 1, 3)])
def test_the_smallest_and_the_longest_planes_are_taken(shared_server: Server, shape: tuple[int, ...]) -> None:
    plane = np.ones(shape, np.float16)
    with shared_server.client() as client:
        result = client.run(Decompose(fov=toys.DOUBLE), {"plate": plane}, timeout=60)
    np.testing.assert_array_equal(result.planes["plate_twice"], plane * 2)


PLANES: dict[str, tuple[np.ndarray, str]] = {
    "no pixels": (
        np.zeros((0, 2), np.float32),
        "The plane 'plate' has the shape (0, 2). Planes are (H, W) or (H, W, C).",
    ),
    "two channels": (
        np.zeros((2, 2, 2), np.float32), "The plane 'plate' has 2 channels. Use 1, 3 or 4 channels.",
    ),
    "five channels": (
        np.zeros((2, 2, 5), np.float32), "The plane 'plate' has 5 channels. Use 1, 3 or 4 channels.",
    ),
    "bytes": (
        np.zeros((2, 2), np.uint8),
        "The plane 'plate' holds uint8, not half or float. Convert it to float32 first.",
    ),
    "complex": (
        np.zeros((2, 2), np.complex64),
        "The plane 'plate' holds complex64, not half or float. Convert it to float32 first.",
    ),
    "one side": (
        np.zeros(3, np.float32), "The plane 'plate' has the shape (3,). Planes are (H, W) or (H, W, C).",
    ),
    "over 16k": (
        np.zeros((1, 16385), np.float32),
        "The plane 'plate' of shape (1, 16385) cannot travel: Expected `int` <= 16384 - at `$.shape[1]`.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("plane", "sentence"), PLANES.values(), ids=PLANES.keys())
def test_planes_that_cannot_travel(shared_server: Server, plane: np.ndarray, sentence: str) -> None:
    with shared_server.client() as client, pytest.raises(InputError) as error:
        client.run(Decompose(), {"plate": plane})
    assert str(error.value) == sentence


def test_a_server_may_take_less(make_server: Callable[..., Server], tmp_path: Path) -> None:
    path = tmp_path / "serve.toml"
    path.write_text("[limits]\nmax_side = 100\nmax_job_bytes = 1048576\n")
    server = make_server("--config", str(path))
    with server.client() as client:
        for plane, sentence in (
            (np.zeros((2, 101), np.float32), "The plane 'plate' is 101×2 pixels. "
             "The longest side may have 100 pixels; scale it down."),
        ):  # fmt: skip
            with pytest.raises(InputError) as error:
                client.run(Decompose(), {"plate": plane})
            assert str(error.value) == sentence
        peers = {f"p{index}": np.full((100, 100, 4), index, np.float32) for index in range(7)}
        with pytest.raises(InputError) as error:
            client.run(Decompose(), peers)
    assert str(error.value) == (
        "The planes of the job have 1 MiB together. This server takes 1 MiB; scale the plate down."
    )
    peer = Peer(server).hello()  # a client that does not look at the limits hears it from the server
    peer.say(m.Submit(1, Decompose(), (m.PlaneInfo("plate", "f4", (2, 101), HASH),)))
    assert said(peer) == (
        "bad_input", "The plane 'plate' is 101×2 pixels. The longest side may have 100 pixels; scale it down."
    )  # fmt: skip
    peer.close()


# ---- chunks


def begin(peer: Peer, seed: int) -> tuple[Plane, list[tuple[m.Chunk, memoryview]]]:
    plane = describe("plate", PLATE + np.float32(seed))
    peer.hello().say(m.Submit(1, Decompose(fov=toys.DOUBLE), (plane.info,)))
    peer.expect(m.Need)
    return plane, list(chunks(plane))


CHUNKS = {
    "truncated": "A chunk of plane 'plate' has 1048575 bytes where 1048576 are due.",
    "duplicated": "The chunk at 0 of plane 'plate' came twice.",
    "overlapped": "A chunk at 512 of plane 'plate' overlaps its neighbor.",
    "outside": "A chunk at 1073741824 is outside the plane 'plate'.",
    "wrong hash": "The bytes of plane 'plate' do not have the hash that was told.",
    "not asked for": "A plane was sent that was not asked for.",
}


@pytest.mark.parametrize("breach", CHUNKS)
def test_chunks(peer: Peer, breach: str) -> None:
    plane, ((first, body), (last, rest)) = begin(peer, 100 + list(CHUNKS).index(breach))
    sent = {
        "truncated": [(first, body[:-1])],
        "duplicated": [(first, body), (first, body)],
        "overlapped": [(m.Chunk(plane.info.hash, 512), body)],
        "outside": [(m.Chunk(plane.info.hash, 2**30), body)],
        "wrong hash": [(first, body), (last, bytes(len(rest)))],
        "not asked for": [(m.Chunk(HASH, 0), body)],
    }[breach]
    for chunk, data in sent:
        peer.say(chunk, data)
    assert said(peer) == ("protocol", CHUNKS[breach])


# ---- headers


def packed(**fields: object) -> bytes:
    return msgspec.msgpack.encode(fields)


HEADERS = {
    "oversized": (
        b"\xc6" + (70_000).to_bytes(4, "big") + bytes(70_000),
        "A message header of 70005 bytes is larger than 65536.",
    ),
    "deep nesting": (
        b"\x82\xa4type\xa4ping\xa6ticket" + b"\x91" * 50_000 + b"\x00",
        "A message could not be read: Expected `int`, got `array` - at `$.ticket`.",
    ),
    "deep nesting of an unknown field": (
        b"\x83\xa4type\xa4ping\xa6ticket\x01\xa1x" + b"\x91" * 50_000 + b"\x00",
        "A message could not be read: Object contains unknown field `x`.",
    ),
    "unknown field": (
        packed(type="ping", ticket=1, path="/etc"),
        "A message could not be read: Object contains unknown field `path`.",
    ),
    "unknown type": (
        packed(type="pickle"),
        "A message could not be read: Invalid value 'pickle' - at `$.type`.",
    ),
    "wrong dtype": (
        packed(**SUBMIT, planes=[GOOD_PLANE | {"dtype": "u1"}]),
        "A message could not be read: Invalid enum value 'u1' - at `$.planes[0].dtype`.",
    ),
    "wrong endian": (
        packed(**SUBMIT, planes=[GOOD_PLANE | {"dtype": ">f4"}]),
        "A message could not be read: Invalid enum value '>f4' - at `$.planes[0].dtype`.",
    ),
    "0-size": (
        packed(**SUBMIT, planes=[GOOD_PLANE | {"shape": [0, 2]}]),
        "A message could not be read: Expected `int` >= 1 - at `$.planes[0].shape[0]`.",
    ),
    "path for a name": (
        packed(**SUBMIT, planes=[GOOD_PLANE | {"name": "../x"}]),
        "A message could not be read: Expected `str` matching regex '^[a-z][a-z0-9_]{0,31}\\\\Z'"
        " - at `$.planes[0].name`.",
    ),
    "path for a hash": (
        packed(type="watch", ticket=1, key="../" * 21 + "x"),
        "A message could not be read: Expected `str` matching regex '^[0-9a-f]{64}\\\\Z' - at `$.key`.",
    ),
}


@pytest.mark.parametrize(("header", "sentence"), HEADERS.values(), ids=HEADERS.keys())
def test_headers(peer: Peer, header: bytes, sentence: str) -> None:
    peer.hello().socket.send(header)
    code, text = said(peer)
    assert code == "malformed"
    assert text == sentence


@pytest.mark.parametrize(("step", "older"), [(-1, "client"), (1, "server")])
def test_versions(peer: Peer, step: int, older: str) -> None:
    peer.say(m.Hello((PROTOCOL_VERSION + step,), "peer", ("raw",)))
    assert said(peer) == (
        VersionSkew.code,
        f"The client speaks protocol {PROTOCOL_VERSION + step}, the server protocol {PROTOCOL_VERSION}. "
        f"Update the Platelight {older}.",
    )


# ---- jobs


def test_a_replayed_job_is_the_same_job(shared_server: Server) -> None:
    """The same frames sent twice cost one execution: a replay gains nothing."""
    peer = Peer(shared_server)
    plane, pieces = begin(peer, 200)
    submit = m.Submit(1, Decompose(fov=toys.DOUBLE), (plane.info,))
    for chunk, body in pieces:
        peer.say(chunk, body)
    first = peer.expect(m.Done)
    runs = len(shared_server.runs())
    peer.say(submit)
    need = peer.expect(m.Need)
    assert isinstance(need, m.Need)
    assert need.planes == ()
    assert peer.expect(m.Done) == first
    assert len(shared_server.runs()) == runs
    peer.say(*pieces[0])  # its chunks, replayed, were not asked for
    assert said(peer) == ("protocol", CHUNKS["not asked for"])
    peer.close()


def test_an_expired_job(make_server: Callable[..., Server], tmp_path: Path) -> None:
    path = tmp_path / "serve.toml"
    path.write_text("ttl_seconds = 0.5\n")
    server = make_server("--config", str(path))
    with server.client() as client:
        key = client.run(Decompose(fov=toys.DOUBLE), {"plate": PLATE}, timeout=60).key
    server.stop()
    server.start()
    time.sleep(0.6)
    with server.client() as client:
        client.run(Decompose(fov=toys.DOUBLE), {"plate": PLATE + 1}, timeout=60)  # which tidies the store
        with pytest.raises(UnknownJob) as error:
            client.result(key, timeout=10)
        assert str(error.value) == "The server has no such job of this client. Submit it again."
        again = client.run(Decompose(fov=toys.DOUBLE), {"plate": PLATE}, timeout=60)
    assert again.key == key


# ---- files


def test_a_symlink_in_place_of_a_file(shared_server: Server, tmp_path: Path) -> None:
    """Whoever could replace the server's file by a link still gets no other file written: chunks go instead."""
    target = tmp_path / "target"
    target.write_bytes(bytes(PLATE.nbytes))
    peer = Peer(shared_server)
    plane = describe("plate", PLATE + np.float32(300))
    peer.say(m.Hello((PROTOCOL_VERSION,), "peer", ("mmap", "raw")))
    peer.expect(m.Welcome)
    peer.say(m.Submit(1, Decompose(fov=toys.DOUBLE), (plane.info,)))
    peer.expect(m.Need)
    peer.say(m.Place(plane.info.hash))
    placed = peer.expect(m.Placed)
    assert isinstance(placed, m.Placed)
    os.unlink(placed.path)
    os.symlink(target, placed.path)
    from platelight.client import samehost

    assert not samehost.write_plane(placed.path, plane.data)
    assert target.read_bytes() == bytes(PLATE.nbytes)
    peer.say(m.Filled(plane.info.hash))
    assert said(peer) == ("protocol", CHUNKS["wrong hash"])
    peer.close()


def test_a_folder_name_that_is_no_utf8(tmp_path: Path) -> None:
    """Keys and store lie where the file system allows, whatever its bytes."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    with (
        configured(folder),
        Client("tcp://127.0.0.1:1") as client,
        pytest.raises(Exception, match="is known here"),
    ):
        client.status()
    assert (folder / "client.key.json").exists()


def test_a_server_whose_folder_is_no_utf8(tmp_path: Path) -> None:
    """The same-host path cannot name such files in a message: chunks go instead, and the job is done."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    folder.mkdir()
    server = Server(folder).start()
    try:
        with server.client() as client:
            result = client.run(Decompose(fov=toys.DOUBLE), {"plate": PLATE}, timeout=60)
        np.testing.assert_array_equal(result.planes["plate_twice"], PLATE * 2)
    finally:
        server.stop()
