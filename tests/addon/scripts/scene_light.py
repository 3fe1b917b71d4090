"""Match scene light: a known World comes back as it was; lamps keep their energy; a sphere in a Cornell-like box agrees
with the card of the same sphere under the baked light."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import blender_kit as kit
import bpy
import numpy as np
from mathutils import Vector

from blender_addon import bake, compat, images, latlong, world
from blender_addon.node_tools import NodeBuilder

RADIUS = 0.1  # of the sphere in a room 6 m wide: the light of one point is the light of the sphere


def baked(scene: Any, place: Vector, heading: float, height: int, samples: int) -> np.ndarray:
    points = [bake.Viewpoint(place, (0.5, 0.5))]
    with bake.BakeSetup(scene, "", points, heading, Path("bake.exr").resolve(), height, samples):
        bpy.ops.render.render(write_still=True)
    return bake.read_bake(Path("bake.exr"))[0]


def known_world() -> float:
    """A smooth World, rotated, seen under a heading, must be the picture turned by the rotation."""
    scene, camera = kit.empty_scene(4)
    camera.rotation_euler[2] = math.radians(70.0)
    camera.location = (1.0, 2.0, 3.0)
    bpy.context.view_layer.update()
    way = latlong.directions(64)
    light = np.stack([1.5 + way[..., 0], 1.5 + way[..., 1], 1.5 + way[..., 2]], -1).astype(np.float32)
    world.build_world(scene, images.put_image("known", light, data=False), camera, rotation=45.0)
    got = baked(scene, camera.location, world.heading(camera), 64, 64)
    # Next to the poles Cycles' own lookup of an environment blends with the opposite pole.
    return float(np.abs(got - np.roll(light, 16, axis=1))[1:-1].max())


def lamp(scene: Any, kind: str, energy: float, place: tuple[float, float, float]) -> Any:
    data = bpy.data.lights.new(kind, kind)
    data.energy = energy
    thing = bpy.data.objects.new(kind, data)
    scene.collection.objects.link(thing)
    thing.location = place
    return thing


def lamp_energy() -> dict[str, float]:
    """Irradiance of a small lamp in the map, over what physics says."""
    out = {}
    for kind, energy, wanted in (("SUN", 2.0, 2.0), ("POINT", 100.0, 100.0 / (4 * math.pi * math.pi * 9.0))):
        scene, camera = kit.empty_scene(4)
        thing = lamp(scene, kind, energy, (0.0, 3.0, 0.0))
        if kind == "SUN":
            thing.rotation_euler = (math.radians(60.0), 0.0, 0.0)
            thing.data.angle = math.radians(0.5)
        else:
            wanted *= math.pi  # Blender's watts: radiant intensity is power / (4 pi^2) times pi, at 3 m
            thing.data.shadow_soft_size = 0.0
        got = baked(scene, Vector((0.0, 0.0, 0.0)), world.heading(camera), 128, 64)
        total = (got * latlong.solid_angles(128)[..., None]).sum(axis=(0, 1))
        out[kind] = float(total.mean() / wanted)
    return out


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


def room(scene: Any) -> None:
    """Six walls of 6 m around the origin, red, green and white, a glowing window and an area lamp."""
    white, red, green = (
        plain("white", (0.7, 0.7, 0.7)),
        plain("red", (0.6, 0.08, 0.06)),
        plain("green", (0.1, 0.5, 0.1)),
    )
    for axis, sign, material in (
        *((axis, sign, white) for axis in (1, 2) for sign in (-1, 1)),
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


def camera_at(scene: Any) -> Any:
    camera = scene.camera
    camera.rotation_euler = (math.pi / 2, 0.0, math.radians(-40.0))
    bpy.context.view_layer.update()
    camera.location = camera.matrix_world.to_3x3() @ Vector((0.0, 0.0, kit.DISTANCE * RADIUS))
    bpy.context.view_layer.update()
    return camera


def cornell() -> dict[str, float]:
    errors = {}
    scene, camera = kit.empty_scene(4)
    camera_at(scene)
    room(scene)
    light = baked(scene, Vector((0.0, 0.0, 0.0)), world.heading(camera), 128, 192)
    errors["lamp in the map"] = float(light.max())
    for name, kind, roughness in (
        ("diffuse", "diffuse", 0.5),
        ("glossy", "glossy", 0.35),
        ("principled", "principled", 0.5),
    ):
        scene, camera = kit.empty_scene(96)
        camera_at(scene)
        room(scene)
        kit.add_sphere(scene, camera, kind, roughness)
        ball = bpy.data.objects["Sphere"]
        ball.scale = (RADIUS,) * 3
        ball.location = (0.0, 0.0, -kit.DISTANCE * RADIUS)
        wanted = blocks(kit.render(scene, Path("sphere.exr"))["ViewLayer.Combined"])
        scene, camera = kit.empty_scene(48)
        camera_at(scene)
        kit.add_card(scene, camera, kind, roughness, 1.0)
        world.build_world(scene, images.put_image("baked", light, data=False), camera)
        got = blocks(kit.render(scene, Path("card.exr"))["ViewLayer.Combined"])
        errors[name] = float(np.abs(got - wanted).mean() / wanted.mean())
    return errors


kit.result({"known": known_world(), "lamps": lamp_energy(), "cornell": cornell()})
