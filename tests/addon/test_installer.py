"""Install Backend, with a wheel of a few lines and no network."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def installer(addon: Callable[[str], Any]) -> Any:
    return addon("installer")


def wheel(folder: Path, version: str, code: str = "", name: str = "platelight", needs: str = "") -> Path:
    """A wheel of a package that holds its version and little else."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        f"{name}/__init__.py": f'__version__ = "{version}"\n{code}',
        f"{info}/METADATA": head + (f"Requires-Dist: {needs}\n" if needs else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in files.items():
            archive.writestr(zipfile.ZipInfo(inner), text)  # of one date: the same content is the same file
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

    def state(version: str) -> str:
        return str(installer.install_state(folder, version, installer.digest(wheel(tmp_path, version))))

    assert state("1.0") == "missing"
    broken = wheel(tmp_path, "0.9", "raise RuntimeError('this wheel is broken')")
    with pytest.raises(installer.JobFailed, match="this wheel is broken"):
        installer.install(plan(installer, tmp_path, broken, "0.9"), Told())
    assert state("1.0") == "incomplete"

    reporter = Told()
    assert installer.install(plan(installer, tmp_path, wheel(tmp_path, "1.0"), "1.0"), reporter) == "1.0"
    assert state("1.0") == "ready"
    assert state("1.1") == "outdated"
    assert reporter.fractions == sorted(reporter.fractions)
    assert len(reporter.fractions) > 5
    kept = folder / "venv" / "kept"
    kept.touch()
    assert installer.install(plan(installer, tmp_path, wheel(tmp_path, "1.1"), "1.1"), Told()) == "1.1"
    assert state("1.1") == "ready"
    assert kept.exists()  # upgraded in place
    same = plan(installer, tmp_path, wheel(tmp_path, "1.1"), "1.1")
    other = dataclasses.replace(same, device=installer.Device.CUDA)
    assert installer.install(other, Told()) == "1.1"
    assert not kept.exists()  # torch of another device is no upgrade
    kept.touch()
    assert installer.install(other, Told()) == "1.1"
    assert kept.exists()
    assert "Successfully installed platelight-1.1" in (folder / "install.log").read_text()


def test_another_build_of_the_same_version_is_an_upgrade(installer: Any, tmp_path: Path) -> None:
    folder = tmp_path / "backend"
    first = wheel(tmp_path, "1.0")
    installer.install(plan(installer, tmp_path, first, "1.0"), Told())
    assert installer.installed_version(folder) == "1.0"
    assert installer.install_state(folder, "1.0", installer.digest(first)) == "ready"
    second = wheel(tmp_path, "1.0", "NEW = True")
    assert installer.install_state(folder, "1.0", installer.digest(second)) == "outdated"
    installer.install(plan(installer, tmp_path, second, "1.0"), Told())
    assert installer.install_state(folder, "1.0", installer.digest(second)) == "ready"
    code = [str(installer.environment_python(folder)), "-I", "-c", "import platelight; print(platelight.NEW)"]
    assert subprocess.run(code, capture_output=True, text=True, check=True).stdout == "True\n"
    (folder / installer.MARKER).write_text("1.0", "utf-8")  # as versions before wrote it
    assert installer.install_state(folder, "1.0", installer.digest(second)) == "outdated"


def test_torch_comes_from_one_index(installer: Any) -> None:
    """pip takes the newest of all indices, which is PyPI's, for CUDA: it may not be looked at beside the device's own."""
    pinned = re.search(r"^torch==(\d+)\.(\d+)", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
    assert pinned is not None
    for device, build in (("cpu", "cpu"), ("cuda", "cu128"), ("rocm", "rocm6.4")):
        options = installer.torch_options(installer.Device(device))
        assert options[:2] == ["--index-url", f"https://download.pytorch.org/whl/{build}"]
        assert options[2:] == [f"torch>=2.6,<{pinned[1]}.{int(pinned[2]) + 1}"]
    assert installer.torch_options(installer.Device.METAL) == []  # PyPI's own is for it
    for own in (
        ["--index-url", "x"],
        ["--index-url=x"],
        ["-i", "x"],
        ["--no-index"],
        ["--find-links=/w"],
        ["-f", "/w"],
    ):
        assert installer.torch_options(installer.Device.ROCM, own) == [], own
    assert installer.torch_options(installer.Device.ROCM, ["--proxy", "x"]) != []


def test_torch_is_installed_before_the_wheel(
    installer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[list[str]] = []
    monkeypatch.setattr(installer, "_step", lambda command, *_: steps.append(command) or "")
    given = installer.Plan(
        tmp_path / "backend",
        wheel(tmp_path, "1.0"),
        "1.0",
        Path(sys.executable),
        installer.Device.ROCM,
        ("--proxy", "p"),
    )
    installer.install(given, Told())
    _, torch, package, again, _ = steps
    assert torch[-5:] == [
        "--proxy",
        "p",
        "--index-url",
        "https://download.pytorch.org/whl/rocm6.4",
        torch[-1],
    ]
    assert torch[-1].startswith("torch")
    assert [word for word in (*package, *again) if word.startswith(("--index", "--extra", "torch"))] == []
    assert again[-3:] == ["--force-reinstall", "--no-deps", str(given.wheel)]


def test_a_torch_for_another_device_is_a_sentence(
    installer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    code = "class version:\n    hip = None\n    cuda = '12.8'\n"
    wheel(links, "2.9.0", code, name="torch")
    base = plan(installer, tmp_path, wheel(tmp_path, "1.0", needs="torch>=2.6"), "1.0")
    mirror = dataclasses.replace(base, options=("--no-index", "--find-links", str(links)))
    with pytest.raises(installer.JobFailed) as error:
        installer.install(dataclasses.replace(mirror, device=installer.Device.ROCM), Told())
    assert error.value.sentence == "What pip installed is PyTorch 2.9.0 for cuda, not for rocm."
    assert "Options of pip" in error.value.remedy
    assert installer.install_state(mirror.folder, "1.0", "") == "incomplete"
    for device, said in (
        ("cuda", "PyTorch 2.9.0 for cuda"),
        ("cpu", "PyTorch 2.9.0 for cuda"),  # it has a processor's code too
        ("rocm", "platelight 1.0"),  # no PyTorch, as with --no-deps
    ):
        monkeypatch.setattr(installer, "_step", lambda *_, said=said: said)
        assert (
            installer.install(dataclasses.replace(mirror, device=installer.Device(device)), Told()) == "1.0"
        )


def test_cancel_leaves_it_incomplete(installer: Any, tmp_path: Path) -> None:
    reporter = Told()
    threading.Timer(0.6, reporter.stop.set).start()
    started = time.monotonic()
    with pytest.raises(installer.Cancelled):
        installer.install(plan(installer, tmp_path, wheel(tmp_path, "1.0"), "1.0"), reporter)
    assert time.monotonic() - started < 30
    assert installer.install_state(tmp_path / "backend", "1.0", "") == "incomplete"


def test_what_is_missing_is_a_sentence(installer: Any, tmp_path: Path) -> None:
    with pytest.raises(installer.InputError, match="is not a file"):
        installer.install(plan(installer, tmp_path, tmp_path / "none.whl", "1"), Told())
    assert installer.bundled_wheel(tmp_path) is None
    assert installer.find_python(sys.executable) == Path(sys.executable)
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
