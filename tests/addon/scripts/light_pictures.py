"""``python light_pictures.py FOLDER [NAME...]``: the pictures of docs/light.md, with figures; NAME is one of those at the end.

Runs under the bpy wheel with the backend's packages beside it and ``PYTHONPATH=backend:.:tests/addon/scripts``.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any

import blender_kit as kit
import bpy
import numpy as np
import scene_light
import shadow_proxy
from cornell_room import room
from mathutils import Vector
from platelight.images.sheet import Tile, contact_sheet

from blender_addon import images, world
from blender_addon.card import UV_ATTRIBUTE

SIZE = 128
FOLDER = Path(sys.argv[1]).resolve()
CASES = (
    ("HDRI, Principled 0.5", "principled", 0.5, kit.light_by_hdri, 32, 1.0),
    ("HDRI, glossy 0.2", "glossy", 0.2, kit.light_by_hdri, 64, 1.0),
    ("sun at 100 degrees, diffuse", "diffuse", 0.5, kit.light_by_sun, 24, 4.0),
)


def combined(scene: Any) -> np.ndarray:
    return kit.render(scene, FOLDER / "scratch.exr")["ViewLayer.Combined"][..., :3]


def surface_on(
    scene: Any, camera: Any, points: np.ndarray, faces: list[tuple[int, ...]], material: Any
) -> None:
    """A mesh in the camera's frame that shows the maps, with where its points are in the picture: (u z, v z, z)."""
    mesh = bpy.data.meshes.new("Surface")
    mesh.from_pydata(points.tolist(), [], faces)
    z = -points[:, 2]
    half = math.tan(math.radians(kit.FOV) / 2)
    place = np.stack([0.5 * (z + points[:, 0] / half), 0.5 * (z + points[:, 1] / half), z], -1)
    mesh.attributes.new(UV_ATTRIBUTE, "FLOAT_VECTOR", "POINT").data.foreach_set(
        "vector", place.astype(np.float32).ravel()
    )
    mesh.materials.append(material)
    mesh.polygons.foreach_set("use_smooth", np.ones(len(mesh.polygons), bool))
    thing = bpy.data.objects.new("Surface", mesh)
    scene.collection.objects.link(thing)
    thing.parent = camera


