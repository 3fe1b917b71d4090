"""The proxy against the real sphere: its shadow on a floor, what it does to the plate itself, its reflection."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import blender_kit as kit
import bpy
import numpy as np

from blender_addon import compat, images, proxy
from blender_addon.node_tools import NodeBuilder

SAMPLES = 32


def floor(scene: Any, camera: Any, glossy: bool = False) -> None:
    """A large floor below the sphere, lit by a sun from the upper left behind the camera and by an even World."""
    bpy.ops.mesh.primitive_plane_add(size=40.0, location=(0.0, 4.0, -1.05))
    material = bpy.data.materials.new("floor")
    tree = compat.enable_nodes(material)
    tree.nodes.clear()
    b = NodeBuilder(tree)
    kind = "ShaderNodeBsdfGlossy" if glossy else "ShaderNodeBsdfDiffuse"
    node = b.add(kind)
    node.inputs["Color"].default_value = (0.8, 0.8, 0.8, 1.0)
    if glossy:
        node.inputs["Roughness"].default_value = 0.05
    b.add("ShaderNodeOutputMaterial", node.outputs[0])
    bpy.context.object.data.materials.append(material)
    sky = bpy.data.worlds.new("sky")
    compat.enable_nodes(sky).nodes["Background"].inputs["Color"].default_value = (0.3, 0.35, 0.5, 1.0)
    scene.world = sky
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.data.energy, sun.data.angle = 4.0, math.radians(2.0)
    sun.rotation_euler = (math.radians(45.0), 0.0, math.radians(-60.0))
    scene.collection.objects.link(sun)


def watcher(scene: Any) -> None:
    """A second camera that looks down at the floor from the side."""
    data = bpy.data.cameras.new("Watcher")
    thing = bpy.data.objects.new("Watcher", data)
    scene.collection.objects.link(thing)
    thing.location = (0.0, -1.0, 5.0)
    thing.rotation_euler = (math.radians(50.0), 0.0, 0.0)
    data.angle = math.radians(70.0)
    scene.camera = thing


def add_proxy(scene: Any, camera: Any, self_shadow: float = 0.0) -> Any:
    _, depth, hit = kit.sphere_maps()
    matte = hit.astype(np.float32)
    grey = np.ones_like(depth)
    maps = {
        "albedo": images.put_image("p albedo", np.dstack([grey * c for c in kit.BASE]), data=False),
        "roughness": images.put_image("p rough", grey * 0.5, data=True),
        "depth": images.put_image("p depth", depth, data=True),
        "matte": images.put_image("p matte", matte, data=True),
    }
    settings = proxy.ProxySettings(kit.FOV, 1.0, self_shadow=self_shadow)
    return proxy.build_proxy(
        "Proxy", settings, depth, matte, maps=maps, camera=camera, collection=scene.collection
    )


def seen(kind: str, glossy: bool = False, size: int = kit.SIZE) -> np.ndarray:
    """What the watcher sees of the floor beside the sphere's own place."""
    scene, camera = kit.empty_scene(SAMPLES, size)
    floor(scene, camera, glossy)
    if kind == "sphere":
        kit.add_sphere(scene, camera, "principled", 0.5)
        bpy.data.objects["Sphere"].visible_camera = False
    elif kind == "proxy":
        add_proxy(scene, camera)
    elif kind == "card":
        kit.add_card(scene, camera, "principled", 0.5, 1.0)
    watcher(scene)
    return kit.render(scene, Path("floor.exr"))["ViewLayer.Combined"][..., :3]


def plate(self_shadow: float | None) -> np.ndarray:
    """The card as the plate's camera sees it; with a proxy unless ``self_shadow`` is None."""
    scene, camera = kit.empty_scene(SAMPLES)
    floor(scene, camera)
    bpy.data.objects["Plane"].visible_camera = False
    kit.add_card(scene, camera, "principled", 0.5, 1.0)
    if self_shadow is not None:
        add_proxy(scene, camera, self_shadow)
    return kit.render(scene, Path("plate.exr"))["ViewLayer.Combined"][..., :3]


