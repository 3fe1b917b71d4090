"""Use a plate's light: a gray card reads as on the plate; the sun as a lamp; another plate takes the light."""

from __future__ import annotations

import math
from pathlib import Path

import blender_kit as kit
import bpy
import numpy as np

import blender_addon
from blender_addon import compat, exr, latlong, light, mapfiles, maps

UNIT = 0.25  # the inferred light comes in another unit than the plate's
out: dict[str, object] = {}
blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
here = bpy.context.scene
state, ops = here.platelight, bpy.ops.platelight
way = latlong.directions(32)
true = np.stack([1.3 + way[..., 0], 1.3 + way[..., 1], 1.3 - way[..., 2]], -1).astype(np.float32)
normal, depth, hit = kit.sphere_maps()
shape = (kit.SIZE, kit.SIZE)
albedo = np.broadcast_to(np.array(kit.BASE, np.float32), (*shape, 3)).copy()
cavity = np.broadcast_to(np.linspace(0.5, 0.8, kit.SIZE, dtype=np.float32), shape)  # far from 1, no edges
paint = albedo * cavity[..., None]


def add_plate(name: str, source: np.ndarray) -> object:
    plate = state.plates.add()
    plate.uid = plate.name = name
    plate.width = plate.height = kit.SIZE
    plate.fov = kit.FOV
    grey = np.ones(shape, np.float32)
    seen = paint * latlong.irradiance(true, normal.reshape(-1, 3)).reshape(normal.shape) / math.pi
    for key, plane in {
        "plate": seen,
        "foreground": seen,
        "matte_map": hit.astype(np.float32),
        "normal": normal,
        "albedo": albedo,
        "roughness": grey * 0.5,
        "reflectivity": grey * 0.0,
        "cavity": cavity,
        "depth": depth,
        "source_light": source,
    }.items():
        maps.put_map(plate, key, plane)
    state.active = len(state.plates) - 1
    return plate


def rendered(samples: int = 64) -> np.ndarray:
    here.cycles.samples = samples
    here.cycles.use_denoising = here.cycles.use_adaptive_sampling = False
    here.render.resolution_x = here.render.resolution_y = kit.SIZE
    return kit.render(here, Path("seen.exr"))["ViewLayer.Combined"]


add_plate("A", true * UNIT)
ops.use_plate_light()
out["gain"] = state.light_gain * UNIT
ops.build_scene()
camera = here.camera
camera.rotation_euler[2] = math.radians(50.0)  # the light has to come along with the camera's heading
bpy.context.view_layer.update()
ops.update_light()
solid = kit.inside(hit)
seen = maps.map_pixels(state.plates["A"], "plate", 3)
got = rendered()[..., :3]
out["subject"] = float(np.abs(got - seen)[solid].mean() / seen[solid].mean())

# A gray card beside the subject, facing the camera.
bpy.ops.mesh.primitive_plane_add(size=0.2)
card = bpy.context.object
card.parent = camera
card.location = (0.0, 0.0, -0.5)
material = bpy.data.materials.new("gray")
material.use_nodes = True
shader = material.node_tree.nodes["Principled BSDF"]
shader.inputs["Specular IOR Level"].default_value = 0.0
card.data.materials.append(material)
falling = latlong.irradiance(true, np.array([[0.0, 0.0, 1.0]], np.float32))[0] / math.pi
for name, patch in (
    ("gray card", (0.18, 0.18, 0.18)),
    ("red patch", (0.43, 0.04, 0.04)),
    ("blue patch", (0.03, 0.05, 0.3)),
):
    shader.inputs["Base Color"].default_value = (*patch, 1.0)
    got = rendered(128)[28:36, 28:36, :3].mean(axis=(0, 1))
    out[name] = float(np.abs(got / (np.array(patch) * falling) - 1.0).max())
bpy.data.objects.remove(card)

# Plate B takes A's light.
add_plate("B", np.ones((32, 64, 3), np.float32))
ops.use_plate_light(name="B")
with_cavity = state.light_gain
maps.put_map(state.plates["B"], "albedo", paint)  # the same as a plate without a cavity map has it
state.plates["B"].cavity = None
ops.use_plate_light(name="B")
out["gain without cavity"] = state.light_gain / with_cavity
ops.use_plate_light(name="A")
target = light.for_backend(here, state.plates["B"], full=False)(mapfiles.directly)
out["copied"] = float(np.abs(target.lights["light"] - true).max() / true.max())
state.active = 0

# A light with a sun: as a map, and as map plus lamp, turned.
toward = np.array([0.6, 0.6, 0.53]) / np.linalg.norm([0.6, 0.6, 0.53])
fine = latlong.directions(128)
sunny = np.full((128, 256, 3), 0.3, np.float32)
sunny[np.arccos(np.clip(fine @ toward, -1, 1)) < math.radians(5.0)] = (300.0, 250.0, 150.0)
maps.put_map(state.plates["A"], "source_light", sunny)
state.light_gain, state.rotation, state.exposure = 0.5, 40.0, 1.0
plain_errors = {}
for split in (False, True):
    state.split_sun = split
    ops.update_light()
    bpy.context.view_layer.update()
    plain_errors[split] = rendered(128)[..., :3]
out["sun"] = float(
    np.abs(plain_errors[True] - plain_errors[False])[solid].mean() / plain_errors[False][solid].mean()
)
out["lamps"] = sum(thing.type == "LIGHT" for thing in here.objects)
state.split_sun = False
ops.update_light()
out["lamps after"] = sum(thing.type == "LIGHT" for thing in here.objects)

# The scene's own light leaves the World alone.
before = here.world
here.world = bpy.data.worlds.new("mine")
state.light_from = "SCENE"
ops.build_scene()
out["world left"] = here.world.name
try:
    light.for_backend(here, state.plates["A"], full=False)(mapfiles.directly)
except Exception as error:
    out["not baked"] = str(error)
state.bake_height, state.bake_samples = 16, 4
tree = compat.enable_nodes(here.world)
next(node for node in tree.nodes if node.type == "BACKGROUND").inputs["Color"].default_value = (
    0.2,
    0.3,
    0.4,
    1.0,
)
for group in ("Sky", "Key"):
    here.view_layers[0].lightgroups.add(name=group)
here.world.lightgroup = "Sky"
key = bpy.data.objects.new("Key", bpy.data.lights.new("Key", "SUN"))
key.data.angle = math.radians(40.0)
key.lightgroup = "Key"
here.collection.objects.link(key)
out["match"] = sorted(ops.match_scene_light(filepath=str(Path("scene.exr").resolve())))
out["baked"] = list(
    light.for_backend(here, state.plates["A"], full=False)(mapfiles.directly).lights["light"].shape
)
saved = exr.read(Path("scene.exr").resolve()).layers
out["groups"] = sorted(saved)
out["groups sum"] = float(np.abs(saved["Sky"] + saved["Key"] - saved[""]).max() / saved[""].max())
out["key alone"] = [float(saved[name].max()) for name in ("Sky", "Key")]
out["cameras"] = len(bpy.data.cameras)
out["camera back"] = here.camera == camera
blender_addon.unregister()
kit.result(out)
