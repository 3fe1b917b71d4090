"""Where the backend and the World have one bright spot of an HDRI, for a camera that turns after the scene was built."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import blender_kit as kit
import bpy
import numpy as np
from mathutils import Euler

import blender_addon
from blender_addon import compat, exr, latlong, light, world

blender_addon.register()
scene, camera = kit.empty_scene(64, 32)
state = scene.platelight
HEIGHT = 64
spot = np.full((HEIGHT, 2 * HEIGHT, 3), 1e-3, np.float32)
spot[HEIGHT // 2 - 1 : HEIGHT // 2 + 1, HEIGHT + 9 : HEIGHT + 11] = 500.0
exr.write("spot.exr", {"": spot})
plate = SimpleNamespace(uid="one", name="one", camera=camera)
state.light_from, state.hdri = "HDRI", str(Path("spot.exr").resolve())
camera.rotation_euler = Euler((math.pi / 2, 0.0, 0.7))
bpy.context.view_layer.update()
light.update_world(scene, plate)


def told() -> np.ndarray:
    """Unit direction of the brightest light, in the camera's axes, as the backend is told."""
    target = light.for_backend(scene, plate, full=True)(lambda work: work())
    pixels = next(iter(target.lights.values()))
    way = latlong.directions(len(pixels))
    power = (pixels.sum(-1) * latlong.solid_angles(len(pixels)))[..., None]
    mean = (power * way).sum((0, 1))
    turn = math.radians(target.rotation)
    x, y, z = mean / np.linalg.norm(mean)
    return np.array([x * math.cos(turn) - z * math.sin(turn), y, x * math.sin(turn) + z * math.cos(turn)])


def seen() -> np.ndarray:
    """The same by Cycles: a panorama from the camera's place, turned into its axes."""
    watcher = world.build_camera("Watcher", 40.0, scene.collection)
    compat.make_panorama(watcher.data)
    watcher.matrix_world = camera.matrix_world
    scene.camera = watcher
    scene.render.film_transparent = False
    scene.render.resolution_x, scene.render.resolution_y = 128, 64
    pixels = next(iter(kit.render(scene, Path("pano.exr").resolve()).values()))[..., :3]
    way = latlong.directions(len(pixels))
    mean = ((pixels.sum(-1) * latlong.solid_angles(len(pixels)))[..., None] * way).sum((0, 1))
    return np.asarray(mean / np.linalg.norm(mean))


out: dict[str, Any] = {}
for name, angles in {
    "as built": (90.0, 0.0, 0.7),
    "yawed": (90.0, 0.0, 0.7 + 0.6),
    "tilted": (75.0, 12.0, 0.7 - 0.9),
}.items():
    camera.rotation_euler = Euler((math.radians(angles[0]), math.radians(angles[1]), angles[2]))
    bpy.context.view_layer.update()
    out[name] = [told().tolist(), seen().tolist()]
kit.result(out)
blender_addon.unregister()
