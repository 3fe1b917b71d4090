"""Match scene light: what the scene sends to the subject's place, photographed by a Cycles panorama.

World, lamps, emissive geometry and all bounces are in it; the plate's own card and proxy are not. The panorama
stands upright and looks along the plate camera's heading, so that the picture is a light in the project's
convention at rotation 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import bpy
import numpy as np
from mathutils import Vector

from . import compat, exr, lamps, world
from .exr import Pixels
from .plate_properties import is_analysed
from .temporary import Temporary, found, ref
from .wire import InputError

# Lamps smaller than this many pixels of the map would be missed by most samples; their power stays the same.
_LAMP_PIXELS = 2.0


def subject_place(plate: Any, depth: Pixels | None, matte: Pixels | None) -> Vector:
    """The subject's middle in world space; on the camera's axis at ``plate.distance`` before it is analyzed.

    Args:
        depth, matte: the plate's maps (H, W), or None.
    """
    camera = plate.camera or plate.own_camera
    x = y = 0.0
    if depth is not None and matte is not None and (matte > 0.5).any():
        rows, columns = np.nonzero(matte > 0.5)
        height, width = matte.shape
        across = math.tan(camera.data.angle_x / 2)
        x = float((columns.mean() + 0.5) / width * 2 - 1) * across
        y = -float((rows.mean() + 0.5) / height * 2 - 1) * across * height / width
    point: Vector = camera.matrix_world.normalized() @ (Vector((x, y, -1.0)) * plate.distance)
    return point


class BakeSetup:
    """Context manager: the scene as a panorama from one place, the plate ``uid`` and the lamps ``without`` hidden;
    everything is put back."""

    def __init__(
        self,
        scene: Any,
        uid: str,
        place: Vector,
        heading: float,
        target: Path,
        height: int,
        samples: int,
        without: Sequence[Any] = (),
    ) -> None:
        self._scene = scene
        self._uid = uid
        self._place = place
        self._heading = heading
        self._target = target
        self._height = height
        self._samples = samples
        self._without = without

    def __enter__(self) -> Self:
        scene = self._scene
        bpy.context.view_layer.update()  # places of lamps that were moved just now
        render = scene.render
        self._kept = Temporary(scene)
        compat.set_multilayer_exr(render.image_settings)
        data = bpy.data.cameras.new("Platelight Panorama")
        camera = bpy.data.objects.new("Platelight Panorama", data)
        self._camera = ref(camera)
        scene.collection.objects.link(camera)
        camera.location = self._place
        camera.rotation_euler = (math.pi / 2, 0.0, self._heading - math.pi / 2)
        data.clip_start, data.clip_end = 1e-4, 1e6
        compat.make_panorama(data)
        for owner, name, value in (
            (scene, "camera", camera),
            (render, "engine", compat.engine_id("CYCLES")),
            (render, "filepath", str(self._target)),
            (render, "resolution_x", 2 * self._height),
            (render, "resolution_y", self._height),
            (render, "resolution_percentage", 100),
            (render, "film_transparent", False),
            (render, "use_border", False),
            (render, "use_compositing", False),
            (render, "use_sequencer", False),
            (render, "use_file_extension", False),
            (render, "use_motion_blur", False),
            (scene.cycles, "samples", self._samples),
            (scene.cycles, "use_adaptive_sampling", False),
            (scene.cycles, "use_denoising", False),
            (scene.cycles, "pixel_filter_type", "BOX"),  # each pixel is the mean over itself
            (scene.cycles, "sample_clamp_direct", 0.0),
        ):
            self._kept.set(owner, name, value)
        if scene.world is not None:
            self._kept.set(scene.world.cycles_visibility, "camera", True)
        for lamp in self._without:
            self._kept.set(lamp, "hide_render", True)
        for thing in scene.objects:
            if thing.get("platelight") == self._uid and thing.type == "MESH":
                self._kept.set(thing, "hide_render", True)
            elif thing.type == "LIGHT":
                self._kept.set(thing, "visible_camera", True)
                self._widen(thing)
            elif thing.type != "CAMERA":
                # The panorama stands for diffuse and glossy rays from the subject, whatever a camera may see.
                self._kept.set(thing, "visible_camera", thing.visible_diffuse or thing.visible_glossy)
                self._kept.set(thing, "is_holdout", False)
        return self

    def _widen(self, thing: Any) -> None:
        """Make a lamp large enough to be met by samples; Blender's lamps keep their power when they grow."""
        lamp = thing.data
        least = _LAMP_PIXELS * math.pi / self._height
        span = least * (thing.matrix_world.translation - self._place).length
        if lamp.type == "SUN":
            self._kept.set(lamp, "angle", max(lamp.angle, least))
        elif lamp.type in {"POINT", "SPOT"}:
            self._kept.set(lamp, "shadow_soft_size", max(lamp.shadow_soft_size, span / 2))
        elif lamp.type == "AREA":
            self._kept.set(lamp, "size", max(lamp.size, span))
            if lamp.shape in {"RECTANGLE", "ELLIPSE"}:
                self._kept.set(lamp, "size_y", max(lamp.size_y, span))

    def __exit__(self, *_exc: object) -> None:
        self._kept.put_back()
        camera = found(self._camera)
        if camera is not None:
            data = camera.data
            bpy.data.objects.remove(camera)
            bpy.data.cameras.remove(data)


def setup_for(
    scene: Any, plate: Any, maps: tuple[Pixels, Pixels] | None, target: Path, samples: int
) -> BakeSetup:
    """The bake of a scene's light for one plate; ``maps`` are its depth and matte.

    Raises:
        InputError: there is no camera to say where the subject stands.
    """
    camera = plate.camera or plate.own_camera
    if camera is None:
        raise InputError(f"{plate.name} has no camera yet.", "Build the scene first.")
    depth, matte = maps if maps is not None and is_analysed(plate) else (None, None)
    place = subject_place(plate, depth, matte)
    state = scene.platelight
    return BakeSetup(
        scene,
        plate.uid,
        place,
        world.heading(camera),
        target,
        state.bake_height,
        samples or state.bake_samples,
        lamps.left_out(scene),
    )


def read_bake(path: Path) -> Pixels:
    """The baked light (h, 2h, 3)."""
    combined: Pixels = compat.pass_channels(exr.read(path).layers, "combined")
    return np.ascontiguousarray(combined[..., :3])


def read_groups(path: Path) -> dict[str, Pixels]:
    """What each light group of the view layer sends, (h, 2h, 3) by its name; their sum is the light where every source is in one."""
    parts = ((name.rpartition(".")[2], plane) for name, plane in exr.read(path).layers.items())
    marked = "Combined_"
    return {
        name.removeprefix(marked): np.ascontiguousarray(plane[..., :3])
        for name, plane in parts
        if name.startswith(marked) and plane.ndim == 3
    }
