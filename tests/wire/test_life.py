"""Cancel, crashes, restarts: what happens to a job while the world around it breaks."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import toys
from conftest import Server, alive, wait_for
from platelight.client import Client, Result
from platelight.client.link import Link
from platelight.protocol.errors import Cancelled, JobFailed, Poisoned, TimedOut
from platelight.protocol.messages import JobState, Message, Ping
from platelight.protocol.requests import Decompose

pytestmark = pytest.mark.alone

PLANE = {"plate": np.arange(300 * 200 * 3, dtype=np.float32).reshape(300, 200, 3)}


def check(result: Result, planes: dict[str, np.ndarray] = PLANE) -> None:
    np.testing.assert_array_equal(result.planes["plate_twice"], planes["plate"] * 2)


class Background:
    """One job in a thread."""

    def __init__(self, client: Client, fov: float, planes: dict[str, np.ndarray] = PLANE) -> None:
        self.result: Result | None = None
        self.error: Exception | None = None
        self.stages: list[str] = []
        self.stop = False

        def run() -> None:
            try:
                self.result = client.run(
                    Decompose(fov=fov),
                    planes,
                    lambda _, stage: self.stages.append(stage),
                    lambda: self.stop,
                    60,
                )
            except Exception as error:  # handed to the test
                self.error = error

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def join(self) -> Background:
        self._thread.join(70)
        assert not self._thread.is_alive()
        return self


def test_progress_and_cancel(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with server.client() as client:
        job = Background(client, toys.SLOW)
        wait_for(lambda: "sleeping" in job.stages)
        job.stop = True
        asked = time.monotonic()
        job.join()
        assert isinstance(job.error, Cancelled)
        assert time.monotonic() - asked < 1.0
        wait_for(lambda: client.status().jobs.get(JobState.CANCELLED) == 1, 3.0)
        # the worker was not lost over it, and the job may be asked for again
        check(client.run(Decompose(fov=toys.SLOW), PLANE, timeout=30))
    assert len(set(server.runs())) == 1


def test_cancelled_and_at_once_asked_again(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with server.client() as client:
        job = Background(client, toys.SLOW)
        wait_for(lambda: "sleeping" in job.stages)
        job.stop = True
        job.join()
        check(client.run(Decompose(fov=toys.SLOW), PLANE, timeout=30))


def test_a_client_that_only_listens_still_pings(
    make_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the server would forget it in the midst of a long job that tells its progress all the time."""
    pings: list[float] = []
    original = Link.send

    def send(self: Link, message: Message, body: memoryview | None = None) -> None:
        if isinstance(message, Ping):
            pings.append(time.monotonic())
        original(self, message, body)

    monkeypatch.setattr(Link, "send", send)
    monkeypatch.setattr("platelight.client.link._SILENCE", 2.0)
    server = make_server()
    with server.client() as client:
        check(client.run(Decompose(fov=toys.SLOW), PLANE, timeout=60))
    assert len(pings) >= 3


