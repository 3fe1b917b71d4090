"""Install Backend, with a wheel of a few lines and no network."""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def installer(addon: Callable[[str], Any]) -> Any:
    return addon("installer")


def wheel(folder: Path, version: str, code: str = "") -> Path:
    """A wheel of platelight that holds nothing but its version."""
    path = folder / f"platelight-{version}-py3-none-any.whl"
    info = f"platelight-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("platelight/__init__.py", f'__version__ = "{version}"\n{code}')
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: platelight\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


class Told:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.fractions: list[float] = []

    def progress(self, fraction: float, _text: str = "") -> None:
        self.fractions.append(fraction)

    def cancelled(self) -> bool:
        return self.stop.is_set()


def plan(installer: Any, tmp_path: Path, path: Path, version: str) -> Any:
    options = ("--no-index", "--no-deps")
    return installer.Plan(
        tmp_path / "backend", path, version, Path(sys.executable), installer.Device.CPU, options
    )


def test_install_break_and_upgrade(installer: Any, tmp_path: Path) -> None:
    folder = tmp_path / "backend"
    assert installer.install_state(folder, "1.0") == "missing"
    broken = wheel(tmp_path, "0.9", "raise RuntimeError('this wheel is broken')")
    with pytest.raises(installer.JobFailed, match="this wheel is broken"):
        installer.install(plan(installer, tmp_path, broken, "0.9"), Told())
    assert installer.install_state(folder, "1.0") == "incomplete"

    reporter = Told()
    assert installer.install(plan(installer, tmp_path, wheel(tmp_path, "1.0"), "1.0"), reporter) == "1.0"
    assert installer.install_state(folder, "1.0") == "ready"
    assert installer.install_state(folder, "1.1") == "outdated"
    assert reporter.fractions == sorted(reporter.fractions)
    assert len(reporter.fractions) > 5
    kept = folder / "venv" / "kept"
    kept.touch()
    assert installer.install(plan(installer, tmp_path, wheel(tmp_path, "1.1"), "1.1"), Told()) == "1.1"
    assert installer.install_state(folder, "1.1") == "ready"
    assert kept.exists()  # upgraded in place
    same = plan(installer, tmp_path, wheel(tmp_path, "1.1"), "1.1")
    other = dataclasses.replace(same, device=installer.Device.CUDA)
    assert installer.install(other, Told()) == "1.1"
    assert not kept.exists()  # torch of another device is no upgrade
    kept.touch()
    assert installer.install(other, Told()) == "1.1"
    assert kept.exists()
    assert "Successfully installed platelight-1.1" in (folder / "install.log").read_text()


def test_cancel_leaves_it_incomplete(installer: Any, tmp_path: Path) -> None:
    reporter = Told()
    threading.Timer(0.6, reporter.stop.set).start()
    started = time.monotonic()
    with pytest.raises(installer.Cancelled):
        installer.install(plan(installer, tmp_path, wheel(tmp_path, "1.0"), "1.0"), reporter)
    assert time.monotonic() - started < 30
    assert installer.install_state(tmp_path / "backend", "1.0") == "incomplete"


def test_what_is_missing_is_a_sentence(installer: Any, tmp_path: Path) -> None:
    with pytest.raises(installer.InputError, match="is not a file"):
        installer.install(plan(installer, tmp_path, tmp_path / "none.whl", "1"), Told())
    assert installer.bundled_wheel(tmp_path) is None
    assert installer.find_python(sys.executable) == Path(sys.executable)
    assert installer.torch_options(installer.Device.CPU, "linux")[1].endswith("/cpu")
    assert installer.torch_options(installer.Device.CUDA, "linux") == []
    assert installer.devices("darwin") == (installer.Device.METAL,)


def test_a_managed_backend_is_found(
    addon: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = addon("backend_process")
    monkeypatch.delenv("PLATELIGHT_BACKEND", raising=False)
    assert process.find_command("", tmp_path / "python") == [
        str(tmp_path / "python"),
        "-m",
        "platelight.server",
    ]
