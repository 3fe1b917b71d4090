"""The card with Skin on: against the real sphere, at a hard shadow's edge, in passes, and switched off again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import blender_kit as kit
import bpy
import numpy as np

from blender_addon import card, compat, images, materials, skin
from blender_addon import scene as scenes

SIZE = 96
RADIUS = 60.0  # mm, on a sphere of 1 m
RAW = [f"{kind}_{part}" for kind in ("diffuse", "glossy") for part in ("direct", "indirect", "color")]
lost: list[float] = []  # of each render: light of Combined that is in none of the passes, over the mean


def new_scene(samples: int) -> tuple[Any, Any]:
    """Empty, with the passes that Refine takes."""
    scene, camera = kit.empty_scene(samples, SIZE)
    for name in scenes.PASSES:
        setattr(scene.view_layers[0], name, True)
    return scene, camera


def shot(scene: Any) -> tuple[np.ndarray, np.ndarray]:
    """Combined and diffuse, as Refine reads them."""
    layers = kit.render(scene, Path("shot.exr"))
    raw = {key: compat.pass_channels(layers, key)[..., :3] for key in RAW}
    total = sum(
        (raw[f"{k}_direct"] + raw[f"{k}_indirect"]) * raw[f"{k}_color"] for k in ("diffuse", "glossy")
    )
    rendered = compat.pass_channels(layers, "combined")[..., :3]
    lost.append(float(np.abs(total - rendered).max() / rendered.mean()))
    combined, diffuse, _ = scenes.read_passes(Path("shot.exr"))
    return combined, diffuse


def card_of(scene: Any, camera: Any, radius: float, step: float = 1.0) -> Any:
    """The sphere's card, with Skin of that many mm."""
    thing = kit.add_card(scene, camera, "principled", 0.5, step, SIZE)
    modifier = thing.modifiers[0]
    compat.set_modifier_input(modifier, modifier.node_group, "Skin Reach", skin.reach(radius, 1.0))
    skin.set_skin(thing.data.materials[0], skin.width(radius, 1.0))
    return thing


def spheres(light: Any) -> dict[str, float]:
    """Errors against the sphere, and how much skin changes it at all."""
    mask = kit.inside(kit.sphere_maps(SIZE)[2], 1)
    seen: dict[str, np.ndarray] = {}
    for name, radius in (("plain", 0.0), ("sphere", RADIUS), ("card", RADIUS), ("card of facets", RADIUS)):
        scene, camera = new_scene(48)
        if name == "sphere":
            kit.add_sphere(scene, camera, "principled", 0.5)
            material = bpy.data.objects["Sphere"].data.materials[0]
            skin.set_skin(material, skin.width(radius, 1.0))
            tree = material.node_tree
            tree.nodes.remove(tree.nodes[skin.ATTRIBUTE])
            tree.nodes["Principled BSDF"].inputs["Subsurface Weight"].default_value = 1.0
        else:
            card_of(scene, camera, radius, 2.7 if name == "card of facets" else 1.0)
        light(scene, camera)
        seen[name] = shot(scene)[0][mask][:, :3]
    truth = seen["sphere"]
    return {
        "error": float(np.abs(seen["card"] - truth).mean() / truth.mean()),
        "larger facets": float(np.abs(seen["card of facets"] - truth).mean() / truth.mean()),
        "level": float(np.abs(seen["card"].mean(0) / truth.mean(0) - 1.0).max()),
        "plain level": float(np.abs(seen["card"].mean(0) / seen["plain"].mean(0) - 1.0).max()),
        "effect": float(np.abs(seen["plain"] - truth).mean() / truth.mean()),
    }


