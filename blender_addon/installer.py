"""Install the backend: a virtual environment of its own in the user's folder, from the wheel that the extension
carries. torch never enters Blender's Python. No bpy module use.

A marker file says ``incomplete`` first, and last the version with the wheel's SHA-256: an installation that was cut short
is known, and a build of the same version that holds other code too.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from . import exr_write
from .jobs import Reporter
from .wire import Cancelled, InputError, JobFailed

log = logging.getLogger(__name__)
MARKER = ".version"
_DEVICE = "device"
INCOMPLETE = "incomplete"
_PYTHONS = ("python3.13", "python3.12", "python3.11", "python3", "python")
_OLDEST = (3, 11)
_TORCH = "https://download.pytorch.org/whl/"
# cu128 is the first that knows RTX 50.
_BUILDS = {"cpu": "cpu", "cuda": "cu128", "rocm": "rocm6.4"}
_RANGE = "torch>=2.6,<2.14"  # up to what constraints.txt has figures of
# Where a user's option says from where packages come, or that none do, PyTorch comes from there as well.
_ELSEWHERE = frozenset({"--index-url", "-i", "--no-index", "--find-links", "-f", "--no-deps"})
_TRY = """
import importlib.util, platelight
print("platelight", platelight.__version__)
if importlib.util.find_spec("torch"):
    import torch
    kind = "rocm" if torch.version.hip else "cuda" if torch.version.cuda else "cpu"
    print("PyTorch", torch.__version__, "for", kind)
"""


class InstallState(StrEnum):
    """Where the managed backend stands."""

    MISSING = "missing"
    INCOMPLETE = "incomplete"
    OUTDATED = "outdated"
    READY = "ready"


class Device(StrEnum):
    """What the backend is installed for."""

    CPU = "cpu"
    CUDA = "cuda"
    ROCM = "rocm"
    METAL = "metal"


def devices(platform: str = sys.platform) -> tuple[Device, ...]:
    """What PyTorch has packages of for a platform, the usual choice first."""
    if platform == "darwin":
        return (Device.METAL,)
    return (
        (Device.CPU, Device.CUDA, Device.ROCM) if platform.startswith("linux") else (Device.CPU, Device.CUDA)
    )


def torch_options(device: Device, own: Sequence[str] = ()) -> list[str]:
    """What of PyTorch pip installs for a device, and from where; nothing where it comes with the wheel's other needs.

    One index and no other beside it: pip would take the newest of all, which PyPI has, and for another device.

    Args:
        own: the user's options of pip.
    """
    build = _BUILDS.get(device)
    if build is None or _ELSEWHERE & {option.partition("=")[0] for option in own}:
        return []
    return ["--index-url", _TORCH + build, _RANGE]


@dataclass(frozen=True)
class Plan:
    """What is to be installed where.

    ``folder`` gets the environment, the marker and ``install.log``; ``wheel`` carries ``version``; ``python`` makes the
    environment; ``options`` go to pip as they are.
    """

    folder: Path
    wheel: Path
    version: str
    python: Path
    device: Device = Device.CPU
    options: tuple[str, ...] = ()


def bundled_wheel(addon: Path) -> tuple[Path, str] | None:
    """The backend's wheel in an installed extension and its version, or None in one that was built without."""
    found = sorted((addon / "backend_wheel").glob("platelight-*.whl"))
    return (found[-1], found[-1].name.split("-")[1]) if found else None


def digest(wheel: Path) -> str:
    """SHA-256 of a wheel: its version stays where its code changes between releases."""
    with wheel.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def environment_python(folder: Path) -> Path:
    """The Python of the managed environment."""
    return folder / "venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _marker(folder: Path) -> str | None:
    """What the marker of the managed backend says; "" if its installation was cut short, None if there is none."""
    try:
        text = (folder / MARKER).read_text("utf-8").strip()
    except OSError:
        return None
    return "" if text == INCOMPLETE or not environment_python(folder).exists() else text


def installed_version(folder: Path) -> str | None:
    """Version of the managed backend; "" if its installation was cut short, None if there is none."""
    text = _marker(folder)
    return text and text.split()[0]


def _installed_for(folder: Path) -> Device:
    """The device of the managed backend; those of before it was kept count as for CPU."""
    try:
        return Device((folder / _DEVICE).read_text("utf-8").strip())
    except (OSError, ValueError):
        return Device.CPU


def install_state(folder: Path, version: str, wheel_digest: str) -> InstallState:
    """What the panel shows, for the wheel that the extension carries."""
    found = _marker(folder)
    if found is None:
        return InstallState.MISSING
    if found == "":
        return InstallState.INCOMPLETE
    return InstallState.READY if found == f"{version} {wheel_digest}" else InstallState.OUTDATED


