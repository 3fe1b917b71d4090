"""Run in a process of its own: Cycles renders maps on a plane under a light. Arguments: folder, width, height, threads."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main(folder: Path, width: int, height: int, threads: int) -> None:
    """One Principled plane that fills the frame, 64 samples, OpenImageDenoise; prints ``{"seconds": …}``."""
    import bpy

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = 64
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.use_denoising = True
    scene.cycles.denoiser = "OPENIMAGEDENOISE"
    scene.render.resolution_x, scene.render.resolution_y = width, height
    scene.render.use_persistent_data = True
    if threads:
        scene.render.threads_mode, scene.render.threads = "FIXED", threads
    scene.render.image_settings.file_format = "OPEN_EXR"
    data = bpy.data.cameras.new("camera")
    data.type, data.ortho_scale = "ORTHO", 2.0
    camera = bpy.data.objects.new("camera", data)
    camera.location = (0, 0, 2)
    scene.collection.objects.link(camera)
    scene.camera = camera
    bpy.ops.mesh.primitive_plane_add(size=2.0)
    plane = bpy.context.object
    plane.scale = (1.0, height / width, 1.0)
    material = bpy.data.materials.new("maps")
    material.use_nodes = True
    plane.data.materials.append(material)
    tree = material.node_tree
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Roughness"].default_value = 0.4
    for name in ("albedo", "normal"):
        image = tree.nodes.new("ShaderNodeTexImage")
        image.image = bpy.data.images.load(str(folder / f"{name}.exr"))
        image.image.colorspace_settings.is_data = True
        socket = "Base Color" if name == "albedo" else "Normal"
        tree.links.new(image.outputs["Color"], shader.inputs[socket])
    world = bpy.data.worlds.new("world")
    world.use_nodes = True
    scene.world = world
    picture = world.node_tree.nodes.new("ShaderNodeTexEnvironment")
    picture.image = bpy.data.images.load(str(folder / "light.exr"))
    background = next(node for node in world.node_tree.nodes if node.type == "BACKGROUND")
    world.node_tree.links.new(picture.outputs["Color"], background.inputs["Color"])
    scene.render.filepath = str(folder / "out.exr")
    bpy.ops.render.render()
    began = time.perf_counter()
    bpy.ops.render.render()
    print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(argument) for argument in sys.argv[2:5]))
