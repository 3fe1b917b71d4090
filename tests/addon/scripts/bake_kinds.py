"""Match Scene Light against what a card gets from a scene whose floor, lamp or World shows cameras less than it sends."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import blender_kit as kit
import bpy
import numpy as np

import blender_addon
from blender_addon import compat, images, latlong, scene
from blender_addon.node_tools import NodeBuilder
from blender_addon.rendering import RenderSetup

SIZE = 16
blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
whole = bpy.context.scene
state = whole.platelight
camera = kit.own_camera(whole, 40.0)
camera.rotation_euler = (math.pi / 2, 0.0, 0.0)
sky = kit.light_by_color(whole, 0.05, 0.05, 0.05)
plate = kit.add_plate(SIZE, SIZE, camera)
plate.shadow_proxy = False
normal = np.array([0.0, -0.9, math.sqrt(1 - 0.81)], np.float32)  # down to the floor, and to the camera
blender_addon.maps.put_map(plate, "normal", np.broadcast_to(normal, (SIZE, SIZE, 3)).copy())
bpy.ops.platelight.build_scene()
group = bpy.data.collections.new("Floor")
whole.collection.children.link(bpy.data.collections.new("Before"))
whole.collection.children.link(group)
mesh = bpy.data.meshes.new("Floor")
mesh.from_pydata([(-9, -9, -1), (9, -9, -1), (9, 9, -1), (-9, 9, -1)], [], [(0, 1, 2, 3)])
floor = bpy.data.objects.new("Floor", mesh)
group.objects.link(floor)
sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
sun.data.energy, sun.data.angle = 5.0, math.radians(3.0)
whole.collection.objects.link(sun)
part = bpy.context.view_layer.layer_collection.children["Floor"]
state.bake_height, state.denoise = 32, False
out: dict[str, Any] = {"back": []}


def card() -> float:
    """What Cycles makes of the card."""
    with RenderSetup(whole, plate, Path("card.exr"), 64):
        bpy.ops.render.render(write_still=True)
    return float(scene.read_passes(Path("card.exr"))[1][4:-4, 4:-4].mean())


def compare(name: str) -> None:
    """What the light that is taken makes of the card, over what Cycles does."""
    lit = card()
    bpy.ops.platelight.match_scene_light(samples=64)
    light = np.ascontiguousarray(images.image_pixels(state.baked_light)[..., :3])
    out[name] = float(latlong.irradiance(light, normal[None])[0].mean()) * 0.5 / math.pi / lit


compare("plain")
for name, owner, setting, value in (
    ("shadow catcher", floor, "is_shadow_catcher", True),
    ("indirect only", part, "indirect_only", True),
    ("holdout", part, "holdout", True),
    ("no multiple importance", sun.data.cycles, "use_multiple_importance_sampling", False),
):
    if owner == sun.data.cycles:  # it shines on the card itself, from below
        floor.hide_render, sun.rotation_euler[0] = True, math.radians(120.0)
    before = getattr(owner, setting)
    setattr(owner, setting, value)
    compare(name)
    out["back"].append(getattr(owner, setting) == value)
    setattr(owner, setting, before)

# A World that shows cameras a dark backdrop, and, in a group, that sends surfaces alone three times as much.
sun.hide_render = True
tree = compat.enable_nodes(sky)
b = NodeBuilder(tree)
inner = bpy.data.node_groups.new("Rays", "ShaderNodeTree")
inner.interface.new_socket("Strength", in_out="OUTPUT", socket_type="NodeSocketFloat")
g = NodeBuilder(inner)
kinds = g.add("ShaderNodeLightPath").outputs
g.add("NodeGroupOutput", g.math("MULTIPLY_ADD", kinds["Is Diffuse Ray"], 2.0, 1.0))
rays = b.add("ShaderNodeGroup", node_tree=inner)
seen = b.add("ShaderNodeBackground", (0.0, 0.0, 0.0, 1.0), 1.0)
sent = b.add("ShaderNodeBackground", (0.2, 0.2, 0.2, 1.0), rays)
mixed = b.add("ShaderNodeMixShader", b.add("ShaderNodeLightPath").outputs["Is Camera Ray"], sent, seen)
output = next(node for node in tree.nodes if node.type == "OUTPUT_WORLD")
tree.links.new(mixed.outputs[0], output.inputs["Surface"])
had = [len(bpy.data.worlds), len(bpy.data.node_groups)]
compare("backdrop for cameras")
out["world back"] = [
    whole.world == sky,
    [len(bpy.data.worlds), len(bpy.data.node_groups)] == had,
    len(kinds["Is Diffuse Ray"].links),
]
blender_addon.unregister()
kit.result(out)