def find_python(configured: str = "") -> Path:
    """A Python to make the environment with: the user's choice, one on the search path, at last Blender's own.

    Raises:
        InputError: none is new enough and has venv.
    """
    for name in filter(None, (configured, *_PYTHONS, sys.executable)):
        path = Path(name) if Path(name).is_absolute() else Path(shutil.which(name) or "")
        if path.is_file() and _serves(path):
            return path
    raise InputError(
        "No Python 3.11 or newer with venv was found.",
        "Install one from python.org, or set it in the preferences.",
    )


def _serves(python: Path) -> bool:
    code = f"import ensurepip, sys, venv; sys.exit(sys.version_info < {_OLDEST})"
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", code], capture_output=True, timeout=20, check=False, env=_environment()
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _environment() -> dict[str, str]:
    """This process's variables without those that bind Blender's Python."""
    return {k: v for k, v in os.environ.items() if k not in {"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"}}


def install(plan: Plan, reporter: Reporter) -> str:
    """Install or upgrade the managed backend and return its version; in a job's thread.

    An environment that was left incomplete, or is for another device, is made anew; a whole one is upgraded in place.

    Raises:
        InputError: the folder cannot be written.
        JobFailed: a step failed; the sentence has its last words. Or PyTorch is one for another device.
        Cancelled: the reporter asked for it; the marker says incomplete.
    """
    if not plan.wheel.is_file():
        raise InputError(f"{plan.wheel} is not a file.", "Build the extension with its backend.")
    # Where torch is there already, pip takes that of any device for the one that is asked for.
    whole = bool(installed_version(plan.folder)) and _installed_for(plan.folder) is plan.device
    exr_write.write_atomically(plan.folder / MARKER, INCOMPLETE.encode())
    if not whole:
        shutil.rmtree(plan.folder / "venv", ignore_errors=True)
        (plan.folder / "install.log").unlink(missing_ok=True)
    python = environment_python(plan.folder)
    reporter.progress(0.01, "making the environment")
    if not whole:
        _step([str(plan.python), "-I", "-m", "venv", str(plan.folder / "venv")], plan, reporter, 0.01, 0.05)
    pip = [str(python), "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    pip += ["--progress-bar", "off", *plan.options]
    if torch := torch_options(plan.device, plan.options):
        mirror = "For a mirror set --index-url in Options of pip."
        _step([*pip, *torch], plan, reporter, 0.05, 0.6, mirror)
    _step([*pip, "--upgrade", str(plan.wheel)], plan, reporter, 0.6 if torch else 0.05, 0.9)
    # The step before gets what the wheel needs, but leaves a wheel of the same version as it is.
    _step([*pip, "--force-reinstall", "--no-deps", str(plan.wheel)], plan, reporter, 0.9, 0.95)
    reporter.progress(0.97, "trying it")
    said = _step([str(python), "-I", "-c", _TRY], plan, reporter, 0.97, 0.99)
    wanted = plan.device in (Device.CUDA, Device.ROCM)
    if wanted and said.startswith("PyTorch") and not said.endswith(plan.device):
        raise JobFailed(
            f"What pip installed is {said}, not for {plan.device}.",
            "Change Options of pip or Install For in the preferences, and install again.",
        )
    exr_write.write_atomically(plan.folder / _DEVICE, plan.device.value.encode())
    exr_write.write_atomically(plan.folder / MARKER, f"{plan.version} {digest(plan.wheel)}".encode())
    return plan.version


def _step(
    command: Sequence[str], plan: Plan, reporter: Reporter, start: float, end: float, hint: str = ""
) -> str:
    """Run a program, its output into the log, each line a little progress; ended when the job is. Returns its last words."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    options = {} if sys.platform == "win32" else {"start_new_session": True}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(),
            text=True,
            encoding="utf-8",
            errors="replace",
            **options,  # type: ignore[call-overload]
        )
    except OSError as error:
        raise JobFailed(f"{command[0]} cannot be run: {error.strerror}.", "Choose another Python.") from error
    assert process.stdout is not None
    stream = process.stdout

    def pump() -> None:
        for line in stream:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=pump, name="platelight install", daemon=True).start()
    said = "no output"
    left = end - start
    with (plan.folder / "install.log").open("a", encoding="utf-8") as note:
        while True:
            if reporter.cancelled():
                _end(process)
                raise Cancelled("Cancelled.")
            try:
                line = lines.get(timeout=0.2)
            except queue.Empty:
                continue
            if line is None:
                break
            note.write(line)
            note.flush()
            if words := line.strip():
                said = words
                left *= 0.96  # nobody knows how many lines there will be
                reporter.progress(end - left, words[:80])
    if process.wait() != 0:
        raise JobFailed(
            f"The installation failed: {said.rstrip('.')}.",
            f"Its log is {plan.folder / 'install.log'}. {hint}".rstrip(),
        )
    return said


def _end(process: subprocess.Popen[str]) -> None:
    """End a program and what it started."""
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(2.0)
