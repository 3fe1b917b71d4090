"""Lamps of the scene on the way to the backend. Arguments: folder for what the backend would get, "render" or "quick".

A sphere is the plate; its camera stands somewhere and is turned, so that world and camera frames differ. The request of
``refine`` is caught and kept with its planes, and Cycles' passes of the same lamps beside it.
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
from mathutils import Euler, Matrix, Vector

import blender_addon
from blender_addon import bake, lamps, maps, remote

SIZE = 96
FOLDER, FULL = Path(sys.argv[1]), sys.argv[2] == "render"
caught: list[Any] = []


def answer(
    _settings: Any, _process: Any, request: Any, planes: dict[str, Any], _reporter: Any
) -> remote.Answer:
    caught.append((request, {name: np.array(plane) for name, plane in planes.items()}))
    gray = np.full((SIZE, SIZE, 3), 0.25, np.float32)
    alpha = np.ones((SIZE, SIZE, 1), np.float32)
    made = {"relit": np.dstack([gray, alpha]), "pbr": 2 * gray, "diffuse": gray, "specular": gray}
    return remote.Answer(made, {})


def lamp(name: str, kind: str, frame: Matrix, **settings: Any) -> Any:
    """A lamp placed in the camera's frame."""
    data = bpy.data.lights.new(name, kind)
    for key, value in settings.items():
        setattr(data, key, value)
    thing = bpy.data.objects.new(name, data)
    thing.matrix_world = camera.matrix_world @ frame
    scene.collection.objects.link(thing)
    return thing


def looking(at: tuple[float, ...], to: tuple[float, ...]) -> Matrix:
    """A lamp at ``at`` that shines at ``to``, in the camera's frame."""
    turn = (Vector(to) - Vector(at)).to_track_quat("-Z", "Y").to_matrix().to_4x4()
    return Matrix.Translation(at) @ turn


def told(things: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(thing) for thing in things]


def attempt(function: Any, *arguments: Any, **options: Any) -> str:
    try:
        function(*arguments, **options)
    except Exception as error:
        return str(error)
    return ""


def hand_over(name: str) -> None:
    """Refine, and keep what the backend would have got and what Cycles rendered."""
    ops.render_preview()
    passes = maps.map_pixels(plate, "diffuse_pass", 3) + maps.map_pixels(plate, "specular_pass", 3)
    state.physics = "BACKEND"
    ops.refine()
    state.physics = "CYCLES"
    request, planes = caught[-1]
    (FOLDER / f"{name}.json").write_bytes(msgspec.json.encode(request))
    np.savez(FOLDER / f"{name}.npz", cycles=passes, **planes)


remote.ask, remote.ensure_backend = answer, lambda _settings, _process: None
blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
state, ops = scene.platelight, bpy.ops.platelight
out: dict[str, Any] = {}
data = bpy.data.cameras.new("Mine")
data.angle = math.radians(kit.FOV)
camera = bpy.data.objects.new("Mine", data)
scene.collection.objects.link(camera)
camera.location, camera.rotation_euler = (3.0, -2.0, 1.5), Euler((1.4, 0.2, 0.7))
bpy.context.view_layer.update()
plate = state.plates.add()
plate.uid, plate.name, plate.width, plate.height = "x", "ball", SIZE, SIZE
plate.own_camera, plate.distance = camera, 3.0
normal, depth, hit = kit.sphere_maps(SIZE)
one = np.ones((SIZE, SIZE), np.float32)
color = np.broadcast_to(np.array(kit.BASE, np.float32), (SIZE, SIZE, 3))
middle = float(np.median(depth[hit]))
for name, plane in {
    "plate": color, "foreground": color, "albedo": color, "normal": normal, "roughness": one * 0.5,
    "reflectivity": one * 0.04, "depth": depth / middle, "matte_map": hit.astype(np.float32),
}.items():  # fmt: skip
    maps.put_map(plate, name, np.ascontiguousarray(plane))
ops.build_scene()
state.samples, state.denoise = (256 if FULL else 1), False

