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
_CAVITY, _PAINT = "cavity", "Albedo x Cavity"
MIN_FACING = 0.01  # least n.v of a normal
MAP_NODES = ("albedo", "normal", "roughness", "specular", "matte")


@functools.cache
def _levels() -> Pixels:
    """IOR Level and IOR for ``_STEPS`` + 1 values of f0 from 0 to 1, (_STEPS + 1, 2)."""
    return np.array([principled_from_f0(step / _STEPS) for step in range(_STEPS + 1)], np.float32)


def specular_plane(f0: Pixels) -> Pixels:
    """Bake reflectivity (H, W) into what Principled asks for: (H, W, 3) of IOR Level, IOR and f0 itself."""
    f0 = f0.astype(np.float32, copy=False)
    index = np.rint(np.clip(np.nan_to_num(f0), 0.0, 1.0) * _STEPS).astype(np.intp)
    return np.dstack([_levels()[index], f0])


def build_material(
    name: str, maps: Mapping[str, Any], existing: Any = None, frames: tuple[int, int] | None = None
) -> Any:
    """Make or update the material of a card.

    Args:
        maps: Blender images by name: albedo (linear color), normal (signed, camera space), roughness
            (perceptual), specular (``specular_plane``), matte, and cavity where there is one.
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
    set_cavity(material, maps.get("cavity"), frames)
    # The facets already follow the normals; Cycles' correction would darken what they get right.
    material.cycles.use_bump_map_correction = False
    material.use_backface_culling = False
    return material


def set_cavity(material: Any, image: Any, frames: tuple[int, int] | None = None) -> None:
    """Have a material show its albedo times a cavity map, or the albedo alone where ``image`` is None.

    The product takes the albedo's place, so that nodes which a user put behind it stay; its factor is the user's.
    """
    tree = material.node_tree
    nodes, albedo = tree.nodes, tree.nodes.get("albedo")
    if albedo is None:  # the user's own graph, until the scene is built again
        return
    made = [node for node in map(nodes.get, (_CAVITY, _PAINT)) if node is not None]
    if made and (image is None or len(made) == 1):
        if (paint := nodes.get(_PAINT)) is not None:
            _move_links(tree, paint.outputs[2], albedo.outputs["Color"])
        for node in made:
            nodes.remove(node)
        made = []
    if image is None:
        return
    if not made:
        b = NodeBuilder(tree)
        place = next((link.from_socket for link in albedo.inputs["Vector"].links), None)
        cavity = b.add("ShaderNodeTexImage", place, label=_CAVITY, interpolation="Linear", extension="EXTEND")
        paint = b.product(None, cavity.outputs["Color"], _PAINT)
        _move_links(tree, albedo.outputs["Color"], paint.outputs[2])
        b.feed(paint.inputs[6], albedo.outputs["Color"])
        x, y = albedo.location
        cavity.location, paint.location = (x - 20, y - 40), (x + 90, y + 110)
    nodes[_CAVITY].image = image
    if frames is not None:
        follow_frames(nodes[_CAVITY].image_user, *frames)


def _move_links(tree: Any, source: Any, target: Any) -> None:
    for socket in [link.to_socket for link in source.links]:
        tree.links.new(target, socket)


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
    # As reference.facing: Cycles has no gloss where the normal looks away from the viewer.
    normal_in_world = b.vector("NORMALIZE", world_normal)
    view = b.add("ShaderNodeNewGeometry").outputs["Incoming"]
    lacking = b.math("SUBTRACT", MIN_FACING, b.vector("DOT_PRODUCT", normal_in_world, view))
    bent = b.vector("ADD", normal_in_world, b.vector("SCALE", view, b.math("MAXIMUM", lacking, 0.0)))
    levels = b.add("ShaderNodeSeparateColor", specular.outputs["Color"], mode="RGB")
    shader = b.add("ShaderNodeBsdfPrincipled", label="Principled BSDF", distribution="GGX")
    for socket, value in (
        ("Base Color", albedo.outputs["Color"]),
        ("Roughness", rough.outputs["Color"]),
        ("IOR", levels.outputs["Green"]),
        ("Specular IOR Level", levels.outputs["Red"]),
        ("Alpha", matte.outputs["Color"]),
        ("Normal", b.vector("NORMALIZE", bent)),
    ):
        b.feed(shader.inputs[socket], value)
    b.add("ShaderNodeOutputMaterial", shader.outputs[0])
