"""The whole job through the installed extension's operators: argument is the zip; a server must be running."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import bpy
import numpy as np

PACKAGE = "bl_ext.user_default.platelight"
SIZE = (96, 72)


def attempt(operator: Any, **arguments: Any) -> str:
    """The sentence with which an operator refuses, or "" when it ends well."""
    try:
        return "" if operator(**arguments) == {"FINISHED"} else "not finished"
    except RuntimeError as error:
        return str(error).strip()


def write_plate(path: Path, alpha: float = 1.0) -> None:
    """A grey sRGB picture, its lower half of that alpha."""
    image = bpy.data.images.new("made", *SIZE, alpha=True)
    pixels = np.tile(np.array([0.5, 0.5, 0.5, 1.0], np.float32), (SIZE[1], SIZE[0], 1))
    pixels[: SIZE[1] // 2, :, 3] = alpha  # Blender's first row is the lowest
    image.pixels.foreach_set(pixels.ravel())
    image.filepath_raw, image.file_format = str(path.resolve()), "PNG"
    image.save()
    bpy.data.images.remove(image)


bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.extensions.package_install_files(repo="user_default", filepath=sys.argv[1], enable_on_install=True)
exr, maps, session, plate_properties = (
    sys.modules[f"{PACKAGE}.{name}"] for name in ("exr", "maps", "session", "plate_properties")
)
session = session.session
scene = bpy.context.scene
state, ops = scene.platelight, bpy.ops.platelight
out: dict[str, Any] = {}
light = Path(bpy.utils.resource_path("LOCAL")) / "datafiles" / "studiolights" / "world" / "forest.exr"

out["polls before"] = {
    n: getattr(ops, n).poll() for n in ("analyse", "build_scene", "render_preview", "refine", "cancel")
}
out["no plate"] = attempt(ops.load_plate, filepath="nowhere.png")
Path("text.png").write_text("no picture")
out["no picture"] = attempt(ops.load_plate, filepath="text.png")
write_plate(Path("plate.png"))
out["told"] = session.message
out["load"] = attempt(ops.load_plate, filepath=str(Path("plate.png").resolve()))
out["told after"] = session.message
plate = state.plates[state.active]
out["linear grey"] = float(maps.map_pixels(plate, "plate", 3).mean())

plate.matte, plate.matte_path = "given", "none.png"
out["no matte"] = attempt(ops.analyse)
plate.matte_path = ""
out["no alpha"] = attempt(ops.analyse)
plate.matte, plate.fov = "auto", 42.0
out["no subject"] = attempt(ops.analyse)
plate.fov = 41.0
session.on_progress = lambda title, fraction, words: session.job.cancel() if fraction > 0.02 else None
out["cancelled"] = attempt(ops.analyse)
out["maps after cancel"] = plate_properties.is_analysed(plate)
seen: list[float] = []
session.on_progress = lambda title, fraction, words: seen.append(fraction)
plate.fov = 40.0
out["analyse"] = attempt(ops.analyse)
out["progress"] = len(seen)
out["bad light"] = attempt(ops.set_light, filepath=str(Path("plate.png").resolve()))
out["light"] = attempt(ops.set_light, filepath=str(light), rotation=25.0, exposure=0.5)
before = {
    "view_transform": scene.view_settings.view_transform,
    "format": scene.render.image_settings.file_format,
    "filepath": scene.render.filepath,
}
out["build"] = attempt(ops.build_scene)
objects = len(bpy.data.objects)
shader = plate.material.node_tree.nodes["Principled BSDF"].inputs
skin = [shader["Subsurface Weight"].is_linked]
plate.skin, plate.skin_radius = True, 3.5
out["build again"] = attempt(ops.build_scene)
out["skin"] = [*skin, shader["Subsurface Weight"].is_linked, shader["Subsurface Scale"].default_value]
plate.skin = False
out["skin"] += [attempt(ops.build_scene), shader["Subsurface Weight"].is_linked]
out["lens"] = [attempt(ops.fov_from_lens, focal_length=50.0, sensor_width=36.0), plate.fov]
out["lens"] += [plate.camera.data.lens * 36.0 / plate.camera.data.sensor_width]
plate.fov = 40.0
width = sys.modules[f"{PACKAGE}.scene"].subject_width(plate)
out["scale"] = [attempt(ops.scale_from_width, width=2 * width), plate.distance]
out["scale"] += [attempt(ops.scale_from_width, width=width), plate.distance]
out["objects stay"] = len(bpy.data.objects) == objects
bpy.ops.mesh.primitive_plane_add(size=0.2, location=(0.0, 1.0, 0.0), rotation=(1.5708, 0.0, 0.0))
blocker = bpy.context.object  # between camera and subject: it must not be seen
state.samples = 8
out["render"] = attempt(ops.render_preview, filepath=str(Path("preview.exr").resolve()))
out["render png"] = attempt(ops.render_preview, filepath=str(Path("preview.png").resolve()), samples=2)
out["blocker kept"] = blocker.visible_camera
out["settings kept"] = before == {
    "view_transform": scene.view_settings.view_transform,
    "format": scene.render.image_settings.file_format,
    "filepath": scene.render.filepath,
}
out["refine"] = attempt(ops.refine, filepath=str(Path("shot.relit.exr").resolve()))
out["refine jpg"] = attempt(ops.refine, filepath="shot.jpg")
out["maps"] = attempt(ops.save_maps, filepath=str(Path("shot.maps.exr").resolve()))
saved = exr.read("preview.exr")
diffuse, specular = saved.layers["diffuse"], saved.layers["specular"]
solid = saved.layers[""][..., 3] > 0.999
center = saved.layers[""][SIZE[1] // 2, SIZE[0] // 2]
out["center"] = [float(np.abs(diffuse[SIZE[1] // 2, SIZE[0] // 2]).sum()), float(center[3])]
out["passes sum"] = float(
    np.abs((diffuse + specular - saved.layers[""][..., :3])[solid]).mean() / saved.layers[""][solid].mean()
)
out["brightness"] = float(saved.layers[""][solid][:, :3].mean())
out["layers"] = {
    name: sorted(exr.read(name).layers)
    for name in ("preview.exr", "shot.relit.exr", "shot.maps.exr", "shot.light.exr")
}
out["world rotation"] = float(
    np.degrees(scene.world.node_tree.nodes["Rotation"].inputs["Rotation"].default_value[2])
)

normal = maps.map_pixels(plate, "normal", 3)
bpy.ops.wm.save_as_mainfile(filepath=str(Path("shot.blend").resolve()))
bpy.ops.wm.open_mainfile(filepath=str(Path("shot.blend").resolve()))
scene = bpy.context.scene
state = scene.platelight
plate = state.plates[state.active]
out["normal after load"] = float(np.abs(maps.map_pixels(plate, "normal", 3) - normal).max())
out["kept"] = [plate_properties.is_built(plate), plate.fov, round(state.rotation, 3)]
write_plate(Path("alpha.png"), 0.2)
out["second plate"] = [attempt(ops.load_plate, filepath=str(Path("alpha.png").resolve()))]
state.plates[state.active].matte = "given"
out["second plate"] += [attempt(ops.analyse), attempt(ops.build_scene)]
matte = maps.map_pixels(state.plates[state.active], "matte_map", 1)
out["matte of alpha"] = [float(matte[0, 0]), float(matte[-1, 0])]
sent = maps.map_pixels(state.plates[state.active], "foreground", 3)
out["sent of alpha"] = float(sent[-1, 0, 0] / sent[0, 0, 0])
out["engines"] = []
for state.engine in ("EEVEE", "CYCLES"):
    out["engines"] += [attempt(ops.build_scene), scene.render.engine]
out["collections"] = sum(c.name.startswith("Platelight ") for c in bpy.data.collections)
out["remove"] = attempt(ops.remove_plate)
out["left after remove"] = [
    len(state.plates),
    sum(c.name.startswith("Platelight ") for c in bpy.data.collections),
]
print("\nRESULT " + json.dumps(out), flush=True)
