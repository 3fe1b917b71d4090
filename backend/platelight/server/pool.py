"""Supervised worker processes: started, given jobs, watched, stopped, replaced. Imports no pipeline code.

Each device has one busy worker at most, with spares ready beside it; all devices take from one queue. Workers are
forked from a process that has loaded the pipeline once (multiprocessing's forkserver; elsewhere than on Linux each
starts afresh), so a lost one is replaced in a fraction of a second and they share the memory of what was loaded.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import msgspec
import zmq

from platelight.client.keys import private_folder
from platelight.protocol.messages import WorkerReport
from platelight.resources import files_to_spare, is_stopped
from platelight.server import worker
from platelight.server.blobs import BlobFolder
from platelight.server.config import GIB, ServeConfig
from platelight.server.devices import Device
from platelight.server.inside import (
    Beat,
    Broken,
    Finished,
    FromWorker,
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
SILENT_SECONDS, HUNG_SECONDS = 1.5, 20.0
STARTS_ALLOWED = 3
TERM_AFTER, KILL_AFTER = 5.0, 8.0
_LONGEST_BACKOFF = 10.0
FILES_TO_SPARE = 12
"""Files that the process must be able to open before a worker starts: libzmq's listener for local sockets ends the whole process
where a worker connects and no file is left."""


class WorkerState(StrEnum):
    """What a worker process is doing."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"


@dataclass(frozen=True)
class Lost:
    """The worker that did a job is gone; ``final`` when trying again is of no use, ``memory`` if it took too much."""

    reason: str
    final: bool = False
    memory: bool = False


@dataclass(frozen=True)
class Stopped:
    """The worker had to be ended because its job did not heed the cancel."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a job."""

    key: str
    what: Working | Finished | Broken | Lost | Stopped


@dataclass
class _Place:
    """A device and how starting workers on it went; ``shown`` is what ``auto`` turned out to be."""

    device: Device
    shown: str = ""
    failed_starts: int = 0
    not_before: float = 0.0


@dataclass
class _Process:
    name: str
    place: _Place
    starting: Future[BaseProcess]
    state: WorkerState = WorkerState.STARTING
    since: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    memory: int = 0
    lease: int = 0  # of its latest job: leases are counted over the pool
    key: str = ""
    stop_asked: float | None = None
    verdict: Lost | None = None

    @property
    def process(self) -> BaseProcess | None:
        """The process, once it has been started; None also where a stop came before its start."""
        started = self.starting.done() and not self.starting.cancelled() and self.starting.exception() is None
        return self.starting.result() if started else None

    @property
    def exit_code(self) -> int | None:
        """How it ended, None while it runs or is being started."""
        if self.starting.cancelled() or (self.starting.done() and self.starting.exception() is not None):
            return 1
        return None if self.process is None else self.process.exitcode

    @property
    def silent(self) -> bool:
        """True when three heartbeats in a row have not come."""
        return self.state is not WorkerState.STARTING and time.monotonic() - self.heard > SILENT_SECONDS


