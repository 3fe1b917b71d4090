"""Blender runs in child processes, each with its own empty user folders; bpy-free parts are imported here
with bpy blocked."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from haven import Haven

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(__file__).parent / "scripts"
# Pythons with other bpy versions, separated as PATH is: the same tests run in each.
HOSTS = [sys.executable, *filter(None, os.environ.get("PLATELIGHT_BPY_PYTHONS", "").split(os.pathsep))]


def blender_version(python: str) -> str:
    """Version of the bpy that a Python has, or "" where it has none."""
    code = "from importlib.metadata import version; print(version('bpy'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


@pytest.fixture(scope="session", params=HOSTS, ids=lambda python: Path(python).parent.parent.name)
def bpy_python(request: pytest.FixtureRequest) -> str:
    """A Python that can import bpy."""
    if not blender_version(request.param):
        pytest.skip(f"{request.param} has no bpy")
    return str(request.param)


@pytest.fixture
def run_blender(bpy_python: str, tmp_path: Path) -> Callable[..., Any]:
    """Run a script of ``scripts/`` under bpy and return the JSON of its last line."""

    def run(
        script: str, *arguments: str | Path, timeout: float = 240, environment: dict[str, str] | None = None
    ) -> Any:
        resources = tmp_path / "blender"
        resources.mkdir(exist_ok=True)
        env = {
            **os.environ,
            "BLENDER_USER_RESOURCES": str(resources),
            "PLATELIGHT_CONFIG_DIR": str(tmp_path / "config"),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "backend"), str(ROOT), str(SCRIPTS)]),
            "PYTHONFAULTHANDLER": "1",
            **(environment or {}),
        }
        done = subprocess.run(
            [bpy_python, str(SCRIPTS / script), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=env,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 0, f"{script} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        assert lines, f"{script} gave no result\n{done.stdout}\n{done.stderr}"
        return json.loads(lines[-1].removeprefix("RESULT "))

    return run


@pytest.fixture
def backend_program(tmp_path: Path) -> Callable[..., str]:
    """Write a program that starts the backend, with options of the test's, and give its path."""

    def write(options: str = "") -> str:
        path = tmp_path / "platelight"
        path.write_text(
            f'#!/bin/sh\nshift\nPYTHONPATH="{ROOT}/backend:{SCRIPTS}" '
            f'exec "{sys.executable}" -m platelight.server {options} "$@"\n'
        )
        path.chmod(0o755)
        return str(path)

    return write


@pytest.fixture(scope="module")  # not longer: while it lives, bpy cannot be found
def addon() -> Iterator[Callable[[str], Any]]:
    """Import a bpy-free module of the add-on, by name, in a package whose ``__init__`` does not run."""
    package = types.ModuleType("platelight_addon")
    package.__path__ = [str(ROOT / "blender_addon")]
    before = {name: sys.modules.get(name) for name in ("platelight_addon", "bpy")}
    sys.modules["platelight_addon"] = package
    sys.modules["bpy"] = None  # type: ignore[assignment]
    try:
        yield lambda name: importlib.import_module(f"platelight_addon.{name}")
    finally:
        for name in [key for key in sys.modules if key.startswith("platelight_addon")]:
            del sys.modules[name]
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


@pytest.fixture
def haven() -> Iterator[Haven]:
    server = Haven()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def built_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension's zip for this platform, as ``build_addon.py`` makes it."""
    sys.path.insert(0, str(ROOT))
    try:
        build_addon = importlib.import_module("build_addon")
    finally:
        sys.path.remove(str(ROOT))
    out = tmp_path_factory.mktemp("dist")
    platforms = [build_addon.this_platform()]
    built: list[Path] = build_addon.build(
        out, platforms, list(build_addon.PYTHONS), ROOT / "build" / "wheels"
    )
    return built[0]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    """The real server on a free port with a job function that needs no networks; its log."""
    pytest.importorskip("platelight.server.serve", reason="the server is not there yet")
    note = tmp_path / "server.log"
    environment = {
        **os.environ,
        "PLATELIGHT_CONFIG_DIR": str(tmp_path / "config"),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "backend"), str(SCRIPTS)]),
    }
    command = [sys.executable, "-m", "platelight.server", "--port", "0", "--job", "addon_job:run_job"]
    with note.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment)
    try:
        yield note
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
