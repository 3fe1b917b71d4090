"""Supervised worker processes: started, given jobs, watched, stopped, replaced. Imports no pipeline code."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import msgspec
import zmq

from platelight.client.keys import private_folder
from platelight.protocol.messages import WorkerReport
from platelight.server.config import ServeConfig
from platelight.server.inside import (
    Beat,
    Broken,
    Finished,
    Ready,
    Run,
    Stop,
    Unable,
    Working,
    decode_from_worker,
    encode,
)
from platelight.server.store import Job

log = logging.getLogger(__name__)
START_SECONDS = 180.0
SILENT_SECONDS = 20.0
STARTS_ALLOWED = 3
TERM_AFTER, KILL_AFTER = 5.0, 8.0
_LONGEST_BACKOFF = 10.0


class WorkerState(StrEnum):
    """What a worker process is doing."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"


@dataclass(frozen=True)
class Lost:
    """The worker that did a job is gone; ``final`` when trying again would be of no use."""

    reason: str
    final: bool = False


@dataclass(frozen=True)
class Stopped:
    """The worker had to be ended because its job did not heed the cancel."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a job."""

    key: str
    what: Working | Finished | Broken | Lost | Stopped


@dataclass
class _Process:
    name: str
    popen: subprocess.Popen[bytes]
    state: WorkerState = WorkerState.STARTING
    since: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    memory: int = 0
    lease: int = 0
    key: str = ""
    stop_asked: float | None = None
    verdict: Lost | None = None


