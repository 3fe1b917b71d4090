"""Match scene light: a known World comes back as it was; lamps keep their energy; a sphere in a Cornell-like box agrees
with the card of the same sphere under the baked light."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import blender_kit as kit
import bpy
import numpy as np
from cornell_room import blocks, lamp, room
from mathutils import Vector

from blender_addon import bake, images, latlong, world

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
    thing.visible_diffuse = thing.visible_glossy = False  # it lights nothing but fog
    out["hidden"] = float(baked(scene, Vector((0.0, 0.0, 0.0)), world.heading(camera), 32, 4).max())
    return out


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


if __name__ == "__main__":
    kit.result({"known": known_world(), "lamps": lamp_energy(), "cornell": cornell()})
