"""Draw every panel with a layout that checks what it is given, and read why buttons are grey. Arguments: the zip."""

from __future__ import annotations

import importlib
import json
import sys
from types import SimpleNamespace

import bpy
import numpy as np
from fake_layout import Layout

PACKAGE = "bl_ext.user_default.platelight"


def draw() -> dict[str, list[str]]:
    """Labels of every panel."""
    drawn = {}
    for name in sorted(dir(bpy.types)):
        if name.startswith("PLATELIGHT_PT_"):
            kind = getattr(bpy.types, name)
            texts: list[str] = []
            context = SimpleNamespace(
                scene=bpy.context.scene,
                region=SimpleNamespace(width=300),
                preferences=bpy.context.preferences,
                space_data=SimpleNamespace(type=kind.bl_space_type),
            )
            kind.draw(SimpleNamespace(layout=Layout(texts)), context)
            drawn[name] = texts
    return drawn


bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.extensions.package_install_files(repo="user_default", filepath=sys.argv[1], enable_on_install=True)
maps, session, jobs, plate_properties = (
    sys.modules[f"{PACKAGE}.{name}"] for name in ("maps", "session", "jobs", "plate_properties")
)
states = {"empty": draw()}
state = bpy.context.scene.platelight
plate = state.plates.add()
plate.uid, plate.name, plate.width, plate.height = "x", "shot", 8, 6
grey = np.full((6, 8), 0.5, np.float32)
for name, _, data in plate_properties.MAPS[:11]:
    maps.put_map(plate, name, grey if data else np.dstack([grey] * 3))
plate.matte, state.backdrop = "given", "given"
plate.skin = plate.shadow_proxy = plate.is_sequence = state.split_sun = True
state.lamps = "COLLECTION"
states["analyzed"] = draw()
for state.light_from in ("PLATE", "SCENE", "HDRI"):
    states[state.light_from] = draw()
plate.skin = plate.shadow_proxy = plate.is_sequence = state.split_sun = False
state.lamps = "ALL"
job = session.session.job = jobs.Job("Analyzing shot", lambda reporter: None)
job.state, job.fraction, job.text = jobs.JobState.RUNNING, 0.25, "normals"
states["busy"] = draw()
busy = {
    name: getattr(bpy.ops.platelight, name).poll()
    for name in ("analyse", "build_scene", "cancel", "load_plate")
}
job.state = jobs.JobState.DONE
session.session.say("The backend went away.", error=True)
states["failed"] = draw()
scene = bpy.context.scene
for kind in ("POINT", "SUN"):
    scene.collection.objects.link(bpy.data.objects.new(kind, bpy.data.lights.new(kind, kind)))
state.physics = "BACKEND"
session.session.fail(type("PLATELIGHT_OT_refine", (), {})(), "Nothing lights the plate.")
states["refused"] = draw()
job.state, job.title = jobs.JobState.RUNNING, "Refining shot"
states["refining"] = draw()
job.state = jobs.JobState.DONE
own = bpy.context.preferences.addons[PACKAGE].preferences
for own.endpoint in ("tcp://127.0.0.1:9", ""):
    importlib.import_module(f"{PACKAGE}.ui.preferences").draw(Layout([]), own)
orders = {
    space: [
        p.bl_label
        for p in sorted(
            (getattr(bpy.types, n) for n in dir(bpy.types) if n.startswith(f"PLATELIGHT_PT_{space}")),
            key=lambda p: p.bl_order,
        )
    ]
    for space in ("view3d", "image")
}
print(
    "\nRESULT "
    + json.dumps({"states": states, "busy": busy, "orders": orders, "properties": sorted(Layout.drawn)}),
    flush=True,
)
