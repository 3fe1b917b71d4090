"""The instant preview by the real backend, with the real physical render: a sphere's maps under HDRIs, turned and brightened.
Writes live.npz for the test to compare."""

from __future__ import annotations

import threading
import time
from typing import Any

import blender_kit as kit
import bpy
import numpy as np

import blender_addon
from blender_addon import images, instant, maps
from blender_addon.session import session

SIZE = 800  # of which a preview keeps half
out: dict[str, Any] = {}
blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
state = scene.platelight
out["card needs a window"] = not bpy.ops.platelight.instant_preview.poll()
state.instant_by = "BACKEND"
out["needs maps"] = not bpy.ops.platelight.instant_preview.poll()
plate = state.plates.add()
plate.uid = plate.name = "ball"
plate.width = plate.height = SIZE
plate.fov = kit.FOV
normal, depth, hit = kit.sphere_maps(SIZE)
grey = np.ones((SIZE, SIZE), np.float32)
planes = {
    "plate": np.dstack([grey * 0.2] * 3),
    "foreground": np.dstack([grey * 0.2] * 3),
    "matte_map": hit.astype(np.float32),
    "normal": normal,
    "albedo": np.broadcast_to(np.array(kit.BASE, np.float32), normal.shape),
    "roughness": grey * 0.45,
    "reflectivity": grey * 0.04,
    "depth": depth,
}
for name, plane in planes.items():
    maps.put_map(plate, name, plane)
state.hdri, state.rotation, state.exposure, state.hdri_strength = kit.studio_light(), 70.0, 0.5, 1.5
state.backdrop = "none"
longest = 0.0


def look() -> Any:
    """One tick of the timer, as Blender would call it."""
    global longest
    began = time.thread_time()
    instant._tick()
    longest = max(longest, time.thread_time() - began)
    return instant._instant


def settled(limit: float = 120.0) -> int:
    """Tick until nothing is under way; how many pictures there were so far."""
    until, quiet = time.monotonic() + limit, 0
    while quiet < 3:
        assert time.monotonic() < until, session.message
        live = look()
        quiet = 0 if live.busy else quiet + 1
        time.sleep(0.01)
    return int(live.drawn)


def shown() -> np.ndarray:
    return images.image_pixels(bpy.data.images["ball Live"])


pictures = {}
out["switched on"] = list(bpy.ops.platelight.instant_preview())
out["drawn"] = [settled()]
out["message"] = session.message
pictures["first"] = shown()
longest = 0.0
for k in range(40):  # a drag: the newest wins, none waits in a queue
    state.rotation = 70.0 - 180.0 * (k + 1) / 40
    look()
    time.sleep(0.01)
out["drawn"].append(settled())
pictures["turned"] = shown()
state.hdri_strength = 3.0
out["drawn"].append(settled())
pictures["stronger"] = shown()
state.hdri = str(kit.studio_light()).replace("forest", "city")
out["drawn"].append(settled())
pictures["city"] = shown()
out["nothing changed"] = settled() == out["drawn"][-1]
out["longest"] = longest
state.hdri = "//gone.exr"
settled()
out["gone"] = session.message
state.hdri = kit.studio_light()
settled()
session.backend.stop()
state.rotation = 5.0
settled()
out["killed"] = session.message
state.rotation = 6.0
before = look().drawn
out["started anew"] = settled() > before
state.rotation = 7.0
look()
out["switched off"] = list(bpy.ops.platelight.instant_preview())
out["images left"] = [image.name for image in bpy.data.images if "Live" in image.name]
blender_addon.unregister()
until = time.monotonic() + 10.0
while threading.active_count() > 1 and time.monotonic() < until:
    time.sleep(0.05)
out["threads left"] = [thread.name for thread in threading.enumerate()][1:]
np.savez("live.npz", normal=normal, hit=hit, **pictures)
kit.result(out)