# Positions and units: what was placed in the camera's frame is what is sent.
area = lamp(
    "area",
    "AREA",
    looking((-1.8, 0.6, -1.5), (0.0, 0.0, -3.0)),
    energy=60.0,
    shape="RECTANGLE",
    size=1.2,
    size_y=0.6,
)
lamp(
    "point",
    "POINT",
    Matrix.Translation((1.5, 1.0, -1.2)),
    energy=80.0,
    color=(1.0, 0.8, 0.5),
    shadow_soft_size=0.1,
)
spot = looking((-1.2, 1.5, -0.8), (0.1, 0.2, -3.0))
lamp("spot", "SPOT", spot, energy=200.0, spot_size=math.radians(40), spot_blend=0.4, shadow_soft_size=0.0)
sun = lamp("sun", "SUN", looking((0, 0, 0), (-0.7, -0.5, -0.6)), energy=3.0, angle=math.radians(2.0))
bpy.context.view_layer.update()
out["sent"] = told(lamps.for_backend(scene, plate))
out["distance"] = lamps.distance(scene, plate)
scene.unit_settings.system, scene.unit_settings.scale_length = "METRIC", 0.01
out["in cm"] = told(lamps.for_backend(scene, plate))
out["distance in cm"] = lamps.distance(scene, plate)
scene.unit_settings.scale_length = 1.0

# The command line's lamps, and back again.
sent_before = lamps.for_backend(scene, plate)
for thing in [each for each in scene.objects if each.type == "LIGHT"]:
    thing.hide_render = True
made = [lamps.build(each, camera, scene.collection) for each in sent_before]
bpy.context.view_layer.update()
out["there and back"] = told(lamps.for_backend(scene, plate))
for thing in made:
    bpy.data.lights.remove(thing.data)
for thing in scene.objects:
    thing.hide_render = False

# Which lamps.
things = {name: bpy.data.objects[name] for name in ("area", "point", "spot", "sun")}


def sent() -> list[str]:
    return [each.kind for each in lamps.for_backend(scene, plate)]


rig = bpy.data.collections.new("rig")
inner = bpy.data.collections.new("inner")
scene.collection.children.link(rig)
rig.children.link(inner)
inner.objects.link(things["spot"])
rig.objects.link(things["sun"])
state.lamps = "COLLECTION"
out["no collection"] = sent()
state.lamp_collection = rig
out["collection"] = sent()
out["hidden for it"] = sorted(each.name for each in lamps.left_out(scene))
with bake.setup_for(scene, plate, None, FOLDER / "bake.exr", 1):
    out["hidden in the bake"] = sorted(name for name, thing in things.items() if thing.hide_render)
out["back after it"] = not any(thing.hide_render for thing in things.values())
scene.collection.objects.unlink(things["sun"])
rig.hide_render = True
out["collection hidden"] = sent()  # the spot still hangs in the scene's own collection
rig.hide_render = False
scene.collection.objects.link(things["sun"])
state.lamps = "ALL"
out["hidden for none"] = lamps.left_out(scene)
things["point"].hide_render = True
out["hidden"] = sent()
things["point"].hide_render = False
linked = bpy.data.collections.new("linked")
linked.objects.link(bpy.data.objects.new("other", bpy.data.meshes.new("other")))
things["area"].light_linking.receiver_collection = linked
out["linked elsewhere"] = sent()
linked.objects.link(plate.card)
out["linked here"] = sent()
linked.objects.unlink(plate.card)
linked.objects.unlink(bpy.data.objects["other"])
nested = bpy.data.collections.new("nested")
nested.objects.link(bpy.data.objects["other"])
linked.children.link(nested)
out["nested elsewhere"] = sent()
nested.objects.link(plate.card)
out["nested here"] = sent()
linked.collection_children[0].light_linking.link_state = "EXCLUDE"
out["nested out"] = sent()
things["area"].light_linking.receiver_collection = None
things["point"].visible_diffuse = things["point"].visible_glossy = False
out["unseen"] = sent()
things["point"].visible_diffuse = True
bpy.context.view_layer.update()
out["half seen"] = attempt(lamps.for_backend, scene, plate)
things["point"].visible_glossy = True
state.lamps = "NONE"
out["none"] = sent()
state.lamps = "ALL"
state.light_from = "SCENE"
out["in the scene's light"] = sent()
state.light_from = "HDRI"

# What the backend cannot do is refused by name.
things["area"].data.spread = 1.0
out["spread"] = attempt(lamps.for_backend, scene, plate)
things["area"].data.spread = math.pi
things["point"].data.energy = -1.0
out["negative"] = attempt(lamps.for_backend, scene, plate)
things["point"].data.energy = 0.0
out["dark"] = sent()
things["point"].data.energy = 80.0
more = [lamp(f"more {n}", "POINT", Matrix.Identity(4)) for n in range(29)]
for each in more:
    each.data.energy = 1.0
