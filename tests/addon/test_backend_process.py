"""The managed backend, with small stand-in programs in place of the real one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SCRIPTS

pytestmark = pytest.mark.alone


@pytest.fixture
def bp(addon: Callable[[str], Any]) -> Any:
    return addon("backend_process")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


LISTEN = (
    "import socket,sys,time; s=socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1);"
    "time.sleep(0.2); s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(); print('listening', flush=True);"
    "time.sleep(60)"
)


def test_starting_running_stopped(bp: Any, tmp_path: Path) -> None:
    port = free_port()
    endpoint = f"tcp://127.0.0.1:{port}"
    process = bp.BackendProcess(
        [sys.executable, "-c", LISTEN, str(port)],
        lambda: bp.answers(endpoint),
        tmp_path / "logs" / "backend.log",
    )
    assert process.poll() is bp.BackendState.STOPPED
    process.start()
    assert process.state is bp.BackendState.STARTING
    process.wait_ready(30)
    assert process.state is bp.BackendState.RUNNING
    pid = process.pid
    assert pid is not None
    process.stop()
    assert process.state is bp.BackendState.STOPPED
    assert not bp.answers(endpoint)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert process.log_tail() == ["listening"]


def test_a_backend_that_dies_is_failed_and_tells_its_last_line(bp: Any, tmp_path: Path) -> None:
    code = "import sys; print('no weights here', file=sys.stderr); sys.exit(3)"
    process = bp.BackendProcess([sys.executable, "-c", code], lambda: False, tmp_path / "backend.log")
    process.start()
    with pytest.raises(bp.ConnectionFailed, match="no weights here"):
        process.wait_ready(30)
    assert process.state is bp.BackendState.FAILED


def test_stop_is_bounded_even_when_term_is_ignored(bp: Any, tmp_path: Path) -> None:
    code = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    process = bp.BackendProcess([sys.executable, "-c", code], lambda: True, tmp_path / "backend.log")
    process.start()
    until = time.monotonic() + 20
    while not process.log_tail() and time.monotonic() < until:
        time.sleep(0.02)
    began = time.monotonic()
    process.stop(timeout=0.3)
    assert time.monotonic() - began < 3.0
    assert process.pid is None


def test_a_program_that_is_not_there_is_a_sentence(bp: Any, tmp_path: Path) -> None:
    process = bp.BackendProcess([str(tmp_path / "missing")], lambda: True, tmp_path / "backend.log")
    with pytest.raises(bp.ConnectionFailed, match="missing cannot be started"):
        process.start()
    assert process.state is bp.BackendState.FAILED


def test_waiting_ends_when_cancelled(bp: Any, tmp_path: Path) -> None:
    process = bp.BackendProcess(
        [sys.executable, "-c", "import time; time.sleep(60)"], lambda: False, tmp_path / "backend.log"
    )
    process.start()
    try:
        with pytest.raises(bp.Cancelled):
            process.wait_ready(30, cancelled=lambda: True)
    finally:
        process.stop()


def test_a_backend_ends_with_a_blender_that_is_killed(tmp_path: Path) -> None:
    code = f"""
import sys, time, types
from pathlib import Path
package = types.ModuleType("platelight_addon")
package.__path__ = [{str(ROOT / "blender_addon")!r}]
sys.modules["platelight_addon"] = package
from platelight_addon.backend_process import BackendProcess
command = [sys.executable, "-m", "platelight.server", "--port", "0", "--job", "addon_job:run_job"]
told = Path({str(tmp_path / "config" / "server.json")!r})
paths = dict(PLATELIGHT_CONFIG_DIR=str(told.parent), PYTHONPATH={str(ROOT / "backend") + os.pathsep + str(SCRIPTS)!r})
process = BackendProcess(command, told.exists, Path({str(tmp_path / "backend.log")!r}), paths)
process.start()
process.wait_ready(60)
print(process.pid, flush=True)
time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "backend")}
    blender = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert blender.stdout is not None
    pid = int(blender.stdout.readline())
    blender.kill()
    blender.wait()
    until = time.monotonic() + 15
    while (tmp_path / "config" / "server.json").exists() or running(pid):
        assert time.monotonic() < until, (tmp_path / "backend.log").read_text()
        time.sleep(0.05)


