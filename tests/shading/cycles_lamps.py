"""Run in a process of its own: Cycles renders a sphere under one lamp after another and writes EXR. Arguments: lamps, out.

``lamps`` is JSON: {name: {"kind", "power", "at", "direction", …}} as in protocol/lamps.py. World is the camera's frame.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import bpy
from mathutils import Matrix, Vector

SIZE, FOV, DISTANCE = 128, 40.0, 3.3


def add(lamp: dict[str, Any]) -> Any:
    """The lamp as Blender's."""
    kind = lamp["kind"]
    data = bpy.data.lights.new("lamp", kind.upper())
    data.energy, data.color = lamp["power"], lamp.get("color", (1, 1, 1))
    if kind in ("point", "spot"):
        data.shadow_soft_size = lamp.get("radius", 0.0)
    if kind == "sun":
        data.angle = math.radians(lamp.get("angle", 0.526))
    if kind == "spot":
        data.spot_size, data.spot_blend = math.radians(lamp["cone"]), lamp["blend"]
    if kind == "area":
        data.shape = "RECTANGLE"
        data.size, data.size_y = lamp["size"]
    made = bpy.data.objects.new("lamp", data)
    back = -Vector(lamp.get("direction", (0, 0, -1))).normalized()
    up = Vector(lamp.get("up", (0, 1, 0)))
    up = (up - up.dot(back) * back).normalized()
    right = up.cross(back)
    made.matrix_world = (
        Matrix.Translation(Vector(lamp.get("at", (0, 0, 0))))
        @ Matrix((right, up, back)).transposed().to_4x4()
    )
    bpy.context.scene.collection.objects.link(made)
    return made


def main(lamps: dict[str, dict[str, Any]], out: Path) -> None:
    """One scene; lamp and material change from case to case."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    cycles = scene.cycles
    cycles.device, cycles.samples, cycles.seed = "CPU", 64, 3
    cycles.use_adaptive_sampling = cycles.use_denoising = False
    cycles.pixel_filter_type, cycles.filter_width = "BOX", 0.01
    cycles.max_bounces = 0
    cycles.sample_clamp_direct = cycles.sample_clamp_indirect = 0.0
    scene.render.resolution_x = scene.render.resolution_y = SIZE
    scene.render.threads_mode, scene.render.threads = "FIXED", 1
    scene.render.film_transparent = True
    settings = scene.render.image_settings
    settings.file_format, settings.color_mode, settings.color_depth = "OPEN_EXR", "RGBA", "32"
    scene.view_settings.view_transform = "Raw"
    data = bpy.data.cameras.new("camera")
    data.angle = math.radians(FOV)
    scene.camera = bpy.data.objects.new("camera", data)
    scene.collection.objects.link(scene.camera)
    bpy.ops.mesh.primitive_uv_sphere_add(segments=256, ring_count=128, radius=1.0, location=(0, 0, -DISTANCE))
    sphere = bpy.context.object
    bpy.ops.object.shade_smooth()
    material = bpy.data.materials.new("subject")
    material.use_nodes = True
    sphere.data.materials.append(material)
    nodes = material.node_tree.nodes
    for name, lamp in lamps.items():
        made = add(lamp)
        for kind in ("diffuse", "principled"):
            nodes.clear()
            output = nodes.new("ShaderNodeOutputMaterial")
            shader = nodes.new("ShaderNodeBsdfDiffuse" if kind == "diffuse" else "ShaderNodeBsdfPrincipled")
            base = shader.inputs["Color" if kind == "diffuse" else "Base Color"]
            base.default_value = (0.5, 0.5, 0.5, 1.0)
            if kind == "principled":
                shader.distribution = "GGX"
                shader.inputs["Roughness"].default_value = 0.5
                shader.inputs["Specular IOR Level"].default_value = 0.5
                shader.inputs["IOR"].default_value = 1.5
            material.node_tree.links.new(shader.outputs["BSDF"], output.inputs["Surface"])
            scene.render.filepath = str(out / f"{name}_{kind}.exr")
            bpy.ops.render.render(write_still=True)
        bpy.data.objects.remove(made)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))