out["too many"] = attempt(lamps.for_backend, scene, plate)
for each in more:
    bpy.data.objects.remove(each)

# Keyframes, of a lamp that no viewport shows.
point = things["point"]
before = point.matrix_world.copy()
for frame, x in ((1, 0.0), (11, 1.0)):
    point.matrix_world = camera.matrix_world @ Matrix.Translation((x, 1.0, -1.2))
    point.keyframe_insert("location", frame=frame)
    point.data.energy = 80.0 + 100.0 * x
    point.data.keyframe_insert("energy", frame=frame)
point.hide_viewport = True
out["keyed"] = []
for frame in (1, 6, 11):
    scene.frame_set(frame)
    found = next(each for each in lamps.for_backend(scene, plate) if each.kind == "point")
    out["keyed"].append([*found.at, found.power])
out["stays hidden"] = point.hide_viewport
point.hide_viewport = False
point.animation_data_clear()
point.data.animation_data_clear()
point.matrix_world, point.data.energy = before, 80.0

# The request, its undo and what the .blend keeps.
state.physics, state.shadows = "BACKEND", True
out["dark world"] = attempt(ops.refine)
request, planes = caught[-1]
out["request"] = [
    type(request).__name__,
    len(request.lamps),
    request.shadows,
    "light" in planes,
    "diffuse" in planes,
]
out["passes kept"] = float(maps.map_pixels(plate, "specular_pass", 3).mean())
out["preview kept"] = float(maps.map_pixels(plate, "preview", 4)[SIZE // 2, SIZE // 2, 0])
scene.world = bpy.data.worlds.new("Gray")
scene.world.use_nodes = True
scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.2, 0.3, 0.4, 1.0)
scene.world.node_tree.nodes["Background"].inputs["Strength"].default_value = 0.5
ops.refine()
out["world"] = caught[-1][1]["light"][0, 0].tolist()
state.lamps = "NONE"
scene.world = None
out["nothing lights"] = attempt(ops.refine)
state.lamps = "ALL"

if FULL:
    state.shadows = False
    for name in things:
        for other, thing in things.items():
            thing.hide_render = other != name
        hand_over(name)
    # Colors by temperature and by nodes, a stretched area, a round one; a collection chosen.
    for thing in things.values():
        thing.hide_render = False
    if hasattr(area.data, "use_temperature"):
        area.data.use_temperature, area.data.temperature = True, 3200.0
    area.scale = (1.5, 2.0, 1.0)
    sun.data.use_nodes = True
    sun.data.node_tree.nodes["Emission"].inputs["Color"].default_value = (0.3, 0.6, 1.0, 1.0)
    sun.data.node_tree.nodes["Emission"].inputs["Strength"].default_value = 0.7
    inner.objects.link(area)
    state.lamps = "COLLECTION"
    hand_over("collection")
    area.data.shape = "DISK"
    area.scale = (1.0, 1.0, 1.0)
    rig.objects.unlink(sun)
    inner.objects.unlink(things["spot"])
    hand_over("disk")
    scene.world = bpy.data.worlds.new("Plain")
    scene.world.color = (0.2, 0.3, 0.4)
    if scene.world.node_tree is not None:
        scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.2, 0.3, 0.4, 1.0)
    hand_over("plain world")
state.physics, state.shadows = "BACKEND", True
bpy.ops.ed.undo_push(message="before")
state.lamps = "COLLECTION"
bpy.ops.ed.undo_push(message="collection")
state.shadows = False
bpy.ops.ed.undo_push(message="shadows")
bpy.ops.ed.undo()
again = bpy.context.scene.platelight
out["undone"] = [again.shadows, again.lamps, again.lamp_collection.name]
bpy.ops.wm.save_as_mainfile(filepath=str(FOLDER / "lamps.blend"))
bpy.ops.wm.open_mainfile(filepath=str(FOLDER / "lamps.blend"))
again = bpy.context.scene.platelight
out["loaded"] = [again.shadows, again.lamps, again.lamp_collection.name, again.physics]
blender_addon.unregister()
kit.result(out)
