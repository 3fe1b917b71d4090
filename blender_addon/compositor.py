"""The compositor group: subject over backdrop with edge, light wrap and grain; one group for 4.2 to 5.2."""

from __future__ import annotations

from typing import Any

import bpy

from . import compat
from .node_tools import NodeBuilder

GROUP_NAME = "Platelight Composite"
GROUP_VERSION = 1
NODE = "Platelight Composite"
INPUTS: tuple[tuple[str, str, float, float, float], ...] = (
    ("Relit", "NodeSocketColor", 0, 0, 0),
    ("Backdrop", "NodeSocketColor", 0, 0, 0),
    ("Edge", "NodeSocketFloat", 0.0, 0.0, 64.0),
    ("Light Wrap", "NodeSocketFloat", 0.0, 0.0, 1.0),
    ("Wrap Size", "NodeSocketFloat", 12.0, 0.0, 256.0),
    ("Grain", "NodeSocketFloat", 0.0, 0.0, 1.0),
    ("Grain Picture", "NodeSocketColor", 0, 0, 0),
)


def composite_group() -> Any:
    """The node group, made once a file.

    Relit is premultiplied. Edge pulls the matte's edge in and softens it, in pixels; Light Wrap lets the blurred backdrop
    spill over the edge; Grain is the deviation at middle gray that is added to the subject.
    """
    for tree in bpy.data.node_groups:
        if tree.name.startswith(GROUP_NAME) and tree.get("platelight_version") == GROUP_VERSION:
            return tree
    tree = bpy.data.node_groups.new(GROUP_NAME, "CompositorNodeTree")
    tree["platelight_version"] = GROUP_VERSION
    tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
    for name, kind, default, low, high in INPUTS:
        socket = tree.interface.new_socket(name, in_out="INPUT", socket_type=kind)
        if kind == "NodeSocketFloat":
            socket.default_value, socket.min_value, socket.max_value = default, low, high
        else:
            socket.default_value = (0.0, 0.0, 0.0, 0.0)
    b = compat.CompositorBuilder(tree)
    given = b.add("NodeGroupInput").outputs
    relit, backdrop = given["Relit"], given["Backdrop"]
    alpha = b.split(relit)["Alpha"]
    # Twice the blurred matte less one is 0 at the old edge and 1 inside: the edge moves in by about the blur.
    choked = b.math("SUBTRACT", b.math("MULTIPLY", b.split(b.blur(alpha, given["Edge"]))["Red"], 2.0), 1.0)
    sharp = b.math("LESS_THAN", given["Edge"], 0.5)
    keep = b.math(
        "MINIMUM", b.math("MAXIMUM", b.math("ADD", choked, b.math("MULTIPLY", sharp, 2.0)), 0.0), 1.0
    )
    solid = b.math("MULTIPLY", alpha, keep)
    clear = b.math("SUBTRACT", 1.0, solid)
    front = b.color("MULTIPLY", relit, keep)
    spill = b.blur(b.color("MULTIPLY", backdrop, clear), given["Wrap Size"])
    front = b.color("ADD", front, b.color("MULTIPLY", spill, b.math("MULTIPLY", solid, given["Light Wrap"])))
    level = b.math("MAXIMUM", b.math("DIVIDE", b.split(front)["Green"], 0.18), 0.0)
    grain = b.math("MULTIPLY", b.math("MULTIPLY", b.math("SQRT", level), given["Grain"]), solid)
    front = b.color("ADD", front, b.color("MULTIPLY", given["Grain Picture"], grain))
    both = b.split(b.color("ADD", front, b.color("MULTIPLY", backdrop, clear)))
    behind = b.math("MULTIPLY", b.split(backdrop)["Alpha"], clear)
    out = b.join(both["Red"], both["Green"], both["Blue"], b.math("ADD", solid, behind))
    b.add("NodeGroupOutput", out)
    return tree


def place_group(scene: Any, pictures: dict[str, Any], settings: dict[str, float], frames: Any = None) -> Any:
    """Put the group with its pictures into a scene's compositor and return its node; a second call updates it.

    Args:
        pictures: Blender images by input: Relit, Grain Picture, and Backdrop unless there is none.
        settings: values of the float inputs.
        frames: first and last frame where the pictures are sequences.
    """
    tree = compat.compositor_tree(scene)
    node = tree.nodes.get(NODE)
    b = NodeBuilder(tree)
    if node is None:
        node = b.add("CompositorNodeGroup", label=NODE)
        node.location = (200.0, 400.0)
        node.node_tree = composite_group()
        output = compat.compositor_output(tree)
        if not output.is_linked:
            tree.links.new(node.outputs["Image"], output)
    node.node_tree = composite_group()
    for index, key in enumerate(("Relit", "Backdrop", "Grain Picture")):
        name = f"Platelight {key}"
        source = tree.nodes.get(name)
        if key not in pictures:
            if source is not None:
                tree.nodes.remove(source)
            continue
        if source is None:
            source = tree.nodes.new("CompositorNodeImage")
            source.name = source.label = name
            source.location = (-300.0, 600.0 - 300.0 * index)
        source.image = pictures[key]
        if frames is not None:
            source.frame_start, source.frame_offset = frames[0], frames[0] - 1
            source.frame_duration = frames[1] - frames[0] + 1
        tree.links.new(source.outputs["Image"], node.inputs[key])
    for key, value in settings.items():
        node.inputs[key].default_value = value
    return node
