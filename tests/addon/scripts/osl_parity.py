"""The OSL shader under a lamp without size: one exact evaluation a pixel. Argument: the .osl file.

A plate in the x-y plane has roughness along x and reflectivity along y; sun and camera take several angles. The result is
a table of (light angle, view angle, azimuth between them, roughness, f0, radiance over irradiance at normal incidence).
"""

from __future__ import annotations

import contextlib
import math
import sys
from pathlib import Path

import blender_kit as kit
import bpy
import numpy as np
from mathutils import Matrix, Vector

from blender_addon import compat
from blender_addon.node_tools import NodeBuilder

SIZE = 8
# The wheel has the modules that read compiled OSL, but not on its path; and they want Blender's own OpenImageIO.
version = f"python{sys.version_info.major}.{sys.version_info.minor}"
sys.path.insert(0, str(Path(bpy.utils.resource_path("LOCAL")) / "python" / "lib" / version / "site-packages"))
with contextlib.suppress(ImportError):  # 4.2 needs none
    import OpenImageIO  # noqa: F401
ALBEDO = 0.4

scene, camera = kit.empty_scene(1, SIZE)
scene.cycles.shading_system = True
scene.cycles.pixel_filter_type = "BLACKMAN_HARRIS"
scene.cycles.filter_width = 0.01  # the sample lies at the pixel's center
scene.cycles.max_bounces = 0
bpy.ops.mesh.primitive_plane_add(size=2.0)
material = bpy.data.materials.new("osl")
tree = compat.enable_nodes(material)
tree.nodes.clear()
b = NodeBuilder(tree)
x, y, _ = b.add("ShaderNodeSeparateXYZ", b.add("ShaderNodeNewGeometry").outputs["Position"]).outputs
node = b.add("ShaderNodeScript", mode="EXTERNAL", filepath=sys.argv[1])
assert "BSDF" in node.outputs, "the shader was not compiled"
node.inputs["Albedo"].default_value = (ALBEDO, ALBEDO, ALBEDO, 1.0)
b.feed(node.inputs["Roughness"], b.math("MULTIPLY", b.math("ADD", x, 1.0), 0.5))
b.feed(node.inputs["Reflectivity"], b.math("MULTIPLY", b.math("ADD", y, 1.0), 0.5))
b.add("ShaderNodeOutputMaterial", node.outputs["BSDF"])
bpy.context.object.data.materials.append(material)
lamp = bpy.data.lights.new("Sun", "SUN")
lamp.energy, lamp.angle = 1.0, 0.0
sun = bpy.data.objects.new("Sun", lamp)
scene.collection.objects.link(sun)
camera.data.type = "ORTHO"
camera.data.ortho_scale = 1.0


def toward(angle: float, azimuth: float = 0.0) -> Vector:
    a, p = math.radians(angle), math.radians(azimuth)
    return Vector((math.sin(a) * math.cos(p), math.sin(a) * math.sin(p), math.cos(a)))


table = []
places = (np.arange(SIZE) + 0.5) / SIZE - 0.5
for view in (0.0, 30.0, 60.0):
    way = toward(view)
    right = Vector((math.cos(math.radians(view)), 0.0, -math.sin(math.radians(view))))
    frame = Matrix((right, Vector((0.0, 1.0, 0.0)), way)).transposed()
    camera.matrix_world = Matrix.Translation(way * 5.0) @ frame.to_4x4()
    for light, azimuth in ((0.0, 0.0), (30.0, 180.0), (50.0, 90.0), (75.0, 180.0), (75.0, 0.0)):
        sun.rotation_euler = toward(light, azimuth).to_track_quat("Z", "Y").to_euler()
        seen = kit.render(scene, Path("osl.exr"))["ViewLayer.Combined"]
        for row in range(SIZE):
            for column in range(SIZE):
                rough = (places[column] / math.cos(math.radians(view)) + 1) / 2
                f0 = (-places[row] + 1) / 2
                table.append([light, view, azimuth, rough, f0, float(seen[row, column, 0])])
kit.result({"albedo": ALBEDO, "table": table})
