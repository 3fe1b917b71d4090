"""Draw every panel with a layout that checks what it is given, and read why buttons are grey. Arguments: the zip."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np

PACKAGE = "bl_ext.user_default.platelight"


class Layout:
    """Accepts what ``UILayout`` accepts and fails on properties, operators and icons that do not exist."""

    icons = frozenset(bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"].enum_items.keys())
    known = frozenset(bpy.types.UILayout.bl_rna.functions.keys())

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.enabled = True

    def prop(self, data: Any, name: str, **options: Any) -> None:
        assert name in data.bl_rna.properties, f"{data} has no {name}"
        description = data.bl_rna.properties[name].description
        assert description or data.bl_rna.properties[name].is_runtime is False, f"{name} has no tooltip"
        self._check("prop", options)

    def operator(self, name: str, **options: Any) -> Any:
        module, _, function = name.partition(".")
        kind = getattr(getattr(bpy.ops, module), function).get_rna_type()
        assert kind.description, f"{name} has no tooltip"
        self._check("operator", options)
        return SimpleNamespace()  # takes the operator's properties

    def label(self, text: str = "", **options: Any) -> None:
        self.texts.append(text)
        self._check("label", options)

    def progress(self, **options: Any) -> None:
        self.texts.append(options["text"])

    def template_list(
        self, kind: str, _id: str, data: Any, name: str, active: Any, active_name: str, **_o: Any
    ) -> None:
        assert hasattr(bpy.types, kind)
        assert name in data.bl_rna.properties
        assert active_name in active.bl_rna.properties

    def _check(self, function: str, options: dict[str, Any]) -> None:
        allowed = set(bpy.types.UILayout.bl_rna.functions[function].parameters.keys())
        assert set(options) <= allowed, (function, options)
        assert options.get("icon", "NONE") in self.icons, options

    def __getattr__(self, name: str) -> Any:
        assert name in self.known, f"UILayout has no {name}"
        return lambda *_args, **_options: self


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
maps, session, jobs, properties = (
    sys.modules[f"{PACKAGE}.{name}"] for name in ("maps", "session", "jobs", "properties")
)
states = {"empty": draw()}
state = bpy.context.scene.platelight
plate = state.plates.add()
plate.uid, plate.name, plate.width, plate.height = "x", "shot", 8, 6
grey = np.full((6, 8), 0.5, np.float32)
for name, _, data in properties.MAPS[:10]:
    maps.put_map(plate, name, grey if data else np.dstack([grey] * 3))
plate.matte, state.backdrop = "given", "given"
states["analyzed"] = draw()
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
print("\nRESULT " + json.dumps({"states": states, "busy": busy, "orders": orders}), flush=True)
