"""What the user deletes comes back with Update Scene; what is the user's stays when a plate goes."""

from __future__ import annotations

from typing import Any

import blender_kit as kit
import bpy

import blender_addon
from blender_addon import plate_properties

out: dict[str, Any] = {}
ops = bpy.ops.platelight
blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
plate = kit.add_plate(8, 12)


def delete(thing: Any) -> None:
    """As X in the viewport does it."""
    bpy.ops.object.select_all(action="DESELECT")
    thing.select_set(True)
    bpy.ops.object.delete()


def seen() -> list[bool]:
    """Whether the plate stands, as panels tell, and whether its things are in the scene."""
    things = [getattr(plate, name) for name in ("card", "proxy", "camera")]
    return [plate_properties.is_built(plate), *(thing in tuple(scene.objects) for thing in things)]


out["deleted"], out["back"] = {}, {}
for name in ("card", "proxy", "camera"):
    thing = getattr(plate, name)
    delete(thing)
    out["deleted"][name] = seen()
    ops.build_scene()
    out["back"][name] = [*seen(), getattr(plate, name) == thing]
scene.collection.children.unlink(plate.collection)
out["deleted"]["collection"] = seen()
ops.build_scene()
out["back"]["collection"] = [*seen(), True]
nested = bpy.data.collections.new("Shots")
scene.collection.children.unlink(plate.collection)
scene.collection.children.link(nested)
nested.children.link(plate.collection)  # the user's own order
scene.view_layers[0].layer_collection.children["Shots"].exclude = True
ops.build_scene()
out["nested"] = [seen(), plate.collection.name in scene.collection.children]
scene.view_layers[0].layer_collection.children["Shots"].exclude = False

# A camera of the user's that stands in another scene.
elsewhere = bpy.data.scenes.new("Elsewhere")
plate.own_camera = kit.own_camera(elsewhere, 40.0)
ops.build_scene()
out["other scene's camera"] = [plate_properties.is_built(plate), len(elsewhere.objects)]
plate.own_camera = None
ops.build_scene()

# The user's own things in the plate's collection, and copies of what was built.
lamp = bpy.data.objects.new("Lamp", bpy.data.lights.new("Lamp", "POINT"))
shared = bpy.data.objects.new("Shared", None)
twin = plate.camera.copy()
props = bpy.data.collections.new("Props")
for thing in (lamp, shared, twin):
    plate.collection.objects.link(thing)
nested.objects.link(shared)
plate.collection.children.link(props)
mine = [plate.card.name, plate.proxy.name, plate.camera.name, plate.collection.name]
plate.own_camera = twin  # carries the mark of the one that was built
ops.build_scene()
ops.remove_plate()
out["left"] = sorted(thing.name for thing in scene.objects)
out["places"] = [len(bpy.data.objects[name].users_collection) for name in out["left"]]
out["parts"] = [props.name in scene.collection.children, mine[3] in bpy.data.collections]
out["gone"] = [name in bpy.data.objects for name in mine[:3]]
out["twin"] = twin.name
blender_addon.unregister()
kit.result(out)
