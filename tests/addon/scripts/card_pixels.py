"""What Render Preview keeps of a card's pixels: a pattern of single pixels, a matte of such, normals that look away."""

from __future__ import annotations

from typing import Any

import blender_kit as kit
import bpy
import numpy as np

import blender_addon
from blender_addon import maps

SIZE = 16
blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
state = scene.platelight
camera = kit.own_camera(scene, 1.0)  # all rays look alike
plate = kit.add_plate(SIZE, SIZE, camera)
plate.shadow_proxy = False
kit.light_by_color(scene, 1.0, 1.0, 1.0)
cycles = scene.cycles
cycles.filter_width, cycles.denoising_prefilter = 1.5, "ACCURATE"
columns = np.broadcast_to(np.arange(SIZE) % 2, (SIZE, SIZE))


def seen() -> dict[str, np.ndarray]:
    """The passes as they are kept."""
    bpy.ops.platelight.render_preview(samples=64)
    return {
        name: maps.map_pixels(plate, name, 4)[4:-4, 4:-4]
        for name in ("preview", "diffuse_pass", "specular_pass")
    }


state.denoise = False
maps.put_map(plate, "albedo", np.dstack([0.3 + 0.4 * columns] * 3).astype(np.float32))
maps.put_map(plate, "matte_map", (0.5 + 0.5 * columns).astype(np.float32))
bpy.ops.platelight.build_scene()
striped = seen()
out: dict[str, Any] = {
    "albedo": float(np.ptp(striped["diffuse_pass"][..., 0].mean(0))),
    "matte": float(np.ptp(striped["preview"][..., 3].mean(0))),
    "back": [cycles.filter_width, cycles.denoising_prefilter],
}
# To the left normals are at a right angle to the rays but for a little, to the right beyond it.
facing = np.where(np.arange(SIZE) < SIZE // 2, 0.05, -0.05).astype(np.float32)
normal = np.zeros((SIZE, SIZE, 3), np.float32)
normal[..., 2], normal[..., 1] = facing, np.sqrt(1.0 - facing**2)
for name, plane in (
    ("normal", normal),
    ("matte_map", np.ones((SIZE, SIZE), np.float32)),
    ("reflectivity", np.full((SIZE, SIZE), 0.04, np.float32)),
    ("roughness", np.full((SIZE, SIZE), 0.4, np.float32)),
):
    maps.put_map(plate, name, plane)
plate.specular_map = None  # made of the reflectivity before
bpy.ops.platelight.build_scene()
gloss = seen()["specular_pass"][..., 0].mean(0)
out["gloss"] = [float(gloss[:3].mean()), float(gloss[-3:].mean())]
blender_addon.unregister()
kit.result(out)
