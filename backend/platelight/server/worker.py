"""The worker process: takes one job at a time, runs it, writes the planes to the blob folder.

It holds no connection to any client. Planes are mapped from files that the broker has checked; what travels on
the socket is small. It ends when the broker does: its standard input then closes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zmq

from platelight.protocol.errors import Cancelled, JobFailed, PlatelightError
from platelight.protocol.frames import check_planes, describe, meta_to_text, restore
from platelight.protocol.messages import Limits, PlaneInfo
from platelight.protocol.requests import Request
from platelight.server.blobs import BlobFolder
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
from platelight.server.resources import resident_memory

log = logging.getLogger(__name__)
BEAT_SECONDS = 0.5


class _Result(Protocol):
    @property
    def planes(self) -> Mapping[str, np.ndarray[Any, Any]]: ...
    @property
    def meta(self) -> Mapping[str, Any]: ...


JobFunction = Callable[
    [Request, dict[str, np.ndarray[Any, Any]], Callable[[float, str], None], Callable[[], bool]], _Result
]


def load_job(name: str, device: str, threads: int | None) -> JobFunction:
    """Import ``module:function`` and let the module configure itself for the device."""
    module_name, _, function_name = name.partition(":")
    module = importlib.import_module(module_name)
    configure = getattr(module, "configure", None)
    if configure is not None:
        configure(device, threads)
    function: JobFunction = getattr(module, function_name)
    return function


class Worker:
    """Serves jobs from the broker's socket until told to end."""

    def __init__(self, endpoint: str, name: str, blobs: Path) -> None:
        self._blobs = BlobFolder(blobs)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, name.encode("ascii"))
        self._socket.linger = 1000
        self._socket.connect(endpoint)
        self._stopped: set[int] = set()
        self._told = 0.0

    def refuse(self, error: PlatelightError) -> None:
        """Tell the broker why this worker cannot serve, before it ends."""
        self._send(Unable(error.sentence[:2000], error.remedy[:2000]))
        self._context.destroy(linger=1000)

    def serve(self, function: JobFunction) -> None:
        """Wait for jobs and run them, one by one."""
        self._send(Ready(os.getpid()))
        while True:
            if not self._socket.poll(int(BEAT_SECONDS * 1000)):
                continue
            message = decode_to_worker.decode(self._socket.recv())
            if isinstance(message, Run):
                self._send(self._run(message, function))
            else:
                self._stopped.add(message.lease)

    def _send(self, message: Inside) -> None:
        self._socket.send(encode(message))

    def _run(self, run: Run, function: JobFunction) -> Finished | Broken:
        started = time.monotonic()
        log.info("job %s: started (lease %d)", run.key[:12], run.lease)
        self._send(Working(run.lease, 0.0, "starting"))
        try:
            planes = {info.name: self._map(info) for info in run.planes}
            result = function(run.request, planes, self._progress(run), self._cancelled(run))
            if self._cancelled(run)():
                raise Cancelled("The job was cancelled.")
            outputs = tuple(self._keep(name, plane) for name, plane in result.planes.items())
            check_planes(outputs, Limits())
            message = Finished(run.lease, outputs, meta_to_text(result.meta))
        except PlatelightError as error:
            level = logging.INFO if isinstance(error, Cancelled) else logging.WARNING
            log.log(level, "job %s: %s: %s", run.key[:12], error.code, error)
            return Broken(run.lease, error.code, error.sentence[:2000], error.remedy[:2000])
        except (
            Exception
        ) as error:  # the job boundary: whatever the pipeline throws ends the job, not the worker
            log.exception("job %s: failed", run.key[:12])
            sentence = f"The job failed in the worker: {type(error).__name__}: {error}"
            return Broken(run.lease, JobFailed.code, sentence[:2000], "The server's log has the details.")
        log.info("job %s: done in %.2f s", run.key[:12], time.monotonic() - started)
        return message

    def _map(self, info: PlaneInfo) -> np.ndarray[Any, Any]:
        with open(self._blobs.path(info.hash), "rb") as file:
            # private pages: the pipeline may write into its arrays, the blob never changes
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        return restore(info, memoryview(data))

    def _keep(self, name: str, plane: np.ndarray[Any, Any]) -> PlaneInfo:
        described = describe(name, plane)
        self._blobs.put(described.data)
        return described.info

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
    """End this process when the broker's end of our standard input closes, however it died."""
    while sys.stdin.buffer.read(4096):
        pass
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


def main() -> int:
    """Entry of the process; the supervisor writes the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--blobs", type=Path, required=True)
    parser.add_argument("--job", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, format=f"%(asctime)s %(levelname)s worker {options.name} %(message)s"
    )
    threading.Thread(target=_watch_parent, daemon=True).start()
    threading.Thread(target=_beat, args=(options.endpoint, options.name), daemon=True).start()
    worker = Worker(options.endpoint, options.name, options.blobs)
    try:
        function = load_job(options.job, options.device, options.threads)
    except PlatelightError as error:
        worker.refuse(error)
        return 1
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C reaches the whole group; the broker ends us
        worker.serve(function)
    return 0


if __name__ == "__main__":
    sys.exit(main())
