"""Cycles photographs the HDRI itself: where each pixel's light comes from, against the convention's formula.

The light is smooth, so that filtering matters little: its red is the cosine and its green the sine of the
longitude, blue the latitude.
"""

from __future__ import annotations

import math
from pathlib import Path

import blender_kit as kit
import bpy
import numpy as np

from blender_addon import images, world

HEIGHT = 128
u = (np.arange(2 * HEIGHT) + 0.5) / (2 * HEIGHT)
v = (np.arange(HEIGHT) + 0.5) / HEIGHT
azimuth = (u - 0.5) * 2 * math.pi  # 0 where the camera looks, +90 degrees at screen right
light = np.empty((HEIGHT, 2 * HEIGHT, 3), np.float32)
light[..., 0] = 1.5 + np.cos(azimuth)
light[..., 1] = 1.5 + np.sin(azimuth)
light[..., 2] = 1.0 + np.cos(v * math.pi)[:, None]

tangent = math.tan(math.radians(kit.FOV) / 2)
places = ((np.arange(kit.SIZE) + 0.5) / kit.SIZE * 2 - 1) * tangent
x, y = np.meshgrid(places, -places)
errors = {}
for rotation in (0.0, 35.0, -120.0):
    for heading in (None, 70.0)[: 2 if rotation == 35.0 else 1]:
        scene, camera = kit.empty_scene(8)
        if heading is not None:
            camera.rotation_euler[2] = math.radians(heading)
            bpy.context.view_layer.update()
        scene.render.film_transparent = False
        picture = images.put_image("light", light, data=False)
        world.build_world(scene, picture, camera, rotation=rotation, exposure=1.0)
        got = kit.render(scene, Path("sky.exr"))["ViewLayer.Combined"][..., :3]
        # Positive rotation moves what is seen to the right: the pixel at angle a shows longitude a - rotation.
        angle = np.arctan2(x, 1.0) - math.radians(rotation)
        up = y / np.sqrt(x * x + y * y + 1.0)
        wanted = 2.0 * np.stack([1.5 + np.cos(angle), 1.5 + np.sin(angle), 1.0 + up], -1)
        errors[f"rotation {rotation}, heading {heading}"] = float(np.abs(got - wanted).max())
kit.result(errors)
