"""The life of jobs: queue, lease, run, done or failed; what workers report, and what watchers are told."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from platelight.protocol.errors import Busy, Cancelled, JobFailed, Poisoned
from platelight.protocol.messages import Done, Failed, JobState, Message, Progress
from platelight.server.config import ServeConfig
from platelight.server.inside import Broken, Finished, Working
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
        tell: sends a message to all clients that watch a job.
        watched: True when a client watches a job.
    """

    def __init__(
        self,
        config: ServeConfig,
        store: Store,
        pool: Pool,
        tell: Callable[[str, Message], None],
        watched: Callable[[str], bool],
    ) -> None:
        self._config = config
        self._store = store
        self._pool = pool
        self._tell = tell
        self._watched = watched
        self._queue: deque[str] = deque(store.queued())
        self._latest: dict[str, _Latest] = {}
        self._dirty: set[str] = set()

    def check_busy(self, owner: str) -> None:
        """Raise Busy when no more jobs are taken, from all or from this client."""
        if len(self._queue) >= self._config.max_queue:
            raise Busy(f"The server has {len(self._queue)} jobs waiting.", "Try again in a moment.")
        if self._store.unfinished_of(owner) >= self._config.max_jobs_per_client:
            raise Busy("This client has as many unfinished jobs as it may.", "Wait for one to end.")

    def enqueue(self, key: str) -> None:
        """Queue a job whose planes are all here."""
        self._store.set_state(key, JobState.QUEUED)
        self._queue.append(key)
        log.info("job %s: queued behind %d", key[:12], len(self._queue) - 1)

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
        """Take in what workers did and hand out the next job."""
        for event in self._pool.events():
            self._happened(event)
        if self._pool.broken:
            while self._queue:
                self._fail(
                    self._queue.popleft(), JobState.FAILED, JobFailed.code,
                    self._pool.unable.sentence, self._pool.unable.remedy,
                )  # fmt: skip
        while self._queue and self._pool.can_run:
            self._lease(self._queue.popleft())

    def flush(self) -> None:
        """Tell watchers the latest progress of the jobs that made some."""
        for key in self._dirty:
            job = self._store.get(key)
            if job is not None and not job.state.final:
                self._tell(key, self.standing(job))
        self._dirty.clear()

    # ---- inside

    def _lease(self, key: str) -> None:
        job = self._store.get(key)
        if job is None or job.state is not JobState.QUEUED:
            return
        if not self._store.complete(job.inputs):
            self._fail(
                key,
                JobState.FAILED,
                JobFailed.code,
                "The job's planes are no longer on the server.",
                "Run it again.",
            )
        elif self._pool.run(job):
            self._store.set_state(key, JobState.LEASED)
            self._dirty.add(key)
        else:
            self._queue.appendleft(key)

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
            case Lost(reason=reason, final=True):
                self._fail(
                    key,
                    JobState.FAILED,
                    JobFailed.code,
                    f"The job was stopped: {reason}.",
                    "Try a smaller plate.",
                )
            case Lost(reason=reason):
                self._lost(key, reason)

    def _finished(self, key: str, finished: Finished) -> None:
        if not self._store.complete(finished.planes):
            self._lost(key, "its result did not reach the disk")
            return
        self._store.finish(key, finished.planes, finished.meta)
        self._settled(key)
        self._tell(key, Done(key, finished.planes, finished.meta))

    def _stopped(self, key: str) -> None:
        if self._watched(key):  # cancelled and at once asked for again, while its worker was still ending
            self._settled(key)
            self.enqueue(key)
        else:
            self._fail(key, JobState.CANCELLED, CANCELLED.code, CANCELLED.sentence, "")

    def _lost(self, key: str, reason: str) -> None:
        self._settled(key)
        crashes = self._store.crashed(key)
        log.error("job %s: lost its worker (%s), %d of %d", key[:12], reason, crashes, CRASHES_ALLOWED)
        if crashes >= CRASHES_ALLOWED:
            self._fail(
                key, JobState.FAILED, Poisoned.code,
                f"The job stopped its worker {crashes} times; the last time {reason}.",
                "It is not tried again; change the plate or the settings.",
            )  # fmt: skip
            return
        self._store.set_state(key, JobState.QUEUED)
        self._queue.appendleft(key)
        self._dirty.add(key)

    def _fail(self, key: str, state: JobState, code: str, sentence: str, remedy: str) -> None:
        self._store.fail(key, state, code, sentence, remedy)
        self._settled(key)
        log.info("job %s: %s (%s)", key[:12], state.value, code)
        self._tell(key, Failed(key, code, sentence, remedy))

    def _settled(self, key: str) -> None:
        self._latest.pop(key, None)
        self._dirty.discard(key)
