"""The managed backend, with small stand-in programs in place of the real one."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
        with pytest.raises(bp.ConnectionFailed):
            process.wait_ready(30, cancelled=lambda: True)
    finally:
        process.stop()


def test_find_command_prefers_the_setting(bp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "platelight"
    program.write_text("#!/bin/sh\n")
    monkeypatch.setenv("PLATELIGHT_BACKEND", "")
    assert bp.find_command(str(program)) == [str(program), "serve"]
    assert bp.find_command(sys.executable) == [sys.executable, "-m", "platelight.server"]
    assert bp.find_command(str(tmp_path / "nothing")) is None
    monkeypatch.setenv("PLATELIGHT_BACKEND", str(program))
    assert bp.find_command() == [str(program), "serve"]


@pytest.mark.parametrize("endpoint", ["", "ipc:///tmp/x", "tcp://127.0.0.1", "tcp://127.0.0.1:1"])
def test_nothing_answers_at_a_bad_endpoint(bp: Any, endpoint: str) -> None:
    assert not bp.answers(endpoint)
