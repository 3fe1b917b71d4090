"""The compositor group: neutral settings are plain over, edge, wrap and grain do what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import blender_kit as kit
import bpy
import numpy as np

import blender_addon
from blender_addon import compat, compositor, exr, maps, plates

SIZE = 128
blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
state, ops = scene.platelight, bpy.ops.platelight
plate = state.plates.add()
plate.uid = plate.name = "shot"
plate.width = plate.height = SIZE
y, x = np.mgrid[:SIZE, :SIZE] + 0.5
radius = np.hypot(x - SIZE / 2, y - SIZE / 2)
matte = np.clip(41.0 - radius, 0.0, 1.0).astype(np.float32)
subject = np.full((SIZE, SIZE, 3), (0.3, 0.2, 0.1), np.float32)
noise = np.random.default_rng(5).standard_normal((SIZE, SIZE, 3), dtype=np.float32)
field = 0.5 + 0.04 * np.sqrt(0.5 / 0.18) * noise  # grain of 0.04 at middle gray
shot = subject * matte[..., None] + field * (1 - matte[..., None])
one = np.ones((SIZE, SIZE), np.float32)
for name, plane in {
    "plate": shot,
    "foreground": subject,
    "matte_map": matte,
    "normal": np.dstack([one * 0, one * 0, one]),
    "albedo": subject,
    "roughness": one * 0.25,
    "reflectivity": one * 0.5,
    "cavity": np.where(x < SIZE / 2, 0.75, 1.25) * one,
    "depth": one,
    "diffuse_pass": subject,
    "specular_pass": subject * 0,
}.items():
    maps.put_map(plate, name, plane.astype(np.float32))
ops.build_scene()
state.backdrop = "plate"
maps.put_map(
    plate, "result", np.dstack([shot + subject * matte[..., None], one])
)  # the subject twice as bright

out: dict[str, Any] = {"added": float(plates.grain_to_add(subject, shot, matte))}


def composite(**settings: float) -> np.ndarray:
    for name, value in settings.items():
        setattr(state, name, value)
    ops.composite()
    ops.save_composite(filepath=str(Path("comp.exr").resolve()))
    return exr.read("comp.exr").layers[""]


plain = composite(edge=0.0, light_wrap=0.0, grain=0.0)
wanted = 2 * subject * matte[..., None] + shot - subject * matte[..., None]
out["plain"] = float(np.abs(plain[..., :3] - wanted).max())
out["alpha"] = float(np.abs(plain[..., 3] - 1).max())
saved = exr.read("comp.exr").layers
out["layers"] = sorted(saved)
for name in ("roughness", "reflectivity", "cavity"):
    out[name] = float(np.abs(saved[name] - maps.map_pixels(plate, name, 1)).max())
out["cavity values"] = np.unique(saved["cavity"]).tolist()
inside, rim = radius < 30, (radius > 37) & (radius < 40)
edge = composite(edge=6.0)
out["edge rim"] = float(edge[rim][:, 0].mean() - plain[rim][:, 0].mean())
out["edge inside"] = float(np.abs(edge[inside] - plain[inside])[:, :3].max())
wrap = composite(edge=0.0, light_wrap=1.0)
out["wrap rim"] = float((wrap - plain)[rim][:, :3].mean())
out["wrap outside"] = float(np.abs((wrap - plain)[radius > 44][:, :3]).max())
grain = composite(light_wrap=0.0, grain=1.0)
out["grain"] = plates.grain_of(grain[..., :3], inside.astype(np.float32))
out["backdrop grain"] = plates.grain_of(grain[..., :3], (radius > 44).astype(np.float32))
out["scenes"] = len(bpy.data.scenes)
out["linked"] = compat.compositor_output(compat.compositor_tree(scene)).is_linked
out["groups"] = sum(tree.name.startswith(compositor.GROUP_NAME) for tree in bpy.data.node_groups)
state.backdrop = "light"
out["light"] = ops.composite.poll()
blender_addon.unregister()
kit.result(out)