class Pool:
    """The workers of all devices. The broker polls ``socket``, then calls ``events`` at least every 100 ms."""

    def __init__(self, config: ServeConfig, context: zmq.Context[zmq.Socket[bytes]], store: Path) -> None:
        self._config = config
        self._blobs = BlobFolder(store / "blobs")
        self._folder, self._owned = _socket_folder(store)
        self._endpoint = f"ipc://{self._folder / 'workers'}"
        self._prefix = secrets.token_hex(4)
        self._serial = 0
        self._leases = 0
        self._places = [_Place(device) for device in config.parsed_devices]
        self._processes: dict[str, _Process] = {}
        self.lost = 0
        self.unable = Unable("The server's worker process does not start.", "The server's log says why.")
        method = "forkserver" if sys.platform == "linux" else "spawn"
        self._factory: Any = multiprocessing.get_context(method)  # the contexts' common base knows no Process
        if method == "forkserver":
            os.environ[worker.JOB_VARIABLE] = config.job
            self._factory.set_forkserver_preload(["platelight.server.warm"])
        # a thread, as the first start waits for what is loaded to be loaded
        self._starter = ThreadPoolExecutor(1, "start")
        self.socket = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.socket.bind(self._endpoint)

    @property
    def broken(self) -> bool:
        """True when no worker is up and none starts, on no device; ``unable`` then says why, as far as is known."""
        up = {id(one.place) for one in self._processes.values() if one.state is not WorkerState.STARTING}
        return all(one.failed_starts >= STARTS_ALLOWED and id(one) not in up for one in self._places)

    @property
    def can_run(self) -> bool:
        """True when a device is free and a worker is ready on it."""
        return self._ready() is not None

    @property
    def busy(self) -> int:
        """The number of jobs under way."""
        return sum(one.state is WorkerState.BUSY for one in self._processes.values())

    @property
    def devices(self) -> int:
        """The number of devices."""
        return len(self._places)

    def run(self, job: Job, lean: bool = False) -> bool:
        """Give a job to a ready worker; False when that worker has gone in this very moment."""
        process = self._ready()
        if process is None:
            return False
        self._leases += 1
        if not self._send(process, Run(self._leases, job.key, job.request, job.inputs, lean)):
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
            code = process.exit_code
            if code is not None:
                events += self._received()  # what it sent before it died still counts
                events += self._bury(process, code, now)
        for place in self._places:
            there = sum(one.place is place for one in self._processes.values())
            if there < 1 + self._config.spares and now >= place.not_before and files_to_spare(FILES_TO_SPARE):
                self._start(place)
        return events

    def report(self) -> tuple[WorkerReport, ...]:
        """Return the state of every worker."""
        return tuple(
            WorkerReport(
                one.name, one.place.shown or one.place.device.name, "silent" if one.silent else one.state.value, one.memory,
                one.key[:12], (one.process.pid or 0) if one.process else 0,
            )
            for one in self._processes.values()
        )  # fmt: skip

    def close(self) -> None:
        """End all workers: TERM, two seconds, KILL."""
        self._starter.shutdown(cancel_futures=True)
        running = [one.process for one in self._processes.values() if one.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + 2.0
        for process in running:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()
        self._processes.clear()
        self.socket.close(linger=0)
        if self._owned:
            shutil.rmtree(self._folder, ignore_errors=True)

    # ---- inside

    def _ready(self) -> _Process | None:
        taken = {id(one.place) for one in self._processes.values() if one.state is WorkerState.BUSY}
        ready = [
            one
            for one in self._processes.values()
            if one.state is WorkerState.IDLE and id(one.place) not in taken and not one.silent
        ]
        # The one that worked last: its caches (lights made ready, maps) are warm, those of a spare are not.
        return max(ready, key=lambda one: one.lease, default=None)

    def _start(self, place: _Place) -> None:
        self._serial += 1
        name = f"{self._prefix}-{self._serial}"
        config = self._config
        options = worker.WorkerOptions(
            self._endpoint,
            name,
            self._blobs.folder,
            config.job,
            place.device,
            config.threads,
            config.log_format,
            None if config.memory_gib is None else int(config.memory_gib * GIB),
            config.engine,
            config.limits.max_job_bytes,
        )

        def start() -> BaseProcess:
            process: BaseProcess = self._factory.Process(
                target=worker.work, args=(options,), name=name, daemon=True
            )
            process.start()
            log.info("worker %s: started on %s, pid %s", name, place.device.name, process.pid)
            return process

        self._processes[name] = _Process(name, place, self._starter.submit(start))

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

    def _handle(self, process: _Process, message: FromWorker) -> list[Event]:
        match message:
            case Ready():
                process.state, process.place.failed_starts = WorkerState.IDLE, 0
                process.place.shown, taken = message.device, time.monotonic() - process.since
                log.info("worker %s: ready on %s after %.2f s", process.name, message.device, taken)
            case Unable():
                self.unable = message
                process.place.failed_starts = STARTS_ALLOWED  # it would say the same again
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
        limit, quiet = self._config.worker_memory, now - process.heard
        running = process.process
        if process.verdict is not None or running is None:
            return
        if process.state is WorkerState.STARTING and now - process.since > START_SECONDS:
            self._kill(process, Lost("it did not start in time"))
        elif process.silent and running.pid is not None and is_stopped(running.pid):
            self._kill(process, Lost("it was frozen by a signal"))
        elif process.state is not WorkerState.STARTING and quiet > HUNG_SECONDS:
            self._kill(process, Lost("it stopped answering"))
        elif process.memory > limit:
            self._kill(process, Lost(f"it used more than {limit / 2**20:.0f} MiB of memory", memory=True))
        elif process.state is WorkerState.BUSY and now - process.since > self._config.job_seconds:
            self._kill(process, Lost(f"it took longer than {self._config.job_seconds:g} seconds", final=True))
        elif process.stop_asked is not None:
            if now - process.stop_asked > KILL_AFTER:
                running.kill()
            elif now - process.stop_asked > TERM_AFTER:
                running.terminate()

    def _kill(self, process: _Process, verdict: Lost) -> None:
        log.error("worker %s: ended, because %s", process.name, verdict.reason, extra={"job": process.key})
        process.verdict = verdict
        assert process.process is not None
        process.process.kill()

    def _bury(self, process: _Process, code: int, now: float) -> list[Event]:
        del self._processes[process.name]
        place = process.place
        if isinstance(error := process.starting.exception(), OSError):  # no files or processes left: may pass
            place.not_before = now + 1.0
            log.error("worker %s: could not be started: %s", process.name, error)
        elif process.state is WorkerState.STARTING:
            place.failed_starts += 1
            place.not_before = now + min(_LONGEST_BACKOFF, 0.25 * 2**place.failed_starts)
        if code:
            self.lost += process.state is not WorkerState.STARTING
            log.error("worker %s: gone (%s)", process.name, _cause(code))
        if process.process is not None:
            pid = process.process.pid
            if code == 255 and pid:
                # the process it was forked from is gone, so this is only a guess: make it true
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):  # no file to spare: it goes at the next start
                self._blobs.sweep(pid)
            with contextlib.suppress(ValueError):
                process.process.close()
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


def _socket_folder(store: Path) -> tuple[Path, bool]:
    """Return a 0700 folder for the ipc socket, and whether it is to be removed at the end."""
    folder = store / "run"
    if len(os.fsencode(folder.resolve())) < 80:  # socket paths end at 107 bytes
        return private_folder(folder).resolve(), False
    return Path(tempfile.mkdtemp(prefix="platelight-")), True
