"""A camera of the user's that zooms, shifts, is scaled and turns: card, skin, World and Sun go along with it or stay. And film exposure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import blender_kit as kit
import bpy
import numpy as np
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector

import blender_addon
from blender_addon import compat, exr, images, lamps, light, world
from blender_addon import scene as scenes
from blender_addon.instant import Instant
from blender_addon.live import Live
from blender_addon.session import session

out: dict[str, Any] = {}
ops = bpy.ops.platelight


def corners(thing: Any) -> Any:
    """What the card is made of, in world space."""
    shown = thing.evaluated_get(bpy.context.evaluated_depsgraph_get())
    found = [shown.matrix_world @ vertex.co for vertex in shown.to_mesh().vertices]
    shown.to_mesh_clear()
    return found


def ends() -> list[list[float]]:
    """The least and the largest place of the card in the picture, 0 to 1 across and up."""
    seen = np.array([world_to_camera_view(scene, scene.camera, each)[:2] for each in corners(plate.card)])
    return [seen.min(0).tolist(), seen.max(0).tolist()]


def skin_reach() -> float:
    """How far the card has light spread, in its own units."""
    modifier = plate.card.modifiers[0]
    path = compat.modifier_input_path(modifier, modifier.node_group, "Skin Reach")
    return float(plate.card.path_resolve(path))


kit.catch_requests(18, 32)
blender_addon.register()
out["zoom"] = {}
for fit in ("AUTO", "VERTICAL"):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    state, cycles = scene.platelight, scene.cycles
    camera = kit.own_camera(scene, 50.0)
    camera.data.sensor_fit = fit
    plate = kit.add_plate(18, 32, camera)
    for frame, lens, sensor, shift in ((1, 50.0, 36.0, 0.0), (11, 100.0, 24.0, 0.2)):
        camera.data.lens = lens
        camera.data.sensor_width = camera.data.sensor_height = sensor
        camera.data.shift_x = camera.data.shift_y = shift
        for name in ("lens", "sensor_width", "sensor_height", "shift_x", "shift_y"):
            camera.data.keyframe_insert(name, frame=frame)
    out["zoom"][fit] = []
    for frame in (1, 6, 11):
        scene.frame_set(frame)
        out["zoom"][fit].append(ends())
ops.save_maps(filepath=str(Path("saved.exr").resolve()))
out["saved"] = [float(exr.read("saved.maps.exr").attributes["platelight:fov"]), scenes.field_of_view(plate)]
plate.own_camera = None
ops.build_scene()
out["own camera gone"] = [ends(), len(plate.card.animation_data.drivers) if plate.card.animation_data else 0]

# Scaled, what is in front of it stays where it is.
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
state, cycles = scene.platelight, scene.cycles
camera = kit.own_camera(scene, 50.0)
plate = kit.add_plate(18, 32, camera)
plate.skin, plate.distance = True, 3.0
out["scaled"] = {}
for scale in (1.0, 4.0):
    camera.scale = (scale,) * 3
    bpy.context.view_layer.update()
    ops.build_scene()
    bpy.context.view_layer.update()
    away = [-each.z for each in corners(plate.card)]
    out["scaled"][scale] = [min(away), max(away), lamps.distance(scene, plate), skin_reach() * scale]
camera.scale = (1.0,) * 3

# The backend knows no lens shift, and it is told.
kit.light_by_color(scene, 0.2, 0.2, 0.2)
state.physics, out["told"] = "BACKEND", []
for shift in (0.0, 0.1):
    camera.data.shift_y = shift
    ops.refine()
    out["told"].append(session.message)
camera.data.shift_y = 0.0

# The World of a shot is aimed once; one of a camera that is moved by hand follows it.
sunny = np.full((32, 64, 3), 0.5, np.float32)
sunny[8:9, 20:21] = 20000.0
exr.write("sunny.exr", {"": sunny})
state.split_sun = True
camera.rotation_euler = (math.pi / 2, 0.0, 0.0)
bpy.context.view_layer.update()
ops.set_light(filepath=str(Path("sunny.exr").resolve()))


def aim() -> list[float]:
    """Where the World has its middle, and the Sun, as angles about the vertical in degrees."""
    bpy.context.view_layer.update()
    way = state.sun.matrix_world.to_3x3() @ Vector((0.0, 0.0, 1.0))
    return [math.degrees(world.facing(scene, camera)), math.degrees(math.atan2(way.y, way.x))]


out["aim"] = {"built": aim()}
camera.rotation_euler[2] = math.radians(20.0)
bpy.context.view_layer.update()
ops.build_scene()
out["aim"]["by hand"] = aim()
for frame, turn in ((1, 20.0), (21, 80.0)):
    camera.rotation_euler[2] = math.radians(turn)
    camera.keyframe_insert("rotation_euler", frame=frame)
scene.frame_set(21)
ops.build_scene()
ops.update_light()
out["aim"]["in the shot"] = aim()
plate.own_camera = other = kit.own_camera(scene, 40.0)
other.rotation_euler = (math.pi / 2, 0.0, math.radians(-30.0))
other.keyframe_insert("rotation_euler", frame=1)
bpy.context.view_layer.update()
ops.build_scene()
camera = other
out["aim"]["another camera"] = aim()

# Film exposure brightens what the backend and the previews show, too; a light taken from the scene has it.
lamp = bpy.data.objects.new("Key", bpy.data.lights.new("Key", "POINT"))
scene.collection.objects.link(lamp)


def shown() -> list[float]:
    """How bright the light is for the backend and both previews, a lamp, and a plain World."""
    target = light.for_backend(scene, plate, full=False)(lambda work: work())
    wish = Live()._wish(scene, plate)
    drawn = Instant.view(None, scene, plate, 1)
    plain = scene.world
    kit.light_by_color(scene, 0.2, 0.2, 0.2)
    color = light.world_pixels(scene).mean()
    scene.world = plain
    powers = [each.power for each in lamps.for_backend(scene, plate)]
    return [float(target.lights["light"].mean()), 2.0**wish.exposure, drawn.gain, *powers, float(color)]


before = shown()
cycles.film_exposure = 2.5
out["film"] = [one / other for one, other in zip(shown(), before, strict=True)]
state.light_from = "SCENE"
state.baked_light = images.put_image("taken", sunny, data=False)
brighter = shown()[:3]
cycles.film_exposure = 1.0
out["film of the scene's light"] = [one / other for one, other in zip(brighter, shown()[:3], strict=True)]
blender_addon.unregister()
kit.result(out)
