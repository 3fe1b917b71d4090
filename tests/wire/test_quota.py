"""Room in the store: results make room for each other, and what is promised and never sent takes it from nobody."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import toys
from conftest import Server, guest_of, wait_for
from platelight.protocol import messages as m
from platelight.protocol.errors import InputError, StoreFull
from platelight.protocol.frames import Plane, chunks, describe
from platelight.protocol.requests import Decompose
from platelight.server import room
from platelight.server.store import Store
from test_abuse import Peer, refused
from test_life import Background
from test_store import GIB, finished_job, plane_of

pytestmark = pytest.mark.alone

KIB = 1024


def counted(store: Store, *owners: str) -> None:
    """The totals that are kept are the sums that they stand for."""
    sums = [store._db.execute("SELECT coalesce(sum(size), 0) FROM planes").fetchone()[0]]
    for owner in owners:
        held = "SELECT coalesce(sum(size), 0) FROM held JOIN planes USING (hash) WHERE owner=?"
        sums.append(store._db.execute(held, (owner,)).fetchone()[0])
    assert [store.room.size(), *map(store.room.held_by, owners)] == sums


def known(store: Store, *keys: str) -> list[bool]:
    return [store.get(key) is not None for key in keys]


def plane(kibibytes: int, value: float) -> Plane:
    return describe("plate", np.full((kibibytes, 256), value, np.float32))


@pytest.fixture
def greet() -> Iterator[Callable[[Server], Peer]]:
    """Make peers that have said hello; all are closed after the test, however it ends."""
    peers: list[Peer] = []

    def make(server: Server) -> Peer:
        peers.append(Peer(server))
        return peers[-1].hello()

    yield make
    for peer in peers:
        peer.close()


# ---- results


def test_a_result_takes_the_room_of_the_oldest(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", 2000, 1e9)
    first, second = finished_job(store, 1.0), finished_job(store, 2.0)
    store.touch(first)
    third = finished_job(store, 3.0)
    assert known(store, first, second, third) == [True, False, True]
    assert store.room.size() == 1600
    counted(store, "ada")
    store.close()


def test_a_client_s_result_takes_the_room_of_its_own(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", GIB, 1e9, client_quota_bytes=1000)
    keys = [finished_job(store, value, owner) for value, owner in ((1.0, "eve"), (2.0, "ada"), (3.0, "ada"))]
    assert known(store, *keys) == [True, False, True]
    assert (store.room.held_by("ada"), store.room.held_by("eve")) == (800, 800)
    store.own(keys[0], "ada")  # a result that it is given counts as well
    assert known(store, *keys) == [True, False, False]
    counted(store, "ada", "eve")
    store.close()


def test_a_result_stays_though_it_alone_is_too_much(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", 500, 1e9)
    assert known(store, finished_job(store, 1.0)) == [True]
    store.close()


def test_one_result_makes_few_others_go(tmp_path: Path) -> None:
    """All clients wait for it; the next results go on with it."""
    store = Store(tmp_path / "s", GIB, 1e9)
    for value in range(80):
        finished_job(store, float(value))
    store.close()
    store = Store(tmp_path / "s", 800, 1e9)
    finished_job(store, 100.0)
    assert sum(store.counts().values()) == 81 - 2 * room._AT_ONCE  # of the client's and of all
    store.close()


def test_the_same_maps_under_many_lights_stay_within_the_quota(make_server: Callable[..., Server]) -> None:
    server = make_server("--client-quota-gib", str(1024 * KIB / GIB))
    maps = np.ones((100, 256), np.float32)  # 100 KiB, sent once
    with server.client() as client:
        for step in range(15):  # as many results of 100 KiB
            client.run(Decompose(fov=toys.ECHO, working_size=64 + step), {"plate": maps}, timeout=60)
            client.run(Decompose(fov=toys.DOUBLE + step / 100), {"plate": maps * (step + 1)}, timeout=60)
        assert client.status().stored <= 1024 * KIB


# ---- planes that never come


def test_what_nobody_sends_any_more_goes_before_a_result(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", 1600, 1e9)
    done = finished_job(store, 1.0)
    promised = store.add("f" * 64, Decompose(), [plane_of(5.0).info, plane_of(6.0).info]).key
    store.room.needed = lambda: {promised}
    with pytest.raises(StoreFull):  # the result would not be enough
        store.room.make("eve", [plane_of(value).info for value in (7.0, 8.0, 9.0)])
    done = finished_job(store, 1.0)
    store.room.needed = set
    store.room.make("eve", [plane_of(7.0).info])
    assert known(store, done, promised) == [True, False]
    counted(store, "ada")
    store.close()


def test_what_a_client_holds_for_nothing_goes_before_its_results(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", GIB, 1e9, client_quota_bytes=1300)
    done = finished_job(store, 1.0)
    promised = store.add("f" * 64, Decompose(), [plane_of(5.0).info, plane_of(6.0).info]).key
    store.blobs.put(plane_of(5.0).data)
    store.arrived("ada", plane_of(5.0).info.hash)
    store.room.make("ada", [plane_of(7.0).info])
    assert known(store, done, promised) == [True, False]
    assert not store.holds("ada", plane_of(5.0).info)
    counted(store, "ada")
    store.close()


def test_the_job_that_asks_for_room_stays(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", 1000, 1e9)
    planes = [plane_of(5.0).info, plane_of(6.0).info]
    key = store.add("f" * 64, Decompose(), planes).key
    store.room.make("ada", planes, keep=key)  # their room is theirs already
    with pytest.raises(StoreFull):
        store.room.make("ada", [*planes, plane_of(7.0).info], keep=key)
    assert known(store, key) == [True]
    store.close()


def test_what_a_client_is_to_send_counts(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", GIB, 1e9, client_quota_bytes=1000)
    expected = [plane_of(5.0).info, plane_of(6.0).info]
    store.room.make("ada", expected[:1], expected)  # the same plane, not a third one
    with pytest.raises(StoreFull, match="This client has no room for 0 MiB more"):
        store.room.make("ada", [plane_of(7.0).info], expected)
    store.close()


def test_an_upload_that_goes_on_does_not_expire(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", GIB, 60.0)
    sent, dropped = (store.add(letter * 64, Decompose(), [plane_of(5.0).info]).key for letter in "ef")
    done = finished_job(store, 5.0, "eve")  # for which another client sends the plate
    with sqlite3.connect(tmp_path / "s" / "jobs.sqlite3") as other:
        other.execute("UPDATE jobs SET used = used - 90000")
    store.room.needed = lambda: {sent, done}
    store.room.tidy()
    assert known(store, sent, dropped, done) == [True, False, True]
    store.close()


def test_asking_again_keeps_a_job(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", GIB, 1e9)
    waiting, done = store.add("f" * 64, Decompose(), [plane_of(5.0).info]).key, finished_job(store, 1.0)
    with sqlite3.connect(tmp_path / "s" / "jobs.sqlite3") as other:
        other.execute("UPDATE jobs SET used = used - 90000")
    store.add(waiting, Decompose(), [plane_of(5.0).info])
    assert store.requeue(done).state is m.JobState.NEED
    store.room.tidy()
    assert known(store, waiting, done) == [True, True]
    store.close()


def test_promises_of_a_client_that_is_gone_cost_nobody_a_result(
    make_server: Callable[..., Server], greet: Callable[[Server], Peer]
) -> None:
    server = make_server("--quota-gib", str(900 * KIB / GIB), "--client-quota-gib", str(500 * KIB / GIB))
    with server.client(keys=guest_of(server)) as client:
        plate = np.ones((100, 256), np.float32)
        key = client.run(Decompose(fov=toys.DOUBLE), {"plate": plate}, timeout=60).key  # 200 KiB
        for number in range(4):
            peer, other = greet(server), greet(server)
            peer.say(m.Submit(1, Decompose(), (plane(300, number + 2.0).info,)))
            peer.expect(m.Need)
            other.say(m.Submit(2, Decompose(), (plane(301, number + 2.0).info,)))
            assert refused(other).code == StoreFull.code  # what the first is to send counts
            peer.hello()  # a new life: nothing is expected of it
        client.result(key, timeout=10)


def test_what_is_being_sent_keeps_its_room(
    make_server: Callable[..., Server], greet: Callable[[Server], Peer]
) -> None:
    server = make_server("--quota-gib", str(900 * KIB / GIB))
    peer = greet(server)
    peer.say(m.Submit(1, Decompose(), (plane(500, 1.0).info,)))
    peer.expect(m.Need)
    with server.client(keys=guest_of(server)) as client, pytest.raises(StoreFull, match="server's store"):
        client.run(Decompose(fov=toys.DOUBLE), {"plate": np.zeros((500, 256), np.float32)}, timeout=60)


def test_an_upload_is_resumed_after_a_lost_connection(
    make_server: Callable[..., Server], greet: Callable[[Server], Peer]
) -> None:
    server = make_server()
    first, second = plane(10, 1.0), describe("matte", np.full((10, 256), 2.0, np.float32))

    def held() -> int:
        with sqlite3.connect(server.blobs.parent / "jobs.sqlite3") as db:
            return int(db.execute("SELECT count(*) FROM held").fetchone()[0])

    for expected in ((first, second), (second,)):
        peer = greet(server)
        peer.say(m.Submit(1, Decompose(fov=toys.DOUBLE), (first.info, second.info)))
        need = peer.expect(m.Need)
        assert isinstance(need, m.Need)
        assert need.planes == tuple(one.info.hash for one in expected)
        peer.say(*next(chunks(expected[0])))
        wait_for(held)
        peer.close()


# ---- jobs that are gone, or too many


def test_a_job_that_is_gone_when_its_planes_are_there_is_an_answer(
    make_server: Callable[..., Server],
    greet: Callable[[Server], Peer],
) -> None:
    server = make_server()
    peer = greet(server)
    sent = plane(10, 1.0)
    peer.say(m.Submit(1, Decompose(fov=toys.DOUBLE), (sent.info,)))
    peer.expect(m.Need)
    with sqlite3.connect(server.blobs.parent / "jobs.sqlite3") as db:
        db.execute("PRAGMA foreign_keys=ON")
        db.execute("DELETE FROM jobs")
    peer.say(*next(chunks(sent)))
    assert refused(peer).code == "unknown_job"
    peer.say(m.Submit(2, Decompose(fov=toys.DOUBLE), (sent.info,)))  # on the same connection
    peer.expect(m.Need)
    peer.expect(m.Done)


def test_the_queue_is_bounded_also_for_jobs_whose_planes_come_at_once(
    make_server: Callable[..., Server],
    greet: Callable[[Server], Peer],
) -> None:
    server = make_server("--max-queue", "1")
    with server.client() as client:
        running = Background(client, toys.SLOW)
        wait_for(lambda: server.runs(toys.SLOW))
        peers = [(greet(server), plane(10, value)) for value in (1.0, 2.0)]
        for peer, sent in peers:
            peer.say(m.Submit(1, Decompose(fov=toys.DOUBLE), (sent.info,)))
            peer.expect(m.Need)
        (first, early), (second, sent) = peers
        first.say(*next(chunks(early)))
        first.expect(m.Progress)
        second.say(*next(chunks(sent)))
        busy = refused(second)
        assert (busy.code, busy.ticket, busy.sentence) == ("busy", None, "The server has 1 jobs waiting.")
        assert busy.retry_after is not None
        first.expect(m.Done)
        second.say(m.Submit(2, Decompose(fov=toys.DOUBLE), (sent.info,), False))
        need = second.expect(m.Need)
        assert isinstance(need, m.Need)
        assert need.planes == ()
        second.expect(m.Done)
        running.join()


def test_the_queue_is_bounded_also_for_jobs_that_are_tried_again(
    make_server: Callable[..., Server], greet: Callable[[Server], Peer]
) -> None:
    server = make_server("--max-queue", "1")
    sent = plane(10, 1.0)
    peer = greet(server)
    with server.client() as client, server.client() as other:
        peer.say(m.Submit(1, Decompose(fov=toys.FAIL), (sent.info,)))
        peer.expect(m.Need)
        peer.say(*next(chunks(sent)))
        peer.expect(m.Failed)
        running = Background(client, toys.SLOW)
        wait_for(lambda: server.runs(toys.SLOW))
        waiting = Background(other, toys.COUNT)
        wait_for(lambda: any(stage.startswith("queued") for stage in waiting.stages))
        peer.say(m.Submit(2, Decompose(fov=toys.FAIL), (sent.info,)))
        assert (refused(peer).code, len(server.runs(toys.FAIL))) == ("busy", 1)
        running.join()
        waiting.join()


# ---- sizes


def test_a_hash_told_with_two_sizes_is_refused(
    make_server: Callable[..., Server], greet: Callable[[Server], Peer]
) -> None:
    server = make_server()
    peer = greet(server)
    one = plane(1, 1.0).info
    peer.say(m.Submit(1, Decompose(), (one, m.PlaneInfo("matte", "f4", (1, 1), one.hash))))
    told = refused(peer)
    assert (told.code, told.sentence) == (
        InputError.code,
        "Two planes of a job have the same hash and differ in size.",
    )


def test_the_larger_of_two_told_sizes_counts(tmp_path: Path) -> None:
    store = Store(tmp_path / "s", 5000, 1e9)
    small = m.PlaneInfo("plate", "f4", (1, 1), "a" * 64)
    large = m.PlaneInfo("plate", "f4", (10, 100), "a" * 64)
    store.hold("ada", ["a" * 64])
    store.add("e" * 64, Decompose(), [small])
    with pytest.raises(StoreFull):
        store.room.make("eve", [m.PlaneInfo("plate", "f4", (20, 100), "a" * 64)])
    store.add("f" * 64, Decompose(), [large])
    assert (store.room.size(), store.room.held_by("ada")) == (4000, 4000)
    store.add("d" * 64, Decompose(), [small])
    assert store.room.size() == 4000
    store.close()


def test_results_have_the_limit_of_the_configuration(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    path = tmp_path / "serve.toml"
    path.write_text("[limits]\nmax_job_bytes = 1048576\nmax_side = 800\n")
    server = make_server("--config", str(path))
    with (
        server.client() as client,
        pytest.raises(InputError, match="have 1 MiB together"),
    ):
        client.run(Decompose(fov=toys.EARLY), {"plate": np.ones((700, 256), np.float32)}, timeout=60)