def flat(scene: Any, camera: Any, kind: str, roughness: float) -> None:
    """One quad with the normal map, as Blender renders it when nothing is set."""
    half = math.tan(math.radians(kit.FOV) / 2)
    corners = np.array([(x * half, y * half, -1.0) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
    material, _ = kit.card_material(kind, roughness, SIZE)
    material.cycles.use_bump_map_correction = True
    surface_on(scene, camera, corners * kit.DISTANCE, [(0, 1, 2, 3)], material)


def displaced(scene: Any, camera: Any, kind: str, roughness: float) -> None:
    """A grid of one point a pixel at the pixels' depth, over the whole frame; the matte's alpha cuts it."""
    _, depth, _ = kit.sphere_maps(SIZE)
    half = math.tan(math.radians(kit.FOV) / 2)
    along = ((np.arange(SIZE) + 0.5) / SIZE * 2 - 1) * half
    x, y = np.meshgrid(along, -along)
    points = (np.stack([x, y, -np.ones_like(x)], -1) * depth[..., None]).reshape(-1, 3)
    first = (np.arange(SIZE - 1)[:, None] * SIZE + np.arange(SIZE - 1)).ravel()
    faces = [(int(i), int(i + SIZE), int(i + SIZE + 1), int(i + 1)) for i in first]
    material, _ = kit.card_material(kind, roughness, SIZE)
    surface_on(scene, camera, points, faces, material)


def facets(scene: Any, camera: Any, kind: str, roughness: float) -> None:
    kit.add_card(scene, camera, kind, roughness, 1.0, SIZE)


def cards() -> None:
    """Flat card, displaced grid, facets and the real sphere."""
    hit = kit.sphere_maps(SIZE)[2]
    mask = kit.inside(hit)
    rows = []
    for name, kind, roughness, light, samples, gain in CASES:
        looks = {}
        for way, build in (
            ("truth", kit.add_sphere), ("flat card", flat), ("displaced grid", displaced), ("facets", facets)
        ):  # fmt: skip
            scene, camera = kit.empty_scene(samples, SIZE)
            build(scene, camera, kind, roughness)
            light(scene, camera)
            looks[way] = combined(scene) * hit[..., None]
        truth = looks.pop("truth")
        errors = {
            way: float(np.abs(look - truth)[mask].mean() / truth[mask].mean()) for way, look in looks.items()
        }
        print(name, {way: f"{100 * error:.1f} %" for way, error in errors.items()}, flush=True)
        row = [Tile(f"{way}: {100 * errors[way]:.1f} %", look * gain) for way, look in looks.items()]
        rows.append([*row, Tile(f"truth: {name}", truth * gain)])
    contact_sheet(FOLDER / "cards.png", rows, 1200)


def in_scene() -> None:
    """The room with a sphere in it, the light taken at its place, and the card of the sphere's maps under that light."""
    scene, camera = kit.empty_scene(4, SIZE)
    scene_light.camera_at(scene)
    room(scene)
    light = scene_light.baked(scene, Vector((0.0, 0.0, 0.0)), world.heading(camera), 128, 96)
    looks = {}
    for name in ("truth", "card"):
        scene, camera = kit.empty_scene(96, SIZE)
        scene_light.camera_at(scene)
        if name == "truth":
            room(scene)
            kit.add_sphere(scene, camera, "principled", 0.5)
            ball = bpy.data.objects["Sphere"]
            ball.scale = (scene_light.RADIUS,) * 3
            ball.location = (0.0, 0.0, -kit.DISTANCE * scene_light.RADIUS)
        else:
            kit.add_card(scene, camera, "principled", 0.5, 1.0, SIZE)
            world.build_world(scene, images.put_image("baked", light, data=False), camera)
        looks[name] = combined(scene)
    mask = kit.inside(kit.sphere_maps(SIZE)[2])
    error = float(np.abs(looks["card"] - looks["truth"])[mask].mean() / looks["truth"][mask].mean())
    print(f"scene into plate: {100 * error:.1f} % a pixel, noise of 96 samples included", flush=True)
    ball = np.where(kit.sphere_maps(SIZE)[2][..., None], looks["card"], 0.0)
    row = [Tile("the light taken at its place", light), Tile("its maps under that light", ball)]
    contact_sheet(FOLDER / "scene.png", [[*row, Tile("a sphere in the room", looks["truth"])]], 1200)


def shadows() -> None:
    """The floor beside a subject that no camera sees: card alone, with its proxy, and the real sphere."""
    kinds = {"card": "card alone", "proxy": "with the shadow proxy", "sphere": "the real sphere"}
    rows = [
        [
            Tile(f"{title}{', glossy floor' * glossy}", shadow_proxy.seen(kind, glossy, SIZE) * 0.5)
            for kind, title in kinds.items()
        ]
        for glossy in (False, True)
    ]
    contact_sheet(FOLDER / "shadows.png", rows, 1200)


def in_plate() -> None:
    """A portrait, the light that is inferred from it, and balls and a gray card of CG under that light before it."""
    import torch
    from platelight import demo
    from platelight.images.plate import read_plate
    from platelight.pipeline import service
    from platelight.protocol.requests import Decompose

    import blender_addon
    from blender_addon import maps
    from blender_addon.plate_properties import PLANES

    torch.set_num_threads(1)
    demo.write_portrait(FOLDER / "portrait.png")
    pixels = np.ascontiguousarray(read_plate(FOLDER / "portrait.png").pixels, np.float32)
    found = service.run_job(Decompose(fov=kit.FOV), {"plate": pixels}).planes
    blender_addon.register()
    scene, _ = kit.empty_scene(128)
    state, (height, width) = scene.platelight, pixels.shape[:2]
    subject = state.plates.add()
    subject.uid, subject.name, subject.width, subject.height, subject.fov = (
        "x",
        "portrait",
        width,
        height,
        kit.FOV,
    )
    for name, plane in {"plate": pixels, **found}.items():
        if name in PLANES or name == "plate":
            maps.put_map(subject, PLANES.get(name, name), np.asarray(plane, np.float32))
    bpy.ops.platelight.use_plate_light()
    bpy.ops.platelight.build_scene()
    for thing in (subject.card, subject.proxy):
        if thing is not None:
            thing.hide_render = True
    for place, metal in ((-0.66, 0.0), (0.66, 1.0)):
        bpy.ops.mesh.primitive_uv_sphere_add(segments=96, ring_count=48, radius=0.26)
        put(bpy.context.object, scene.camera, (place, -0.75, -3.0), metal)
    bpy.ops.mesh.primitive_plane_add(size=0.36)
    put(bpy.context.object, scene.camera, (0.0, -0.85, -3.0), 0.0)
    scene.render.resolution_x, scene.render.resolution_y = width, height
    seen = kit.render(scene, FOLDER / "scratch.exr")["ViewLayer.Combined"]
    over = seen[..., :3] + pixels * (1.0 - seen[..., 3:])
    light = maps.map_pixels(subject, "source_light", 3) * state.light_gain
    row = [Tile("the plate", pixels), Tile("the light inferred from it, 2 stops darker", 0.25 * light)]
    contact_sheet(
        FOLDER / "plate.png", [[*row, Tile("CG under that light: gray, mirror, gray card", over)]], 1200
    )


def put(thing: Any, camera: Any, place: tuple[float, float, float], metal: float) -> None:
    """A gray thing, or a mirror, in the camera's frame."""
    material = bpy.data.materials.new("CG")
    shader = kit.compat.enable_nodes(material).nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (0.9,) * 3 + (1.0,) if metal else (0.18,) * 3 + (1.0,)
    shader.inputs["Metallic"].default_value = metal
    shader.inputs["Roughness"].default_value = 0.05 if metal else 1.0
    thing.data.materials.append(material)
    thing.data.polygons.foreach_set("use_smooth", np.ones(len(thing.data.polygons), bool))
    thing.parent, thing.location = camera, place


WANTED = {"cards": cards, "scene": in_scene, "plate": in_plate, "shadows": shadows}
FOLDER.mkdir(parents=True, exist_ok=True)
os.chdir(FOLDER)  # what the other scripts write on the way stays here
for chosen in sys.argv[2:] or WANTED:
    WANTED[chosen]()
