"""The subject's shadow and reflection on CG things: a solid from depth that no camera sees.

The card's facets cast nothing. The proxy stands in for them; its material lets rays through that start on the card
itself (found from the ray's length), so that the plate is not shadowed by its own stand-in unless asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from . import compat
from .exr import Pixels
from .materials import follow_frames
from .node_tools import NodeBuilder
from .proxy_mesh import proxy_mesh
from .wire import InputError

SELF_SHADOW = "Self Shadow"
DEPTH_SCALE = "Depth Scale"
_NUMBERS = ("half x", "half y", "shift x", "shift y")
_NODES = ("albedo", "roughness", "depth", "matte", SELF_SHADOW, DEPTH_SCALE, *_NUMBERS)
_NEAR, _FAR = 0.8, 1.25  # a ray that starts at these shares of the card's depth starts on the card
_MATTE = 5e-4


@dataclass(frozen=True)
class ProxySettings:
    """``fov`` in degrees, ``scale`` scene units a unit of depth, ``self_shadow`` 0 to 1, ``shift`` as the card's; the
    rest as ``proxy_mesh``."""

    fov: float
    scale: float
    relief: float = 1.0
    roundness: float = 1.0
    self_shadow: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)


def build_proxy(
    name: str,
    settings: ProxySettings,
    depth: Pixels,
    matte: Pixels,
    *,
    maps: dict[str, Any],
    camera: Any,
    collection: Any,
    existing: Any = None,
    frames: tuple[int, int] | None = None,
) -> Any:
    """Make or update the proxy object and return it; ``maps`` are the images albedo, roughness, depth, matte, and ``frames``
    their first and last where they are sequences."""
    try:
        vertices, quads, places = proxy_mesh(
            depth, matte, settings.fov, relief=settings.relief, roundness=settings.roundness
        )
    except InputError:
        if frames is None:
            raise
        # The subject has left the shot, and casts nothing.
        vertices, quads = np.zeros((0, 3), np.float32), np.zeros((0, 4), np.int32)
        places = np.zeros((0, 2), np.float32)
    vertices[:, :2] -= vertices[:, 2:] * np.array(settings.shift, vertices.dtype)
    proxy = existing
    if proxy is None:
        proxy = bpy.data.objects.new(name, bpy.data.meshes.new(name))
        collection.objects.link(proxy)
    mesh = proxy.data
    material = mesh.materials[0] if mesh.materials else None
    mesh.clear_geometry()
    mesh.vertices.add(len(vertices))
    mesh.vertices.foreach_set("co", (vertices * settings.scale).ravel())
    mesh.loops.add(quads.size)
    mesh.loops.foreach_set("vertex_index", quads.ravel())
    mesh.polygons.add(len(quads))
    mesh.polygons.foreach_set("loop_start", np.arange(0, quads.size, 4, dtype=np.int32))
    mesh.uv_layers.new(name="UVMap").data.foreach_set("uv", places[quads.ravel()].ravel())
    mesh.update(calc_edges=True)
    material = _material(f"{name} Material", maps, depth.shape, settings, material, frames)
    if not mesh.materials:
        mesh.materials.append(material)
    proxy.parent = camera
    proxy.matrix_parent_inverse.identity()
    proxy.matrix_basis.identity()
    proxy.lock_location = proxy.lock_rotation = proxy.lock_scale = (True, True, True)
    proxy.visible_camera = False
    proxy.display_type = "WIRE"
    return proxy


def _material(
    name: str,
    maps: dict[str, Any],
    shape: tuple[int, ...],
    settings: ProxySettings,
    existing: Any,
    frames: tuple[int, int] | None,
) -> Any:
    material = existing or bpy.data.materials.new(name)
    tree = compat.enable_nodes(material)
    if any(tree.nodes.get(node) is None for node in _NODES):
        tree.nodes.clear()
        _nodes(tree)
    for key in ("albedo", "roughness", "depth", "matte"):
        tree.nodes[key].image = maps[key]
        if frames is not None:
            follow_frames(tree.nodes[key].image_user, *frames)
    tree.nodes[SELF_SHADOW].outputs[0].default_value = settings.self_shadow
    tree.nodes[DEPTH_SCALE].outputs[0].default_value = settings.scale
    numbers = (*_tangents(settings.fov, shape), *settings.shift)
    for key, value in zip(_NUMBERS, numbers, strict=True):
        tree.nodes[key].outputs[0].default_value = value
    return material


def _tangents(fov: float, shape: tuple[int, ...]) -> tuple[float, float]:
    across = math.tan(math.radians(fov) / 2)
    return across, across * shape[0] / shape[1]


def _nodes(tree: Any) -> None:
    b = NodeBuilder(tree)

    def value(name: str, number: float = 0.0) -> Any:
        node = b.add("ShaderNodeValue", label=name)
        node.outputs[0].default_value = number
        return node.outputs[0]

    def picture(name: str, place: Any = None) -> Any:
        return b.add(
            "ShaderNodeTexImage", place, label=name, interpolation="Linear", extension="EXTEND"
        ).outputs[0]

    geometry = b.add("ShaderNodeNewGeometry").outputs
    path = b.add("ShaderNodeLightPath").outputs
    start = b.vector("ADD", geometry["Position"], b.vector("SCALE", geometry["Incoming"], path["Ray Length"]))
    local = b.add(
        "ShaderNodeVectorTransform", start, vector_type="POINT", convert_from="WORLD", convert_to="OBJECT"
    ).outputs[0]
    x, y, z = b.add("ShaderNodeSeparateXYZ", local).outputs
    away = b.math("MAXIMUM", b.math("MULTIPLY", z, -1.0), 1e-6)
    tangent_x, tangent_y, shift_x, shift_y = (value(name, 1.0) for name in _NUMBERS)

    def across(side: Any, tangent: Any, shift: Any) -> Any:
        off_axis = b.math("SUBTRACT", b.math("DIVIDE", side, away), shift)
        return b.math("ADD", b.math("MULTIPLY", b.math("DIVIDE", off_axis, tangent), 0.5), 0.5)

    u, v = across(x, tangent_x, shift_x), across(y, tangent_y, shift_y)
    place = b.xyz(u, v, 0.0)
    card = b.math("MULTIPLY", picture("depth", place), value(DEPTH_SCALE, 1.0))
    on_card = b.math("GREATER_THAN", picture("matte", place), _MATTE)
    for condition in (
        b.math("GREATER_THAN", away, b.math("MULTIPLY", card, _NEAR)),
        b.math("LESS_THAN", away, b.math("MULTIPLY", card, _FAR)),
        b.math("LESS_THAN", b.math("ABSOLUTE", b.math("SUBTRACT", u, 0.5)), 0.5),
        b.math("LESS_THAN", b.math("ABSOLUTE", b.math("SUBTRACT", v, 0.5)), 0.5),
    ):
        on_card = b.math("MULTIPLY", on_card, condition)
    through = b.math("MULTIPLY", on_card, b.math("SUBTRACT", 1.0, value(SELF_SHADOW)))
    uv = b.add("ShaderNodeUVMap", uv_map="UVMap").outputs[0]
    surface = b.add("ShaderNodeBsdfPrincipled")
    b.feed(surface.inputs["Base Color"], picture("albedo", uv))
    b.feed(surface.inputs["Roughness"], picture("roughness", uv))
    mixed = b.add("ShaderNodeMixShader", through, surface, b.add("ShaderNodeBsdfTransparent"))
    b.add("ShaderNodeOutputMaterial", mixed)
