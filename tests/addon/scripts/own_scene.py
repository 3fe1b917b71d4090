"""The user's own things beside a plate: lens, view layers, instances, World, copies of the scene, a save during a render."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import blender_kit as kit
import bpy
import numpy as np
import OpenEXR
from bpy_extras.object_utils import world_to_camera_view

import blender_addon
from blender_addon import maps
from blender_addon.rendering import RenderSetup

out: dict[str, Any] = {}
ops = bpy.ops.platelight


def ends(scene: Any, thing: Any) -> list[list[float]]:
    """The least and the largest place in the picture, 0 to 1 across and up, of what an object is made of."""
    shown = thing.evaluated_get(bpy.context.evaluated_depsgraph_get())
    mesh = shown.to_mesh()
    seen = np.array(
        [world_to_camera_view(scene, scene.camera, shown.matrix_world @ v.co)[:2] for v in mesh.vertices]
    )
    shown.to_mesh_clear()
    return [seen.min(0).tolist(), seen.max(0).tolist()]


def preview(plate: Any) -> list[float]:
    """Mean alpha and mean red of a preview, as rendered now."""
    ops.render_preview(samples=4)
    pixels = maps.map_pixels(plate, "preview", 4)
    return [float(pixels[..., 3].mean()), float(pixels[..., 0].mean())]


blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
header = {
    "type": OpenEXR.scanlineimage,
    "dataWindow": (np.array([2, 1], np.int32), np.array([9, 6], np.int32)),
    "displayWindow": (np.array([0, 0], np.int32), np.array([15, 11], np.int32)),
}
OpenEXR.File(header, {"RGB": np.full((6, 8, 3), 0.3, np.float32)}).write("cropped.exr")
ops.load_plate(filepath=str(Path("cropped.exr").resolve()))
cropped = bpy.context.scene.platelight.plates[0]
pixels = maps.map_pixels(cropped, "plate", 4)
out["cropped"] = [
    cropped.width,
    cropped.height,
    float(pixels[1:7, 2:10, 0].mean()),
    float(pixels[..., 3].sum()),
]
out["lens"] = {}
for title, size, fit, shift in (
    ("upright", (32, 18), "AUTO", (0.0, 0.0)),
    ("vertical", (18, 32), "VERTICAL", (0.0, 0.0)),
    ("shifted", (18, 32), "AUTO", (0.2, -0.1)),
    ("shifted upright", (32, 18), "AUTO", (-0.1, 0.15)),
):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    mine = kit.own_camera(bpy.context.scene, 50.0)
    mine.data.sensor_fit, (mine.data.shift_x, mine.data.shift_y) = fit, shift
    plate = kit.add_plate(*size, mine)
    bpy.context.view_layer.update()
    out["lens"][title] = [ends(bpy.context.scene, plate.card), ends(bpy.context.scene, plate.proxy)]

bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
state = scene.platelight
state.denoise = False
sky = bpy.data.worlds.new("Mine")
scene.world = sky
blender_addon.exr.write("sky.exr", {"": np.ones((16, 32, 3), np.float32)})
ops.set_light(filepath=str(Path("sky.exr").resolve()))
plate = kit.add_plate(16, 24)
out["own world"] = [scene.world.name != "Mine", bpy.data.worlds["Mine"].use_fake_user]
out["alone"] = preview(plate)

# A layer that Blender's files name first and that does not show the card, and an asset before the camera.
other = scene.view_layers.new("A first one")
other.layer_collection.children[plate.collection.name].exclude = True
asset = bpy.data.collections.new("Asset")
mesh = bpy.data.meshes.new("Wall")
mesh.from_pydata([(-9, 0, -9), (9, 0, -9), (9, 0, 9), (-9, 0, 9)], [], [(0, 1, 2, 3)])
wall = bpy.data.objects.new("Wall", mesh)
wall.visible_diffuse = wall.visible_glossy = wall.visible_shadow = False  # it is for cameras only
asset.objects.link(wall)
empty = bpy.data.objects.new("Instance", None)
empty.instance_type, empty.instance_collection, empty.location = "COLLECTION", asset, (0.0, 0.4, 0.0)
scene.collection.objects.link(empty)
empty.hide_render = False
out["with others"] = preview(plate)
out["layers"] = {layer.name: layer.use for layer in scene.view_layers}

# A light without a sun does not cost the scene the one that it has.
sunny = np.full((32, 64, 3), 0.5, np.float32)
sunny[8:9, 20:21] = 20000.0
blender_addon.exr.write("sunny.exr", {"": sunny})
state.split_sun = True
ops.set_light(filepath=str(Path("sunny.exr").resolve()))
had = state.sun is not None
try:
    ops.set_light(filepath=str(Path("sky.exr").resolve()))
    refused = ""
except RuntimeError as error:
    refused = str(error)
out["sun"] = [had, "No sun stands out" in refused, state.sun is not None, Path(state.hdri).name]
state.split_sun = False
ops.set_light(filepath=str(Path("sky.exr").resolve()))

# A file that is saved while a render runs.
bpy.data.objects.remove(empty)
with RenderSetup(scene, plate, Path("render.exr"), 4):
    during = [scene.render.filepath, scene.cycles.samples]
    bpy.ops.wm.save_as_mainfile(filepath=str(Path("during.blend").resolve()), copy=True)
    out["during"] = [during, [scene.render.filepath, scene.cycles.samples]]
out["after"] = [scene.render.filepath, scene.cycles.samples]
with bpy.data.libraries.load(str(Path("during.blend").resolve())) as (_, taken):
    taken.scenes = ["Scene"]
saved = taken.scenes[0]
out["saved"] = [saved.render.filepath, saved.cycles.samples]
bpy.data.scenes.remove(saved)

# A copy of the scene has its own World, and what both show stays when its plate goes.
ops.build_scene()
first = scene.world
bpy.ops.scene.new(type="LINK_COPY")
copied = bpy.context.scene
ops.build_scene()
out["worlds"] = [copied.world != first, scene.world == first]
second = copied.world
copied.name = "Renamed"
ops.build_scene()
out["renamed"] = [copied.world == second, scene.world == first]
ops.remove_plate()
left = scene.platelight.plates[0]
out["left"] = [
    len(copied.platelight.plates),
    left.card is not None and left.card.name in scene.objects,
    float(maps.map_pixels(left, "albedo", 3).mean()),
    left.material is not None,
]
blender_addon.unregister()
kit.result(out)
