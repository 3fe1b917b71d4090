"""Preferences, pairing, cache, tooltips."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(__file__).parent / "scripts"
pytestmark = pytest.mark.blender


def test_preferences(run_blender: Callable[..., Any], built_zip: Path, tmp_path: Path) -> None:
    serve = pytest.importorskip("platelight.server.serve", reason="the server is not there yet")
    assert serve
    from platelight.client import load_or_make_keys, read_connection
    from platelight.server.gate import ALLOWED, allow

    theirs = tmp_path / "theirs"
    allow(theirs / ALLOWED, load_or_make_keys(folder=tmp_path / "config").public, "this computer")
    environment = {
        **os.environ,
        "PLATELIGHT_CONFIG_DIR": str(theirs),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "backend"), str(SCRIPTS)]),
    }
    command = [sys.executable, "-m", "platelight.server", "--port", "0", "--job", "addon_job:run_job"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            while not (theirs / "server.json").is_file():
                assert process.poll() is None
                assert process.stderr.readline()
            info = read_connection(theirs / "server.json")
            seen = run_blender(
                "preferences.py",
                built_zip,
                info.endpoint,
                info.server_key,
                environment={"PYTHONPATH": str(SCRIPTS)},
            )
        finally:
            process.kill()
    missing, no_unit, no_item, counted = seen["tooltips"]
    assert (missing, no_unit, no_item) == ([], [], [])
    assert counted > 60
    assert seen["silent"] == {"empty": [], "busy": []}
    assert "Shortcuts" in seen["own"]
    assert "Not paired" in seen["stranger"][0]
    assert "is known here" in seen["stranger"][1]
    assert "'short' is no public key" in seen["bad key"]
    assert "'host' is no endpoint" in seen["bad address"]
    assert seen["other key"][0] == ""
    assert seen["other key"][1] != ""
    assert (seen["paired"][0], seen["paired"][2]) == ("", "")
    assert f"begins with {info.server_key[:8]}" in seen["paired"][1]
    assert "lets this computer in" in seen["paired"][3]
    assert seen["facts before"]
    assert seen["facts"][0] == "cpu"
    assert 10e6 < seen["facts"][-1] < 10e9
    assert seen["forgotten"][0] == ""
    assert "nothing to forget" in seen["forgotten"][1]
    assert seen["used"] == 3_000_000
    assert seen["trim"] == [1_000_000, ["1", "2"], 0, ["1", "2"]]
    assert seen["cleared"] == []
    assert seen["downloads"] == ["used.exr", "used.exr.sha256"]  # a sum stays with its HDRI, and goes with it
    assert seen["no quota"] is None
    assert "nowhere is not a folder" in seen["folders"][0]
    assert seen["folders"][1:] == ["", "", 1, True, "", 0]
    assert seen["shortcuts"] == ["3D View: Ctrl Alt L", "Image: Ctrl Alt L"]
