"""A sequence of three frames: analyzed, its maps drive the card by frame, rendered and refined as a range."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import blender_kit as kit
import bpy
import numpy as np

import blender_addon
from blender_addon import compat, exr, maps, remote

SIZE = 24
LEVELS = {1001: 0.1, 1002: 0.3, 1003: 0.6}
CAVITIES = {0.1: 0.4, 0.3: 0.5, 0.6: 0.8}
asked: list[str] = []
lights: list[list[float]] = []
lamps: list[list[float]] = []
cavities: list[float] = []


def answer(
    _settings: Any, _process: Any, request: Any, planes: dict[str, Any], reporter: Any
) -> remote.Answer:
    """Maps that tell the frame: a flat facing surface whose albedo times cavity is the plate's own level.

    The first answer is that of an earlier version.
    """
    reporter.progress(0.5, "thinking")
    asked.append(type(request).__name__)
    shape = planes["plate" if "plate" in planes else "matte"].shape[:2]
    one = np.ones(shape, np.float32)
    if asked[-1] == "Decompose":
        cavity = CAVITIES[round(float(planes["plate"].mean()), 1)]
        made = {
            "matte": one,
            "roughness": one,
            "reflectivity": one * 0,
            "depth": one * 3,
            "foreground": planes["plate"],
            "albedo": planes["plate"] / cavity,
            "normal": np.dstack([one * 0, one * 0, one]),
            "light": np.ones((8, 16, 3), np.float32),
        }
        return remote.Answer(made | ({"cavity": one * cavity} if len(asked) > 1 else {}), {})
    if asked[-1] == "Relight":
        cavities.append(float(planes["cavity"].mean()))
        lamps.append([request.lamps[0].at[0], request.lamps[0].power, request.distance])
        gray = np.full((*shape, 3), 0.5, np.float32)
        return remote.Answer(
            {"pbr": gray, "diffuse": gray, "specular": gray, "relit": np.dstack([gray, one])}, {}
        )
    lights.append([request.rotation, request.exposure, float(planes["light"].mean())])
    pbr = planes["diffuse"] + planes["specular"]
    return remote.Answer({"pbr": pbr, "relit": np.dstack([pbr, one])}, {})


remote.ask, remote.ensure_backend = answer, lambda _settings, _process: None
blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
Path("in").mkdir(exist_ok=True)
for frame, level in LEVELS.items():
    exr.write(f"in/shot.{frame}.exr", {"": np.full((SIZE, SIZE, 3), level, np.float32)})
exr.write("sky.exr", {"": np.ones((16, 32, 3), np.float32)})
bpy.ops.wm.save_as_mainfile(filepath=str(Path("shot.blend").resolve()))

scene = bpy.context.scene
state, ops = scene.platelight, bpy.ops.platelight
out: dict[str, Any] = {}
ops.load_plate(filepath=str(Path("in/shot.1002.exr").resolve()), sequence=True)
plate = state.plates[0]
out["range"] = [plate.frame_first, plate.frame_last]
scene.frame_set(1002)
ops.analyse()
out["one"] = len(asked)
scene.frame_set(1001)
ops.analyse()
out["partly"] = plate.cavity is None
ops.analyse(whole_range=True)
out["all"] = len(asked)
out["files"] = len(list(Path("platelight").rglob("albedo.*.exr")))
out["thumbnail"] = [*plate.albedo.preview.image_size, plate.albedo.preview.image_pixels_float[0]]
out["read"] = [float(maps.map_pixels(plate, "albedo", 3, frame).mean()) for frame in LEVELS]
ops.set_light(filepath=str(Path("sky.exr").resolve()))
plate.shadow_proxy = True
ops.build_scene()
users = [
    node.image_user for node in plate.proxy.data.materials[0].node_tree.nodes if node.type == "TEX_IMAGE"
]
out["proxy's frames"] = [[user.frame_start, user.frame_duration] for user in users]
plate.shadow_proxy = False
ops.build_scene()
state.samples, state.denoise = 16, False
out["rendered"] = []
for frame in LEVELS:
    scene.frame_set(frame)
    bpy.context.view_layer.update()
    kept = kit.render(scene, Path("seen.exr"))["ViewLayer.Combined"]
    out["rendered"].append(float(kept[8:16, 8:16, :3].mean()))
for frame, turn, factor in (
    (1001, 0.0, 1.0),
    (1003, 20.0, 3.0),
):  # keyframes: 10 degrees, twice the light between
    state.rotation, state.hdri_strength = turn, factor
    for name in ("rotation", "hdri_strength"):
        state.keyframe_insert(name, frame=frame)
state.exposure = 0.5
state.output = str(Path("out/relit.####.exr").resolve())
scene.frame_set(1)
out["relight"] = sorted(ops.relight_range())
out["lights"] = lights
out["frame back"] = scene.frame_current
out["results"] = [
    float(exr.read(f"out/relit.{frame}.exr").layers[""][8:16, 8:16, :3].mean()) for frame in LEVELS
]
# The backend renders: each frame has its lamps where they are, and no preview is rendered.
lamp = bpy.data.objects.new("key", bpy.data.lights.new("key", "POINT"))
scene.collection.objects.link(lamp)
for frame in (1001, 1003):
    lamp.location.x, lamp.data.energy = frame - 1001, 50.0 * (frame - 1000)
    lamp.keyframe_insert("location", frame=frame)
    lamp.data.keyframe_insert("energy", frame=frame)
state.physics = "BACKEND"
out["by backend"] = sorted(ops.relight_range())
out["lamps"], out["asked last"], out["cavities"] = lamps, asked[-3:], cavities
out["pass of a frame"] = float(maps.map_pixels(plate, "diffuse_pass", 3, 1002).mean())
state.physics = "CYCLES"
scene.frame_set(1002)
state.backdrop = "none"
ops.composite()
tree = compat.compositor_tree(scene)
nodes = [tree.nodes[f"Platelight {name}"] for name in ("Relit", "Grain Picture")]
out["composite's frames"] = [[node.frame_start, node.frame_duration] for node in nodes]
try:
    maps.source(plate, "albedo", 1004)
except Exception as error:
    out["missing"] = str(error)
bpy.ops.wm.save_mainfile()
bpy.ops.wm.open_mainfile(filepath=str(Path("shot.blend").resolve()))
again = bpy.context.scene.platelight.plates[0]
out["after load"] = float(maps.map_pixels(again, "albedo", 3, 1003).mean())
blender_addon.unregister()
kit.result(out)
