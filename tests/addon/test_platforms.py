"""The zip of each platform: wheels of that platform alone, for both Pythons, valid by Blender's own tool."""

from __future__ import annotations

import importlib
import shutil
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TAGS = {"linux-x64": "manylinux", "windows-x64": "win_amd64", "macos-x64": "macosx", "macos-arm64": "macosx"}


def import_build() -> Any:
    sys.path.insert(0, str(ROOT))
    try:
        return importlib.import_module("build_addon")
    finally:
        sys.path.remove(str(ROOT))


@pytest.mark.parametrize(
    ("program", "scripts"),
    [
        ("blender-4.5/blender", "blender-4.5/4.5/scripts"),
        ("Blender.app/Contents/MacOS/Blender", "Blender.app/Contents/Resources/4.5/scripts"),
        ("usr/bin/blender", "usr/share/blender/4.5/scripts"),
        ("usr/bin/blender", "usr/share/blender/scripts"),
    ],
)
def test_the_tool_of_any_blender_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, scripts: str
) -> None:
    build_addon = import_build()
    monkeypatch.setattr(build_addon.importlib.util, "find_spec", lambda _name: None)  # no bpy here
    monkeypatch.setenv("BLENDER", str(tmp_path / program))
    with pytest.raises(build_addon.BuildError, match="set BLENDER"):
        build_addon.blender_ext()
    (tmp_path / program).parent.mkdir(parents=True)
    (tmp_path / program).touch(mode=0o755)
    tool = tmp_path / scripts / "addons_core/bl_pkg/cli/blender_ext.py"
    tool.parent.mkdir(parents=True)
    tool.touch()
    assert build_addon.blender_ext() == tool
    monkeypatch.delenv("BLENDER")
    monkeypatch.setenv("PATH", str((tmp_path / program).parent))
    if shutil.which("blender"):  # macOS' program has a capital, which only its own disks pass over
        assert build_addon.blender_ext() == tool


@pytest.mark.blender  # which has the tool that validates
@pytest.mark.parametrize("name", TAGS)
def test_each_platform_has_its_zip(name: str, tmp_path: Path) -> None:
    build_addon = import_build()
    assert set(build_addon.PLATFORMS) == set(TAGS)
    try:
        (built,) = build_addon.build(
            tmp_path, [name], list(build_addon.PYTHONS), ROOT / "build" / "wheels", backend=False
        )
    except build_addon.BuildError as error:
        if "No wheels of" not in str(error):
            raise
        pytest.skip(f"no network: {error}")
    with zipfile.ZipFile(built) as archive:
        wheels = sorted(entry for entry in archive.namelist() if entry.endswith(".whl"))
        manifest = tomllib.loads(archive.read("blender_manifest.toml").decode())
    assert manifest["platforms"] == [name]
    assert manifest["wheels"] == [f"./{wheel}" for wheel in wheels]
    found = [(wheel.split("/")[1].split("-")[0], wheel.split("-")[2]) for wheel in wheels]
    assert found == [(package, tag) for package in ("msgspec", "pyzmq") for tag in ("cp311", "cp313")]
    assert all(TAGS[name] in wheel for wheel in wheels)
    if name.startswith("macos"):
        machine = "arm64" if name.endswith("arm64") else "x86_64"
        assert all(wheel.endswith((f"{machine}.whl", "universal2.whl")) for wheel in wheels)
