"""The instant preview drawn by Blender itself, without a window: 5.2 can. A sphere's maps under an HDRI, turned and brightened,
through the real loader, painter and view transform. Writes instant.npz for the test to compare."""

from __future__ import annotations

import time
from pathlib import Path

import blender_kit as kit
import bpy
import gpu
import numpy as np

import blender_addon
from blender_addon import instant, maps, plate_properties
from blender_addon.session import session

out: dict[str, object] = {"version": list(bpy.app.version)}
blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
out["off in background"] = not bpy.ops.platelight.instant_preview.poll()
if not hasattr(gpu, "init"):
    blender_addon.unregister()
    kit.result({**out, "skip": "this Blender draws nothing in background"})
    raise SystemExit
gpu.init()
scene = bpy.context.scene
state = scene.platelight
plate = state.plates.add()
plate.uid = plate.name = "ball"
plate.width = plate.height = kit.SIZE
plate.fov = kit.FOV
normal, depth, hit = kit.sphere_maps()
grey = np.ones((kit.SIZE, kit.SIZE), np.float32)
rough = np.broadcast_to(np.linspace(0.25, 0.9, kit.SIZE, dtype=np.float32), grey.shape)
planes = {
    "plate": np.dstack([grey * 0.2] * 3),
    "matte_map": hit.astype(np.float32),
    "normal": normal,
    "albedo": np.broadcast_to(np.array(kit.BASE, np.float32) / 0.8, normal.shape),
    "cavity": grey * 0.8,
    "roughness": rough,
    "reflectivity": grey * 0.04,
    "depth": depth,
}
for name, plane in planes.items():
    maps.put_map(plate, name, plane)
assert plate_properties.is_analysed(plate)
state.hdri, state.rotation, state.exposure, state.hdri_strength = kit.studio_light(), 70.0, 0.5, 1.5
preview = instant.Instant()
started = time.monotonic()
while (changed := preview.step(scene)) or preview.busy:
    assert time.monotonic() - started < 60.0
    time.sleep(0.01)
out["steps end"] = not preview.step(scene)


def drawn(mode: int, size: int = kit.SIZE) -> np.ndarray:
    screen = gpu.types.GPUOffScreen(size, size, format="RGBA32F")
    with screen.bind():
        target = gpu.state.active_framebuffer_get()
        target.clear(color=(0.0, 0.0, 0.0, 0.0))
        preview.painter.draw((-1.0, -1.0, 1.0, 1.0), preview.view(scene, plate, mode), "NONE")
        buffer = target.read_color(0, 0, size, size, 4, 0, "FLOAT")
    screen.free()
    return np.array(buffer.to_list(), np.float32).reshape(size, size, 4)[::-1]


pictures = {"linear": drawn(0), "srgb": drawn(1)}
state.rotation, state.exposure = -110.0, 0.0
out["turn is a change"] = preview.step(scene)
out["turn reads nothing"] = not preview.busy
pictures["turned"] = drawn(0)
plate.own_camera = kit.own_camera(scene, kit.FOV)
plate.own_camera.data.shift_x, plate.own_camera.data.shift_y = 0.5, -0.3
pictures["shifted"] = drawn(0)
plate.own_camera = None
scene.view_settings.view_transform = "Filmic"
out["view is a change"] = preview.step(scene)
pictures["viewed"] = drawn(2)
# What Blender itself makes of the same picture.
linear = bpy.data.images.new("linear", kit.SIZE, kit.SIZE, alpha=False, float_buffer=True)
linear.pixels.foreach_set(pictures["turned"][::-1].ravel())
settings = scene.render.image_settings
out["settings kept"] = settings.file_format
settings.file_format, settings.color_depth = "PNG", "16"
linear.save_render(str(Path("viewed.png").resolve()), scene=scene)
seen = bpy.data.images.load(str(Path("viewed.png").resolve()))
seen.colorspace_settings.name = "Non-Color"
pictures["viewed wanted"] = np.array(seen.pixels[:], np.float32).reshape(kit.SIZE, kit.SIZE, 4)[::-1]
out["images left"] = [image.name for image in bpy.data.images if image.name.startswith("Platelight")]
scene.view_settings.view_transform = "Standard"
out["standard needs no table"] = instant.view_key(scene) is None

# Another light is filtered; a light that is gone says so and leaves the rest.
studio = str(Path(kit.studio_light()).with_name("studio.exr"))
state.hdri = studio
preview.step(scene)
out["new light reads"] = preview.busy
while preview.step(scene) or preview.busy:
    time.sleep(0.01)
pictures["studio"] = drawn(0)
started = time.perf_counter()
for _ in range(3):
    drawn(0)
out["seconds"] = (time.perf_counter() - started) / 3
state.hdri = "gone.exr"
while preview.step(scene) or preview.busy:
    time.sleep(0.01)
out["gone"] = session.message
preview.close()
out["handlers left"] = len(preview._handlers)
state.hdri = kit.studio_light()
instant.start()
out["on"] = instant.is_on(), bpy.app.timers.is_registered(instant._tick)
np.savez("instant.npz", normal=normal, rough=rough, hit=hit, **pictures)
blender_addon.unregister()
out["off after unregister"] = not instant.is_on() and not bpy.app.timers.is_registered(instant._tick)
kit.result(out)
