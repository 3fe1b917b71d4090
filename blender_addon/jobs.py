"""Long work off the main thread. No bpy module use: tests and the command line run it without Blender.

A worker thread writes typed events into a queue and touches nothing else; whoever started the job drains
them with ``step()`` within a time budget. What only the main thread may do travels the same way, one short
``Call`` at a time. Exactly one of ``Done``, ``Failed`` and ``Stopped`` is the last
event of every job that was started.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from .wire import Cancelled, JobFailed, PlatelightError

log = logging.getLogger(__name__)
T = TypeVar("T")


class JobState(StrEnum):
    """Where a job stands."""

    READY = "ready"
    RUNNING = "running"
    CANCELLING = "cancelling"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Progress:
    """How far the work is: ``fraction`` in [0, 1] and a few words."""

    fraction: float
    text: str


@dataclass(frozen=True)
class Call:
    """Something only the main thread may do; its value or its error goes into ``reply``."""

    function: Callable[[], Any]
    reply: queue.SimpleQueue[tuple[Any, BaseException | None]]

    def run(self) -> None:
        """Do it, on the main thread."""
        try:
            self.reply.put((self.function(), None))
        except Exception as error:  # goes on in the thread that asked
            self.reply.put((None, error))


@dataclass(frozen=True)
class Done:
    """The work ended well with ``value``."""

    value: Any


@dataclass(frozen=True)
class Failed:
    """The work ended with an error that can be told in a sentence."""

    error: PlatelightError


@dataclass(frozen=True)
class Stopped:
    """The work ended because it was asked to."""


Event = Progress | Call | Done | Failed | Stopped
ENDINGS = (Done, Failed, Stopped)


class Reporter:
    """What a job's function may call from its thread."""

    def __init__(
        self,
        events: queue.SimpleQueue[Event],
        stop: threading.Event,
        start: float = 0.0,
        span: float = 1.0,
        title: str = "",
    ) -> None:
        self._events = events
        self._stop = stop
        self._start = start
        self._span = span
        self._title = title

    def part(self, start: float, span: float, title: str = "") -> Reporter:
        """A reporter whose 0 to 1 is a part of this one's, from ``start``; its words begin with ``title``."""
        return Reporter(self._events, self._stop, self._start + self._span * start, self._span * span, title)

    def progress(self, fraction: float, text: str = "") -> None:
        """Tell how far the work is."""
        words = ", ".join(filter(None, (self._title, text)))
        self._events.put(Progress(self._start + self._span * min(max(fraction, 0.0), 1.0), words))

    def on_main(self, function: Callable[[], T]) -> T:
        """Have the main thread call ``function``, which has to be short, and return what it returns.

        Raises:
            Cancelled: the job is to end, and nobody may be there to answer.
            Exception: whatever ``function`` raises.
        """
        reply: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._events.put(Call(function, reply))
        while True:
            if self._stop.is_set():
                raise Cancelled("Cancelled.")
            try:
                value, error = reply.get(timeout=0.1)
            except queue.Empty:
                continue
            if error is not None:
                raise error
            return value  # type: ignore[no-any-return]

    def cancelled(self) -> bool:
        """Whether the work should end as soon as it can."""
        return self._stop.is_set()


Work = Callable[[Reporter], Any]


class Job:
    """One piece of long work.

    Args:
        title: what is being done, for people.
        work: called in the worker thread with a ``Reporter``; its result becomes ``Done.value``.
    """

    def __init__(self, title: str, work: Work) -> None:
        self.title = title
        self.state = JobState.READY
        self.fraction = 0.0
        self.text = ""
        self._work = work
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"platelight {title}", daemon=True)
        self._started = 0.0

    def start(self) -> None:
        """Start the worker thread.

        Raises:
            RuntimeError: the job was started before.
        """
        if self.state is not JobState.READY:
            raise RuntimeError(f"job {self.title!r} was started before")
        self.state = JobState.RUNNING
        self._started = time.monotonic()
        self._thread.start()

    def cancel(self) -> None:
        """Ask the work to end. The last event still comes through ``step()``."""
        self._stop.set()
        if self.state is JobState.RUNNING:
            self.state = JobState.CANCELLING

    @property
    def active(self) -> bool:
        """Whether the last event has yet to be drained."""
        return self.state in {JobState.RUNNING, JobState.CANCELLING}

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the progress so far; None while there is too little to tell."""
        spent = time.monotonic() - self._started
        if not self.active or self.fraction < 0.02 or spent < 1.0:
            return None
        return spent * (1.0 - self.fraction) / self.fraction

    def step(self, budget: float = 0.005) -> list[Event]:
        """Drain events for at most ``budget`` seconds and return them; progress is latest-wins."""
        until = time.monotonic() + budget
        drained: list[Event] = []
        while time.monotonic() < until:
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                break
            self._take(event, drained)
            if isinstance(event, Call):
                break  # one at a time: the interface draws in between
        return drained

    def wait(self, on_event: Callable[[Event], None] | None = None, timeout: float | None = None) -> Event:
        """Block until the last event and return it (background mode).

        Raises:
            TimeoutError: no last event within ``timeout`` seconds; the job is then asked to stop.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            remaining = 0.5 if until is None else min(0.5, until - time.monotonic())
            if remaining <= 0:
                self.cancel()
                raise TimeoutError(f"{self.title} took more than {timeout} s")
            try:
                event = self._events.get(timeout=remaining)
            except queue.Empty:
                continue
            self._take(event, [])
            if isinstance(event, Call):
                continue
            if on_event is not None:
                on_event(event)
            if isinstance(event, ENDINGS):
                return event

    def join(self, timeout: float) -> bool:
        """Wait for the thread itself to end; True if it did."""
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _take(self, event: Event, drained: list[Event]) -> None:
        if isinstance(event, Call):
            event.run()
            return
        if isinstance(event, Progress):
            self.fraction, self.text = event.fraction, event.text
            if drained and isinstance(drained[-1], Progress):
                drained.pop()
        elif isinstance(event, Done):
            self.state, self.fraction = JobState.DONE, 1.0
        elif isinstance(event, Failed):
            self.state = JobState.FAILED
        else:
            self.state = JobState.CANCELLED
        drained.append(event)

    def _run(self) -> None:
        reporter = Reporter(self._events, self._stop)
        try:
            value = self._work(reporter)
        except Cancelled:
            self._events.put(Stopped())
        except PlatelightError as error:
            self._events.put(Failed(error))
        except Exception as error:  # the job boundary: anything else is a bug, told as one
            log.exception("%s failed", self.title)
            self._events.put(Failed(JobFailed(f"{self.title} failed: {error}.", "The log has the details.")))
        else:
            self._events.put(Stopped() if self._stop.is_set() and value is None else Done(value))
