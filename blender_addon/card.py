"""The plate card: facets in Geometry Nodes that lie in the tangent plane of what they show.

A flat card with a normal map is wrong in Cycles, which drops light from below the *geometric* normal: glossy
loses a third and light from behind the side is cut. So every pixel (or ``step`` pixels) becomes one quad of
its own, in the plane through the pixel's point that has the pixel's normal, its corners on the rays through
the pixel's corners: seen from the plate's camera it covers exactly that pixel, and any light meets the right
hemisphere. The facets see only the camera: among themselves they are a heap of shards.

The card is parented to the camera and lives in camera space (+X right, +Y up, -Z into the picture), so that
object space is the space of the normal and depth maps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import bpy

from . import compat, skin
from .lens import frustum
from .node_tools import NodeBuilder

GROUP_NAME = "Platelight Plate Card"
GROUP_VERSION = 4
# A vector (u z, v z, z): it is linear in position, so that u and v come out exact inside a tilted facet.
UV_ATTRIBUTE = "platelight_uvz"
MIN_FACING = 0.03  # n.v of the steepest facet; steeper ones would be slivers that reach far in depth
MATTE_FLOOR = 1e-3
DEPTH_REACH = 5.0  # a corner may lie at most this many times nearer or farther than its pixel


@dataclass(frozen=True)
class CardSettings:
    """What shapes a card: plate size in pixels, horizontal field of view in degrees, facet size in pixels,
    what one unit of the depth map means in scene units, how far light spreads below skin in scene units (0 for none),
    first and last frame of a sequence, and how far the picture's middle lies beside the camera's axis, as tangents."""

    width: int
    height: int
    fov: float
    step: float = 1.0
    depth_scale: float = 1.0
    skin_reach: float = 0.0
    frames: tuple[int, int] = (1, 1)
    shift: tuple[float, float] = (0.0, 0.0)


def facet_counts(settings: CardSettings) -> tuple[int, int]:
    """Facets across and down, never more than pixels."""
    step = max(settings.step, 1.0)
    return max(1, math.ceil(settings.width / step)), max(1, math.ceil(settings.height / step))


def half_tangents(settings: CardSettings) -> tuple[float, float]:
    """Tangents of half the horizontal and half the vertical field of view, for square pixels."""
    across = math.tan(math.radians(settings.fov) / 2)
    return across, across * settings.height / settings.width


def _declare(tree: Any) -> None:
    face = tree.interface
    face.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    for name, kind, default in (
        ("Normal Map", "NodeSocketImage", None),
        ("Depth Map", "NodeSocketImage", None),
        ("Matte", "NodeSocketImage", None),
        ("Facets Across", "NodeSocketInt", 256),
        ("Facets Down", "NodeSocketInt", 256),
        ("Half Tangent X", "NodeSocketFloat", 0.36),
        ("Half Tangent Y", "NodeSocketFloat", 0.36),
        ("Shift X", "NodeSocketFloat", 0.0),
        ("Shift Y", "NodeSocketFloat", 0.0),
        ("Depth Scale", "NodeSocketFloat", 1.0),
        ("First Frame", "NodeSocketInt", 1),
        ("Last Frame", "NodeSocketInt", 1),
        ("Skin Reach", "NodeSocketFloat", 0.0),
        ("Material", "NodeSocketMaterial", None),
    ):
        socket = face.new_socket(name, in_out="INPUT", socket_type=kind)
        if default is not None:
            socket.default_value = default


def card_group() -> Any:
    """The node group, made once a file and shared by every card."""
    for tree in bpy.data.node_groups:
        if tree.name.startswith(GROUP_NAME) and tree.get("platelight_version") == GROUP_VERSION:
            return tree
    tree = bpy.data.node_groups.new(GROUP_NAME, "GeometryNodeTree")
    tree["platelight_version"] = GROUP_VERSION
    tree.is_modifier = True
    _declare(tree)
    b = NodeBuilder(tree)
    given = b.add("NodeGroupInput").outputs
    across, down = given["Facets Across"], given["Facets Down"]
    grid = b.add("GeometryNodeMeshGrid", 1.0, 1.0, b.math("ADD", across, 1.0), b.math("ADD", down, 1.0))
    position = b.add("GeometryNodeInputPosition").outputs[0]

    # The grid spans -0.5 to 0.5: twice the half tangents turns a place on it into a ray with z = -1.
    span = b.xyz(
        b.math("MULTIPLY", given["Half Tangent X"], 2.0),
        b.math("MULTIPLY", given["Half Tangent Y"], 2.0),
        0.0,
    )
    axis = b.xyz(given["Shift X"], given["Shift Y"], -1.0)
    ray = b.vector("ADD", b.vector("MULTIPLY", position, span), axis)
    place = b.vector("ADD", position, (0.5, 0.5, 0.0))

    # Sequences: the file whose number is the scene's frame, within the plate's range.
    frame = b.math(
        "MINIMUM",
        b.math("MAXIMUM", b.add("GeometryNodeInputSceneTime").outputs["Frame"], given["First Frame"]),
        given["Last Frame"],
    )

    def sample(image: Any, at: Any = place, extension: str = "EXTEND") -> Any:
        node = b.add("GeometryNodeImageTexture", interpolation="Linear", extension=extension)
        b.feed(node.inputs["Image"], image)
        b.feed(node.inputs["Vector"], at)
        b.feed(node.inputs["Frame"], frame)
        return node.outputs["Color"]

    # Every quantity below is per facet: evaluated at its center, where `position` is the mean of the corners.
    raw = sample(given["Normal Map"])
    unknown = b.math("LESS_THAN", b.vector("LENGTH", raw), 0.1)
    normal = b.vector("NORMALIZE", b.vector("ADD", raw, b.xyz(0.0, 0.0, unknown)))
    view = b.vector("NORMALIZE", b.vector("SCALE", ray, -1.0))
    facing = b.vector("DOT_PRODUCT", normal, view)
    tangent = b.vector("NORMALIZE", b.vector("SUBTRACT", normal, b.vector("SCALE", view, facing)))
    matte = sample(given["Matte"])
    is_skin = b.math("GREATER_THAN", given["Skin Reach"], 0.0)
    fringe = b.math("MULTIPLY", is_skin, b.math("LESS_THAN", matte, 0.5))
    floor = b.math("MAXIMUM", b.math("MULTIPLY", fringe, skin.FRINGE_FACING), MIN_FACING)
    least = b.math("MAXIMUM", facing, floor)
    flank = b.math("SQRT", b.math("MAXIMUM", b.math("SUBTRACT", 1.0, b.math("MULTIPLY", least, least)), 0.0))
    tilted = b.vector("ADD", b.vector("SCALE", view, least), b.vector("SCALE", tangent, flank))
    depth = b.math("MAXIMUM", b.math("MULTIPLY", sample(given["Depth Map"]), given["Depth Scale"]), 1e-4)
    # The facet's plane as m with m . X = 1: n / (P . n), P = ray * depth.
    reach = b.math("MULTIPLY", b.vector("DOT_PRODUCT", ray, tilted), depth)
    plane = b.vector("SCALE", tilted, b.math("DIVIDE", 1.0, reach))
    plane_of_face = b.add(
        "GeometryNodeFieldOnDomain", plane, data_type="FLOAT_VECTOR", domain="FACE"
    ).outputs[0]
    depth_of_face = b.add("GeometryNodeFieldOnDomain", depth, data_type="FLOAT", domain="FACE")

    # Keep facets that the matte touches: the largest of samples at the facet's corners and center.
    touched = b.add("GeometryNodeFieldOnDomain", matte, data_type="FLOAT", domain="FACE").outputs[0]
    by_corner = b.add("GeometryNodeFieldOnDomain", matte, data_type="FLOAT", domain="POINT").outputs[0]
    outside = b.math("LESS_THAN", b.math("MAXIMUM", touched, by_corner), MATTE_FLOOR)
    kept = b.add("GeometryNodeDeleteGeometry", grid, outside, domain="FACE")

    split = b.add("GeometryNodeSplitEdges", kept)
    facing_corner = b.vector("DOT_PRODUCT", ray, plane_of_face)
    # A ray that meets the plane behind the camera or at its horizon counts as meeting it very far away.
    met = b.math("DIVIDE", 1.0, b.math("MAXIMUM", facing_corner, 1e-9))
    far = b.math("MULTIPLY", depth_of_face, DEPTH_REACH)
    near = b.math("DIVIDE", depth_of_face, DEPTH_REACH)
    corner_depth = b.math("MINIMUM", b.math("MAXIMUM", met, near), far)

    # Attributes are stored before the corners move: the fields below read the grid's own positions.
    uv = b.add("GeometryNodeStoreNamedAttribute", split, data_type="FLOAT2", domain="CORNER")
    b.feed(uv.inputs["Name"], "UVMap")
    b.feed(next(s for s in uv.inputs if s.name == "Value" and s.enabled), place)
    exact = b.add("GeometryNodeStoreNamedAttribute", uv, data_type="FLOAT_VECTOR", domain="POINT")
    b.feed(exact.inputs["Name"], UV_ATTRIBUTE)
    homogeneous = b.vector("SCALE", b.vector("ADD", place, (0.0, 0.0, 1.0)), corner_depth)
    b.feed(next(s for s in exact.inputs if s.name == "Value" and s.enabled), homogeneous)
    spread = b.add("GeometryNodeStoreNamedAttribute", exact, data_type="FLOAT", domain="FACE")
    b.feed(spread.inputs["Name"], skin.ATTRIBUTE)
    width = b.vector("MULTIPLY", span, b.xyz(depth, depth, 1.0))
    size = b.vector("DIVIDE", b.xyz(given["Skin Reach"], given["Skin Reach"], 0.0), width)
    around = skin.weight(b, lambda at: sample(given["Matte"], at, "CLIP"), place, tangent, least, size)
    b.feed(next(s for s in spread.inputs if s.name == "Value" and s.enabled), around)
    either = b.add("GeometryNodeSwitch", is_skin, exact, spread, input_type="GEOMETRY")
    moved = b.add("GeometryNodeSetPosition", either)
    b.feed(moved.inputs["Position"], b.vector("SCALE", ray, corner_depth))
    flat = b.add("GeometryNodeSetShadeSmooth", moved)
    b.feed(flat.inputs["Shade Smooth"], False)
    clothed = b.add("GeometryNodeSetMaterial", flat)
    b.feed(clothed.inputs["Material"], given["Material"])
    b.add("NodeGroupOutput", clothed)
    return tree


def build_card(
    name: str,
    settings: CardSettings,
    *,
    normal: Any,
    depth: Any,
    matte: Any,
    material: Any,
    camera: Any,
    collection: Any,
    existing: Any = None,
) -> Any:
    """Make or update the card object of a plate and return it.

    Args:
        normal, depth, matte: Blender images of the maps (data, row 0 of the array at the top).
        material: what ``materials.build_material`` made.
        camera: the camera object that took the plate; the card is parented to it.
        existing: the card to update in place.
    """
    card = existing
    if card is None:
        card = bpy.data.objects.new(name, bpy.data.meshes.new(name))
        collection.objects.link(card)
    tree = card_group()
    modifier = card.modifiers.get(GROUP_NAME) or card.modifiers.new(GROUP_NAME, "NODES")
    modifier.node_group = tree
    across, down = facet_counts(settings)
    tangent_x, tangent_y = half_tangents(settings)
    for key, value in (
        ("Normal Map", normal),
        ("Depth Map", depth),
        ("Matte", matte),
        ("Facets Across", across),
        ("Facets Down", down),
        ("Half Tangent X", tangent_x),
        ("Half Tangent Y", tangent_y),
        ("Shift X", settings.shift[0]),
        ("Shift Y", settings.shift[1]),
        ("Depth Scale", settings.depth_scale),
        ("First Frame", settings.frames[0]),
        ("Last Frame", settings.frames[1]),
        ("Skin Reach", settings.skin_reach),
        ("Material", material),
    ):
        compat.set_modifier_input(modifier, tree, key, value)
    card.parent = camera
    card.matrix_parent_inverse.identity()
    card.matrix_basis.identity()
    card.lock_location = card.lock_rotation = card.lock_scale = (True, True, True)
    if not card.data.materials:
        card.data.materials.append(material)
    else:
        card.data.materials[0] = material
    hide_from_itself(card)
    card.update_tag()
    return card


def follow_lens(card: Any, camera: Any, width: int, height: int) -> None:
    """Have a card's frustum follow lens, sensor and shift of a camera as they are keyed; of None it stays as it was built."""
    modifier = card.modifiers[GROUP_NAME]
    paths = [
        compat.modifier_input_path(modifier, modifier.node_group, name)
        for name in ("Half Tangent X", "Half Tangent Y", "Shift X", "Shift Y")
    ]
    for path in paths:
        card.driver_remove(path)
    if camera is None:
        return
    data = camera.data
    side = "height" if data.sensor_fit == "VERTICAL" else "width"
    seen = frustum(camera, width, height)
    unit = data.lens / getattr(data, f"sensor_{side}")
    forms = (
        ("s / l", seen.across * unit),
        ("s / l", seen.down * unit),
        ("s / l * x", 1.0),
        ("s / l * y", 1.0),
    )
    for path, (form, number) in zip(paths, forms, strict=True):
        driver = card.driver_add(path).driver
        for name, source in (("s", f"sensor_{side}"), ("l", "lens"), ("x", "shift_x"), ("y", "shift_y")):
            if name in form:
                variable = driver.variables.new()
                variable.name = name
                variable.targets[0].id_type, variable.targets[0].id = "CAMERA", data
                variable.targets[0].data_path = source
        driver.expression = f"{number:.9g} * {form}"


def hide_from_itself(card: Any) -> None:
    """Let only the camera see the facets: as shards they would shadow and mirror one another."""
    card.visible_camera = True
    card.visible_diffuse = False
    card.visible_glossy = False
    card.visible_transmission = False
    card.visible_shadow = False
    card.visible_volume_scatter = False
