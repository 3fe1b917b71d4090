"""The life of jobs: queue, lease, run, done or failed; what workers report, and what watchers are told."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from platelight.protocol.errors import Busy, Cancelled, JobFailed, Poisoned, StoreFull
from platelight.protocol.messages import Done, Failed, JobState, Message, Progress
from platelight.server.config import ServeConfig
from platelight.server.inside import Broken, Finished, Working
from platelight.server.meter import Meter
from platelight.server.pool import Event, Lost, Pool, Stopped
from platelight.server.store import Job, Store

log = logging.getLogger(__name__)
CRASHES_ALLOWED = 3
CANCELLED = Cancelled("The job was cancelled.")


@dataclass(frozen=True)
class _Latest:
    fraction: float
    stage: str


class Jobs:
    """Moves jobs through their states.

    Args:
        meter: counts what happens.
        tell: sends a message to all clients that watch a job.
        watched: True when a client watches a job.
    """

    def __init__(
        self,
        config: ServeConfig,
        store: Store,
        pool: Pool,
        meter: Meter,
        tell: Callable[[str, Message], None],
        watched: Callable[[str], bool],
    ) -> None:
        self._config = config
        self._store = store
        self._pool = pool
        self._meter = meter
        self._tell = tell
        self._watched = watched
        self._queue: deque[str] = deque(store.queued())
        self._latest: dict[str, _Latest] = {}
        self._dirty: set[str] = set()
        self._lean: set[str] = set()  # jobs that ran out of memory once
        self._began: dict[str, float] = {}
        self._owed: deque[Event] = deque()  # what the store could not take
        self._complained = float("-inf")
        self.draining = False

    @property
    def waiting(self) -> int:
        """The number of jobs in the queue."""
        return len(self._queue)

    def check_busy(self, owner: str) -> None:
        """Raise Busy when no more jobs are taken, from all or from this client; it says when to try again."""
        mean = self._meter.job_seconds / self._pool.devices
        if self.draining:
            raise Busy("The server is stopping.", "Wait until it has started again.", 2.0)
        if len(self._queue) >= self._config.max_queue:
            raise Busy(f"The server has {len(self._queue)} jobs waiting.", "Try again in a moment.", mean)
        mine = self._store.unfinished_of(owner)
        if mine >= self._config.max_jobs_per_client:
            raise Busy(f"This client has {mine} unfinished jobs, as many as it may.", "Wait for one.", mean)

    def enqueue(self, key: str) -> None:
        """Queue a job whose planes are all here."""
        self._store.set_state(key, JobState.QUEUED)
        self._queue.append(key)
        log.info("queued behind %d", len(self._queue) - 1, extra={"job": key})

    def standing(self, job: Job) -> Message:
        """Return the message that tells where a job stands."""
        if job.state is JobState.DONE:
            self._store.touch(job.key)
            return Done(job.key, job.outputs, job.meta)
        if job.state.final:
            return Failed(job.key, job.code, job.sentence, job.remedy)
        latest = self._latest.get(job.key, _Latest(0.0, job.state.value))
        ahead = self._queue.index(job.key) if job.key in self._queue else 0
        return Progress(job.key, job.state, latest.fraction, latest.stage, ahead)

    def cancel(self, job: Job) -> None:
        """Cancel a job that waits, or ask its worker to stop."""
        if job.state in (JobState.LEASED, JobState.RUNNING):
            log.info("job %s: cancel asked", job.key[:12])
            self._pool.stop(job.key)
        elif not job.state.final:
            if job.key in self._queue:
                self._queue.remove(job.key)
            self._fail(job.key, JobState.CANCELLED, CANCELLED.code, CANCELLED.sentence, "")

    def step(self) -> None:
        """Take in what workers did and hand out the next jobs."""
        self._owed.extend(self._pool.events())
        try:
            while self._owed:
                self._happened(self._owed[0])
                self._owed.popleft()
            if self._pool.broken:
                while self._queue:
                    self._fail(
                        self._queue[0], JobState.FAILED, JobFailed.code,
                        self._pool.unable.sentence, self._pool.unable.remedy,
                    )  # fmt: skip
                    self._queue.popleft()
            while self._queue and not self.draining and self._pool.can_run:
                self._lease(self._queue[0])
        except (
            sqlite3.Error
        ) as error:  # a full disk, say: nothing is forgotten, and the next step tries again
            self._cannot_write(error)

    def flush(self) -> None:
        """Tell watchers the latest progress of the jobs that made some."""
        for key in self._dirty:
            job = self._store.get(key)
            if job is not None and not job.state.final:
                self._tell(key, self.standing(job))
        self._dirty.clear()

    # ---- inside

    def _lease(self, key: str) -> None:
        """Hand the first job of the queue to a worker."""
        job = self._store.get(key)
        if job is None or job.state is not JobState.QUEUED:
            self._queue.popleft()
        elif not self._store.complete(job.inputs):
            sentence = "The job's planes are no longer on the server."
            self._fail(key, JobState.FAILED, JobFailed.code, sentence, "Run it again.")
            self._queue.popleft()
        else:
            self._store.set_state(key, JobState.LEASED)
            if self._pool.run(job, key in self._lean):
                self._queue.popleft()
                self._began[key] = time.monotonic()
                self._meter.executions += 1
                self._dirty.add(key)
            else:
                self._store.set_state(key, JobState.QUEUED)

    def _happened(self, event: Event) -> None:
        key = event.key
        match event.what:
            case Working() as working:
                if key not in self._latest:
                    self._store.set_state(key, JobState.RUNNING)
                self._latest[key] = _Latest(working.fraction, working.stage)
                self._dirty.add(key)
            case Finished() as finished:
                self._finished(key, finished)
            case Broken(code=Cancelled.code) | Stopped():
                self._stopped(key)
            case Broken() as broken:
                self._fail(key, JobState.FAILED, broken.code, broken.sentence, broken.remedy)
            case Lost(memory=True) if key not in self._lean:
                log.warning("took too much memory; once more with smaller tiles", extra={"job": key})
                self._lean.add(key)
                self._again(key)
            case Lost(reason=reason, final=final, memory=memory) if final or memory:
                sentence = f"The job was stopped: {reason}."
                self._fail(key, JobState.FAILED, JobFailed.code, sentence, "Try a smaller plate.")
            case Lost(reason=reason):
                self._lost(key, reason)

    def _finished(self, key: str, finished: Finished) -> None:
        if not self._store.complete(finished.planes):
            self._lost(key, "its result did not reach the disk")
            return
        self._store.finish(key, finished.planes, finished.meta)
        self._meter.finished(time.monotonic() - self._began.get(key, time.monotonic()))
        self._settled(key)
        self._tell(key, Done(key, finished.planes, finished.meta))

    def _stopped(self, key: str) -> None:
        if self._watched(key):  # cancelled and at once asked for again, while its worker was still ending
            self._settled(key)
            self.enqueue(key)
        else:
            self._fail(key, JobState.CANCELLED, CANCELLED.code, CANCELLED.sentence, "")

    def _lost(self, key: str, reason: str) -> None:
        crashes = self._store.crashed(key)
        log.error("lost its worker (%s), %d of %d", reason, crashes, CRASHES_ALLOWED, extra={"job": key})
        if crashes >= CRASHES_ALLOWED:
            self._fail(
                key, JobState.FAILED, Poisoned.code,
                f"The job stopped its worker {crashes} times; the last time {reason}.",
                "It is not tried again; change the plate or the settings.",
            )  # fmt: skip
            return
        self._again(key)

    def _again(self, key: str) -> None:
        self._settled(key)
        self._store.set_state(key, JobState.QUEUED)
        self._queue.appendleft(key)
        self._dirty.add(key)

    def _fail(self, key: str, state: JobState, code: str, sentence: str, remedy: str) -> None:
        self._store.fail(key, state, code, sentence, remedy)
        self._settled(key)
        self._lean.discard(key)
        self._meter.failed += state is JobState.FAILED
        self._meter.cancelled += state is JobState.CANCELLED
        log.info("%s (%s)", state.value, code, extra={"job": key})
        self._tell(key, Failed(key, code, sentence, remedy))

    def _cannot_write(self, error: sqlite3.Error) -> None:
        if time.monotonic() - self._complained > 10.0:
            self._complained = time.monotonic()
            log.error("the job table cannot be written: %s", error, exc_info=error)
        if self._owed:  # whoever waits for this job is told now; the table is told when it can be
            full = StoreFull(
                "The server's disk is full.", "Free some space on the server, then run it again."
            )
            key = self._owed[0].key
            self._tell(key, Failed(key, full.code, full.sentence, full.remedy))

    def _settled(self, key: str) -> None:
        self._began.pop(key, None)
        self._latest.pop(key, None)
        self._dirty.discard(key)