class Pool:
    """One busy worker at most, and as many ready ones beside it as ``config.spares`` says.

    The broker polls ``socket``, then calls ``events`` at least every 100 ms.
    """

    def __init__(self, config: ServeConfig, context: zmq.Context[zmq.Socket[bytes]], store: Path) -> None:
        self._config = config
        self._blobs = store / "blobs"
        self._folder, self._owned = _socket_folder(store)
        self._endpoint = f"ipc://{self._folder / 'workers'}"
        self._prefix = secrets.token_hex(4)
        self._serial = 0
        self._leases = 0
        self._processes: dict[str, _Process] = {}
        self._failed_starts = 0
        self.unable = Unable("The server's worker process does not start.", "The server's log says why.")
        self._not_before = 0.0
        self.socket = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.socket.bind(self._endpoint)

    @property
    def broken(self) -> bool:
        """True when workers do not even start; ``unable`` then says why, as far as is known."""
        return self._failed_starts >= STARTS_ALLOWED

    @property
    def can_run(self) -> bool:
        """True when a worker is ready and none is busy."""
        states = [process.state for process in self._processes.values()]
        return WorkerState.IDLE in states and WorkerState.BUSY not in states

    def run(self, job: Job) -> bool:
        """Give a job to a ready worker; False when that worker has gone in this very moment."""
        process = next(one for one in self._processes.values() if one.state is WorkerState.IDLE)
        self._leases += 1
        message = Run(self._leases, job.key, job.request, job.inputs)
        if not self._send(process, message):
            return False
        process.state, process.since = WorkerState.BUSY, time.monotonic()
        process.lease, process.key = self._leases, job.key
        process.stop_asked = None
        return True

    def stop(self, key: str) -> None:
        """Ask the worker to end a job at the next tile; it is ended from outside if it does not."""
        for process in self._processes.values():
            if process.key == key and process.state is WorkerState.BUSY and process.stop_asked is None:
                process.stop_asked = time.monotonic()
                self._send(process, Stop(process.lease))

    def events(self) -> list[Event]:
        """Take what workers sent, look after their health, and return what happened to jobs."""
        events = self._received()
        now = time.monotonic()
        for process in list(self._processes.values()):
            self._check_health(process, now)
            code = process.popen.poll()
            if code is not None:
                events += self._received()  # what it sent before it died still counts
                events += self._bury(process, code, now)
        while len(self._processes) < 1 + self._config.spares and now >= self._not_before:
            self._start()
        return events

    def report(self) -> tuple[WorkerReport, ...]:
        """Return the state of every worker."""
        return tuple(
            WorkerReport(one.name, self._config.device, one.state.value, one.memory, one.key[:12])
            for one in self._processes.values()
        )

    def close(self) -> None:
        """End all workers: TERM, two seconds, KILL."""
        for process in self._processes.values():
            process.popen.terminate()
        deadline = time.monotonic() + 2.0
        for process in self._processes.values():
            try:
                process.popen.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait()
            _close_input(process)
        self._processes.clear()
        self.socket.close(linger=0)
        if self._owned:
            shutil.rmtree(self._folder, ignore_errors=True)

    # ---- inside

    def _start(self) -> None:
        self._serial += 1
        name = f"{self._prefix}-{self._serial}"
        config = self._config
        command = [sys.executable, "-m", "platelight.server.worker", "--endpoint", self._endpoint]
        command += [
            "--name",
            name,
            "--blobs",
            str(self._blobs),
            "--job",
            config.job,
            "--device",
            config.device,
        ]
        if config.threads is not None:
            command += ["--threads", str(config.threads)]
        # a session of its own: Ctrl-C in the terminal is the broker's to handle
        popen = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )
        self._processes[name] = _Process(name, popen)
        log.info("worker %s: started, pid %d", name, popen.pid)

    def _received(self) -> list[Event]:
        events: list[Event] = []
        while self.socket.poll(0):
            identity, *frames = self.socket.recv_multipart()
            process = self._processes.get(identity.decode("ascii", "replace").removesuffix(".beat"))
            if process is None or len(frames) != 1:
                continue  # a worker of an earlier life
            process.heard = time.monotonic()
            try:
                message = decode_from_worker.decode(frames[0])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                log.error("worker %s sent what is no message: %s", process.name, error)
                continue
            events += self._handle(process, message)
        return events

    def _handle(
        self, process: _Process, message: Ready | Unable | Beat | Working | Finished | Broken
    ) -> list[Event]:
        match message:
            case Ready():
                process.state, self._failed_starts = WorkerState.IDLE, 0
                log.info("worker %s: ready after %.1f s", process.name, time.monotonic() - process.since)
            case Unable():
                self.unable = message
                self._failed_starts = max(self._failed_starts, STARTS_ALLOWED)  # it would say the same again
                log.error("worker %s: cannot serve: %s %s", process.name, message.sentence, message.remedy)
            case Beat():
                process.memory = message.memory
            case _ if message.lease == process.lease and process.key:
                event = Event(process.key, message)
                if not isinstance(message, Working):
                    process.state, process.key, process.stop_asked = WorkerState.IDLE, "", None
                return [event]
            case _:
                pass  # an answer that came after its lease had ended
        return []

    def _check_health(self, process: _Process, now: float) -> None:
        config = self._config
        if process.verdict is not None:
            return
        if process.state is WorkerState.STARTING and now - process.since > START_SECONDS:
            self._kill(process, Lost("it did not start in time"))
        elif process.state is not WorkerState.STARTING and now - process.heard > SILENT_SECONDS:
            self._kill(process, Lost("it stopped answering"))
        elif config.worker_memory is not None and process.memory > config.worker_memory:
            self._kill(process, Lost(f"it used more than {config.worker_memory / 2**20:.0f} MiB of memory"))
        elif process.state is WorkerState.BUSY and now - process.since > config.job_seconds:
            self._kill(process, Lost(f"it took longer than {config.job_seconds:g} seconds", final=True))
        elif process.stop_asked is not None:
            if now - process.stop_asked > KILL_AFTER:
                process.popen.kill()
            elif now - process.stop_asked > TERM_AFTER:
                process.popen.terminate()

    def _kill(self, process: _Process, verdict: Lost) -> None:
        log.error("worker %s: ended, because %s", process.name, verdict.reason)
        process.verdict = verdict
        process.popen.kill()

    def _bury(self, process: _Process, code: int, now: float) -> list[Event]:
        del self._processes[process.name]
        _close_input(process)
        if process.state is WorkerState.STARTING:
            self._failed_starts += 1
            self._not_before = now + min(_LONGEST_BACKOFF, 0.25 * 2**self._failed_starts)
        if code:
            log.error("worker %s: gone (%s)", process.name, _cause(code))
        if not process.key:
            return []
        if process.stop_asked is not None:
            return [Event(process.key, Stopped())]
        return [Event(process.key, process.verdict or Lost(_cause(code)))]

    def _send(self, process: _Process, message: Run | Stop) -> bool:
        try:
            self.socket.send_multipart([process.name.encode("ascii"), encode(message)], zmq.DONTWAIT)
        except zmq.ZMQError as error:
            log.warning("worker %s cannot be reached: %s", process.name, error)
            return False
        return True


def _cause(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"it was ended by {signal.Signals(-code).name}"
    return f"it ended with exit code {code}"


def _close_input(process: _Process) -> None:
    if process.popen.stdin is not None:
        with contextlib.suppress(OSError):
            process.popen.stdin.close()


def _socket_folder(store: Path) -> tuple[Path, bool]:
    """Return a 0700 folder for the ipc socket, and whether it is to be removed at the end."""
    folder = store / "run"
    if len(os.fsencode(folder.resolve())) < 80:  # socket paths end at 107 bytes
        return private_folder(folder).resolve(), False
    return Path(tempfile.mkdtemp(prefix="platelight-")), True
