"""One light-stage picture in Cycles: every lamp a light group, all lamps in a single render. Needs bpy.

A path is traced as if the whole sphere shone white; where it leaves the subject, the cell of sky that it meets says
whose picture it adds to. So 64 pictures cost what one costs, none has a noise of its own in the sum, and more lamps cost
storage only. Lamps are not sampled directly: with the whole sky shining, scattering finds it (docs/light-stage.md has
the comparison).
"""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import numpy.typing as npt

from platelight.images.exr import read_exr
from platelight.protocol.errors import PlatelightError
from platelight.training.light_stage_lights import rig
from platelight.training.light_stage_materials import AOVS, Graph, hair_color, part_material, strands_material
from platelight.training.light_stage_noise import without_noise
from platelight.training.light_stage_subjects import Strands, Subject
from platelight.training.subjects import Part, Rng

Array = npt.NDArray[Any]
FAR = 1000.0  # radius of the sky in subject radii: parallax below a tenth of a degree


@dataclass(frozen=True)
class Shot:
    """Pictures of one subject, (H, W, C) float32, row 0 the top, camera space.

    olat: (L, H, W, 3) radiance under each lamp, premultiplied; the maps are straight, zero where alpha is 0:
    alpha, roughness, depth (H, W, 1); albedo, normal (unit), f0 (H, W, 3).
    """

    olat: Array
    alpha: Array
    albedo: Array
    normal: Array
    roughness: Array
    f0: Array
    depth: Array


def _configure(size: int, samples: int, seed: int, threads: int) -> Any:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    cycles = scene.cycles
    cycles.device, cycles.samples, cycles.seed = "CPU", samples, seed
    cycles.use_adaptive_sampling = cycles.use_denoising = False
    cycles.sample_clamp_direct = cycles.sample_clamp_indirect = 0.0  # a clamped light is no linear one
    cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 5, 3, 3
    cycles.transparent_max_bounces = 4
    cycles.pixel_filter_type, cycles.filter_width = "BLACKMAN_HARRIS", 1.5
    scene.cycles_curves.shape = "RIBBONS"
    render = scene.render
    render.resolution_x = render.resolution_y = size
    render.resolution_percentage = 100
    render.threads_mode, render.threads = "FIXED", threads
    render.film_transparent = True
    render.image_settings.file_format = "OPEN_EXR_MULTILAYER"
    render.image_settings.color_depth, render.image_settings.exr_codec = "32", "NONE"
    render.use_compositing = render.use_sequencer = False
    layer = scene.view_layers[0]
    for name, kind in AOVS.items():
        aov = layer.aovs.add()
        aov.name, aov.type = name, kind
    return scene


def _camera(scene: Any, fov: float) -> None:
    data = bpy.data.cameras.new("camera")  # at the origin, looking along -Z with +Y up: world is camera space
    data.angle, data.clip_start, data.clip_end = math.radians(fov), 0.01, 10 * FAR
    scene.camera = bpy.data.objects.new("camera", data)
    scene.collection.objects.link(scene.camera)


def _mesh(scene: Any, subject: Subject, rng: Rng, hair: tuple[float, float, float]) -> None:
    mesh = subject.mesh
    data = bpy.data.meshes.new("subject")
    data.from_pydata(mesh.vertices, [], mesh.faces)
    data.polygons.foreach_set("use_smooth", np.ones(len(mesh.faces), bool))
    parts = sorted({int(p) for p in mesh.part})
    for part in parts:
        data.materials.append(part_material(Part(part), subject, hair, rng))
    data.polygons.foreach_set("material_index", np.searchsorted(parts, mesh.part).astype(np.int32))
    rest = data.attributes.new("rest", "FLOAT_VECTOR", "POINT")
    rest.data.foreach_set("vector", np.asarray(mesh.rest, np.float32).ravel())
    if subject.uv is not None:
        data.uv_layers.new(name="UVMap").data.foreach_set("uv", np.asarray(subject.uv, np.float32).ravel())
    data.normals_split_custom_set(mesh.normals.reshape(-1, 3).tolist())
    scene.collection.objects.link(bpy.data.objects.new("subject", data))


def _hairs(scene: Any, strands: Strands, material: Any) -> None:
    count, steps, _ = strands.points.shape
    data = bpy.data.hair_curves.new("hair")
    data.add_curves([steps] * count)
    data.attributes["position"].data.foreach_set("vector", strands.points.astype(np.float32).ravel())
    radius = data.attributes.get("radius") or data.attributes.new("radius", "FLOAT", "POINT")
    taper = np.linspace(1.0, 0.35, steps) * strands.radius
    radius.data.foreach_set("value", np.tile(taper, count).astype(np.float32))
    grown = data.attributes.new("grown_on", "FLOAT_VECTOR", "CURVE")
    grown.data.foreach_set("vector", strands.normal.astype(np.float32).ravel())
    data.materials.append(material)
    scene.collection.objects.link(bpy.data.objects.new("hair", data))


