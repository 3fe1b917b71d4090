"""A Principled BSDF fed by a plate's maps, in the plate camera's own projection."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import bpy
import numpy as np

from . import compat
from .card import UV_ATTRIBUTE
from .exr import Pixels
from .node_tools import NodeBuilder
from .wire import principled_from_f0

_STEPS = 1 << 14  # fine enough that rounding f0 of 0.04 moves it by less than 0.1 %
MAP_NODES = ("albedo", "normal", "roughness", "specular", "matte")


@functools.cache
def _levels() -> Pixels:
    """IOR Level and IOR for ``_STEPS`` + 1 values of f0 from 0 to 1, (_STEPS + 1, 2)."""
    return np.array([principled_from_f0(step / _STEPS) for step in range(_STEPS + 1)], np.float32)


def specular_plane(f0: Pixels) -> Pixels:
    """Bake reflectivity (H, W) into what Principled asks for: (H, W, 3) of IOR Level, IOR and f0 itself."""
    index = np.rint(np.clip(np.nan_to_num(f0), 0.0, 1.0) * _STEPS).astype(np.intp)
    return np.dstack([_levels()[index], f0.astype(np.float32)])


def build_material(
    name: str, maps: Mapping[str, Any], existing: Any = None, frames: tuple[int, int] | None = None
) -> Any:
    """Make or update the material of a card.

    Args:
        maps: Blender images by name: albedo (linear color), normal (signed, camera space), roughness
            (perceptual), specular (``specular_plane``) and matte.
        frames: first and last frame where the maps are sequences.
        existing: the material to update; its nodes are rebuilt only if one of the map nodes is gone, so
            that what a user added stays.
    """
    material = existing or bpy.data.materials.new(name)
    tree = compat.enable_nodes(material)
    if any(tree.nodes.get(node) is None for node in (*MAP_NODES, "Principled BSDF")):
        _build_nodes(tree)
    for node in MAP_NODES:
        tree.nodes[node].image = maps[node]
        if frames is not None:
            follow_frames(tree.nodes[node].image_user, *frames)
    # The facets already follow the normals; Cycles' correction would darken what they get right.
    material.cycles.use_bump_map_correction = False
    material.use_backface_culling = False
    return material


def follow_frames(user: Any, first: int, last: int) -> None:
    """Have a node show the file whose number is the scene's frame."""
    user.frame_start, user.frame_offset = first, first - 1
    user.frame_duration = last - first + 1
    user.use_auto_refresh = True


def _build_nodes(tree: Any) -> None:
    tree.nodes.clear()
    b = NodeBuilder(tree)
    homogeneous = b.add("ShaderNodeAttribute", attribute_name=UV_ATTRIBUTE, attribute_type="GEOMETRY")
    scaled = homogeneous.outputs["Vector"]
    depth = b.add("ShaderNodeSeparateXYZ", scaled).outputs["Z"]
    place = b.vector("SCALE", scaled, b.math("DIVIDE", 1.0, depth))

    def picture(name: str) -> Any:
        return b.add("ShaderNodeTexImage", place, label=name, interpolation="Linear", extension="EXTEND")

    albedo, normal, rough, specular, matte = (picture(name) for name in MAP_NODES)
    world_normal = b.add(
        "ShaderNodeVectorTransform",
        normal.outputs["Color"],
        vector_type="NORMAL",
        convert_from="OBJECT",
        convert_to="WORLD",
    ).outputs[0]
    levels = b.add("ShaderNodeSeparateColor", specular.outputs["Color"], mode="RGB")
    shader = b.add("ShaderNodeBsdfPrincipled", label="Principled BSDF", distribution="GGX")
    for socket, value in (
        ("Base Color", albedo.outputs["Color"]),
        ("Roughness", rough.outputs["Color"]),
        ("IOR", levels.outputs["Green"]),
        ("Specular IOR Level", levels.outputs["Red"]),
        ("Alpha", matte.outputs["Color"]),
        ("Normal", b.vector("NORMALIZE", world_normal)),
    ):
        b.feed(shader.inputs[socket], value)
    b.add("ShaderNodeOutputMaterial", shader.outputs[0])
