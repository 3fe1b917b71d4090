"""What a render changes for its time: undone, in linked data, in markers, in a file that cannot be saved whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import blender_kit as kit
import bpy

import blender_addon
from blender_addon import bake, maps, temporary
from blender_addon.rendering import RenderSetup

out: dict[str, Any] = {}
ops = bpy.ops.platelight


def start() -> Any:
    """A file with a plate that stands in the scene, something beside it, and an undo step of both."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    kit.add_plate(8, 12)
    scene = bpy.context.scene
    thing = bpy.data.objects.new("Chair", bpy.data.meshes.new("Chair"))
    lamp = bpy.data.objects.new("Key", bpy.data.lights.new("Key", "POINT"))
    lamp.data.shadow_soft_size, lamp.location = 1e-4, (0.0, 1.0, 3.0)
    for each in (thing, lamp):
        scene.collection.objects.link(each)
    scene.render.filepath = "/mine"
    bpy.ops.ed.undo_push(message="start")
    return scene


def state() -> list[Any]:
    """What a render changes, as it is now."""
    scene = bpy.context.scene
    settings = scene.render.image_settings
    return [
        scene.render.filepath,
        settings.file_format,
        bpy.data.objects["Chair"].visible_camera,
        round(bpy.data.lights["Key"].shadow_soft_size, 4),
        len(bpy.data.cameras),
        len(scene.render.views),
        scene.get("platelight_render"),
    ]


def preview() -> Any:
    return RenderSetup(bpy.context.scene, bpy.context.scene.platelight.plates[0], Path("x.exr"), 4)


def panoramas() -> Any:
    scene = bpy.context.scene
    scene.platelight.bake_points = 2
    plate = scene.platelight.plates[0]
    found = (maps.map_pixels(plate, "depth", 1), maps.map_pixels(plate, "matte_map", 1))
    return bake.setup_for(scene, plate, found, Path("x.exr"), 4)


blender_addon.register()

# The user moves something while a render is under way, and undoes after it.
out["undone"] = {}
for name, setup in (("preview", preview), ("panoramas", panoramas)):
    start()
    seen = [state()]
    with setup():
        bpy.data.objects["Chair"].location.x = 1.0
        bpy.ops.ed.undo_push(message="moved")
        seen.append(state())
    bpy.context.scene.frame_end = 77
    bpy.ops.ed.undo_push(message="after")
    for step in (bpy.ops.ed.undo, bpy.ops.ed.redo, bpy.ops.ed.undo):
        step()
        seen.append(state())
    out["undone"][name] = seen
    out["moved"] = bpy.data.objects["Chair"].location.x
    # What the user sets later is not set back by an undo that does not reach the render.
    bpy.context.scene.render.filepath = "/later"
    bpy.ops.ed.undo_push(message="later")
    bpy.context.scene.frame_end = 78
    bpy.ops.ed.undo_push(message="last")
    bpy.ops.ed.undo()
    out["undone"][name].append(bpy.context.scene.render.filepath)
out["kept"] = len(temporary.Temporary.finished)

# A copy of the scene that was made during a render, as it carries the token: its undo leaves the first scene alone.
scene = start()
with preview():
    scene.copy().name = "Copy"
scene.render.filepath = "/new"
bpy.ops.ed.undo_push(message="new")
scene.frame_end = 79
bpy.ops.ed.undo_push(message="end")
bpy.ops.ed.undo()
out["copy"] = [
    bpy.data.scenes["Copy"].get("platelight_render") is not None,
    bpy.data.scenes["Scene"].render.filepath,
]

# A linked thing and a local one of the same name.
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.data.meshes.new("Chair")
library = bpy.data.objects.new("Chair", bpy.data.meshes["Chair"])
bpy.data.libraries.write(str(Path("library.blend").resolve()), {library})
scene = start()
with bpy.data.libraries.load(str(Path("library.blend").resolve()), link=True) as (_, taken):
    taken.objects = ["Chair"]
linked, local = taken.objects[0], bpy.data.objects["Chair", None]
scene.collection.objects.link(linked)
local.hide_render = local.visible_camera = False
with preview():
    during = linked.visible_camera
out["linked"] = [linked.library is not None, during, linked.visible_camera, local.visible_camera]

# Cameras bound to markers, depth of field and stereoscopy are not the preview's.
scene = start()
other = bpy.data.objects.new("Other", bpy.data.cameras.new("Other"))
scene.collection.objects.link(other)
for name, frame, camera in (("shot", 1, other), ("note", 2, None), ("shot", 3, scene.camera)):
    scene.timeline_markers.new(name, frame=frame).camera = camera
plate = scene.platelight.plates[0]
scene.camera = other
other.location.y = -100.0  # sees nothing of the plate
plate.camera.data.dof.use_dof = scene.render.use_multiview = True
plate.camera.data.dof.focus_distance, plate.camera.data.dof.aperture_fstop = 0.1, 0.01
out["preview"] = sorted(ops.render_preview(samples=4))
out["alpha"] = [float(maps.map_pixels(plate, "preview", 4)[..., 3].min())]
out["matched"] = sorted(ops.match_scene_light(samples=1))
with panoramas():
    out["bound during"] = [marker.camera is not None for marker in scene.timeline_markers]
out["markers"] = [marker.camera.name if marker.camera else "" for marker in scene.timeline_markers]
out["user's"] = [scene.camera.name, scene.render.use_multiview, plate.camera.data.dof.use_dof]

# No more is kept than undo can come back to.
bpy.context.preferences.edit.undo_steps = 2
for _ in range(3):
    with preview():
        pass
out["kept at most"] = len(temporary.Temporary.finished)
blender_addon.unregister()
kit.result(out)