def _sky(scene: Any, lamps: int, middle: Array) -> None:
    """The tiled sky: one emitting fan of triangles a lamp, about the subject's middle, each its own light group."""
    g = Graph("lamp")
    light = g.node("ShaderNodeEmission", {"Strength": 1.0, "Color": (1.0, 1.0, 1.0)})
    g.node("ShaderNodeOutputMaterial", {"Surface": light.outputs[0]})
    g.material.cycles.emission_sampling = "NONE"
    tiles = rig(lamps)
    for index, (direction, cell) in enumerate(zip(tiles.directions, tiles.cells, strict=True)):
        name, k = f"L{index:04d}", len(cell)
        data = bpy.data.meshes.new(name)
        corners = np.concatenate([direction[None], cell]) * FAR + middle
        data.from_pydata(corners.tolist(), [], [(0, 1 + (j + 1) % k, 1 + j) for j in range(k)])
        data.materials.append(g.material)
        tile = bpy.data.objects.new(name, data)
        tile.visible_camera = False
        scene.collection.objects.link(tile)
        scene.view_layers[0].lightgroups.add(name=name)
        tile.lightgroup = name


def _world(scene: Any, latlong: Array) -> None:
    """An environment (h, 2h, 3) in the camera's frame as Blender's world, for pictures to compare with."""
    height, width, _ = latlong.shape
    picture = bpy.data.images.new("world", width, height, float_buffer=True, is_data=True)
    rgba = np.concatenate([latlong[::-1], np.ones((height, width, 1))], -1)
    picture.pixels.foreach_set(np.ascontiguousarray(rgba, np.float32).ravel())
    world = scene.world = bpy.data.worlds.new("world")
    world.use_nodes = True
    tree = world.node_tree
    where = tree.nodes.new("ShaderNodeTexCoord")
    split, turned = tree.nodes.new("ShaderNodeSeparateXYZ"), tree.nodes.new("ShaderNodeCombineXYZ")
    tree.links.new(where.outputs["Generated"], split.inputs[0])
    # Cycles' maps have +X in the middle, +Z up and -Y at three quarters; ours -Z, +Y and +X.
    for source, target, sign in ((2, 0, -1.0), (0, 1, -1.0), (1, 2, 1.0)):
        scaled = tree.nodes.new("ShaderNodeMath")
        scaled.operation = "MULTIPLY"
        scaled.inputs[1].default_value = sign
        tree.links.new(split.outputs[source], scaled.inputs[0])
        tree.links.new(scaled.outputs[0], turned.inputs[target])
    texture = tree.nodes.new("ShaderNodeTexEnvironment")
    texture.image, texture.interpolation = picture, "Closest"
    tree.links.new(turned.outputs[0], texture.inputs["Vector"])
    tree.links.new(texture.outputs["Color"], tree.nodes["Background"].inputs["Color"])


def _render(scene: Any) -> dict[str, Array]:
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="platelight-stage-", dir=folder) as temporary:
        path = Path(temporary) / "shot.exr"
        scene.render.filepath = str(path)
        bpy.ops.render.render(write_still=True)
        if not path.is_file():
            raise PlatelightError("Cycles wrote no picture.", "Check free space and memory.")
        parts = read_exr(path)
    # ViewLayer.<pass>.<channel>; Blender 5 writes several parts with the same names
    return {
        name.split(".", 1)[1] if name.startswith("ViewLayer.") else name: np.asarray(values, np.float32)
        for part in parts
        for name, values in part.channels.items()
    }


def _dress(subject: Subject, size: int, samples: int, seed: int, threads: int) -> Any:
    scene = _configure(size, samples, seed % (1 << 31), threads)
    rng = np.random.default_rng([seed, 0x5747])
    _camera(scene, subject.fov)
    hair = hair_color(rng)
    _mesh(scene, subject, rng, hair)
    for strands in subject.strands:
        _hairs(scene, strands, strands_material(hair, rng))
    return scene


def photograph(subject: Subject, lamps: int, size: int, samples: int, seed: int, threads: int = 1) -> Shot:
    """Render a subject under every lamp of the rig at once, with its maps; most of the noise is taken out."""
    scene = _dress(subject, size, samples, seed, threads)
    low, high = subject.mesh.vertices.min(0), subject.mesh.vertices.max(0)
    _sky(scene, lamps, (low + high) / 2)
    channels = _render(scene)

    def stack(name: str, letters: str) -> Array:
        return np.stack([channels[f"{name}.{letter}"] for letter in letters], -1)

    olat = np.stack([stack(f"Combined_L{index:04d}", "RGB") for index in range(lamps)])
    finish = stack("finish", "RGB")  # roughness, depth, coverage: all averaged over the pixel as the color is
    cover = finish[..., 2:]
    seen = cover > 1e-3
    over = np.where(seen, 1 / np.maximum(cover, 1e-3), 0)
    normal = stack("normal", "RGB") * over
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
    albedo, f0 = stack("albedo", "RGB"), stack("f0", "RGB")  # premultiplied, as the pictures are
    olat = without_noise(olat * seen, seen[..., 0], albedo + f0, normal, samples)
    return Shot(
        olat, np.clip(channels["Combined.A"][..., None], 0, 1) * seen, albedo * over, normal * seen,
        finish[..., :1] * over, f0 * over, finish[..., 1:2] * over,
    )  # fmt: skip


def photograph_under(
    subject: Subject, latlong: Array, size: int, samples: int, seed: int, threads: int = 1
) -> Array:
    """The subject under an environment (h, 2h, 3), rendered directly: (H, W, 4) premultiplied, to compare with."""
    scene = _dress(subject, size, samples, seed, threads)
    _world(scene, latlong)
    channels = _render(scene)
    return np.stack([channels[f"Combined.{letter}"] for letter in "RGBA"], -1)
