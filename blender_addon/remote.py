"""Requests to the backend from a job's thread. No bpy module use."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from . import wire
from .backend_process import BackendProcess, BackendState, answers, find_command, is_local
from .exr import Pixels
from .installer import environment_python, installed_version
from .jobs import Reporter
from .session import Facts, session

if TYPE_CHECKING:
    from .wire import Client

log = logging.getLogger(__name__)
_LEAST_GIB = 4.0  # of a backend's store: with less it could not take a large plate


class BackendSettings(Protocol):
    """The preferences that matter here; ``preferences.Settings`` is one."""

    @property
    def endpoint(self) -> str: ...
    @property
    def backend(self) -> str: ...
    @property
    def start_backend(self) -> bool: ...
    @property
    def device(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def start_timeout(self) -> float: ...
    @property
    def quota(self) -> int | None: ...


@dataclass(frozen=True)
class Answer:
    """What a job brought back: planes (row 0 at the top; halves where those were asked for) and what the backend said."""

    planes: dict[str, Pixels]
    meta: dict[str, Any]


def facts_of(client: Client) -> Facts | None:
    """Ask a connected backend for its devices and memory; None where it does not say, which stops nothing."""
    try:
        report = client.status(2.0)
    except wire.PlatelightError:
        return None
    devices = tuple(dict.fromkeys(worker.device for worker in report.workers))
    return Facts(devices, report.memory + sum(worker.memory for worker in report.workers))


def look(settings: BackendSettings, reporter: Reporter) -> None:
    """Connect to the backend and keep what it says of itself for the panel; in a job's thread.

    Raises:
        PlatelightError: none answers, or it does not let this computer in.
    """
    with wire.connect(settings.endpoint) as client:
        client.connect()
        _keep(facts_of(client), reporter)


def _keep(found: Facts | None, reporter: Reporter) -> None:
    def keep() -> None:
        session.facts = found

    reporter.on_main(keep)


def reachable(settings: BackendSettings) -> bool:
    """Whether something listens where the settings, or else the local backend's own file, say."""
    endpoint = settings.endpoint or wire.local_endpoint()
    return bool(endpoint) and answers(endpoint)


def local_backend(settings: BackendSettings) -> BackendProcess:
    """A backend process for these settings, not started yet.

    Raises:
        ConnectionFailed: no backend program is installed where we look.
    """
    command = _installed(settings)
    # Any free port: the backend's connection file tells it, and two Blenders do not get in each other's way.
    arguments = ["--endpoint", settings.endpoint] if settings.endpoint else ["--port", "0"]
    arguments += ["--device", settings.device]
    if settings.quota is not None:
        arguments += ["--quota-gib", f"{max(_LEAST_GIB, settings.quota / (1 << 30)):g}"]
    return BackendProcess(
        [*command, *arguments],
        ready=lambda: reachable(settings),
        log_path=settings.folder / "backend.log",
    )


def _installed(settings: BackendSettings) -> list[str]:
    managed = settings.folder / "backend"
    whole = bool(installed_version(managed))
    command = find_command(settings.backend, environment_python(managed) if whole else None)
    if command is None:
        raise wire.ConnectionFailed("No platelight backend is installed here.", "Press Install Backend.")
    return command


def command_line(settings: BackendSettings) -> list[str]:
    """The installed backend's ``platelight`` command, without options.

    Raises:
        ConnectionFailed: none is installed where we look.
    """
    command = _installed(settings)
    return command[:-1] if command[-1] == "serve" else [command[0], "-m", "platelight.cli"]


def ensure_backend(settings: BackendSettings, running: BackendProcess | None) -> BackendProcess | None:
    """Start a backend on this computer if none answers, the settings allow it and its address is this computer's.

    Main thread, returns at once.

    Returns the process that we started, now or before, or None where another one answers.

    Raises:
        ConnectionFailed: nothing answers and none may or can be started.
    """
    if running is not None and running.pid is not None:
        return running
    if reachable(settings):
        return None
    if not (settings.start_backend and is_local(settings.endpoint)):
        where = settings.endpoint or "this computer"
        raise wire.ConnectionFailed(f"No backend answers at {where}.", "Start it and try again.")
    process = local_backend(settings)
    process.start()
    return process


