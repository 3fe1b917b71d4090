"""The zip of each platform: wheels of that platform alone, for both Pythons, valid by Blender's own tool."""

from __future__ import annotations

import importlib
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TAGS = {"linux-x64": "manylinux", "windows-x64": "win_amd64", "macos-x64": "macosx", "macos-arm64": "macosx"}


@pytest.mark.blender  # which has the tool that validates
@pytest.mark.parametrize("name", TAGS)
def test_each_platform_has_its_zip(name: str, tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT))
    try:
        build_addon = importlib.import_module("build_addon")
    finally:
        sys.path.remove(str(ROOT))
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
