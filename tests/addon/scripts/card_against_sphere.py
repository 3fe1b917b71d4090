"""Relative mean absolute error of the plate card against the real sphere, for materials and lights."""

from __future__ import annotations

import sys
from pathlib import Path

import blender_kit as kit
import numpy as np

CASES = {
    "diffuse": ("diffuse", 0.5, 24),
    "glossy 0.2": ("glossy", 0.2, 96),
    "glossy 0.5": ("glossy", 0.5, 48),
    "principled 0.5": ("principled", 0.5, 32),
}
errors: dict[str, float] = {}
mask = kit.inside(kit.sphere_maps()[2])
for light_name, light in (("hdri", kit.light_by_hdri), ("sun 100", kit.light_by_sun)):
    for name, (kind, roughness, samples) in CASES.items():
        if light_name == "sun 100" and roughness == 0.2:
            continue  # a mirror-like rim under a sun is a handful of pixels
        scene, camera = kit.empty_scene(samples)
        kit.add_sphere(scene, camera, kind, roughness)
        light(scene, camera)
        wanted = kit.render(scene, Path("sphere.exr"))["ViewLayer.Combined"][mask][:, :3]
        for step in (1.0, 2.7) if (light_name, kind) == ("hdri", "principled") else (1.0,):
            scene, camera = kit.empty_scene(samples)
            kit.add_card(scene, camera, kind, roughness, step)
            light(scene, camera)
            got = kit.render(scene, Path("card.exr"))["ViewLayer.Combined"][mask][:, :3]
            errors[f"{light_name}, {name}, facets of {step}"] = float(
                np.abs(got - wanted).mean() / wanted.mean()
            )
kit.result({"errors": errors, "arguments": sys.argv[1:]})
