"""Saving: what is packed, what stays in the cache, where files are found from another folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import blender_kit as kit
import bpy
import numpy as np

import blender_addon
from blender_addon import exr, maps, preferences, temporary
from blender_addon.rendering import RenderSetup

out: dict[str, Any] = {}
ops = bpy.ops.platelight


def full(name: str) -> str:
    return str(Path(name).resolve())


def save(name: str, **options: Any) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    bpy.ops.wm.save_as_mainfile(filepath=full(name), **options)


def state() -> Any:
    return bpy.context.scene.platelight


blender_addon.register()
cache = preferences.user_folder()

# One map is gone: the others are packed.
bpy.ops.wm.read_factory_settings(use_empty=True)
plate = kit.add_plate(8, 12)
Path(plate.cavity.filepath).unlink()
save("a/packed.blend")
out["packed"] = {
    name: getattr(plate, name).packed_file is not None for name in ("albedo", "cavity", "normal", "matte_map")
}

# What is painted after a save is saved as well.
for level in (0.25, 0.75):
    plate.matte_map.pixels.foreach_set(np.full(8 * 12 * 4, level, np.float32))
    save("a/packed.blend")
bpy.ops.wm.open_mainfile(filepath=full("a/packed.blend"))
out["painted"] = float(maps.map_pixels(state().plates[0], "matte_map", 1).mean())

# Whatever goes wrong in it, a save during a render does not keep the render's settings.
scene, plate = bpy.context.scene, state().plates[0]
scene.render.filepath, packing = "/mine", maps.pack


def broken() -> None:
    raise OSError("the disk is full")


maps.pack = broken
with RenderSetup(scene, plate, Path("x.exr"), 4):
    save("a/during.blend", copy=True)
    temporary.after_saving()  # as a save that failed before it began tells it
    out["during"] = scene.render.filepath
maps.pack = packing
out["after"] = scene.render.filepath
with bpy.data.libraries.load(full("a/during.blend")) as (_, taken):
    taken.scenes = ["Scene"]
out["saved"] = [taken.scenes[0].render.filepath, taken.scenes[0].get("platelight_render")]

# Another folder: what was beside the first file is found.
bpy.ops.wm.open_mainfile(filepath=full("a/packed.blend"))
plate = state().plates[0]
for owner, name in (
    (plate, "filepath"), (plate, "matte_path"), (plate, "map_folder"), (state(), "hdri"), (state(), "backdrop_path"),
):  # fmt: skip
    setattr(owner, name, f"//{name}.exr")
state().output = "//out.exr"
save("a/packed.blend")
out["same folder"] = plate.matte_path
save("b/moved.blend")
out["moved"] = [plate.filepath, plate.matte_path, plate.map_folder, state().hdri, state().backdrop_path]
out["expected"] = [
    full(f"a/{name}.exr") for name in ("filepath", "matte_path", "map_folder", "hdri", "backdrop_path")
]
out["output"] = state().output

# Footage of the .blend is found as well; a clip counts from its own file.
for frame in range(1001, 1011):
    exr.write(f"b/shot.{frame}.exr", {"": np.full((4, 6, 3), frame - 1000, np.float32)})
clip = bpy.data.movieclips.load(full("b/shot.1005.exr"))
clip.frame_start, clip.frame_offset, clip.filepath = 11, 1, "//shot.1005.exr"
ops.use_footage(kind="CLIP", name=clip.name)
plate = state().plates[state().active]
out["clip"] = [plate.filepath, plate.frame_first, plate.frame_last]
out["clip's frame 12"] = float(maps.plate_source(plate, 12).read(3).mean())
image = bpy.data.images.load(full("b/shot.1001.exr"))
image.source, image.filepath = "SEQUENCE", "//shot.1001.exr"
ops.use_footage(kind="IMAGE", name=image.name)
out["image"] = state().plates[state().active].filepath

# Maps of a sequence that was analyzed before its file was saved stay while that file exists.
bpy.ops.wm.read_factory_settings(use_empty=True)
ops.load_plate(filepath=full("b/shot.1001.exr"), sequence=True)
plate = state().plates[0]
maps.put_map(plate, "albedo", np.full((4, 6, 3), 0.5, np.float32))
folder = Path(plate.map_folder)
out["in the cache"] = folder.is_relative_to(cache)
for name in ("b/shot.blend", "b/copy.blend", "b/copy.blend"):
    save(name)
claims = (folder / maps.mapfiles._CLAIMS).read_text("utf-8").splitlines()
out["claims"] = claims == [full("b/shot.blend"), full("b/copy.blend")]
bpy.ops.wm.read_factory_settings(use_empty=True)
out["cleared"] = []
for gone in ("", "b/shot.blend", "b/copy.blend"):
    if gone:
        Path(gone).unlink()
    ops.clear_cache()
    out["cleared"].append(folder.is_dir())
blender_addon.unregister()
kit.result(out)
