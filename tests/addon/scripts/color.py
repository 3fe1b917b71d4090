"""A color checker into the extension: as a plate and as an HDRI, by name, by its header, and from a sequence.

Writes color.npz with the pixels that the backend is sent and that Cycles renders. Arguments: files of ACEScg without and with
chromaticities, and a PNG."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import blender_kit as kit
import bpy
import numpy as np

import blender_addon
from blender_addon import light, maps

plain, told, code = (str(Path(name).resolve()) for name in sys.argv[1:4])
found: dict[str, np.ndarray] = {}
out: dict[str, object] = {"version": list(bpy.app.version)}
blender_addon.register()
ops = bpy.ops.platelight


def plate(name: str, path: str, **given: object) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    ops.load_plate(filepath=path, **given)
    state = bpy.context.scene.platelight
    found[name] = maps.plate_source(state.plates[state.active], given.get("first")).read(3)


plate("plate by name", plain, colorspace="ACEScg")
plate("plate by its header", told)
plate("plate as PNG", code)
for number in (1, 2):
    shutil.copy(told, f"shot.{number:04d}.exr")
plate("sequence by its header", str(Path("shot.0001.exr").resolve()), sequence=True, first=1, last=2)
plate(
    "sequence by name",
    str(Path("shot.0001.exr").resolve()),
    sequence=True,
    first=1,
    last=2,
    colorspace="ACEScg",
)


def hdri(name: str, path: str, space: str = "") -> None:
    """Set the light, and photograph the World that it makes by a panorama of Cycles."""
    scene, camera = kit.empty_scene(samples=1, size=24)
    image = bpy.data.images.load(path)
    if space:
        image.colorspace_settings.name = space
    else:
        bpy.data.images.remove(image)
    ops.set_light(filepath=path)
    found[f"{name}, sent"] = light.target_source(scene).read(3)
    driven = light.world.Driven("platelight.rotation", "platelight.exposure", "platelight.hdri_strength")
    light.world.build_world(scene, light._file_image(path), camera, driven_by=driven)
    scene.world.node_tree.nodes["HDRI"].interpolation = "Closest"
    scene.render.film_transparent = False
    scene.render.resolution_x, scene.render.resolution_y = (
        24 * 5,
        12 * 5,
    )  # the middle of five pixels sees one texel only
    camera.data.type = "PANO"
    holder = camera.data if hasattr(camera.data, "panorama_type") else camera.data.cycles
    holder.panorama_type = "EQUIRECTANGULAR"
    layers = kit.render(scene, Path(f"{name.replace(' ', '_')}.exr").resolve())
    found[f"{name}, rendered"] = kit.compat.pass_channels(layers, "combined")[2::5, 2::5, :3]


hdri("HDRI by name", plain, "ACEScg")
hdri("HDRI by its header", told)

view = bpy.context.scene.view_settings
out["view"] = [view.view_transform, view.look, view.exposure, view.gamma]
bpy.ops.wm.read_factory_settings(use_empty=True)
view = bpy.context.scene.view_settings
out["view before"] = [view.view_transform, view.look, view.exposure, view.gamma]

try:
    ops.load_plate(filepath=plain, colorspace="ACEScgg")
except RuntimeError as error:
    out["unknown"] = str(error)
if hasattr(bpy.data, "colorspace"):
    bpy.ops.wm.set_working_color_space(working_space="ACEScg", convert_colors=False)
    try:
        ops.load_plate(filepath=plain)
    except RuntimeError as error:
        out["working space"] = str(error)
np.savez("color.npz", **found)
blender_addon.unregister()
kit.result(out)
