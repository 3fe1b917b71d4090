"""Plates from a movie, a movie clip and an image of the .blend; mattes by frame. Argument: a movie of twelve gray levels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import blender_kit as kit
import bpy
import numpy as np

import blender_addon
from blender_addon import exr, maps, remote
from blender_addon.session import session

SIZE = (48, 64)
seen: list[dict[str, float]] = []


def answer(
    _settings: Any, _process: Any, request: Any, planes: dict[str, Any], _reporter: Any
) -> remote.Answer:
    """Notes what came, gives flat maps."""
    seen.append({name: float(plane.mean()) for name, plane in planes.items()})
    shape = planes["plate"].shape[:2]
    one = np.ones(shape, np.float32)
    made = dict.fromkeys(("matte", "roughness", "reflectivity", "depth"), one)
    made |= {name: np.dstack([one] * 3) for name in ("foreground", "albedo", "normal")}
    return remote.Answer({**made, "light": np.ones((8, 16, 3), np.float32)}, {})


def sentence(operator: Any, **arguments: Any) -> str:
    try:
        operator(**arguments)
    except RuntimeError as error:
        return str(error)
    return ""


remote.ask, remote.ensure_backend = answer, lambda _settings, _process: None
blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
movie = str(Path(sys.argv[1]).resolve())
for frame in (2, 3, 4):
    exr.write(f"matte.{frame}.exr", {"": np.full((*SIZE, 3), frame / 10, np.float32)})
exr.write("still7.exr", {"": np.full((*SIZE, 3), 0.25, np.float32)})
scene = bpy.context.scene
state, ops = scene.platelight, bpy.ops.platelight
out: dict[str, Any] = {}

ops.load_plate(filepath=movie, first=2, last=4)
plate = state.plates[0]
out["range"] = [plate.frame_first, plate.frame_last, plate.width, plate.height, plate.plate.source]
out["before"] = session.movies is None
plate.matte, plate.matte_path = "given", str(Path("matte.2.exr").resolve())
ops.analyse(whole_range=True)
out["movie"] = list(seen)
out["files"] = len(list(maps.map_folder(plate).glob("albedo.*.exr")))
seen.clear()
scene.frame_set(3)
plate.matte_offset = 1
ops.analyse()
plate.matte_path = str(Path("still7.exr").resolve())  # a number in its name, and no other beside it
ops.analyse()
plate.matte_path, plate.matte_offset = movie, 5
ops.analyse()
out["mattes"] = [each["matte"] for each in seen]
plate.matte_offset = 20
out["no frame"] = sentence(ops.analyse)
plate.matte = "auto"
out["no range"] = sentence(ops.load_plate, filepath=movie, first=5, last=99)
Path("text.mov").write_text("no movie")
out["no movie"] = sentence(ops.load_plate, filepath=str(Path("text.mov").resolve()))
out["plates after refusals"] = len(state.plates)

# A clip that the scene shows from frame 1001 on, with the camera that it was tracked for.
clip = bpy.data.movieclips.load(movie)
clip.frame_start = 1001
camera = bpy.data.objects.new("Tracked", bpy.data.cameras.new("Tracked"))
scene.collection.objects.link(camera)
camera.constraints.new("CAMERA_SOLVER").clip = clip
ops.use_footage(kind="CLIP", name=clip.name)
plate = state.plates[state.active]
out["clip"] = [plate.frame_first, plate.frame_last, plate.own_camera == camera]
seen.clear()
scene.frame_set(1004)
ops.analyse()
out["clip level"] = seen[0]["plate"]

# Images of the .blend: a painted one without a file, and a run of files.
image = bpy.data.images.new("painted", 8, 6, float_buffer=True)
image.pixels.foreach_set(np.tile(np.array([0.3, 0.3, 0.3, 1.0], np.float32), 48))
image.pack()
image.filepath = "//nowhere.exr"
ops.use_footage(kind="IMAGE", name="painted")
plate = state.plates[state.active]
out["painted"] = [plate.width, plate.height, float(maps.map_pixels(plate, "plate", 3).mean())]
run = bpy.data.images.load(str(Path("matte.2.exr").resolve()))
run.source = "SEQUENCE"
ops.use_footage(kind="IMAGE", name=run.name)
plate = state.plates[state.active]
out["run"] = [plate.frame_first, plate.frame_last]
out["gone"] = sentence(ops.use_footage, kind="CLIP", name="nobody")

process = session.movies._process
blender_addon.unregister()
out["reader ended"] = process is not None and process.poll() is not None and session.movies is None
kit.result(out)
