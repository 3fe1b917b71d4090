"""Match scene light: what the scene sends to the subject's place, or to several of them, photographed by Cycles panoramas.

World, lamps, emissive geometry and all bounces are in it; the plate's own card and proxy are not. The panoramas
stand upright and look along the plate camera's heading, so that each picture is a light in the project's
convention at rotation 0. Several are views of one render, so that one ESC ends it and one file holds it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self
from uuid import uuid4

import bpy
import numpy as np
from mathutils import Vector

from . import color, compat, exr, lamps, world
from .exr import Pixels
from .lens import frustum
from .plate_properties import is_analysed
from .temporary import Ref, Temporary, found, layer_paths, ref
from .wire import InputError, Place

# Lamps smaller than this many pixels of the map would be missed by most samples; their power stays the same.
_LAMP_PIXELS = 2.0


class Viewpoint(NamedTuple):
    """Where a panorama stands in world space, and where that is in the plate."""

    at: Vector
    place: Place


def viewpoints(plate: Any, depth: Pixels | None, matte: Pixels | None, count: int) -> list[Viewpoint]:
    """The middles of ``count`` equal parts of the subject, one nearest its own middle first; the camera's axis at
    ``plate.distance`` before it is analyzed. Parts where the subject is not are left out.

    Args:
        depth, matte: the plate's maps (H, W), or None.
    """
    camera = plate.camera or plate.own_camera
    frame, lens = camera.matrix_world.normalized(), frustum(camera, plate.width, plate.height)

    def seen(u: float, v: float, far: float) -> Viewpoint:
        x, y = (2 * u - 1) * lens.across + lens.right, (1 - 2 * v) * lens.down + lens.up
        return Viewpoint(frame @ (Vector((x, y, -1.0)) * far), (u, v))

    if depth is None or matte is None or not (matte > 0.5).any():
        return [seen(0.5, 0.5, plate.distance)]
    rows, columns = np.nonzero(matte > 0.5)
    (height, width), away = matte.shape, depth[matte > 0.5]
    part = _parts(rows, columns, count)
    found = []
    for k in sorted(range(count), key=lambda k: abs(2 * k - count + 1)):
        mine = part == k
        if mine.any():
            u, v = (float(columns[mine].mean()) + 0.5) / width, (float(rows[mine].mean()) + 0.5) / height
            far = plate.distance * float(np.median(away[mine])) / max(float(np.median(away)), 1e-6)
            found.append(seen(u, v, far))
    return found


def _parts(rows: Any, columns: Any, count: int) -> Any:
    """Which of ``count`` parts each pixel of the subject is in: four are 2 x 2 where both its sides are long, else they lie
    along the longer one. Parts are as compact as they can be: half the longer side is the bound.
    """

    def cut(along: Any, many: int) -> Any:
        return (along - along.min()) * many // (np.ptp(along) + 1)

    shorter, longer = sorted((columns, rows), key=np.ptp)
    if count == 4 and 2 * np.ptp(shorter) > np.ptp(longer):
        return 2 * cut(rows, 2) + cut(columns, 2)
    return cut(longer, count)


class BakeSetup:
    """Context manager: the scene as panoramas from ``points``, the plate ``uid`` and the lamps ``without`` hidden, lamps that do not
    light the plate's ``card`` unseen;
    everything is put back.

    Attributes:
        points: where they stand.
        heading: along which they are taken, as ``world.heading``.
        views: names of the views in the file, in the order of the points; none for a single one.
    """

    def __init__(
        self,
        scene: Any,
        uid: str,
        points: Sequence[Viewpoint],
        heading: float,
        target: Path,
        height: int,
        samples: int,
        without: Sequence[Any] = (),
        card: Any = None,
    ) -> None:
        self.points = points
        self.views: list[str] = []
        self._scene = scene
        self._uid = uid
        self.heading = heading
        self._target = target
        self._height = height
        self._samples = samples
        self._without = without
        self._card = card

    def __enter__(self) -> Self:
        scene = self._scene
        bpy.context.view_layer.update()  # places of lamps that were moved just now
        render = scene.render
        self._kept = Temporary(scene, self._remove)
        compat.set_multilayer_exr(render.image_settings)
        self._kept.clear_markers(scene)
        self._whole = ref(scene)
        self._skies: list[Ref] = []
        self._cameras = self._panoramas()
        for owner, name, value in (
            (scene, "camera", found(self._cameras[0])),
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
            (render, "use_multiview", bool(self.views)),
            (scene.cycles, "samples", self._samples),
            (scene.cycles, "use_adaptive_sampling", False),
            (scene.cycles, "use_denoising", False),
            (scene.cycles, "pixel_filter_type", "BOX"),  # each pixel is the mean over itself
            (scene.cycles, "sample_clamp_direct", 0.0),
        ):
            self._kept.set(owner, name, value)
        layer = compat.use_one_layer(self._kept, scene)
        for _, part in layer_paths(layer.layer_collection):
            self._kept.set(part, "holdout", False)
            self._kept.set(part, "indirect_only", False)
        if self.views:
            self._kept.set(render, "views_format", "MULTIVIEW")
            render.image_settings.views_format = "MULTIVIEW"
            for view in render.views:
                self._kept.set(view, "use", view.name in self.views)
        made = world.as_met(scene.world)
        self._skies = [ref(each) for each in made]
        if made:
            self._kept.set(scene, "world", made[0])
        if scene.world is not None:
            self._kept.set(scene.world.cycles_visibility, "camera", True)
        for lamp in self._without:
            self._kept.set(lamp, "hide_render", True)
        for thing in scene.objects:
            if thing.get("platelight") == self._uid and thing.type == "MESH":
                self._kept.set(thing, "hide_render", True)
            elif thing.type == "LIGHT":
                # One that lights other things only is there for its bounces.
                lights = lamps.reaches(thing, self._card) and (thing.visible_diffuse or thing.visible_glossy)
                self._kept.set(thing, "visible_camera", lights)
                # Without it no ray would meet a lamp.
                self._kept.set(thing.data.cycles, "use_multiple_importance_sampling", True)
                self._widen(thing)
            elif thing.type != "CAMERA":
                # The panorama stands for diffuse and glossy rays from the subject, whatever a camera may see.
                self._kept.set(thing, "visible_camera", thing.visible_diffuse or thing.visible_glossy)
                self._kept.set(thing, "is_holdout", False)
                self._kept.set(thing, "is_shadow_catcher", False)
        return self

    def _panoramas(self) -> list[Ref]:
        """A camera for each point, and a view for each of several: Blender finds a view's camera by its name's end."""
        made, word = [], f"Platelight Panorama {uuid4().hex[:8]}"  # no name of a camera that is there
        for number, point in enumerate(self.points, 1):
            data = bpy.data.cameras.new(word)
            camera = bpy.data.objects.new(f"{word}_{number}", data)
            made.append(ref(camera))
            self._scene.collection.objects.link(camera)
            camera.location = point.at
            camera.rotation_euler = (math.pi / 2, 0.0, self.heading - math.pi / 2)
            data.clip_start, data.clip_end = 1e-4, 1e6
            compat.make_panorama(data)
            if len(self.points) > 1:
                view = self._scene.render.views.new(f"platelight{number}")
                view.camera_suffix = f"_{number}"
                self.views.append(view.name)
        return made

    def _widen(self, thing: Any) -> None:
        """Make a lamp large enough to be met by samples from all points, but not to hold one of them; Blender's lamps keep
        their power when they grow."""
        lamp = thing.data
        if not getattr(lamp, "normalize", True):  # since 4.5: these give the more the larger they are
            return
        least = _LAMP_PIXELS * math.pi / self._height
        away = [(thing.matrix_world.translation - point.at).length for point in self.points]
        span = min(least * max(away), min(away))
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

    def _remove(self) -> None:
        for place in self._cameras:
            camera = found(place)
            if camera is not None:
                data = camera.data
                bpy.data.objects.remove(camera)
                bpy.data.cameras.remove(data)
        bpy.data.batch_remove([sky for place in self._skies if (sky := found(place)) is not None])
        scene = found(self._whole)
        for name in self.views if scene is not None else ():
            view = scene.render.views.get(name)
            if view is not None:
                scene.render.views.remove(view)


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
    state = scene.platelight
    return BakeSetup(
        scene,
        plate.uid,
        viewpoints(plate, depth, matte, state.bake_points),
        world.heading(camera),
        target,
        state.bake_height,
        samples or state.bake_samples,
        lamps.left_out(scene),
        plate.card,
    )


def read_bake(path: Path, views: Sequence[str] = ()) -> list[Pixels]:
    """The baked lights (h, 2h, 3) in the order of the points; ``views`` as of ``BakeSetup``."""
    found = (compat.pass_channels(layers, "combined") for layers in _by_view(path, views))
    return [color.to_rec709(np.ascontiguousarray(combined[..., :3])) for combined in found]


def read_groups(path: Path, views: Sequence[str] = ()) -> list[dict[str, Pixels]]:
    """What each light group of the view layer sends to each point, (h, 2h, 3) by its name; their sum is the light where
    every source is in one."""
    marked = "Combined_"
    return [
        {
            name.rpartition(".")[2].removeprefix(marked): color.to_rec709(
                np.ascontiguousarray(plane[..., :3])
            )
            for name, plane in layers.items()
            if name.rpartition(".")[2].startswith(marked) and plane.ndim == 3
        }
        for layers in _by_view(path, views)
    ]


def _by_view(path: Path, views: Sequence[str]) -> list[dict[str, Pixels]]:
    """Layers of each view, by their names without it."""
    layers = exr.read(path).layers
    if not views:
        return [layers]
    ends = (f".{view}" for view in views)
    return [{n.removesuffix(end): plane for n, plane in layers.items() if n.endswith(end)} for end in ends]
