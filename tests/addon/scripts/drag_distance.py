"""The subject dragged nearer and farther: what is shown meanwhile is what is built at the end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import blender_kit as kit
import bpy
import numpy as np

import blender_addon
from blender_addon import maps
from blender_addon.operators.reach import PLATELIGHT_OT_drag_distance as Drag

blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
state, ops = scene.platelight, bpy.ops.platelight
plate = state.plates.add()
plate.uid, plate.name, plate.width, plate.height, plate.fov = "x", "ball", kit.SIZE, kit.SIZE, kit.FOV
plate.shadow_proxy, plate.distance = True, 2.0
normal, depth, hit = kit.sphere_maps()
one = np.ones_like(depth)
paint = np.dstack([one * value for value in kit.BASE])
for name, plane in {
    "plate": paint, "foreground": paint, "albedo": paint, "normal": normal, "roughness": one * 0.5,
    "reflectivity": one * 0.04, "depth": depth, "matte_map": hit.astype(np.float32),
}.items():  # fmt: skip
    maps.put_map(plate, name, plane)
ops.build_scene()
out: dict[str, Any] = {}
headers: list[str | None] = []
context = SimpleNamespace(
    scene=scene,
    area=SimpleNamespace(header_text_set=headers.append),
    window_manager=SimpleNamespace(modal_handler_add=lambda _operator: None),
)
# The operator without Blender around it: its own functions, and events as the window manager sends them.
Hand = type("Hand", (), {name: value for name, value in vars(Drag).items() if callable(value)})


def event(kind: str, x: int = 0, *, shift: bool = False) -> Any:
    return SimpleNamespace(type=kind, value="PRESS", mouse_x=x, shift=shift)


def places(thing: Any) -> np.ndarray:
    """The points of a thing in the world, as they are rendered."""
    bpy.context.view_layer.update()
    seen = thing.evaluated_get(bpy.context.evaluated_depsgraph_get())
    found = np.empty(3 * len(seen.data.vertices), np.float32)
    seen.data.vertices.foreach_get("co", found)
    matrix = np.array(seen.matrix_world)
    return found.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]


before = places(plate.card)
hand = Hand()
hand.invoke(context, event("LEFTMOUSE", 100))
hand.modal(context, event("MOUSEMOVE", 200))
hand.modal(context, event("MOUSEMOVE", 300, shift=True))
shown = [places(thing) for thing in (plate.card, plate.proxy)]
out["distance"], out["header"] = plate.distance, headers[-1]
out["moved"] = float(np.abs(shown[0] - before).max())
out["done"] = sorted(hand.modal(context, event("LEFTMOUSE", 300)))
out["built"] = [
    float(np.abs(places(thing) - place).max())
    for thing, place in zip((plate.card, plate.proxy), shown, strict=True)
]
out["scales"] = [tuple(thing.scale) for thing in (plate.card, plate.proxy)]
hand.invoke(context, event("LEFTMOUSE", 0))
hand.modal(context, event("MOUSEMOVE", -400))
out["escape"] = [
    *hand.modal(context, event("ESC")),
    plate.distance,
    float(np.abs(places(plate.card) - shown[0]).max()),
]
out["headers left"] = headers[-1]
ops.drag_distance(distance=5.0)
out["by a script"] = float(plate.card["platelight_depth_scale"] * np.median(depth[hit]))
blender_addon.unregister()
kit.result(out)