def ask(
    settings: BackendSettings,
    process: BackendProcess | None,
    request: wire.Decompose | wire.Refine | wire.Relight,
    planes: dict[str, Pixels],
    reporter: Reporter,
) -> Answer:
    """Run one request on the backend and wait for its planes; in a job's thread.

    Where another Blender had started the backend and ends it, one of our own goes on with the request.

    Raises:
        PlatelightError: as the backend or the client says; ``Cancelled`` when the reporter asked for it.
    """
    try:
        return _ask(settings, process, request, planes, reporter)
    except wire.ConnectionFailed as error:
        if process is not None or not (settings.start_backend and is_local(settings.endpoint)):
            raise
        log.warning("The other backend is gone, one is started here: %s", error.sentence)

    def start() -> BackendProcess | None:
        session.backend = ensure_backend(settings, session.backend)
        session.other_backend = session.backend is None
        return session.backend

    return _ask(settings, reporter.on_main(start), request, planes, reporter)


def _ask(
    settings: BackendSettings,
    process: BackendProcess | None,
    request: wire.Decompose | wire.Refine | wire.Relight,
    planes: dict[str, Pixels],
    reporter: Reporter,
) -> Answer:
    if process is not None and process.poll() is not BackendState.RUNNING:
        reporter.progress(0.0, "starting the backend")
        process.wait_ready(settings.start_timeout, reporter.cancelled)
    if reporter.cancelled():
        raise wire.Cancelled("Cancelled.")

    def over() -> bool:
        # A backend of ours that is gone does not come back by itself: no use in waiting for it.
        return reporter.cancelled() or (process is not None and process.pid is None)

    with wire.connect(settings.endpoint) as client:
        try:
            result = client.run(request, planes, progress=reporter.progress, cancelled=over)
        except wire.PlatelightError as error:
            found = _explained(error, process, reporter)
            if found is error:
                raise
            raise found from error
        _keep(facts_of(client), reporter)
    return Answer(dict(result.planes), dict(result.meta))


def _explained(
    error: wire.PlatelightError, process: BackendProcess | None, reporter: Reporter
) -> wire.PlatelightError:
    """The error itself, or that a backend of ours is gone where that is why."""
    known = isinstance(error, wire.Cancelled | wire.ConnectionFailed)
    if not known or reporter.cancelled() or process is None or process.pid is not None:
        return error
    return wire.ConnectionFailed(
        "The backend ended in the middle of the job.",
        f"Try again, it is started anew; its log is {process.log_path}.",
    )


class Line:
    """A connection that stays open between requests, for one thread at a time: previews ask too often to connect anew."""

    def __init__(self, settings: BackendSettings, process: BackendProcess | None) -> None:
        """``process``: what ``ensure_backend`` said."""
        self._settings, self._process = settings, process
        self._client: Client | None = None
        self._lock = threading.Lock()
        self.closed = False

    def ask(
        self, request: wire.Relight, planes: dict[str, wire.Plane], reporter: Reporter
    ) -> dict[str, Pixels]:
        """Run one request and wait for its planes; after an error the line is closed.

        Raises:
            PlatelightError: as ``ask``.
        """
        process = self._process
        with self._lock:
            try:
                if self._client is None:
                    if process is not None and process.poll() is not BackendState.RUNNING:
                        process.wait_ready(self._settings.start_timeout, reporter.cancelled)
                    self._client = wire.connect(self._settings.endpoint)

                def over() -> bool:
                    return reporter.cancelled() or (process is not None and process.pid is None)

                return dict(self._client.run(request, planes, cancelled=over).planes)
            except wire.PlatelightError as error:
                self.closed = True
                found = _explained(error, process, reporter)
                if found is error:
                    raise
                raise found from error
            finally:
                if self.closed:
                    self._drop()

    def close(self) -> None:
        """Close it now, or when the request under way has ended."""
        self.closed = True
        if self._lock.acquire(timeout=0.02):
            try:
                self._drop()
            finally:
                self._lock.release()

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
