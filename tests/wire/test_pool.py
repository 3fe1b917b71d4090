"""Which worker a job goes to: the workers are sockets of this test, so that their order is certain."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
import zmq
from conftest import wait_for
from platelight.protocol.messages import JobState
from platelight.protocol.requests import Decompose
from platelight.server import pool as pools
from platelight.server import worker
from platelight.server.config import ServeConfig
from platelight.server.inside import Finished, Ready, Run, Unable, decode_to_worker, encode
from platelight.server.pool import Event, Pool
from platelight.server.store import Job


class Stage:
    """A pool of two devices that starts no process; the test plays the two workers."""

    def __init__(self, folder: Path) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.pool = Pool(ServeConfig(devices=("cpu:0", "cpu:1"), spares=0), self._context, folder)
        self.pool._starter.submit = lambda start: Future()  # type: ignore[method-assign,assignment]
        self._workers: dict[str, zmq.Socket[bytes]] = {}
        self._leases: dict[str, int] = {}
        self.pool.events()
        for one in self.pool.report():
            socket = self._workers[one.name] = self._context.socket(zmq.DEALER)
            socket.setsockopt(zmq.IDENTITY, one.name.encode())
            socket.connect(self.pool._endpoint)
            socket.send(encode(Ready(1, one.device)))
        wait_for(lambda: self.pool.events() or {one.state for one in self.pool.report()} == {"idle"})

    @property
    def names(self) -> list[str]:
        """The workers, oldest first."""
        return list(self._workers)

    def hand_out(self, number: int) -> str:
        """Give the pool a job; returns the name of the worker that gets it."""
        key = f"{number:064x}"
        assert self.pool.run(Job(key, number, JobState.QUEUED, Decompose(), (), (), "{}", 0, "", "", ""))
        poller = zmq.Poller()
        for socket in self._workers.values():
            poller.register(socket, zmq.POLLIN)
        ((ready, _),) = poller.poll(10_000)
        run = decode_to_worker.decode(ready.recv())
        assert isinstance(run, Run)
        assert run.key == key
        name = next(name for name, socket in self._workers.items() if socket is ready)
        self._leases[name] = run.lease
        return name

    def finish(self, name: str) -> None:
        """Have a worker say that its job is done."""
        self._workers[name].send(encode(Finished(self._leases[name], (), "{}")))
        seen: list[Event] = []
        wait_for(lambda: seen.extend(self.pool.events()) or seen)

    def give_up(self, name: str, sentence: str) -> None:
        """Have a worker say that it cannot serve, as a spare on its device would."""
        self._workers[name].send(encode(Unable(sentence)))
        wait_for(lambda: self.pool.events() or self.pool.unable.sentence == sentence)

    def close(self) -> None:
        self.pool.close()
        self._context.destroy(linger=0)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setenv(worker.JOB_VARIABLE, "")  # which the pool sets
    monkeypatch.setattr(pools, "SILENT_SECONDS", 1e9)  # these workers have no heartbeat
    found = Stage(tmp_path)
    yield found
    found.close()


def test_the_worker_that_worked_last_is_next(stage: Stage) -> None:
    """Of the idle workers the one with the latest lease, whichever started or finished first."""
    first, second = stage.names
    assert (stage.hand_out(1), stage.hand_out(2)) == (first, second)
    assert not stage.pool.can_run
    for ends in ((second, first), (first, second)):
        for name in ends:
            stage.finish(name)
        assert stage.hand_out(3) == second  # the younger, and the last to be given a job
        assert stage.hand_out(4) == first
        stage.finish(second)
        stage.finish(first)
        assert stage.hand_out(5) == first  # now the older is
        stage.finish(first)
        assert stage.hand_out(6) == first
        assert stage.hand_out(7) == second


def test_spares_that_cannot_start_do_not_stop_a_worker_that_is_up(stage: Stage) -> None:
    first, second = stage.names
    stage.hand_out(1)
    for name in (first, second):
        stage.give_up(name, f"The device of {name} is gone.")
        assert not stage.pool.broken
    for one in stage.pool._processes.values():
        one.state = pools.WorkerState.STARTING
    assert stage.pool.broken
