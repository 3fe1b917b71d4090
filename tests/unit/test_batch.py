"""The three stages: order, bounds, overlap, and what happens to failures."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from platelight.pipeline.batch import AHEAD, BEHIND, Clock, overlapped
from platelight.protocol.errors import Cancelled


def passing(
    stream: Iterator[tuple[int, int | Exception]],
) -> Generator[tuple[int, int | Exception], None, None]:
    for job, value in stream:
        yield job, value if isinstance(value, Exception) else value + 1


def test_results_come_in_order_whatever_the_threads_do() -> None:
    def write(job: int, value: int) -> list[Path]:
        time.sleep(0.002 * (job % 3))
        return [Path(str(value))]

    results = list(overlapped(range(20), lambda job: job * 10, passing, write))
    assert [result.job for result in results] == list(range(20))
    assert [result.made for result in results] == [(Path(str(job * 10 + 1)),) for job in range(20)]


def test_stages_overlap_and_memory_is_bounded() -> None:
    alive, most, lock = 0, 0, threading.Lock()

    def read(job: int) -> int:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        time.sleep(0.02)
        return job

    def compute(
        stream: Iterator[tuple[int, int | Exception]],
    ) -> Generator[tuple[int, int | Exception], None, None]:
        for job, value in stream:
            time.sleep(0.03)
            yield job, value

    def write(job: int, value: int) -> list[Path]:
        nonlocal alive
        time.sleep(0.02)
        with lock:
            alive -= 1
        return []

    clock = Clock()
    assert len(list(overlapped(range(40), read, compute, write, clock=clock))) == 40
    assert most <= AHEAD + 1 + BEHIND + 1
    assert clock.compute == pytest.approx(40 * 0.03, rel=0.25)
    assert clock.wall <= 1.15 * clock.compute + 0.1
    assert clock.read > 0.7
    assert clock.write > 0.7


def test_one_job_in_memory_at_a_time_where_that_is_asked_for() -> None:
    alive, most = 0, 0

    def read(job: int) -> int:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return job

    def compute(
        stream: Iterator[tuple[int, int | Exception]],
    ) -> Generator[tuple[int, int | Exception], None, None]:
        yield from stream

    def write(job: int, value: int) -> list[Path]:
        nonlocal alive
        time.sleep(0.01)
        alive -= 1
        return []

    results = list(overlapped(range(10), read, compute, write, ahead=0, behind=0))
    assert [result.job for result in results] == list(range(10))
    assert most == 1


@pytest.mark.parametrize("stage", ["read", "write"])
@pytest.mark.parametrize("keep_going", [False, True])
def test_failures(stage: str, keep_going: bool) -> None:
    def work(at: str) -> None:
        if at == stage:
            raise ValueError(at)

    def read(job: int) -> int:
        if job == 3:
            work("read")
        return job

    def write(job: int, value: int) -> list[Path]:
        if job == 3:
            work("write")
        return [Path(str(job))]

    results = list(overlapped(range(12), read, passing, write, keep_going=keep_going))
    assert [str(result.error) for result in results if result.error] == [stage]
    assert [result.job for result in results][:4] == [0, 1, 2, 3]
    assert all(result.made for result in results if result.job != 3)
    assert (len(results) == 12) == keep_going
    assert len(results) <= (12 if keep_going else 4 + 1 + BEHIND)


def test_cancelled_writes_what_was_computed() -> None:
    def compute(
        stream: Iterator[tuple[int, int | Exception]],
    ) -> Generator[tuple[int, int | Exception], None, None]:
        for job, value in stream:
            if job == 5:
                raise Cancelled("The work was cancelled.")
            yield job, value

    done = []
    results = overlapped(range(12), lambda job: job, compute, lambda job, value: [Path(str(job))])
    with pytest.raises(Cancelled):
        done.extend(result.job for result in results)
    assert done == [0, 1, 2, 3, 4]
