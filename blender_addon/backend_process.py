"""A local backend as a child process: find, start, watch, stop. No bpy module use."""

from __future__ import annotations

import ipaddress
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from .wire import Cancelled, ConnectionFailed

log = logging.getLogger(__name__)


class BackendState(StrEnum):
    """What the interface draws."""

    NOT_INSTALLED = "not_installed"
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    FAILED = "failed"


def answers(endpoint: str, timeout: float = 0.3) -> bool:
    """Whether something listens at a ``tcp://host:port`` endpoint; it says nothing about who."""
    try:
        parts = urlsplit(endpoint)
        if parts.scheme != "tcp" or parts.hostname is None or parts.port is None:
            return False
        with socket.create_connection((parts.hostname, parts.port), timeout):
            return True
    except (OSError, ValueError):  # ValueError: no port or address can be written so
        return False


def is_local(endpoint: str) -> bool:
    """Whether a backend of ours can listen at an endpoint: a literal loopback address with a port, or none at all."""
    try:
        parts = urlsplit(endpoint)
        return not endpoint or (
            parts.port is not None and ipaddress.ip_address(parts.hostname or "").is_loopback
        )
    except ValueError:
        return False


def find_command(configured: str = "", managed: Path | None = None) -> list[str] | None:
    """The command that serves, without options, or None where no backend is installed.

    Args:
        configured: what the user set: a ``platelight`` executable, or a Python that has the package.
        managed: the Python of the environment that the extension installed, if it is whole.

    Looked up in this order: the setting, the environment variable ``PLATELIGHT_BACKEND``, the managed one, next to
    this Python (a bpy wheel in the backend's own environment), the search path.

    Raises:
        ConnectionFailed: what was set is not there.
    """
    for choice in (configured, os.environ.get("PLATELIGHT_BACKEND", "")):
        if choice:
            path = Path(choice).expanduser()
            if not path.is_file():
                raise ConnectionFailed(
                    f"The Backend Program {path} is not there.",
                    "Clear or correct it in the preferences (or PLATELIGHT_BACKEND).",
                )
            return (
                [str(path), "-m", "platelight.server"]
                if path.stem.startswith("python")
                else [str(path), "serve"]
            )
    if managed is not None:
        return [str(managed), "-m", "platelight.server"]
    name = "platelight.exe" if sys.platform == "win32" else "platelight"
    beside = Path(sys.executable).parent / name
    if beside.is_file():
        return [str(beside), "serve"]
    found = shutil.which(name)
    return [found, "serve"] if found else None


class BackendProcess:
    """One backend that this process started.

    Args:
        command: program and arguments.
        ready: asked from ``poll()`` whether the backend can be talked to.
        log_path: where its output goes; the folder is made.
        environment: variables to add to this process's own.
    """

    def __init__(
        self,
        command: Sequence[str],
        ready: Callable[[], bool],
        log_path: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = list(command)
        self.log_path = log_path
        self.state = BackendState.STOPPED
        self._ready = ready
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the process; it is STARTING until ``poll()`` finds it ready.

        Raises:
            ConnectionFailed: the program cannot be run.
        """
        if self.pid is not None:
            return
        # Blender's Python settings must not leak into another interpreter.
        environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONHOME", "PYTHONPATH"}}
        environment.update(self._environment)
        environment["PLATELIGHT_END_WITH_STDIN"] = "1"  # it ends also when this process is killed
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.log_path.open("ab") as stream:
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.PIPE,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=sys.platform != "win32",
                )
        except OSError as error:
            self.state = BackendState.FAILED
            raise ConnectionFailed(
                f"The backend {self.command[0]} cannot be started: {error.strerror}.",
                "Set its path in the preferences of Platelight.",
            ) from error
        self.state = BackendState.STARTING

    def poll(self) -> BackendState:
        """Look at the process and return its state."""
        if self._process is None:
            return self.state
        if self._process.poll() is not None:
            if self.state in {BackendState.STARTING, BackendState.RUNNING}:
                self.state = BackendState.FAILED
        elif self.state is BackendState.STARTING and self._ready():
            self.state = BackendState.RUNNING
        return self.state

    def wait_ready(self, timeout: float, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Block until the backend is ready.

        Raises:
            Cancelled: ``cancelled`` says so; the backend goes on.
            ConnectionFailed: it ended, or was not ready in ``timeout`` seconds; the sentence has the last
                line of its log.
        """
        until = time.monotonic() + timeout
        while self.poll() is not BackendState.RUNNING:
            if cancelled():
                raise Cancelled("Cancelled.")
            if self.state is BackendState.FAILED or time.monotonic() > until:
                last = next((line for line in reversed(self.log_tail(5)) if line.strip()), "no output")
                raise ConnectionFailed(
                    f"The backend did not start: {last.strip()}.", f"Its log is {self.log_path}."
                )
            time.sleep(0.05)

    def stop(self, timeout: float = 5.0) -> None:
        """End the process: TERM, then KILL after ``timeout`` seconds. Never blocks longer than that plus 2."""
        process = self._process
        if process is None:
            self.state = BackendState.STOPPED
            return
        if process.poll() is None:
            self.state = BackendState.STOPPING
            process.terminate()
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                log.warning("backend %d did not end on TERM, killing it", process.pid)
                process.kill()
                process.wait(2.0)
        if process.stdin is not None:
            process.stdin.close()
        self._process = None
        self.state = BackendState.STOPPED

    def log_tail(self, lines: int = 20) -> list[str]:
        """The last lines of the log."""
        try:
            with self.log_path.open(encoding="utf-8", errors="replace") as stream:
                return [line.rstrip("\n") for line in deque(stream, maxlen=lines)]
        except FileNotFoundError:
            return []
