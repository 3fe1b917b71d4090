"""A live server under peers that break the rules: it answers, drops them, and serves the others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import toys
import zmq
from conftest import Server, configured
from platelight.client import load_or_make_keys, read_connection
from platelight.protocol import messages as m
from platelight.protocol.frames import Plane, chunks, describe, pack, unpack_from_server
from platelight.protocol.requests import Decompose
from platelight.protocol.version import SUPPORTED_VERSIONS

PLATE = np.random.default_rng(3).random((400, 400, 3), dtype=np.float32)


class Peer:
    """A client that says exactly what it is told to."""

    def __init__(self, server: Server) -> None:
        with configured(server.folder / "config"):
            keys = load_or_make_keys()
        info = read_connection(server.folder / "config" / "server.json")
        self.context = zmq.Context()
        self.context.linger = 0  # a test that fails must not hang in its wreckage
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.curve_serverkey = info.server_key.encode()
        self.socket.curve_publickey = keys.public.encode()
        self.socket.curve_secretkey = keys.secret.encode()
        self.socket.connect(info.endpoint)

    def say(self, message: m.Message, body: bytes | memoryview | None = None) -> None:
        self.socket.send_multipart(pack(message, body))

    def hear(self, seconds: float = 5.0) -> m.ServerMessage:
        assert self.socket.poll(int(seconds * 1000)), "no answer"
        return unpack_from_server(self.socket.recv_multipart())[0]

    def expect(self, kind: type[m.Message]) -> m.Message:
        while True:
            message = self.hear()
            if isinstance(message, kind):
                return message
            assert isinstance(message, m.Progress | m.Credit), message

    def hello(self) -> Peer:
        self.say(m.Hello(SUPPORTED_VERSIONS, "peer", ("raw",)))
        assert isinstance(self.hear(), m.Welcome)
        return self

    def close(self) -> None:
        self.context.destroy(linger=0)


@pytest.fixture
def peer(shared_server: Server) -> Iterator[Peer]:
    peer = Peer(shared_server)
    yield peer
    peer.close()
    with shared_server.client() as client:  # whatever the peer did, others are served
        result = client.run(Decompose(fov=toys.DOUBLE), {"plate": PLATE}, timeout=30)
    np.testing.assert_array_equal(result.planes["plate_twice"], PLATE * 2)


def begin(peer: Peer, seed: int) -> Plane:
    plane = describe("plate", PLATE + np.float32(seed))
    peer.hello().say(m.Submit(1, Decompose(fov=toys.DOUBLE), (plane.info,)))
    need = peer.hear()
    assert isinstance(need, m.Need)
    assert need.planes == (plane.info.hash,)
    assert need.credit == 8
    return plane


def refused(peer: Peer) -> m.Refused:
    message = peer.expect(m.Refused)
    assert isinstance(message, m.Refused)
    return message


def test_the_rules_by_hand(peer: Peer) -> None:
    """What ``docs/protocol.md`` tells another program to do."""
    plane = begin(peer, 1)
    for chunk, body in chunks(plane):
        peer.say(chunk, body)
    done = peer.expect(m.Done)
    assert isinstance(done, m.Done)
    out = done.planes[0]
    peer.say(m.Fetch(done.key, out.hash, 0))
    assert peer.socket.poll(5000)
    message, body = unpack_from_server(peer.socket.recv_multipart())
    assert message == m.Chunk(out.hash, 0)
    assert len(body) == 2**20
    assert bytes(body) == ((PLATE + np.float32(1)) * 2).tobytes()[: 2**20]
    peer.say(m.Ping(5))
    assert peer.hear() == m.Pong(5)


def test_two_jobs_on_one_connection_share_a_plane(peer: Peer) -> None:
    plane = begin(peer, 2)
    peer.say(m.Submit(2, Decompose(fov=toys.DOUBLE, working_size=640), (plane.info,)))
    need = peer.expect(m.Need)
    assert isinstance(need, m.Need)
    assert (need.ticket, need.planes, need.credit) == (2, (), 0)
    for chunk, body in chunks(plane):
        peer.say(chunk, body)
    keys = {peer.expect(m.Done).key for _ in range(2)}  # type: ignore[attr-defined]
    assert need.key in keys
    assert len(keys) == 2


@pytest.mark.parametrize("breach", ["twice", "misaligned", "outside", "short", "long", "other", "flipped"])
def test_chunks_that_do_not_fit(peer: Peer, breach: str) -> None:
    plane = begin(peer, 10 + len(breach))
    pieces = list(chunks(plane))
    (first, body), (last, rest) = pieces
    sent = {
        "twice": [(first, body), (first, body)],
        "misaligned": [(m.Chunk(first.plane, 512), body)],
        "outside": [(m.Chunk(first.plane, 2**30), body)],
        "short": [(first, body[:-1])],
        "long": [(last, body)],
        "other": [(m.Chunk("0" * 64, 0), body)],
        "flipped": [(first, body), (last, bytes(len(rest)))],
    }[breach]
    for chunk, data in sent:
        peer.say(chunk, data)
    assert refused(peer).code == "protocol"
    peer.say(m.Ping(1))
    assert refused(peer).code == "hello_first"


def test_a_frame_over_the_limit_costs_the_connection(peer: Peer) -> None:
    peer.hello()
    peer.socket.send(bytes(2**21))
    for _ in range(12):
        peer.say(m.Ping(1))  # the first may still go down with the old connection
        if peer.socket.poll(500):
            break
    assert refused(peer).code == "hello_first"  # what answers is a new connection


def test_fetching_what_is_not_there(peer: Peer) -> None:
    plane = begin(peer, 30)
    for chunk, body in chunks(plane):
        peer.say(chunk, body)
    done = peer.expect(m.Done)
    assert isinstance(done, m.Done)
    peer.say(m.Fetch(done.key, plane.info.hash, 0))  # an input is no result
    assert refused(peer).code == "unknown_job"
    peer.say(m.Fetch("0" * 64, done.planes[0].hash, 0))
    assert refused(peer).code == "unknown_job"
    peer.say(m.Fetch(done.key, done.planes[0].hash, 2**30))
    assert refused(peer).code == "protocol"


def test_a_client_that_vanishes_mid_upload_leaves_nothing(shared_server: Server) -> None:
    peer = Peer(shared_server)
    plane = begin(peer, 40)
    chunk, body = next(chunks(plane))
    peer.say(chunk, body)
    peer.expect(m.Credit)
    blobs = shared_server.folder / "config" / "store" / "blobs"
    assert len(list(blobs.glob("tmp-*"))) == 1
    peer.say(m.Hello(SUPPORTED_VERSIONS, "peer", ("raw",)))  # a new life drops the old one's uploads
    assert isinstance(peer.hear(), m.Welcome)
    assert list(blobs.glob("tmp-*")) == []
    peer.close()


def answers(peer: Peer, ticket: int) -> bool:
    """True when the server answers a ping; asked again because a busy machine may miss a heartbeat."""
    for _ in range(3):
        peer.say(m.Hello(SUPPORTED_VERSIONS, "peer", ("raw",)))
        peer.say(m.Ping(ticket))
        while peer.socket.poll(3000):
            if unpack_from_server(peer.socket.recv_multipart())[0] == m.Pong(ticket):
                return True
    return False
