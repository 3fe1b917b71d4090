"""The OSL shader on a sphere under HDRIs, for the table that torch and the preview's shader are measured on too.
Arguments: the .osl file, then name,roughness,f0 of each case. Writes sphere.npz: light and picture of each."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import blender_kit as kit
import bpy
import numpy as np

from blender_addon import images, prefilter, world
from blender_addon.node_tools import NodeBuilder

SAMPLES, ALBEDO, ROWS = 768, 0.4, 128
version = f"python{sys.version_info.major}.{sys.version_info.minor}"
sys.path.insert(0, str(Path(bpy.utils.resource_path("LOCAL")) / "python" / "lib" / version / "site-packages"))
with contextlib.suppress(ImportError):  # see osl_parity.py
    import OpenImageIO  # noqa: F401
planes: dict[str, np.ndarray] = {}
for case in sys.argv[2:]:
    name, roughness, f0 = case.split(",")
    scene, camera = kit.empty_scene(SAMPLES)
    scene.cycles.shading_system = True
    scene.cycles.pixel_filter_type = "BOX"
    scene.cycles.filter_width = 1.0
    pixels = images.load_picture(str(Path(kit.studio_light()).with_name(f"{name}.exr"))).pixels
    light = np.ascontiguousarray(prefilter.fitted(np.maximum(pixels, 0.0), ROWS), np.float32)
    world.build_world(scene, images.put_image("light", light, data=False), camera)
    kit.add_sphere(scene, camera, "glossy", 0.5)
    tree = bpy.data.materials["Sphere"].node_tree
    tree.nodes.clear()
    b = NodeBuilder(tree)
    node = b.add("ShaderNodeScript", mode="EXTERNAL", filepath=sys.argv[1])
    assert "BSDF" in node.outputs, "the shader was not compiled"
    node.inputs["Albedo"].default_value = (ALBEDO, ALBEDO, ALBEDO, 1.0)
    node.inputs["Roughness"].default_value = float(roughness)
    node.inputs["Reflectivity"].default_value = float(f0)
    b.add("ShaderNodeOutputMaterial", node.outputs["BSDF"])
    seen = kit.render(scene, Path("sphere.exr"))
    planes[f"{case} light"] = light
    planes[f"{case} seen"] = seen["ViewLayer.Combined"][..., :3]
normal, _, hit = kit.sphere_maps()
np.savez("sphere.npz", normal=normal, solid=kit.inside(hit), **planes)
kit.result({"albedo": ALBEDO, "size": kit.SIZE, "fov": kit.FOV})
