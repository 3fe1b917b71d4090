"""What the scripts under bpy share: a lit sphere, the plate card of the same sphere, renders read back."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Vector

from blender_addon import card, compat, exr, images, maps, materials, remote, world
from blender_addon.node_tools import NodeBuilder

SIZE = 64
FOV = 40.0
DISTANCE = 4.0
BASE = (0.5, 0.4, 0.3)


def result(value: Any) -> None:
    """Print what the test reads."""
    print("\nRESULT " + json.dumps(value), flush=True)


def studio_light() -> str:
    """An HDRI that every Blender carries."""
    folder = Path(bpy.utils.resource_path("LOCAL")) / "datafiles" / "studiolights" / "world"
    return str(folder / "forest.exr")


def catch_requests(height: int = SIZE, width: int = SIZE) -> list[tuple[Any, dict[str, np.ndarray]]]:
    """Have a gray picture answer each request in place of a backend; what was asked, with its planes, comes into the list."""
    caught: list[tuple[Any, dict[str, np.ndarray]]] = []

    def answer(
        _settings: Any, _process: Any, request: Any, planes: dict[str, Any], _reporter: Any
    ) -> remote.Answer:
        caught.append((request, {name: np.array(plane) for name, plane in planes.items()}))
        gray = np.full((height, width, 3), 0.25, np.float32)
        made = {"relit": np.dstack([gray, gray[..., :1]]), "pbr": gray, "diffuse": gray, "specular": gray}
        return remote.Answer(made, {})

    remote.ask, remote.ensure_backend = answer, lambda _settings, _process: None
    return caught


def own_camera(scene: Any, fov: float) -> Any:
    """A camera of the user's, ``fov`` degrees across."""
    data = bpy.data.cameras.new("Mine")
    data.angle, data.sensor_fit = math.radians(fov), "HORIZONTAL"
    camera = bpy.data.objects.new("Mine", data)
    scene.collection.objects.link(camera)
    return camera


def add_plate(height: int, width: int, camera: Any = None) -> Any:
    """A gray plate whose surface faces the camera everywhere at distance one, built."""
    scene = bpy.context.scene
    state = scene.platelight
    name = f"plate{height}x{width}.exr"
    exr.write(name, {"": np.full((height, width, 3), 0.2, np.float32)})
    bpy.ops.platelight.load_plate(filepath=str(Path(name).resolve()))
    plate = state.plates[state.active]
    one = np.ones((height, width), np.float32)
    planes = {"matte_map": one, "depth": one, "roughness": one, "reflectivity": 0 * one, "cavity": one}
    planes |= {"normal": np.dstack([0 * one, 0 * one, one]), "albedo": np.dstack([0.5 * one] * 3)}
    planes["foreground"], planes["source_light"] = planes["albedo"], np.ones((8, 16, 3), np.float32)
    for key, plane in planes.items():
        maps.put_map(plate, key, plane)
    plate.own_camera, plate.shadow_proxy = camera, True
    bpy.ops.platelight.build_scene()
    return state.plates[state.active]


def empty_scene(samples: int, size: int = SIZE) -> tuple[Any, Any]:
    """A scene with nothing but the plate's camera."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.samples = samples
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.use_denoising = False
    scene.cycles.seed = 1
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.film_transparent = True
    scene.camera = world.build_camera("Camera", FOV, scene.collection)
    return scene, scene.camera


def render(scene: Any, path: Path) -> dict[str, np.ndarray]:
    """Render into a multilayer EXR and return its layers."""
    compat.set_multilayer_exr(scene.render.image_settings)
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)
    return exr.read(path).layers


def sphere_maps(size: int = SIZE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normal, depth and hit mask of a unit sphere at ``DISTANCE``, at the centers of pixels."""
    tangent = math.tan(math.radians(FOV) / 2)
    places = ((np.arange(size) + 0.5) / size * 2 - 1) * tangent
    x, y = np.meshgrid(places, -places)
    ray = np.stack([x, y, -np.ones_like(x)], -1)
    center = np.array([0.0, 0.0, -DISTANCE])
    a, b = (ray * ray).sum(-1), ray @ center
    q = b * b - a * (center @ center - 1.0)
    hit = q > 0
    depth = np.where(hit, (b - np.sqrt(np.maximum(q, 0))) / a, b / a)
    normal = ray * depth[..., None] - center
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return normal.astype(np.float32), depth.astype(np.float32), hit


def inside(mask: np.ndarray, margin: int = 2) -> np.ndarray:
    """The mask without its border pixels."""
    out = mask.copy()
    for dy in range(-margin, margin + 1):
        for dx in range(-margin, margin + 1):
            out &= np.roll(mask, (dy, dx), (0, 1))
    return out


