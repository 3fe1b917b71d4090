"""Planes through files in place of the socket, and the way back to the socket where that does not work."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import toys
from conftest import Server
from platelight.client import samehost
from platelight.protocol import messages as m
from platelight.protocol.errors import InputError
from platelight.protocol.frames import describe
from platelight.protocol.requests import Decompose
from platelight.protocol.version import SUPPORTED_VERSIONS
from platelight.server.blobs import BlobFolder
from test_abuse import Peer, refused

RNG = np.random.default_rng(7)


def test_planes_go_through_files(shared_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    plate = RNG.random((1080, 1920, 3), dtype=np.float32)
    sent: list[m.Message] = []
    from platelight.client.link import Link

    original = Link.send

    def send(self: Link, message: m.Message, body: memoryview | None = None) -> None:
        sent.append(message)
        original(self, message, body)

    monkeypatch.setattr(Link, "send", send)
    seen: list[float] = []
    with shared_server.client(same_host=True) as client:
        result = client.run(
            Decompose(fov=toys.DOUBLE),
            {"plate": plate, "matte": plate[..., 0]},
            lambda f, _: seen.append(f),
            None,
            60,
        )
    np.testing.assert_array_equal(result.planes["plate_twice"], plate * 2)
    np.testing.assert_array_equal(result.planes["matte_twice"], plate[..., 0] * 2)
    assert {type(one) for one in sent} - {m.Ping} == {m.Hello, m.Submit, m.Place, m.Filled, m.Locate}
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_what_was_described_once_serves_many_jobs(
    shared_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    plate = RNG.random((32, 48, 3), dtype=np.float32)
    known = describe("plate", plate)
    with shared_server.client(same_host=True) as client:
        monkeypatch.setattr(hashlib, "sha256", lambda *_, **__: pytest.fail("hashed again"))
        for exposure in range(2):
            request = Decompose(fov=toys.DOUBLE, working_size=64 + exposure)
            result = client.run(request, {"plate": known}, timeout=60)
            np.testing.assert_array_equal(result.planes["plate_twice"], plate * 2)
        with pytest.raises(InputError) as caught:
            client.run(Decompose(), {"matte": known}, timeout=60)
    assert str(caught.value) == "The plane 'matte' was described by another name. Describe it anew."


def test_results_are_private_copies(shared_server: Server) -> None:
    planes = {"plate": np.ones((8, 8), np.float32), "matte": np.ones((8, 8), np.float32)}
    with shared_server.client(same_host=True) as client:
        result = client.run(Decompose(fov=toys.DOUBLE), planes, timeout=30)
        result.planes["plate_twice"][:] = 9
        np.testing.assert_array_equal(result.planes["matte_twice"], 2)
        again = client.result(result.key, timeout=10)
    np.testing.assert_array_equal(again.planes["plate_twice"], 2)


@pytest.mark.parametrize("broken", ["write_plane", "map_plane", "both"])
def test_falls_back_to_chunks_by_itself(
    shared_server: Server, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    for name in ("write_plane", "map_plane"):
        if broken in (name, "both"):
            monkeypatch.setattr(f"platelight.client.exchange.{name}", lambda *_: None)
    planes = {
        "plate": RNG.random((600, 400, 3), dtype=np.float32),
        "matte": RNG.random((60, 40), dtype=np.float32),
    }
    with shared_server.client(same_host=True) as client:
        result = client.run(Decompose(fov=toys.DOUBLE), planes, timeout=30)
    for name, plane in planes.items():
        np.testing.assert_array_equal(result.planes[f"{name}_twice"], plane * 2)


def test_a_file_that_is_not_what_was_told(shared_server: Server) -> None:
    peer = Peer(shared_server)
    plane = describe("plate", RNG.random((50, 50), dtype=np.float32))
    peer.say(m.Hello(SUPPORTED_VERSIONS, "peer", ("mmap", "raw")))
    welcome = peer.hear()
    assert isinstance(welcome, m.Welcome)
    assert welcome.codec == "mmap"
    peer.say(m.Place(plane.info.hash))  # nothing was asked for yet
    assert refused(peer).code == "protocol"
    peer.say(m.Hello(SUPPORTED_VERSIONS, "peer", ("mmap", "raw")))
    peer.expect(m.Welcome)
    peer.say(m.Submit(1, Decompose(fov=toys.DOUBLE), (plane.info,)))
    peer.expect(m.Need)
    peer.say(m.Place(plane.info.hash))
    placed = peer.expect(m.Placed)
    assert isinstance(placed, m.Placed)
    Path(placed.path).write_bytes(b"x" * plane.info.nbytes)
    peer.say(m.Filled(plane.info.hash))
    assert refused(peer).code == "protocol"
    assert not Path(placed.path).exists()
    peer.close()


def test_only_plain_files_of_the_right_size_are_opened(tmp_path: Path) -> None:
    plane = describe("plate", np.ones((4, 4), np.float32))
    target = tmp_path / "target"
    target.write_bytes(bytes(64))
    (tmp_path / "link").symlink_to(target)
    assert samehost.write_plane(str(target), plane.data)
    assert samehost.map_plane(str(target), plane.info) is not None
    target.write_bytes(bytes(63))
    for path in (target, tmp_path / "link", tmp_path, tmp_path / "absent"):
        assert not samehost.write_plane(str(path), plane.data)
        assert samehost.map_plane(str(path), plane.info) is None
    assert target.read_bytes() == bytes(63)


def test_a_mapped_result_outlives_its_file(tmp_path: Path) -> None:
    """A blob is replaced or unlinked, never cut short or written again: a mapping of it cannot end its reader."""
    plane = describe("plate", RNG.random((600, 400, 3), dtype=np.float32))
    blobs = BlobFolder(tmp_path)
    blobs.put(plane.data)
    pages = samehost.map_plane(str(blobs.path(plane.info.hash)), plane.info)
    assert pages is not None
    again = blobs.writer(
        plane.info.hash, plane.info.nbytes
    )  # the same plane from elsewhere, at the same time
    again.write(0, bytes(plane.info.nbytes))
    again.commit()
    blobs.put(bytes(plane.info.nbytes), plane.info.hash)
    assert not blobs.intact(plane.info.hash)
    blobs.remove(plane.info.hash)
    assert bytes(pages) == plane.data  # every page is read from the file only now


@pytest.mark.parametrize(
    ("endpoint", "loopback"),
    [
        ("tcp://127.0.0.1:1", True),
        ("tcp://[::1]:1", True),
        ("tcp://10.0.0.1:1", False),
        ("tcp://localhost:1", False),
        ("x", False),
    ],
)
def test_only_loopback_offers_it(endpoint: str, loopback: bool) -> None:
    assert samehost.is_loopback(endpoint) is loopback
