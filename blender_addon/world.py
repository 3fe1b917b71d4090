"""The World that carries the HDRI, and cameras that look where the light convention says.

Blender's equirectangular mapping has its center column at world +X. The convention has it where the camera
looks. So one Mapping node turns by the Rotation that the user sees, literally as World Mapping Z, and a
second one, labeled "Face the camera", takes the heading of the camera out. Both turn about Z and commute.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import bpy
import numpy as np
from mathutils import Vector

from . import color, compat
from .latlong import Sun
from .materials import follow_frames
from .node_tools import NodeBuilder

WORLD_NAME = "Platelight World"
ROTATION_NODE = "Rotation"
FACING_NODE = "Face the camera"
IMAGE_NODE = "HDRI"
BACKGROUND_NODE = "Background"


def heading(camera: Any) -> float:
    """Angle in radians, counter-clockwise from world +X seen from above, of where the camera looks."""
    forward = camera.matrix_world.to_3x3() @ Vector((0.0, 0.0, -1.0))
    return math.atan2(forward.y, forward.x)


def _is_moved(camera: Any) -> bool:
    """Whether keyframes, drivers or constraints move a camera, or what it is parented to."""
    while camera is not None:
        if camera.animation_data is not None or camera.constraints:
            return True
        camera = camera.parent
    return False


def own_world(scene: Any) -> Any:
    """The World that was made for a scene, or None. A scene that was renamed keeps the one it has."""
    now = scene.world
    made_for = now.get("platelight_scene") if now is not None else None
    if made_for is not None and (made_for == scene.name or made_for not in bpy.data.scenes):
        return now
    return next((each for each in bpy.data.worlds if each.get("platelight_scene") == scene.name), None)


def picture_of(scene: Any, name: str) -> Any:
    """The image of this name, but for a number at its end, that the scene's own World shows, or None."""
    tree = compat.world_nodes(own_world(scene))
    node = tree.nodes.get(IMAGE_NODE) if tree is not None else None
    image = node.image if node is not None else None
    return image if image is not None and image.name.startswith(name) else None


def facing(scene: Any, camera: Any) -> float:
    """The heading that the scene's World was built for, as ``heading``; the camera's own where it is another World.

    A camera that turns later, as a tracked one does along a shot, leaves the World where it is.
    """
    tree = compat.world_nodes(scene.world)
    node = tree.nodes.get(FACING_NODE) if tree is not None else None
    if node is None or own_world(scene) != scene.world:
        return heading(camera)
    return -float(node.inputs["Rotation"].default_value[2])


def as_met(world: Any) -> list[Any]:
    """A copy of a World that shows cameras what it sends to surfaces, and copies of its node groups; none where no node of
    it tells rays apart.
    """
    tree = compat.world_nodes(world)
    if tree is None or not _tells_rays(tree):
        return []
    made = [world.copy()]
    _show_surfaces(made[0].node_tree, made)
    return made


def _tells_rays(tree: Any) -> bool:
    return any(
        node.type == "LIGHT_PATH" or (node.type == "GROUP" and node.node_tree and _tells_rays(node.node_tree))
        for node in tree.nodes
    )


def _show_surfaces(tree: Any, made: list[Any]) -> None:
    """Have camera rays count as diffuse ones, which they stand for; groups become copies, which are added to ``made``."""
    b = NodeBuilder(tree)
    for node in list(tree.nodes):
        if node.type == "GROUP" and node.node_tree is not None:
            node.node_tree = node.node_tree.copy()
            made.append(node.node_tree)
            _show_surfaces(node.node_tree, made)
        elif node.type == "LIGHT_PATH":
            camera, diffuse = (node.outputs[f"Is {kind} Ray"] for kind in ("Camera", "Diffuse"))
            asked = [[link.to_socket for link in output.links] for output in (camera, diffuse)]
            answers = b.math("MULTIPLY", camera, 0.0), b.math("MAXIMUM", camera, diffuse)
            for sockets, answer in zip(asked, answers, strict=True):
                for socket in sockets:
                    b.feed(socket, answer)


class Driven(NamedTuple):
    """Data paths on the scene for rotation (degrees), exposure (stops) and strength (a factor)."""

    rotation: str
    exposure: str
    strength: str


def _drive(owner: Any, path: str, index: int, expression: str, scene: Any, **variables: str) -> None:
    """Bind a node value to scene properties by a driver that needs no Python to be evaluated."""
    owner.driver_remove(path, index) if index >= 0 else owner.driver_remove(path)
    curve = owner.driver_add(path, index) if index >= 0 else owner.driver_add(path)
    driver = curve.driver
    driver.type = "SCRIPTED"
    for name, data_path in variables.items():
        variable = driver.variables.new()
        variable.name = name
        variable.type = "SINGLE_PROP"
        target = variable.targets[0]
        target.id_type = "SCENE"
        target.id = scene
        target.data_path = data_path
    driver.expression = expression