def before_a_wall() -> dict[str, float]:
    """A sphere before a wall, both of the subject, lit from the side: the sphere's shadow on the wall."""
    sphere = kit.sphere_maps

    def maps(size: int = kit.SIZE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        normal, depth, hit = sphere(size)
        normal[~hit] = (0.0, 0.0, 1.0)
        return normal, np.where(hit, depth, np.float32(5.0)), np.ones_like(hit)

    looks = {}
    kit.sphere_maps = maps
    try:
        for name, self_shadow in (("none", None), ("off", 0.0), ("on", 1.0)):
            scene, camera = kit.empty_scene(SAMPLES)
            floor(scene, camera)
            bpy.data.objects.remove(bpy.data.objects["Plane"])
            bpy.data.objects["Sun"].rotation_euler = (math.radians(70.0), 0.0, math.radians(-45.0))
            kit.add_card(scene, camera, "principled", 0.9, 1.0)
            if self_shadow is not None:
                add_proxy(scene, camera, self_shadow)
            looks[name] = kit.render(scene, Path("wall.exr"))["ViewLayer.Combined"][..., :3].mean(axis=-1)
    finally:
        kit.sphere_maps = sphere
    scene, camera = kit.empty_scene(SAMPLES)
    floor(scene, camera)
    bpy.data.objects["Plane"].location = (0.0, 5.0, 0.0)
    bpy.data.objects["Plane"].rotation_euler = (math.pi / 2, 0.0, 0.0)
    bpy.data.objects["Sun"].rotation_euler = (math.radians(70.0), 0.0, math.radians(-45.0))
    bare = kit.render(scene, Path("wall.exr"))["ViewLayer.Combined"][..., :3].mean(axis=-1)
    kit.add_sphere(scene, camera, "principled", 0.9)
    truth = kit.render(scene, Path("wall.exr"))["ViewLayer.Combined"][..., :3].mean(axis=-1)
    wall = ~sphere()[2]
    real = wall & (truth < 0.7 * bare)
    cast = wall & (looks["on"] < 0.7 * looks["none"])
    return {
        "pixels": int(real.sum()),
        "overlap": float((real & cast).sum() / (real | cast).sum()),
        "off": float(abs((looks["off"] - looks["none"]).mean()) / looks["none"].mean()),
    }


def main() -> None:
    """What the test reads."""
    bare, real, made, none = (seen(kind) for kind in ("bare", "sphere", "proxy", "card"))
    shadow, copy = (np.abs(p - bare).mean(axis=-1) > 0.15 for p in (real, made))
    out: dict[str, Any] = {
        "overlap": float((shadow & copy).sum() / (shadow | copy).sum()),
        "shadow pixels": int(shadow.sum()),
        "card alone": float(np.abs(none - bare).mean() / bare.mean()),
        "floor": float(np.abs(made - real).mean() / real.mean()),
    }
    mirror_bare, mirror_real, mirror_made = (seen(kind, glossy=True) for kind in ("bare", "sphere", "proxy"))
    out["reflection seen"] = float(np.abs(mirror_made - mirror_bare).mean() / mirror_bare.mean())
    out["reflection error"] = float(
        np.abs(mirror_made - mirror_real).mean() / np.abs(mirror_real - mirror_bare).mean()
    )
    mask = kit.inside(kit.sphere_maps()[2])
    alone, with_proxy, shadowed = (plate(s)[mask] for s in (None, 0.0, 1.0))
    out["plate untouched"] = float(np.abs(with_proxy - alone).mean() / alone.mean())
    out["self shadow"] = float((alone - shadowed).mean() / alone.mean())
    out["wall"] = before_a_wall()
    out["bias"] = float((with_proxy - alone).mean() / alone.mean())
    kit.result(out)


if __name__ == "__main__":
    main()