def test_a_failed_job_is_tried_again_also_after_the_session_has_ended(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    path = tmp_path / "serve.toml"
    path.write_text("session_seconds = 1.0\n")
    server = make_server("--config", str(path))
    with server.client() as client:
        for runs in (1, 2):
            with pytest.raises(JobFailed):
                client.run(Decompose(fov=toys.FAIL), PLANE, timeout=30)
            assert len(server.runs()) == runs
            client.connect()
            time.sleep(
                2.0
            )  # the server forgets the client, which is told so by the answer to its next message


def test_a_deaf_job_is_ended_from_outside(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with server.client() as client:
        job = Background(client, toys.DEAF)
        wait_for(lambda: server.runs(toys.DEAF))
        job.stop = True
        assert isinstance(job.join().error, Cancelled)
        check(client.run(Decompose(fov=toys.DOUBLE), PLANE, timeout=30))  # a new worker took over
    assert len(set(server.runs())) == 2


def test_a_worker_makes_ahead_what_it_can_while_nothing_is_asked(make_server: Callable[..., Server]) -> None:
    server = make_server("--spares", "0")
    ahead = server.toy_log.with_name(server.toy_log.name + ".idle")
    wait_for(lambda: ahead.exists() and len(ahead.read_text().splitlines()) == toys.AHEAD)
    with server.client() as client:
        check(client.run(Decompose(fov=toys.DOUBLE), PLANE, timeout=30))
    time.sleep(1.2)  # idle twice more
    assert ahead.read_text().split() == toys.AHEAD * [str(server.runs()[0])]


def test_timeout_leaves_the_job_running(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with server.client() as client:
        with pytest.raises(TimedOut):
            client.run(Decompose(fov=toys.SLOW), PLANE, timeout=1.0)
        check(client.run(Decompose(fov=toys.SLOW), PLANE, timeout=30))
    assert len(server.runs()) == 1


def test_worker_killed_under_a_job(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with server.client() as client:
        job = Background(client, toys.SLOW)
        wait_for(lambda: server.runs(toys.SLOW))
        os.kill(server.runs()[0], signal.SIGKILL)
        job.join()
        assert job.result is not None, job.error
        check(job.result)
    assert len(server.runs()) == 2


def test_what_a_killed_worker_was_writing_goes(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with server.client() as client:
        check(client.run(Decompose(fov=toys.DOUBLE), PLANE, timeout=30))
        worker = server.runs()[0]
        others = server.blobs / f"tmp-{worker}0-0"
        for path in (server.blobs / f"tmp-{worker}-0", others):
            path.touch()
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: list(server.blobs.glob("tmp-*")) == [others])


def test_a_waiting_job_of_another_version_is_an_answer(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with server.client() as client:
        key = client.run(Decompose(fov=toys.DOUBLE), PLANE, timeout=30).key
    server.stop()
    with sqlite3.connect(server.blobs.parent / "jobs.sqlite3") as db:
        request = msgspec.msgpack.encode({"kind": "decompose", "of_old": 1})
        db.execute("UPDATE jobs SET state='queued', request=?", (request,))
    server.start()
    with server.client() as client:
        with pytest.raises(JobFailed) as error:
            client.result(key, timeout=30)
        check(client.run(Decompose(fov=toys.DOUBLE, working_size=64), PLANE, timeout=30))
    assert str(error.value) == "The job was written by another version of the server. Run it again."


def test_three_crashes_poison_a_job(make_server: Callable[..., Server]) -> None:
    server = make_server("--spares", "1")
    with server.client() as client:
        with pytest.raises(Poisoned, match=r"stopped its worker 3 times.*SIGKILL"):
            client.run(Decompose(fov=toys.DIE), PLANE, timeout=60)
        with pytest.raises(Poisoned):  # an answer from the store, not a fourth attempt
            client.run(Decompose(fov=toys.DIE), PLANE, timeout=10)
        assert len(server.runs(toys.DIE)) == 3
        check(client.run(Decompose(fov=toys.DIE_ONCE), PLANE, timeout=60))


def test_broker_killed_under_a_job(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with server.client() as client:
        job = Background(client, toys.SLOW)
        wait_for(lambda: server.runs(toys.SLOW))
        worker = server.runs()[0]
        server.kill()
        wait_for(lambda: not alive(worker))  # its worker does not outlive it
        server.start()
        job.join()
        assert job.result is not None, job.error
        check(job.result)
    assert len(server.runs()) == 2


def test_results_outlive_the_server(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with server.client() as client:
        key = client.run(Decompose(fov=toys.DOUBLE), PLANE, timeout=30).key
    server.kill()
    server.start()
    with server.client() as client:
        check(client.result(key, timeout=10))
    assert len(server.runs()) == 1


def test_graceful_stop_ends_the_workers_and_keeps_the_job(make_server: Callable[..., Server]) -> None:
    server = make_server()
    with server.client() as client, pytest.raises(TimedOut):
        client.run(Decompose(fov=toys.SLOW), PLANE, timeout=0.5)
    wait_for(server.runs)
    worker = server.runs()[0]
    assert server.stop() == 0
    assert not alive(worker)
    assert not (server.folder / "config" / "server.json").exists()
    server.start()  # hands the job out again by itself
    wait_for(lambda: len(server.runs()) == 2)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--job", "no_such_module:run"), "The server's worker process does not start."),
        (("--device", "abacus"), "The device abacus is not available: it has no beads."),
    ],
)
def test_a_worker_that_cannot_start_is_an_answer(
    make_server: Callable[..., Server], options: tuple[str, ...], sentence: str
) -> None:
    server = make_server(*options)
    with server.client() as client, pytest.raises(JobFailed) as error:
        client.run(Decompose(), PLANE, timeout=30)
    assert error.value.sentence == sentence


def test_jobs_of_two_clients_queue(make_server: Callable[..., Server]) -> None:
    server = make_server()
    other = {"plate": PLANE["plate"] + 1}
    with server.client() as one, server.client() as two:
        first = Background(one, toys.SLOW)
        wait_for(lambda: server.runs(toys.SLOW))
        second = Background(two, toys.COUNT, other)
        wait_for(lambda: any(stage.startswith("queued") for stage in second.stages))
        for job, planes in ((first, PLANE), (second, other)):
            result = job.join().result
            assert result is not None
            check(result, planes)


def test_busy_makes_the_client_wait(make_server: Callable[..., Server]) -> None:
    server = make_server("--max-queue", "1")
    third = {"plate": PLANE["plate"] + 2}
    with server.client() as one, server.client() as two, server.client() as three:
        first = Background(one, toys.SLOW)
        wait_for(lambda: server.runs(toys.SLOW))
        second = Background(two, toys.COUNT)
        wait_for(lambda: any(stage.startswith("queued") for stage in second.stages))
        with pytest.raises(TimedOut):
            three.run(Decompose(fov=toys.DOUBLE), third, timeout=0.5)
        last = Background(three, toys.DOUBLE, third)
        wait_for(lambda: "waiting for the server" in last.stages)
        for job in (first, second, last):
            assert job.join().error is None
