"""A room like Cornell's box, and how its pictures are compared."""

from __future__ import annotations

import math
from typing import Any

import blender_kit as kit
import bpy
import numpy as np
from mathutils import Vector

from blender_addon import compat
from blender_addon.node_tools import NodeBuilder


def lamp(scene: Any, kind: str, energy: float, place: tuple[float, float, float]) -> Any:
    data = bpy.data.lights.new(kind, kind)
    data.energy = energy
    thing = bpy.data.objects.new(kind, data)
    scene.collection.objects.link(thing)
    thing.location = place
    return thing


def plain(name: str, color: tuple[float, float, float], glow: float = 0.0) -> Any:
    material = bpy.data.materials.new(name)
    tree = compat.enable_nodes(material)
    tree.nodes.clear()
    b = NodeBuilder(tree)
    node = b.add("ShaderNodeEmission" if glow else "ShaderNodeBsdfDiffuse")
    node.inputs["Color"].default_value = (*color, 1.0)
    if glow:
        node.inputs["Strength"].default_value = glow
    b.add("ShaderNodeOutputMaterial", node.outputs[0])
    return material


def room(scene: Any, *, opened: bool = False) -> None:
    """Six walls of 6 m around the origin, red, green and white, a glowing window and an area lamp.

    ``opened``: without the wall at -Y, so that the World shines in.
    """
    white, red, green = (
        plain("white", (0.7, 0.7, 0.7)),
        plain("red", (0.6, 0.08, 0.06)),
        plain("green", (0.1, 0.5, 0.1)),
    )
    for axis, sign, material in (
        *(
            (axis, sign, white)
            for axis in (1, 2)
            for sign in (-1, 1)
            if not (opened and (axis, sign) == (1, -1))
        ),
        (0, -1, red),
        (0, 1, green),
    ):
        turn = {0: (0, math.pi / 2, 0), 1: (math.pi / 2, 0, 0), 2: (0, 0, 0)}[axis]
        place = [0.0, 0.0, 0.0]
        place[axis] = 3.0 * sign
        bpy.ops.mesh.primitive_plane_add(size=6.0, location=place, rotation=turn)
        bpy.context.object.data.materials.append(material)
    bpy.ops.mesh.primitive_plane_add(size=1.6, location=(1.0, 1.0, 2.98))
    bpy.context.object.data.materials.append(plain("window", (1.0, 0.9, 0.7), 20.0))
    lamp(scene, "AREA", 120.0, (-2.0, -2.0, 1.0)).rotation_euler = (
        Vector((-2.0, -2.0, 1.0)).to_track_quat("Z", "Y").to_euler()
    )


def blocks(picture: np.ndarray) -> np.ndarray:
    """Means of 4 by 4 pixels that lie inside the sphere: what is left of the noise averages out, bias stays."""

    def mean(plane: np.ndarray) -> np.ndarray:
        return plane.reshape(kit.SIZE // 4, 4, kit.SIZE // 4, 4, -1).mean(axis=(1, 3))

    inside = mean(kit.inside(kit.sphere_maps()[2]).astype(np.float32))[..., 0] == 1.0
    return mean(picture[..., :3])[inside]
