"""The cache of maps, which all open Blenders share."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DAY = 86400.0


def test_maps_of_another_blender_that_runs_stay(
    addon: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapfiles = addon("mapfiles")

    def made(days: float = 0.0) -> Path:
        folder: Path = mapfiles.new_folder(tmp_path, "plate")
        folder.mkdir(parents=True)
        (folder / "albedo.exr").write_bytes(bytes(1000))
        moment = time.time() - days * DAY - 60
        os.utime(folder / "albedo.exr", (moment, moment))
        return folder

    own, used = made(), made()
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other,
        monkeypatch.context() as patch,
    ):
        patch.setattr(mapfiles.os, "getpid", lambda: other.pid)
        theirs, old = made(), made(days=3)
        patch.undo()
        assert mapfiles.clear(tmp_path, {used}) == 1000
        assert (own.exists(), used.exists(), theirs.exists(), old.exists()) == (False, True, True, True)
        # Nor for the quota, in a Blender that is open for days.
        assert mapfiles.trim(tmp_path, {used}, 1) == 0
        assert mapfiles.used_bytes(tmp_path) == 3000
        other.communicate(b"\n")
    assert mapfiles.clear(tmp_path, {used}) == 2000  # it has ended


def test_maps_of_another_machine_stay_for_a_day(
    addon: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapfiles = addon("mapfiles")
    with monkeypatch.context() as patch:
        patch.setattr(mapfiles.wire, "this_machine", lambda: "elsewhere")
        folder = mapfiles.new_folder(tmp_path, "plate")
    folder.mkdir(parents=True)
    (folder / "albedo.exr").write_bytes(bytes(1000))
    assert mapfiles.clear(tmp_path, set()) == 0
    moment = time.time() - 1.1 * DAY
    os.utime(folder / "albedo.exr", (moment, moment))
    assert mapfiles.clear(tmp_path, set()) == 1000
