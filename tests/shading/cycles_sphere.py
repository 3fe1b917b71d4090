"""Run in a process of its own: Cycles renders a sphere under an HDRI and writes EXR. Arguments: HDRI, out."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import bpy

SIZE, FOV, DISTANCE = 256, 40.0, 3.3
CASES = {
    "diffuse_0": ("diffuse", 0.0, 0.0),
    "diffuse_70": ("diffuse", 0.0, 70.0),
    "principled3_70": ("principled", 0.3, 70.0),
    "principled6_0": ("principled", 0.6, 0.0),
}


def main(hdri: str, out: Path) -> None:
    """One scene; the material and the world's rotation change from case to case."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = 96
    scene.cycles.seed = 7
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.use_denoising = True
    scene.cycles.denoiser = "OPENIMAGEDENOISE"
    scene.cycles.pixel_filter_type = "BOX"
    scene.cycles.filter_width = 0.01
    scene.cycles.sample_clamp_indirect = 0.0
    scene.cycles.max_bounces = 1
    scene.render.resolution_x = scene.render.resolution_y = SIZE
    scene.render.threads_mode, scene.render.threads = "FIXED", 2
    scene.render.film_transparent = True
    scene.render.image_settings.file_format = "OPEN_EXR"
    scene.render.image_settings.color_mode = "RGBA"
    scene.render.image_settings.color_depth = "32"
    scene.view_settings.view_transform = "Raw"
    # The camera looks along world +Y, right is +X, up is +Z.
    data = bpy.data.cameras.new("camera")
    data.angle = math.radians(FOV)
    camera = bpy.data.objects.new("camera", data)
    camera.location, camera.rotation_euler = (0, -DISTANCE, 0), (math.pi / 2, 0, 0)
    scene.collection.objects.link(camera)
    scene.camera = camera
    bpy.ops.mesh.primitive_uv_sphere_add(segments=256, ring_count=128, radius=1.0)
    sphere = bpy.context.object
    bpy.ops.object.shade_smooth()
    material = bpy.data.materials.new("subject")
    material.use_nodes = True
    sphere.data.materials.append(material)
    world = bpy.data.worlds.new("world")
    world.use_nodes = True
    scene.world = world
    world.cycles.sampling_method = "MANUAL"
    world.cycles.sample_map_resolution = 1024
    tree = world.node_tree
    picture = tree.nodes.new("ShaderNodeTexEnvironment")
    picture.image = bpy.data.images.load(hdri)
    mapping, coordinates = tree.nodes.new("ShaderNodeMapping"), tree.nodes.new("ShaderNodeTexCoord")
    tree.links.new(coordinates.outputs["Generated"], mapping.inputs["Vector"])
    tree.links.new(mapping.outputs["Vector"], picture.inputs["Vector"])
    tree.links.new(picture.outputs["Color"], tree.nodes["Background"].inputs["Color"])
    for name, (kind, roughness, degrees) in CASES.items():
        # Cycles' center column is +X; -90 degrees brings it ahead of a camera that looks along +Y.
        mapping.inputs["Rotation"].default_value[2] = math.radians(degrees - 90.0)
        nodes = material.node_tree.nodes
        nodes.clear()
        output = nodes.new("ShaderNodeOutputMaterial")
        shader = nodes.new("ShaderNodeBsdfDiffuse" if kind == "diffuse" else "ShaderNodeBsdfPrincipled")
        if kind == "diffuse":
            shader.inputs["Color"].default_value = (0.5, 0.5, 0.5, 1.0)
        else:
            shader.distribution = "GGX"
            shader.inputs["Base Color"].default_value = (0.5, 0.5, 0.5, 1.0)
            shader.inputs["Roughness"].default_value = roughness
            shader.inputs["Specular IOR Level"].default_value = 0.5
            shader.inputs["IOR"].default_value = 1.5
        material.node_tree.links.new(shader.outputs["BSDF"], output.inputs["Surface"])
        scene.render.filepath = str(out / f"{name}.exr")
        bpy.ops.render.render(write_still=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
