"""The worker process: takes one job at a time, runs it, writes the planes to the blob folder.

It holds no connection to any client. Planes are mapped from files that the broker has checked; what travels on
the socket is small. It ends when the broker does, however that died.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import mmap
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zmq

from platelight.protocol.errors import Cancelled, JobFailed, PlatelightError
from platelight.protocol.frames import check_planes, describe, meta_to_text, restore
from platelight.protocol.messages import Limits, PlaneInfo
from platelight.protocol.requests import Request
from platelight.resources import keep_freed_memory, resident_memory
from platelight.server.blobs import BlobFolder
from platelight.server.devices import Device, found, pin
from platelight.server.inside import (
    Beat,
    Broken,
    Finished,
    Inside,
    Ready,
    Run,
    Stop,
    Unable,
    Working,
    decode_to_worker,
    encode,
)
from platelight.server.logs import start_logging

log = logging.getLogger(__name__)
BEAT_SECONDS = 0.5
JOB_VARIABLE = "PLATELIGHT_WARM_JOB"  # how the process that workers are forked from learns what to load


class _Result(Protocol):
    @property
    def planes(self) -> Mapping[str, np.ndarray[Any, Any]]: ...
    @property
    def meta(self) -> Mapping[str, Any]: ...


JobFunction = Callable[
    [
        Request, dict[str, np.ndarray[Any, Any]], Callable[[float, str], None], Callable[[], bool],
        Callable[[str, np.ndarray[Any, Any]], None],
    ], _Result
]  # fmt: skip


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker process is started with."""

    endpoint: str
    name: str
    blobs: Path
    job: str
    device: Device
    threads: int | None
    log_format: str
    memory: int | None = None
    engine: str = "auto"
    max_job_bytes: int = Limits().max_job_bytes


@dataclass(frozen=True)
class JobCode:
    """What runs jobs, how it is asked to get by with less memory (False: it cannot), and what it does between jobs."""

    run: JobFunction
    make_room: Callable[[], bool] = lambda: False
    idle: Callable[[], bool] = lambda: False


def load_job(
    name: str, device: str, threads: int | None, memory: int | None = None, engine: str = "auto"
) -> JobCode:
    """Import ``module:function`` and let the module configure itself for the device.

    The module may have ``configure(device, threads)``, called once; then ``choose_engine(name)``; ``limit_memory(bytes)``,
    called where a limit is set; ``make_room() -> bool``, called after a job ran
    out of memory and before its one further attempt: it drops caches and takes smaller tiles from then on; and
    ``idle() -> bool``, called while no job comes, as long as it is true: it makes ahead, in short steps, what later jobs need.
    """
    module_name, _, function_name = name.partition(":")
    module = importlib.import_module(module_name)
    configure = getattr(module, "configure", None)
    if configure is not None:
        configure(device, threads)
    if hasattr(module, "choose_engine"):
        module.choose_engine(engine)
    if memory is not None and hasattr(module, "limit_memory"):
        module.limit_memory(memory)
    run: JobFunction = getattr(module, function_name)
    there = {name: getattr(module, name) for name in ("make_room", "idle") if hasattr(module, name)}
    return JobCode(run, **there)


def out_of_memory(error: BaseException) -> bool:
    """True for Python's and for torch's ways of saying that memory ran out (torch is not imported here)."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


class Keeper:
    """Hashes and writes planes in threads, those that are finished early while the rest is computed.

    Both let go of the interpreter. What was begun for a job that fails is an orphan, which the store removes in time.
    """

    def __init__(self, blobs: BlobFolder) -> None:
        self._blobs = blobs
        self._beside = ThreadPoolExecutor(1, "early")  # the job needs the other cores
        self._pool = ThreadPoolExecutor(4, "keep")
        self._begun: dict[str, tuple[np.ndarray[Any, Any], Future[PlaneInfo]]] = {}

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, *_: object) -> None:
        self._beside.shutdown(cancel_futures=True)
        self._pool.shutdown(cancel_futures=True)

    def begin(self, name: str, plane: np.ndarray[Any, Any]) -> None:
        """Begin to store a plane that does not change any more."""
        self._begun[name] = plane, self._beside.submit(self._keep, name, plane)

    def keep(self, planes: Mapping[str, np.ndarray[Any, Any]]) -> tuple[PlaneInfo, ...]:
        """Store a job's planes, but for those begun before, and wait for all. Raises StoreFull, InputError."""
        stored = []
        for name, plane in planes.items():
            early, future = self._begun.get(name, (None, None))
            waiting = future is not None and future.cancel()  # more threads are free now
            if future is None or waiting or early is not plane:
                future = self._pool.submit(self._keep, name, plane)
            stored.append(future)
        return tuple(future.result() for future in stored)

    def _keep(self, name: str, plane: np.ndarray[Any, Any]) -> PlaneInfo:
        described = describe(name, plane)
        self._blobs.put(described.data, described.info.hash)
        return described.info