def build_world(
    scene: Any,
    image: Any,
    camera: Any,
    *,
    rotation: float = 0.0,
    exposure: float = 0.0,
    driven_by: Driven | None = None,
    frames: tuple[int, int] | None = None,
) -> Any:
    """Make or update the world of a scene so that it lights with an HDRI, and return it.

    Args:
        image: a lat-long Blender image.
        camera: the plate's camera, whose heading is the center column at rotation 0.
        rotation: degrees, with the sign of Blender's World Mapping Z.
        exposure: stops; the background's strength is 2 to its power.
        driven_by: the scene's own properties in place of both, so that they can be animated.
        frames: first and last frame where the image is a sequence.
    """
    world = own_world(scene) or bpy.data.worlds.new(WORLD_NAME)
    world["platelight_scene"] = scene.name
    tree = compat.enable_nodes(world)
    nodes = tree.nodes
    if any(nodes.get(name) is None for name in (ROTATION_NODE, FACING_NODE, IMAGE_NODE, BACKGROUND_NODE)):
        nodes.clear()
        b = NodeBuilder(tree)
        place = b.add("ShaderNodeTexCoord").outputs["Generated"]
        turned = b.add("ShaderNodeMapping", place, label=ROTATION_NODE, vector_type="POINT")
        faced = b.add("ShaderNodeMapping", turned, label=FACING_NODE, vector_type="POINT")
        sky = b.add("ShaderNodeTexEnvironment", faced, label=IMAGE_NODE, projection="EQUIRECTANGULAR")
        background = b.add("ShaderNodeBackground", sky, 1.0, label=BACKGROUND_NODE)
        b.add("ShaderNodeOutputWorld", background)
    nodes[IMAGE_NODE].image = image
    if frames is not None:
        follow_frames(nodes[IMAGE_NODE].image_user, *frames)
    # Built anew amid a shot, the light does not turn along with its camera.
    if not (world.get("platelight_camera") == camera.name and _is_moved(camera)):
        nodes[FACING_NODE].inputs["Rotation"].default_value[2] = -heading(camera)
    world["platelight_camera"] = camera.name
    turn = nodes[ROTATION_NODE].inputs["Rotation"]
    strength = nodes[BACKGROUND_NODE].inputs["Strength"]
    if driven_by is None:
        turn.default_value[2] = math.radians(rotation)
        strength.default_value = 2.0**exposure
    else:
        _drive(turn, "default_value", 2, "radians(v)", scene, v=driven_by.rotation)
        levels = {"v": driven_by.exposure, "s": driven_by.strength}
        _drive(strength, "default_value", -1, "s * pow(2, v)", scene, **levels)
    if scene.world is not None and scene.world != world:
        scene.world.use_fake_user = True  # the user's own: without a user it would not be saved
    scene.world = world
    return world


def build_sun(scene: Any, sun: Sun, camera: Any, angle: float, driven_by: Driven) -> Any:
    """A Sun lamp for what ``latlong.split_sun`` took out of a light, turned and brightened with the World.

    Args:
        angle: size in radians, 0 for the size that was found in the picture.
        driven_by: as for ``build_world``.
    """
    data = bpy.data.lights.new("Platelight Sun", "SUN")
    lamp = bpy.data.objects.new("Platelight Sun", data)
    lamp["platelight_scene"] = scene.name
    scene.collection.objects.link(lamp)
    irradiance = color.from_rec709(np.array(sun.irradiance, np.float32)).tolist()
    strongest = max(irradiance)
    data.color = tuple(value / strongest for value in irradiance)
    data.angle = angle or sun.angle
    x, y, z = sun.direction
    look = facing(scene, camera)
    way = Vector((math.sin(look), -math.cos(look), 0.0)) * x + Vector((0.0, 0.0, y))
    way -= Vector((math.cos(look), math.sin(look), 0.0)) * z
    lamp.rotation_euler = (0.0, math.acos(max(-1.0, min(1.0, way.z))), 0.0)
    turn = math.atan2(way.y, way.x)
    # The World's rotation turns the picture clockwise as seen from above.
    _drive(lamp, "rotation_euler", 2, f"{turn:.9g} - radians(v)", scene, v=driven_by.rotation)
    levels = {"v": driven_by.exposure, "s": driven_by.strength}
    _drive(data, "energy", -1, f"{strongest:.9g} * s * pow(2, v)", scene, **levels)
    return lamp


def load_hdri(path: str) -> Any:
    """Load a lat-long picture as a Blender image, once a file, in the color space that its header tells."""
    full = bpy.path.abspath(path)
    space = color.space_of(Path(full))  # of an image that is there already as the user set it
    image = bpy.data.images.load(full, check_existing=True)
    if space != "auto":
        color.set_space(image, space)
    return image


def build_camera(name: str, fov: float, collection: Any, existing: Any = None) -> Any:
    """A camera at the origin that looks along world +Y, the way of Blender's front view.

    ``fov`` is the horizontal field of view in degrees, whatever the shape of the picture.
    """
    camera = existing
    if camera is None:
        camera = bpy.data.objects.new(name, bpy.data.cameras.new(name))
        collection.objects.link(camera)
        camera.rotation_euler = (math.pi / 2, 0.0, 0.0)
        camera.location = (0.0, 0.0, 0.0)
    camera.data.type = "PERSP"
    camera.data.sensor_fit = "HORIZONTAL"
    camera.data.angle = math.radians(fov)
    camera.data.clip_start = 1e-3
    camera.data.clip_end = 1e5
    # matrix_world of a new object is stale until the depsgraph runs, and the world reads the heading from it.
    bpy.context.view_layer.update()
    return camera
