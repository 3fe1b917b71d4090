"""A wide and tall wall beside a small lamp: the requests that Refine sends for the light of one and of 2 x 2 places.

Argument: the folder for requests and planes (``1.json``, ``1.npz`` and so on).
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import blender_kit as kit
import bpy
import msgspec
import numpy as np
from mathutils import Vector

import blender_addon
from blender_addon import bake, maps

FAR, LAMP, POWER, RADIUS = 4.0, (0.7, 0.5, -2.8), 100.0, 0.1
FOLDER = Path(sys.argv[1])


caught = kit.catch_requests()
blender_addon.register()
scene, camera = kit.empty_scene(4)
state, ops = scene.platelight, bpy.ops.platelight
data = bpy.data.lights.new("Lamp", "POINT")
data.energy, data.shadow_soft_size = POWER, RADIUS
lamp = bpy.data.objects.new("Lamp", data)
scene.collection.objects.link(lamp)
lamp.location = camera.matrix_world @ Vector(LAMP)
one = np.ones((kit.SIZE, kit.SIZE), np.float32)
white = np.ones((kit.SIZE, kit.SIZE, 3), np.float32)
plate = state.plates.add()
plate.uid, plate.name, plate.width, plate.height = "x", "wall", kit.SIZE, kit.SIZE
plate.own_camera, plate.distance = camera, FAR
for name, plane in {
    "plate": white, "foreground": white, "albedo": white, "normal": white * (0.0, 0.0, 1.0), "roughness": one,
    "reflectivity": one * 0.0, "depth": one, "matte_map": one,
}.items():  # fmt: skip
    maps.put_map(plate, name, np.ascontiguousarray(plane, np.float32))
ops.build_scene()
state.physics, state.bake_height, state.bake_samples = "BACKEND", 64, 64
for count in (1, 4):
    state.bake_points = count
    ops.match_scene_light()
    ops.refine()
    request, planes = caught[-1]
    (FOLDER / f"{count}.json").write_bytes(msgspec.json.encode(request))
    np.savez(FOLDER / f"{count}.npz", **planes)


def places(rows: slice, columns: slice, count: int) -> list[list[float]]:
    """Where the lights of a subject that fills a part of the plate are taken."""
    matte = np.zeros_like(one)
    matte[rows, columns] = 1.0
    return [[round(x, 4) for x in point.place] for point in bake.viewpoints(plate, one, matte, count)]


out = {
    "all": places(slice(None), slice(None), 4),
    "tall": places(slice(None), slice(16, 32), 4),
    "wide": places(slice(8, 24), slice(None), 4),
    "two": places(slice(None), slice(None), 2),
    "across": 2.0 * math.tan(math.radians(kit.FOV) / 2.0) * FAR,
    "lamp": [*LAMP, POWER, FAR],
}
blender_addon.unregister()
kit.result(out)