def running(pid: int) -> bool:
    """True while a process runs; one that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    # The file is gone before it is opened, or the process while it is read.
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("", True),
        ("tcp://127.0.0.1:5599", True),
        ("tcp://[::1]:5599", True),
        ("tcp://localhost:5599", False),
        ("tcp://192.168.1.2:5599", False),
        ("tcp://127.0.0.1", False),
        ("tcp://127.0.0.1:99999", False),
        ("tcp://[::1", False),
    ],
)
def test_a_backend_is_started_on_this_computer_only(
    addon: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str, local: bool
) -> None:
    remote = addon("remote")
    monkeypatch.setenv("PLATELIGHT_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setattr(remote, "answers", lambda _: False)
    folder = tmp_path / "user"
    settings = types.SimpleNamespace(
        endpoint=endpoint,
        backend=sys.executable,
        start_backend=True,
        device="auto",
        folder=folder,
        quota=None,
    )
    if not local:
        with pytest.raises(remote.wire.ConnectionFailed) as error:
            remote.ensure_backend(settings, None)
        assert str(error.value) == f"No backend answers at {endpoint}. Start it and try again."
        return
    process = remote.ensure_backend(settings, None)
    try:
        assert process.pid is not None
        # Left out, it would be the processor.
        assert process.command[-2:] == ["--device", "auto"]
    finally:
        process.stop()
    for quota, said in ((1 << 30, "4"), (10 << 30, "10"), (int(6.5 * (1 << 30)), "6.5")):
        settings.quota = quota
        assert remote.local_backend(settings).command[-4:] == ["--device", "auto", "--quota-gib", said]
    settings.start_backend = False
    with pytest.raises(remote.wire.ConnectionFailed):
        remote.ensure_backend(settings, None)


class Asked:
    """A job's reporter on the main thread, and a backend that is gone for the first ``losses`` requests."""

    def __init__(self, remote: Any, losses: int) -> None:
        self.remote, self.losses = remote, losses
        self.runs = self.mains = 0
        self.stopped = False

    def progress(self, *_: Any) -> None:
        pass

    def cancelled(self) -> bool:
        return self.stopped

    def on_main(self, function: Callable[[], Any]) -> Any:
        self.mains += 1
        return function()

    def connect(self, _endpoint: str) -> Any:
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, *_: Any, **__: Any) -> Any:
        self.runs += 1
        if self.runs <= self.losses:
            raise self.remote.wire.ConnectionFailed("The connection to tcp://127.0.0.1:1 was lost.")
        return types.SimpleNamespace(planes={"relit": 1}, meta={})

    def status(self, _seconds: float) -> Any:
        return types.SimpleNamespace(workers=(), memory=0)


@pytest.mark.parametrize(
    ("changes", "losses", "runs", "answered"),
    [
        ({}, 1, 2, True),  # another Blender had started it, and was closed
        ({}, 2, 2, False),
        ({"start_backend": False}, 1, 1, False),
        ({"endpoint": "tcp://192.168.1.2:5599"}, 1, 1, False),
        ({"own": True}, 1, 1, False),
    ],
)
def test_a_job_outlives_the_blender_that_started_its_backend(
    addon: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    losses: int,
    runs: int,
    answered: bool,
) -> None:
    remote = addon("remote")
    told = Asked(remote, losses)
    started = types.SimpleNamespace(poll=lambda: remote.BackendState.RUNNING, pid=2)
    monkeypatch.setattr(remote.wire, "connect", told.connect)
    monkeypatch.setattr(remote, "ensure_backend", lambda _settings, _running: started)
    monkeypatch.setattr(remote.session, "backend", None)
    process = started if "own" in changes else None
    settings = types.SimpleNamespace(
        **{"endpoint": "", "start_backend": True, "start_timeout": 1.0, **changes}
    )
    arguments = settings, process, remote.wire.Relight(), {}, told
    if answered:
        assert remote.ask(*arguments).planes == {"relit": 1}
        assert remote.session.backend is started
    else:
        with pytest.raises(remote.wire.ConnectionFailed):
            remote.ask(*arguments)
    assert told.runs == runs


def test_find_command_prefers_the_setting(bp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "platelight"
    program.write_text("#!/bin/sh\n")
    monkeypatch.setenv("PLATELIGHT_BACKEND", "")
    assert bp.find_command(str(program)) == [str(program), "serve"]
    assert bp.find_command(sys.executable) == [sys.executable, "-m", "platelight.server"]
    with pytest.raises(bp.ConnectionFailed) as error:
        bp.find_command(str(tmp_path / "nothing"))
    assert str(error.value) == (
        f"The Backend Program {tmp_path / 'nothing'} is not there. "
        "Clear or correct it in the preferences (or PLATELIGHT_BACKEND)."
    )
    monkeypatch.setenv("PLATELIGHT_BACKEND", str(program))
    assert bp.find_command() == [str(program), "serve"]


@pytest.mark.parametrize(
    "endpoint",
    ["", "ipc:///tmp/x", "tcp://127.0.0.1", "tcp://127.0.0.1:1", "tcp://127.0.0.1:99999", "tcp://[::1"],
)
def test_nothing_answers_at_a_bad_endpoint(bp: Any, endpoint: str) -> None:
    assert not bp.answers(endpoint)
