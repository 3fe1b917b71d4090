"""A tall capsule beside a panel that lights its top: what the backend would get for lights from 1 to 4 places, and the truth.

Argument: the folder for a request and its planes (``1.json``, ``1.npz`` and so on) and ``truth.npz``.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import blender_kit as kit
import bmesh
import bpy
import msgspec
import numpy as np
from mathutils import Euler, Vector

import blender_addon
from blender_addon import compat, maps
from blender_addon.node_tools import NodeBuilder

WIDTH, HEIGHT, FOV, FAR = 64, 192, 12.0, 8.0
RADIUS, HALF = 0.3, 1.4  # of the capsule; half of the line that it is about
FOLDER = Path(sys.argv[1])


def capsule_maps() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normal, depth and hit mask in the camera's frame, by walking along the rays."""
    across = math.tan(math.radians(FOV) / 2)
    x, y = np.meshgrid(
        ((np.arange(WIDTH) + 0.5) / WIDTH * 2 - 1) * across,
        (1 - (np.arange(HEIGHT) + 0.5) / HEIGHT * 2) * across * HEIGHT / WIDTH,
    )
    ray = np.stack([x, y, -np.ones_like(x)], -1)
    length = np.linalg.norm(ray, axis=-1)
    depth = np.full(x.shape, FAR - 1.0)
    for _ in range(200):
        apart = ray * depth[..., None] - [0.0, 0.0, -FAR]
        apart[..., 1] -= np.clip(apart[..., 1], -HALF, HALF)
        away = np.linalg.norm(apart, axis=-1)
        depth = np.minimum(depth + (away - RADIUS) / length, FAR + 1.0)
    hit = np.abs(away - RADIUS) < 1e-4
    return (apart / away[..., None]).astype(np.float32), depth.astype(np.float32), hit


def emission(name: str, strength: float) -> Any:
    material = bpy.data.materials.new(name)
    tree = compat.enable_nodes(material)
    tree.nodes.clear()
    b = NodeBuilder(tree)
    node = b.add("ShaderNodeEmission")
    node.inputs["Color"].default_value = (1.0, 0.8, 0.6, 1.0)
    node.inputs["Strength"].default_value = strength
    b.add("ShaderNodeOutputMaterial", node.outputs[0])
    return material


def surroundings() -> None:
    """A glowing panel 1.8 m beside the top, turned to it, over a floor in a dim World."""
    at = Vector((1.3, FAR - 1.2, 1.8))
    turn = (Vector((0.0, FAR, 1.2)) - at).to_track_quat("Z", "Y").to_euler()
    bpy.ops.mesh.primitive_plane_add(size=0.8, location=at, rotation=turn)
    bpy.context.object.data.materials.append(emission("panel", 12.0))
    bpy.ops.mesh.primitive_plane_add(size=40.0, location=(0.0, FAR, -HALF - RADIUS - 0.02))
    scene.world = bpy.data.worlds.new("dim")
    tree = compat.enable_nodes(scene.world)
    sky = next(node for node in tree.nodes if node.type == "BACKGROUND")
    sky.inputs["Color"].default_value = (0.06, 0.08, 0.1, 1.0)


def capsule() -> Any:
    """The real thing: the kit's sphere, pulled apart at its equator."""
    kit.add_sphere(scene, camera, "principled", 0.4)
    thing = bpy.data.objects["Sphere"]
    thing.parent, thing.location = None, (0.0, FAR, 0.0)
    work = bmesh.new()
    work.from_mesh(thing.data)
    for vertex in work.verts:
        vertex.co *= RADIUS
        vertex.co.z += HALF * np.sign(vertex.co.z if abs(vertex.co.z) > 1e-4 else 0.0)
    work.to_mesh(thing.data)
    work.free()
    return thing


caught = kit.catch_requests(HEIGHT, WIDTH)
blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
state, ops = scene.platelight, bpy.ops.platelight
camera = kit.own_camera(scene, FOV)
camera.rotation_euler = Euler((math.pi / 2, 0.0, 0.0))
bpy.context.view_layer.update()
surroundings()
normal, depth, hit = capsule_maps()
one = np.ones((HEIGHT, WIDTH), np.float32)
color = np.broadcast_to(np.array(kit.BASE, np.float32), (HEIGHT, WIDTH, 3))
plate = state.plates.add()
plate.uid, plate.name, plate.width, plate.height = "x", "capsule", WIDTH, HEIGHT
plate.own_camera, plate.distance = camera, FAR
for name, plane in {
    "plate": color, "foreground": color, "albedo": color, "normal": normal, "roughness": one * 0.4,
    "reflectivity": one * 0.04, "depth": depth / np.median(depth[hit]), "matte_map": hit.astype(np.float32),
}.items():  # fmt: skip
    maps.put_map(plate, name, np.ascontiguousarray(plane))
ops.build_scene()
out: dict[str, Any] = {}
state.physics, state.bake_samples = "BACKEND", 128
for count in (1, 4, 3, 2):
    state.bake_points = count
    ops.match_scene_light(filepath=str(FOLDER / f"light{count}.exr"))
    ops.refine()
    request, planes = caught[-1]
    (FOLDER / f"{count}.json").write_bytes(msgspec.json.encode(request))
    np.savez(FOLDER / f"{count}.npz", **planes)
    out[f"lights {count}"] = sorted(name for name in planes if name.startswith("light"))
    out[f"images {count}"] = sum(image.name.startswith("Platelight Scene Light") for image in bpy.data.images)
out["files"] = sorted(path.name for path in FOLDER.glob("light*.exr"))
out["views left"] = [[view.name, view.use] for view in scene.render.views]
out["multiview left"], out["cameras left"] = scene.render.use_multiview, len(bpy.data.cameras)
state.physics = "CYCLES"
state.samples = 1
ops.render_preview()
ops.refine()
request, planes = caught[-1]
out["by Cycles"] = sorted(name for name in planes if name.startswith("light"))
state.physics = "BACKEND"
other = state.plates.add()
other.uid = "y"
from blender_addon import light  # noqa: E402

out["another plate"] = len(light.places(scene, other))

for thing in scene.objects:
    if thing.get("platelight") == "x" and thing.type == "MESH":
        thing.hide_render = True
capsule()
scene.camera = camera
scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.use_adaptive_sampling = 128, False, False
scene.render.film_transparent = True
scene.render.resolution_x, scene.render.resolution_y = WIDTH, HEIGHT
truth = kit.render(scene, Path("truth.exr"))["ViewLayer.Combined"]
np.savez(FOLDER / "truth.npz", truth=truth)
blender_addon.unregister()
kit.result(out)
