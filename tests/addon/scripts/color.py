"""A color checker into the extension and out of it: as a plate and as an HDRI, by name, by its header, and from a sequence; as a
card in Cycles, through the compositor, kept in a .blend; lamps and the World's color.

Writes color.npz with the pixels that the backend is sent and that come back. Arguments: files of ACEScg without and with
chromaticities, one of several layers, a PNG, an EXR with the checker in Rec.709, and the working space ("" for what is there)."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import blender_kit as kit
import bpy
import numpy as np

import blender_addon
from blender_addon import bake, color, exr, images, lamps, light, maps, wire

plain, told, layered, code, known = (str(Path(name).resolve()) for name in sys.argv[1:6])
working = sys.argv[6]
found: dict[str, np.ndarray] = {}
out: dict[str, object] = {"version": list(bpy.app.version)}
blender_addon.register()
ops = bpy.ops.platelight


def work() -> None:
    """Have the open file work in the space that is asked for."""
    if working:
        bpy.ops.wm.set_working_color_space(working_space=working, convert_colors=False)


def plate(name: str, path: str, **given: object) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    work()
    ops.load_plate(filepath=path, **given)
    state = bpy.context.scene.platelight
    found[name] = maps.plate_source(state.plates[state.active], given.get("first")).read(3)


plate("plate by name", plain, colorspace="ACEScg")
plate("plate by its header", told)
plate("plate of several layers by name", layered, colorspace="ACEScg")
plate("plate of several layers by its header", layered)
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
    work()
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
    path = Path(f"{name.replace(' ', '_')}.exr").resolve()
    kit.render(scene, path)
    found[f"{name}, rendered"] = bake.read_bake(path)[0][2::5, 2::5]


hdri("HDRI by name", plain, "ACEScg")
hdri("HDRI by its header", told)

EACH = 8  # pixels of a patch of the card: its middle is nobody else's
bpy.ops.wm.read_factory_settings(use_empty=True)
work()
scene = bpy.context.scene
state = scene.platelight
truth = exr.read(known).layers[""]
card = np.ascontiguousarray(truth.repeat(EACH, 0).repeat(EACH, 1))
height, width = card.shape[:2]
subject = state.plates.add()
subject.uid, subject.name, subject.width, subject.height = "x", "card", width, height
one = np.ones((height, width), np.float32)
towards = np.zeros_like(card)
towards[..., 2] = 1.0
for key, plane in {
    "plate": card, "foreground": card, "albedo": card, "normal": towards, "roughness": one, "reflectivity": 0.0 * one,
    "depth": one, "matte_map": one, "result": np.dstack([card, one]),
}.items():  # fmt: skip
    maps.put_map(subject, key, plane)
scene.world = bpy.data.worlds.new("White")
background = kit.compat.enable_nodes(scene.world).nodes["Background"]
background.inputs["Color"].default_value = (1.0, 1.0, 1.0, 1.0)
ops.build_scene()
state.samples, state.denoise, state.backdrop = 16, False, "none"
saved = scene.render.image_settings
saved.color_management = "OVERRIDE"  # the user's own renders are to be ACEScg
saved.linear_colorspace_settings.name = "ACEScg"
ops.render_preview()
out["override kept"] = saved.color_management
middle = slice(EACH // 2, None, EACH)
found["albedo, rendered"] = maps.map_pixels(subject, "diffuse_pass", 3)[middle, middle]
found["albedo, shown"] = color.to_rec709(images.image_pixels(subject.albedo)[middle, middle, :3])
ops.composite()
ops.save_composite(filepath=str(Path("comp.exr").resolve()))
found["composite"] = exr.read("comp.exr").layers[""][middle, middle, :3]

# Light kept in the .blend; lamps and the World's color.
kept = images.put_image("kept", truth, data=False)
kept.use_fake_user = True
kept.pack()
shades = [tuple(map(float, shade)) for shade in truth[0, :6]]
built = [
    lamps.build(wire.Lamp("point", 1.0, color=shade), subject.camera, scene.collection) for shade in shades
]
looks = [lamps.lamp_of("lamp", lamp.data, lamp.matrix_world).color for lamp in built]
found["lamps"] = np.array([looks], np.float32)
found["lamps in Blender"] = color.to_rec709(np.array([[lamp.data.color for lamp in built]], np.float32))
background.inputs["Color"].default_value[:3] = color.from_rec709(truth[0, 0])
found["World of one color"] = light.world_pixels(scene)[:1, :1]
bpy.ops.wm.save_as_mainfile(filepath=str(Path("kept.blend").resolve()))
bpy.ops.wm.open_mainfile(filepath=str(Path("kept.blend").resolve()))
found["kept in the file"] = images.pixel_source(bpy.data.images["kept"]).read(3)
out["red"] = color.from_rec709(np.eye(3, dtype=np.float32))[0].tolist()

view = bpy.context.scene.view_settings
out["view"] = [view.view_transform, view.look, view.exposure, view.gamma]
bpy.ops.wm.read_factory_settings(use_empty=True)
view = bpy.context.scene.view_settings
out["view before"] = [view.view_transform, view.look, view.exposure, view.gamma]

try:
    ops.load_plate(filepath=plain, colorspace="ACEScgg")
except RuntimeError as error:
    out["unknown"] = str(error)
np.savez("color.npz", **found)
blender_addon.unregister()
kit.result(out)