class Worker:
    """Serves jobs from the broker's socket until told to end."""

    def __init__(self, options: WorkerOptions) -> None:
        self._blobs = BlobFolder(options.blobs)
        # the other limits are for what clients send: results may be larger and more
        self._limits = Limits(max_job_bytes=options.max_job_bytes)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, options.name.encode("ascii"))
        self._socket.linger = 1000
        self._socket.connect(options.endpoint)
        self._stopped: set[int] = set()
        self._told = 0.0

    def refuse(self, error: PlatelightError) -> None:
        """Tell the broker why this worker cannot serve, before it ends."""
        self._send(Unable(error.sentence[:2000], error.remedy[:2000]))
        self._context.destroy(linger=1000)

    def serve(self, code: JobCode, device: Device) -> None:
        """Wait for jobs and run them, one by one."""
        self._send(Ready(os.getpid(), device.name))
        while True:
            if not self._socket.poll(int(BEAT_SECONDS * 1000)):
                while code.idle() and not self._socket.poll(0):
                    pass
                continue
            message = decode_to_worker.decode(self._socket.recv())
            if isinstance(message, Run):
                self._send(self._run(message, code))
            else:
                self._stopped.add(message.lease)

    def _send(self, message: Inside) -> None:
        self._socket.send(encode(message))

    def _run(self, run: Run, code: JobCode) -> Finished | Broken:
        started = time.monotonic()
        told = {"job": run.key}
        log.info("started (lease %d)", run.lease, extra=told)
        self._send(Working(run.lease, 0.0, "starting"))
        try:
            if run.lean:
                code.make_room()
            outputs, meta = self._attempt(run, code)
            message = Finished(run.lease, outputs, meta)
        except PlatelightError as error:
            level = logging.INFO if isinstance(error, Cancelled) else logging.WARNING
            log.log(level, "%s: %s", error.code, error, extra=told)
            return Broken(run.lease, error.code, error.sentence[:2000], error.remedy[:2000])
        except (
            Exception
        ) as error:  # the job boundary: whatever the pipeline throws ends the job, not the worker
            log.exception("failed", extra=told)
            if out_of_memory(error):
                sentence, remedy = "The job ran out of memory on the server.", "Try a smaller plate."
            else:
                sentence = f"The job failed in the worker: {type(error).__name__}: {error}"
                remedy = "The server's log has the details."
            return Broken(run.lease, JobFailed.code, sentence[:2000], remedy)
        log.info("done in %.2f s", time.monotonic() - started, extra=told)
        return message

    def _attempt(self, run: Run, code: JobCode) -> tuple[tuple[PlaneInfo, ...], str]:
        """Run a job, once more with smaller tiles if memory runs out; keep its planes."""
        try:
            return self._call(run, code)
        except Exception as error:
            if not out_of_memory(error) or run.lean or not code.make_room():
                raise
        # out of the except block, so that the traceback no longer holds the first attempt's arrays
        log.warning("ran out of memory; once more with smaller tiles", extra={"job": run.key})
        self._send(Working(run.lease, 0.0, "starting again with less memory"))
        return self._call(run, code)

    def _call(self, run: Run, code: JobCode) -> tuple[tuple[PlaneInfo, ...], str]:
        planes = {info.name: self._map(info) for info in run.planes}
        with Keeper(self._blobs) as keeper:
            result = code.run(run.request, planes, self._progress(run), self._cancelled(run), keeper.begin)
            if self._cancelled(run)():
                raise Cancelled("The job was cancelled.")
            outputs = keeper.keep(result.planes)
        check_planes(outputs, self._limits)
        return outputs, meta_to_text(result.meta)

    def _map(self, info: PlaneInfo) -> np.ndarray[Any, Any]:
        with open(self._blobs.path(info.hash), "rb") as file:
            # private pages: the pipeline may write into its arrays, the blob never changes
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        return restore(info, memoryview(data))

    def _progress(self, run: Run) -> Callable[[float, str], None]:
        def progress(fraction: float, stage: str) -> None:
            now = time.monotonic()
            if now - self._told > 0.05:  # latest wins: more would only queue up
                self._told = now
                self._send(Working(run.lease, min(1.0, max(0.0, float(fraction))), stage[:200]))

        return progress

    def _cancelled(self, run: Run) -> Callable[[], bool]:
        def cancelled() -> bool:
            while self._socket.poll(0):
                message = decode_to_worker.decode(self._socket.recv())
                if isinstance(message, Stop):
                    self._stopped.add(message.lease)
            return run.lease in self._stopped

        return cancelled


def _watch_parent() -> None:
    """End this process when the broker ends, however it died."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(3)


def _beat(endpoint: str, name: str) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.IDENTITY, f"{name}.beat".encode("ascii"))
    socket.linger = 0
    socket.connect(endpoint)
    while True:
        with contextlib.suppress(zmq.Again):
            socket.send(encode(Beat(resident_memory())), zmq.DONTWAIT)
        time.sleep(BEAT_SECONDS)


def work(options: WorkerOptions) -> None:
    """Entry of the process; the supervisor gives the options."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C in the terminal is the broker's to handle
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    start_logging(options.log_format, f"worker {options.name}")
    threading.Thread(target=_watch_parent, daemon=True).start()
    threading.Thread(target=_beat, args=(options.endpoint, options.name), daemon=True).start()
    worker = Worker(options)
    try:
        if options.memory is None:
            keep_freed_memory()
        device = found(options.device)
        cores = pin(device)
        threads = options.threads or cores
        code = load_job(options.job, device.torch, threads, options.memory, options.engine)
    except PlatelightError as error:
        worker.refuse(error)
        raise SystemExit(1) from None
    worker.serve(code, device)
