"""A sequence whose user scrubs, chooses another plate or another scene while it is rendered; its pictures and its light."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import blender_kit as kit
import bpy
import numpy as np

import blender_addon
from blender_addon import exr, images, maps, remote

SIZE = 8
LEVELS = {1001: 0.1, 1002: 0.2, 1003: 0.4}
meanwhile: list[Callable[[], object]] = []


def answer(
    _settings: Any, _process: Any, request: Any, planes: dict[str, Any], reporter: Any
) -> remote.Answer:
    """Flat gray maps, half transparent but for two rows, whose albedo is the plate's level and whose light is ten times it.

    A refined picture has that level, or 0.8 where another plate's was asked for.
    """
    one = np.ones((SIZE, SIZE), np.float32)
    if type(request).__name__ == "Decompose":
        made = dict.fromkeys(("matte", "roughness", "depth"), one) | {"reflectivity": one * 0}
        made["matte"] = one * 0.5
        made["matte"][:2] = 1.0
        made |= {"foreground": planes["plate"], "albedo": planes["plate"]}
        made["normal"] = np.dstack([one * 0, one * 0, one])
        made["light"] = np.full((8, 16, 3), 10 * planes["plate"].mean(), np.float32)
        return remote.Answer(made, {})
    level = float(planes["albedo"].mean())
    while meanwhile:
        reporter.on_main(meanwhile.pop())
    pbr = np.full((SIZE, SIZE, 3), level / 2, np.float32)
    return remote.Answer(
        {"pbr": pbr, "diffuse": pbr, "specular": pbr * 0, "relit": np.dstack([pbr, one * 0.5])}, {}
    )


def mean(name: str, frame: int) -> float:
    return float(maps.map_pixels(state.plates[0], name, 3, frame)[2:6, 2:6].mean())


def picture(path: str) -> list[float]:
    """Mean of the straight colors and of alpha of the lower half of a picture that was saved as displayed."""
    found = images.load_picture(str(Path(path).resolve()))
    assert found.alpha is not None
    return [float(each[4:, 2:6].mean()) for each in (found.pixels, found.alpha)]


remote.ask, remote.ensure_backend = answer, lambda _settings, _process: None
blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
for frame, level in LEVELS.items():
    exr.write(f"in/shot.{frame}.exr", {"": np.full((SIZE, SIZE, 3), level, np.float32)})
    exr.write(f"in/other.{frame}.exr", {"": np.full((SIZE, SIZE, 3), 0.8, np.float32)})
exr.write("sky.exr", {"": np.ones((16, 32, 3), np.float32)})
scene = bpy.context.scene
scene.view_settings.view_transform = "Standard"
state, ops = scene.platelight, bpy.ops.platelight
state.samples, state.denoise = 16, False
out: dict[str, Any] = {}
ops.set_light(filepath=str(Path("sky.exr").resolve()))
for name in ("other", "shot"):
    ops.load_plate(filepath=str(Path(f"in/{name}.1001.exr").resolve()), sequence=True)
    ops.analyse(whole_range=True)
    ops.build_scene()
state.plates.move(1, 0)
state.active, plate = 0, state.plates[0]
scene.camera = plate.camera
scene.world.cycles.sampling_method = "NONE"  # its map of importance takes seconds


# The timeline is scrubbed while Cycles works.
def scrub(*_: object) -> None:
    scene.frame_set(1003)


scene.frame_set(1003)
ops.render_preview()
before = mean("diffuse_pass", 1003)
scene.frame_set(1001)
bpy.app.handlers.render_complete.append(scrub)
ops.render_preview(filepath=str(Path("preview.png").resolve()))
bpy.app.handlers.render_complete.remove(scrub)
out["passes"] = [mean("diffuse_pass", 1001), mean("diffuse_pass", 1003), before]
out["preview.png"] = picture("preview.1001.png")
scene.frame_set(1001)
state.backdrop = "none"
ops.refine()
ops.composite()
bpy.app.handlers.render_complete.append(scrub)
out["saved"] = sorted(ops.save_composite(filepath=str(Path("comp.exr").resolve())))
bpy.app.handlers.render_complete.remove(scrub)
layers = exr.read("comp.1001.exr").layers
out["composite"] = [float(layers["albedo"].mean()), float(layers["relit"][..., 0].mean())]
out["composite's file"] = [
    maps.mapfiles.map_path(maps.map_folder(plate), "composite", each).is_file() for each in LEVELS
]


# Another plate and another frame are chosen while a range is relit.
def choose_other(*_: object) -> None:
    state.active = 1
    scene.frame_set(1003)


state.output = str(Path("out/relit.####.png").resolve())
scene.frame_set(7)
meanwhile.append(choose_other)
bpy.app.handlers.render_complete.append(choose_other)
out["relit"] = sorted(ops.relight_range())
bpy.app.handlers.render_complete.remove(choose_other)
out["results"] = [picture(f"out/relit.{frame}.png") for frame in LEVELS]
out["frame back"] = scene.frame_current


# Another scene.
def other_scene() -> None:
    bpy.context.window.scene = bpy.data.scenes["Elsewhere"]


bpy.data.scenes.new("Elsewhere").frame_set(5)
state.output = str(Path("out/stopped.####.png").resolve())
meanwhile.append(other_scene)
try:
    ops.relight_range()
    out["stopped"] = ""
except RuntimeError as error:
    out["stopped"] = str(error)
out["frames of both"] = [scene.frame_current, bpy.data.scenes["Elsewhere"].frame_current]
out["before it"] = sorted(path.name for path in Path("out").glob("stopped*"))
bpy.context.window.scene = scene

# Its own light follows its frames; one that is still does not.
scene.frame_set(1001)
state.active = 0
ops.use_plate_light()
user = scene.world.node_tree.nodes["HDRI"].image_user
out["world's frames"] = [user.frame_start, user.frame_duration, user.use_auto_refresh]
out["lit"] = []
for frame in (1001, 1003):
    scene.frame_set(frame)
    ops.render_preview()
    out["lit"].append(mean("diffuse_pass", frame))
blender_addon.unregister()
kit.result(out)
