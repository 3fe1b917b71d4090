"""Undo and redo of what changes a scene, as Blender does it for operators that were clicked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import blender_kit as kit
import bpy
import numpy as np

import blender_addon
from blender_addon import exr, maps, plate_properties

SIZE = (24, 32)


def state() -> Any:
    return bpy.context.scene.platelight


def click(operator: Any, **arguments: Any) -> None:
    """Run an operator with an undo step of its own."""
    assert operator("EXEC_DEFAULT", True, **arguments) == {"FINISHED"}


def both_ways(look: Any) -> list[Any]:
    """What there is now, after undo, and after redo."""
    seen = [look()]
    for step in (bpy.ops.ed.undo, bpy.ops.ed.redo):
        step()
        seen.append(look())
    return seen


def built() -> list[Any]:
    """Whether card and camera stand in the scene, and how many collections are ours."""
    ours = [each for each in bpy.data.collections if each.name.startswith("Platelight ")]
    return [plate_properties.is_built(state().plates[0]), len(bpy.data.objects), len(ours)]


blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
exr.write("shot.exr", {"": np.full((*SIZE, 3), 0.2, np.float32)})
bpy.ops.ed.undo_push(message="start")
out: dict[str, Any] = {}
click(bpy.ops.platelight.load_plate, filepath=str(Path("shot.exr").resolve()))
out["load"] = both_ways(lambda: len(state().plates))
gray = np.full(SIZE, 0.75, np.float32)
for name, _, data in plate_properties.MAPS[1:11]:
    maps.put_map(state().plates[0], name, gray if data else np.dstack([gray] * 3))
bpy.ops.ed.undo_push(message="analyzed")
click(bpy.ops.platelight.set_light, filepath=kit.studio_light(), rotation=30.0)
out["light"] = both_ways(lambda: [Path(state().hdri).name, state().rotation])
click(bpy.ops.platelight.build_scene)
out["build"] = both_ways(built)
before = state().plates[0].distance
click(bpy.ops.platelight.scale_from_width, width=3.0)
out["scale"] = [each / before for each in both_ways(lambda: state().plates[0].distance)]
click(bpy.ops.platelight.remove_plate)
out["remove"] = both_ways(lambda: len(state().plates))
bpy.ops.ed.undo()
out["back"] = [*built(), float(maps.map_pixels(state().plates[0], "albedo", 3).mean())]
blender_addon.unregister()
kit.result(out)