def flat(radius: float, matte: np.ndarray, blocked: bool) -> np.ndarray:
    """Diffuse pass of a wall 10 cm away under a sun from the front, its left half in shadow if asked."""
    scene, camera = new_scene(64)
    one = np.ones((SIZE, SIZE), np.float32)
    planes = {
        "albedo": np.broadcast_to(np.array([0.6, 0.4, 0.3], np.float32), (SIZE, SIZE, 3)),
        "normal": np.broadcast_to(np.array([0.0, 0.0, 1.0], np.float32), (SIZE, SIZE, 3)),
        "roughness": one,
        "specular": materials.specular_plane(one * 0.04),
        "matte": matte,
        "depth": one,
    }
    maps = {name: images.put_image(name, plane, data=name != "albedo") for name, plane in planes.items()}
    material = materials.build_material("Wall", maps)
    skin.set_skin(material, skin.width(radius, 1.0))
    card.build_card(
        "Wall",
        card.CardSettings(SIZE, SIZE, kit.FOV, 1.0, 0.1, skin.reach(radius, 1.0)),
        normal=maps["normal"],
        depth=maps["depth"],
        matte=maps["matte"],
        material=material,
        camera=camera,
        collection=scene.collection,
    )
    kit.light_by_sun(scene, camera, 0.0)
    bpy.data.lights["Sun"].angle = 0.0
    if blocked:
        bpy.ops.mesh.primitive_plane_add(size=1.0)
        blocker = bpy.context.object
        blocker.parent, blocker.location = camera, (-0.5, 0.0, -0.05)
        blocker.visible_camera = False
    return shot(scene)[1]


def shadow_edge(radius: float) -> list[float]:
    """Width of the profile from light in the shadow, over the one that is meant; red, green, blue.

    A step blurred by a profile of mean distance m has m / pi of light on its dark side, m = 2.5 d.
    """
    matte = np.ones((SIZE, SIZE), np.float32)
    rows = slice(SIZE // 4, -SIZE // 4)
    lit, seen = (flat(each, matte, blocked=each > 0.0)[rows].mean(0) for each in (0.0, radius))
    pixel = 0.1 * 2.0 * math.tan(math.radians(kit.FOV / 2)) / SIZE
    dark = (seen / lit)[: SIZE // 2].sum(0) * pixel
    meant = np.array(skin.RATIO) * skin.width(radius, 1.0) * 2.5 / math.pi
    return (dark / meant).tolist()


def borders(radius: float) -> dict[str, float]:
    """Where plate and matte end: darkest, brightest and mean diffuse over that without skin."""
    matte = np.zeros((SIZE, SIZE), np.float32)
    matte[:, SIZE // 4 :] = 1.0
    plain, seen = (flat(each, matte, False) for each in (0.0, radius))
    # the outermost pixels are half outside of the picture for Cycles' filter, with skin and without
    inner = (slice(1, -1), slice(SIZE // 4 + 1, -1))
    ratio = (seen[inner] / plain[inner]).mean(0)  # rows are alike but for noise
    return {"darkest": float(ratio.min()), "brightest": float(ratio.max()), "mean": float(ratio.mean())}


def switched() -> list[Any]:
    """The material's subsurface: never on, on, off, and the user's own left alone."""
    scene, camera = new_scene(1)
    material = kit.add_card(scene, camera, "principled", 0.5, 1.0, SIZE).data.materials[0]
    shader = material.node_tree.nodes["Principled BSDF"]
    share = shader.inputs["Subsurface Weight"]
    seen: list[Any] = []
    for profile in (0.0, 0.01, 0.02, 0.0):
        skin.set_skin(material, profile)
        seen.append([share.is_linked, share.default_value, len(material.node_tree.nodes)])
    share.default_value = 0.25
    skin.set_skin(material, 0.0)
    return [*seen, share.default_value, shader.subsurface_method]


kit.result(
    {
        "hdri": spheres(kit.light_by_hdri),
        "sun": spheres(lambda scene, camera: kit.light_by_sun(scene, camera, 60.0)),
        "edge": shadow_edge(3.67),
        "borders": borders(3.67),
        "switched": switched(),
        "lost": max(lost),
    }
)
