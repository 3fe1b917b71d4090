"""The main job as a script: install the extension's zip, then analyse, build, render and refine by its operators.

Run by ``platelight demo`` in a Python that has the bpy wheel; as an example of scripting the extension it also
runs in Blender: ``blender -b --python demo_script.py -- job.json``. The argument is a JSON file with ``addon``
(zip), ``plate``, ``out`` (folder), ``lights`` (list of name, path, rotation, exposure), ``samples``.
Prints ``PROGRESS fraction words`` lines.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import bpy

PACKAGE = "bl_ext.user_default.platelight"


def tell(fraction: float, words: str) -> None:
    """One line that the caller turns into a progress bar."""
    print(f"PROGRESS {fraction:.3f} {words}", flush=True)


def run(job: dict[str, Any]) -> None:
    """Every light on one plate."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.extensions.package_install_files(
        repo="user_default", filepath=job["addon"], enable_on_install=True
    )
    session = sys.modules[f"{PACKAGE}.session"].session
    ops, state = bpy.ops.platelight, bpy.context.scene.platelight
    out, stem = Path(job["out"]), Path(job["plate"]).stem

    low, high = 0.02, 0.25
    session.on_progress = lambda title, fraction, words: tell(
        low + (high - low) * fraction, f"{title}: {words}"
    )
    tell(low, "loading the plate")
    ops.load_plate(filepath=job["plate"])
    ops.analyse()
    ops.save_maps(filepath=str(out / f"{stem}.maps.exr"))
    state.samples = job["samples"]
    state.backdrop = "light"
    step = (1 - high) / len(job["lights"])
    for index, light in enumerate(job["lights"]):
        start = high + step * index
        suffix = "" if index == 0 else f".{light['name']}"
        tell(start, f"{light['name']}: building the scene")
        ops.set_light(filepath=light["path"], rotation=light["rotation"], exposure=light["exposure"])
        ops.build_scene()
        tell(start + 0.2 * step, f"{light['name']}: Cycles renders")
        ops.render_preview(filepath=str(out / f"{stem}{suffix}.preview.exr"))
        low, high = start + 0.7 * step, start + step
        ops.refine(filepath=str(out / f"{stem}{suffix}.relit.exr"))
    bpy.ops.wm.save_as_mainfile(filepath=str(out / f"{stem}.blend"))
    tell(1.0, "done")


if __name__ == "__main__":
    run(json.loads(Path(sys.argv[-1]).read_text()))
