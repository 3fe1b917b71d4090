"""A scene that turns, brightens and is looked at from elsewhere: the light that Match Scene Light takes moves with it.

A small sphere in a room like Cornell's, open to a World of one HDRI. For each state, the sphere itself in the scene is
the truth for the card of its maps under the light that was taken anew, and for the backend (the planes that Refine sends).
Argument: the folder for what Refine sends (``STATE.json``, ``STATE.npz``) and the truths (``STATE.npy``).
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import blender_kit as kit
import bpy
import msgspec
import numpy as np
from cornell_room import blocks, room
from mathutils import Euler, Matrix, Vector

import blender_addon
from blender_addon import images, maps, world

RADIUS = 0.05  # a larger one is not lit as its middle is: the lamp is 2.6 m away
FAR = kit.DISTANCE * RADIUS
FOLDER = Path(sys.argv[1])
ROUGHNESS = {"diffuse": 0.5, "glossy": 0.35, "principled": 0.5}


def looking(camera: Any, at: tuple[float, float, float], turn: tuple[float, float, float]) -> None:
    """Put a camera so that the subject is at a place; ``turn`` is pitch from the horizon, roll and yaw in degrees."""
    pitch, roll, yaw = map(math.radians, turn)
    frame = Euler((math.pi / 2 + pitch, 0.0, yaw)).to_matrix() @ Euler((0.0, 0.0, roll)).to_matrix()
    camera.matrix_world = Matrix.Translation(Vector(at) + frame @ Vector((0.0, 0.0, FAR))) @ frame.to_4x4()
    bpy.context.view_layer.update()


def plate_in(scene: Any, camera: Any) -> None:
    """The sphere's maps as a plate that stands in the scene by the camera."""
    normal, depth, hit = kit.sphere_maps()
    one = np.ones(hit.shape, np.float32)
    color = np.broadcast_to(np.array(kit.BASE, np.float32), (*hit.shape, 3))
    plate = scene.platelight.plates.add()
    plate.uid, plate.name, plate.width, plate.height = "x", "sphere", kit.SIZE, kit.SIZE
    plate.own_camera, plate.distance = camera, FAR
    for name, plane in {
        "plate": color, "foreground": color, "albedo": color, "normal": normal, "roughness": one * ROUGHNESS["principled"],
        "reflectivity": one * 0.04, "depth": depth / np.median(depth[hit]), "matte_map": hit.astype(np.float32),
    }.items():  # fmt: skip
        maps.put_map(plate, name, np.ascontiguousarray(plane))


def truth(scene: Any, camera: Any, kind: str) -> np.ndarray:
    """Cycles' render of the sphere itself in the scene (H, W, 4), the plate's own things hidden."""
    mine = [thing for thing in scene.objects if thing.get("platelight") == "x" and thing.type == "MESH"]
    for thing in mine:
        thing.hide_render = True
    kit.add_sphere(scene, camera, kind, ROUGHNESS[kind])
    ball = bpy.data.objects["Sphere"]
    ball.scale, ball.location = (RADIUS,) * 3, (0.0, 0.0, -FAR)
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.use_adaptive_sampling = 256, False, False
    found: np.ndarray = kit.render(scene, Path("sphere.exr"))["ViewLayer.Combined"]
    bpy.data.objects.remove(ball)
    for thing in mine:
        thing.hide_render = False
    return found


def card(light: np.ndarray, frame: Matrix, kind: str) -> np.ndarray:
    """Cycles' render of the sphere's card under nothing but a light."""
    scene, camera = kit.empty_scene(48)
    camera.matrix_world = frame
    bpy.context.view_layer.update()
    kit.add_card(scene, camera, kind, ROUGHNESS[kind], 1.0)
    world.build_world(scene, images.put_image("baked", light, data=False), camera)
    found: np.ndarray = kit.render(scene, Path("card.exr"))["ViewLayer.Combined"]
    return found


def error(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).mean() / theirs.mean())


caught = kit.catch_requests()
blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
state, ops = scene.platelight, bpy.ops.platelight
camera = kit.own_camera(scene, kit.FOV)
camera.data.clip_start = 1e-3
looking(camera, (0.0, -0.6, 0.0), (0.0, 0.0, -40.0))
room(scene, opened=True)
plate_in(scene, camera)
ops.set_light(filepath=kit.studio_light())
ops.build_scene()
state.physics, state.bake_height, state.bake_samples = "BACKEND", 128, 64
scene.world.cycles.sampling_method, scene.world.cycles.sample_map_resolution = "MANUAL", 256  # quick to make


def turned() -> None:
    state.rotation = 120.0


def brighter() -> None:
    state.exposure, scene.cycles.film_exposure = 1.0, 1.5


def moved() -> None:
    looking(camera, (0.5, -1.0, -0.4), (-25.0, 15.0, 75.0))


taken: dict[str, tuple[np.ndarray, Matrix, dict[str, np.ndarray]]] = {}
out: dict[str, Any] = {}
for name, change in {"first": None, "turned": turned, "brighter": brighter, "moved": moved}.items():
    if change is not None:
        change()
    ops.match_scene_light()
    ops.refine()
    request, planes = caught[-1]
    (FOLDER / f"{name}.json").write_bytes(msgspec.json.encode(request))
    np.savez(FOLDER / f"{name}.npz", **planes)
    light = images.image_pixels(state.baked_light)[..., :3]
    truths = {kind: truth(scene, camera, kind) for kind in ROUGHNESS}
    np.save(FOLDER / f"{name}.npy", truths["principled"])
    taken[name] = light, camera.matrix_world.copy(), truths
before = None
for name, (light, frame, truths) in taken.items():
    wanted = {kind: blocks(picture) for kind, picture in truths.items()}
    out[name] = {
        kind: error(blocks(card(light, frame, kind)), wanted[kind]) for kind in ("diffuse", "glossy")
    }
    if before is not None:
        out[name]["change"] = error(before, wanted["diffuse"])
    before = wanted["diffuse"]
blender_addon.unregister()
kit.result(out)
