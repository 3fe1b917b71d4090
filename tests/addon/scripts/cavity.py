"""The cavity map of a plate: what Cycles renders with it against albedo times cavity, with old materials, in the instant preview
and on its way to the backend."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import blender_kit as kit
import bpy
import numpy as np

import blender_addon
from blender_addon import exr, instant, maps, remote, scene
from blender_addon.mapfiles import directly

SIZE = 32
sent: list[list[str]] = []


def answer(
    _settings: Any, _process: Any, request: Any, planes: dict[str, Any], _reporter: Any
) -> remote.Answer:
    """What the backend would send, and what it was sent."""
    sent.append([type(request).__name__, *sorted(set(planes) & {"cavity", "depth", "roughness"})])
    three = np.full((SIZE, SIZE, 3), 0.5, np.float32)
    return remote.Answer(
        {
            "pbr": three,
            "diffuse": three,
            "specular": three,
            "relit": np.full((SIZE, SIZE, 4), 0.5, np.float32),
        },
        {},
    )


remote.ask, remote.ensure_backend = answer, lambda _settings, _process: None
blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
state, ops = bpy.context.scene.platelight, bpy.ops.platelight
plate = state.plates.add()
plate.uid = plate.name = "ball"
plate.width = plate.height = SIZE
plate.fov = kit.FOV
normal, depth, hit = kit.sphere_maps(SIZE)
one = np.ones((SIZE, SIZE), np.float32)
albedo = np.dstack([one * 0.875, one * 0.375, one * 0.25])
stripes = np.where(np.arange(SIZE) // 8 % 2, 1.25, 0.5).astype(np.float32) * one  # red times 1.25 is above 1
planes = {
    "plate": albedo,
    "foreground": albedo,
    "matte_map": hit.astype(np.float32),
    "normal": normal,
    "albedo": albedo,
    "roughness": one * 0.4,
    "reflectivity": one * 0.04,
    "depth": depth,
}
for name, plane in planes.items():
    maps.put_map(plate, name, plane)
state.samples, state.denoise = 4, False
ops.set_light(filepath=kit.studio_light())


def rendered() -> dict[str, np.ndarray]:
    ops.build_scene()
    ops.render_preview(filepath=str(Path("seen.exr").resolve()))
    return exr.read("seen.exr").layers


def packed() -> np.ndarray:
    """Albedo as the instant preview's texture has it, (H, W, 3)."""
    read = instant.maps_work(plate)(SimpleNamespace(on_main=directly))
    return np.array(read[1][..., :3])


def nodes() -> list[str]:
    return sorted(node.name for node in plate.material.node_tree.nodes)


def differs(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    """The largest difference in a solid pixel, over the mean; beside stripes what is interpolated is not yet clamped."""
    solid = kit.inside(hit, 1) & ((np.arange(SIZE) + 2) % 8 > 3)
    return max(
        float(np.abs(first[name] - second[name])[solid].max() / second[name][solid].mean()) for name in second
    )


out: dict[str, Any] = {}
# As in a .blend of an earlier version: no such map, and a user's own node behind the albedo.
before, out["nodes"] = rendered(), nodes()
ops.refine()
state.physics = "BACKEND"
ops.refine()
tree = plate.material.node_tree
mine = tree.nodes.new("ShaderNodeGamma")
base = tree.nodes["Principled BSDF"].inputs["Base Color"]
tree.links.new(tree.nodes["albedo"].outputs["Color"], mine.inputs["Color"])
tree.links.new(mine.outputs["Color"], base)
out["packed without"] = float(np.abs(packed() - albedo).max())
keys = [instant.maps_key(plate)]
# The map comes.
maps.put_map(plate, "cavity", stripes)
keys.append(instant.maps_key(plate))
with_map, out["nodes with"] = rendered(), nodes()
out["behind mine"] = base.links[0].from_node.name == mine.name
out["space"] = plate.cavity.colorspace_settings.name
out["thumbnail"] = sorted(
    {round(v, 2) for v in np.array(plate.cavity.preview.image_pixels_float)[::4].tolist()}
)
state.physics = "CYCLES"
ops.refine()
state.physics = "BACKEND"
ops.refine()
out["sent"] = sent
wanted = np.clip(albedo * stripes[..., None], 0, 1)
out["packed"] = float(np.abs(packed() - wanted).max())
ops.save_maps(filepath=str(Path("ball.maps.exr").resolve()))
out["saved"] = float(np.abs(exr.read("ball.maps.exr").layers["cavity"] - stripes).max())
plate.shadow_proxy = True
ops.build_scene()
out["proxy"] = "cavity" in plate.proxy.data.materials[0].node_tree.nodes
plate.shadow_proxy = False
# Painted on.
plate.cavity.pixels.foreach_set(np.full(SIZE * SIZE * 4, 0.5, np.float32))
keys.append(instant.maps_key(plate))
out["packed painted"] = float(np.abs(packed() - albedo * 0.5).max())
# It goes again, as after an analysis by an earlier backend.
maps.settle_cavity(plate, {})
scene.shade_cavity(plate)
keys.append(instant.maps_key(plate))
out["keys"] = len(set(keys))
tree.nodes.remove(mine)
tree.links.new(tree.nodes["albedo"].outputs["Color"], base)
out["nodes without"] = nodes()
out["back"] = differs(rendered(), before)
maps.put_map(plate, "albedo", wanted)
plain = rendered()
out["error"], out["effect"] = differs(with_map, plain), differs(before, plain)
blender_addon.unregister()
kit.result(out)
