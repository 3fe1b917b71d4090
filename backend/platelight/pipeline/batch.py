"""Many frames through three stages at once: read ahead, computed in order, written behind.

Reading and writing run in threads (their libraries let go of the interpreter), computing stays in the caller's,
where Ctrl-C arrives and a GPU is driven. Queues are bounded, so memory does not grow with the number of frames.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

from platelight.protocol.errors import Cancelled

J = TypeVar("J")
R = TypeVar("R")
W = TypeVar("W")

AHEAD, BEHIND = 2, 2
"""Frames that wait read, and frames that wait to be written, beside the one being computed."""


@dataclass(frozen=True)
class Result(Generic[J]):
    """One job's end: the files made, or the error."""

    job: J
    made: tuple[Path, ...] = ()
    error: Exception | None = None


@dataclass
class Clock:
    """Seconds that each stage was busy: ``read`` and ``write`` summed over their threads, ``compute``, ``wall``."""

    read: float = 0.0
    compute: float = 0.0
    write: float = 0.0
    wall: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, stage: str, seconds: float) -> None:
        """Count seconds to a stage; called from any thread."""
        with self._lock:
            setattr(self, stage, getattr(self, stage) + seconds)

    def timed(self, stage: str, work: Callable[..., R]) -> Callable[..., R]:
        """``work``, its seconds counted to ``stage``."""

        def run(*arguments: object) -> R:
            began = time.perf_counter()
            try:
                return work(*arguments)
            finally:
                self.add(stage, time.perf_counter() - began)

        return run


def overlapped(
    jobs: Iterable[J],
    read: Callable[[J], R],
    compute: Callable[[Iterator[tuple[J, R | Exception]]], Generator[tuple[J, W | Exception], None, None]],
    write: Callable[[J, W], Iterable[Path]],
    *,
    keep_going: bool = False,
    threads: int = 2,
    clock: Clock | None = None,
    ahead: int = AHEAD,
    behind: int = BEHIND,
) -> Iterator[Result[J]]:
    """Carry jobs through the stages; yields their results in the order in which ``compute`` gives them.

    Args:
        jobs: what to do, in order.
        read: makes a job's input; runs in a thread, up to ``ahead`` jobs before their turn.
        compute: a generator over (job, input or the error of reading it) in order of ``jobs``, that yields
            (job, output or error). It may hold inputs back, for instance to look at neighbors.
        write: writes an output and returns the files; runs in a thread.
        keep_going: go on after a failed job. Without it no new job is begun then; those under way are finished.
        threads: how many jobs are read, and how many written, at once.
        clock: gets the seconds of the stages.
        ahead, behind: jobs that wait read, and that wait to be written, beside the one being computed; with 0 for both
            there is one job in memory at a time.

    Raises:
        Cancelled: ``compute`` raised it; what was computed before is written and yielded first.
    """
    clock = clock or Clock()
    began, waited = time.perf_counter(), [0.0]
    stop: Cancelled | None = None
    timed_read, timed_write = clock.timed("read", read), clock.timed("write", _finished(write))

    def ended(future: Future[R]) -> R | Exception:
        since = time.perf_counter()
        try:
            return future.result()
        except Exception as error:  # a frame is a job: whatever fails it is kept with it
            return error
        finally:
            waited[0] += time.perf_counter() - since

    with (
        ThreadPoolExecutor(threads, "read") as reading,
        ThreadPoolExecutor(threads, "write") as writing,
    ):
        outgoing: deque[tuple[J, Future[tuple[Path, ...]] | Exception]] = deque()

        def loaded() -> Iterator[tuple[J, R | Exception]]:
            source = iter(jobs)
            queue = deque((job, reading.submit(timed_read, job)) for job in islice(source, max(1, ahead)))
            while queue:
                job, future = queue.popleft()
                value = ended(future)
                del future  # it would keep the frame's pixels for a turn too long
                if ahead:
                    queue.extend((more, reading.submit(timed_read, more)) for more in islice(source, 1))
                yield job, value
                del value
                if not ahead:
                    queue.extend((more, reading.submit(timed_read, more)) for more in islice(source, 1))

        def result(job: J, future: Future[tuple[Path, ...]] | Exception) -> Result[J]:
            if isinstance(future, Exception):
                return Result(job, error=future)
            since = time.perf_counter()
            try:
                return Result(job, future.result())
            except Exception as error:
                return Result(job, error=error)
            finally:
                waited[0] += time.perf_counter() - since

        computing = compute(loaded())
        try:
            while True:
                try:
                    job, output = next(computing)
                except StopIteration:
                    break
                failed = isinstance(output, Exception)
                outgoing.append(
                    (
                        job,
                        output if isinstance(output, Exception) else writing.submit(timed_write, job, output),
                    )
                )
                del output
                while outgoing and (len(outgoing) > behind or _over(outgoing[0][1])):
                    done = result(*outgoing.popleft())
                    failed = failed or done.error is not None
                    yield done
                if failed and not keep_going:
                    break
        except Cancelled as error:
            stop = error
        finally:
            computing.close()
            reading.shutdown(wait=True, cancel_futures=True)
        while outgoing:
            yield result(*outgoing.popleft())
    clock.wall += time.perf_counter() - began
    clock.compute = clock.wall - waited[0]
    if stop is not None:
        raise stop


def _finished(write: Callable[[J, W], Iterable[Path]]) -> Callable[[J, W], tuple[Path, ...]]:
    def run(job: J, output: W) -> tuple[Path, ...]:
        return tuple(write(job, output))

    return run


def _over(future: Future[tuple[Path, ...]] | Exception) -> bool:
    return isinstance(future, Exception) or future.done()