def surface(b: NodeBuilder, kind: str, roughness: float, normal: Any = None) -> Any:
    """The output of a plain shader, for the sphere and for the card."""
    node = b.add("ShaderNodeBsdfDiffuse" if kind == "diffuse" else "ShaderNodeBsdfGlossy")
    node.inputs["Color"].default_value = (0.8, 0.8, 0.8, 1.0)
    if kind == "glossy":
        node.distribution = "GGX"
        node.inputs["Roughness"].default_value = roughness
    b.feed(node.inputs["Normal"], normal)
    return node.outputs[0]


def add_sphere(scene: Any, camera: Any, kind: str, roughness: float) -> None:
    """The real thing, finely tessellated and smooth."""
    import bmesh  # exists only once bpy is imported

    mesh = bpy.data.meshes.new("Sphere")
    work = bmesh.new()
    bmesh.ops.create_uvsphere(work, u_segments=256, v_segments=128, radius=1.0)
    work.to_mesh(mesh)
    work.free()
    mesh.polygons.foreach_set("use_smooth", np.ones(len(mesh.polygons), bool))
    thing = bpy.data.objects.new("Sphere", mesh)
    scene.collection.objects.link(thing)
    thing.parent = camera
    thing.location = (0.0, 0.0, -DISTANCE)
    material = bpy.data.materials.new("Sphere")
    tree = compat.enable_nodes(material)
    tree.nodes.clear()
    b = NodeBuilder(tree)
    if kind == "principled":
        node = b.add("ShaderNodeBsdfPrincipled", distribution="GGX")
        node.inputs["Base Color"].default_value = (*BASE, 1.0)
        node.inputs["Roughness"].default_value = roughness
        level, ior = materials.specular_plane(np.full((1, 1), 0.04, np.float32))[0, 0, :2]
        node.inputs["Specular IOR Level"].default_value = float(level)
        node.inputs["IOR"].default_value = float(ior)
        out = node.outputs[0]
    else:
        out = surface(b, kind, roughness)
    b.add("ShaderNodeOutputMaterial", out)
    mesh.materials.append(material)


def card_material(kind: str, roughness: float, size: int = SIZE) -> tuple[Any, dict[str, Any]]:
    """The material of the sphere's true maps, and the maps."""
    normal, _, hit = sphere_maps(size)
    grey = np.ones((size, size), np.float32)
    planes = {
        "albedo": np.broadcast_to(np.array(BASE, np.float32), (size, size, 3)),
        "normal": normal,
        "roughness": grey * roughness,
        "specular": materials.specular_plane(grey * 0.04),
        "matte": hit.astype(np.float32),
    }
    maps = {name: images.put_image(name, plane, data=name != "albedo") for name, plane in planes.items()}
    material = materials.build_material("Card", maps)
    if kind != "principled":
        tree = material.node_tree
        bent = tree.nodes["Principled BSDF"].inputs["Normal"].links[0].from_socket
        output = next(node for node in tree.nodes if node.type == "OUTPUT_MATERIAL")
        tree.links.new(surface(NodeBuilder(tree), kind, roughness, bent), output.inputs[0])
    return material, maps


def add_card(scene: Any, camera: Any, kind: str, roughness: float, step: float, size: int = SIZE) -> Any:
    """The plate card of the same sphere, from its true maps."""
    _, depth, _ = sphere_maps(size)
    material, maps = card_material(kind, roughness, size)
    return card.build_card(
        "Card",
        card.CardSettings(size, size, FOV, step),
        normal=maps["normal"],
        depth=images.put_image("depth", depth, data=True),
        matte=maps["matte"],
        material=material,
        camera=camera,
        collection=scene.collection,
    )


def light_by_color(scene: Any, *color: float) -> Any:
    """A World of one color, which is returned."""
    sky = bpy.data.worlds.new("Sky")
    compat.enable_nodes(sky).nodes["Background"].inputs["Color"].default_value = (*color, 1.0)
    scene.world = sky
    return sky


def light_by_hdri(scene: Any, camera: Any) -> None:
    """The studio HDRI, turned."""
    picture = bpy.data.images.load(studio_light())
    picture.scale(256, 128)  # a smaller importance map; sphere and card get the same
    world.build_world(scene, picture, camera, rotation=30.0)


def light_by_sun(scene: Any, camera: Any, degrees: float = 100.0) -> None:
    """A sun at an angle from the direction to the camera: beyond 90 it lights the rim only."""
    dark = bpy.data.worlds.new("Dark")
    tree = compat.enable_nodes(dark)
    tree.nodes.clear()
    scene.world = dark
    sun = bpy.data.lights.new("Sun", "SUN")
    sun.energy, sun.angle = 3.0, math.radians(5.0)
    thing = bpy.data.objects.new("Sun", sun)
    scene.collection.objects.link(thing)
    turn = camera.matrix_world.to_3x3()
    angle = math.radians(degrees)
    source = math.cos(angle) * (turn @ Vector((0, 0, 1))) + math.sin(angle) * (turn @ Vector((1, 0, 0)))
    thing.rotation_euler = source.to_track_quat("Z", "Y").to_euler()
