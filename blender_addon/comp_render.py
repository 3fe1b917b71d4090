"""A scene of its own that renders the composite alone: no camera's picture, only the compositor's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import bpy

from . import color, compat, compositor, exr
from .exr import Pixels
from .plate_properties import frames_of
from .wire import InputError


class CompositeSetup:
    """Context manager: ``name`` is the scene to render; it has the group as the user's scene has it."""

    def __init__(self, scene: Any, plate: Any, target: Path) -> None:
        self._plate = plate
        self._settings = self._inputs(scene)
        self._scene = bpy.data.scenes.new("Platelight Composite")
        self.name = self._scene.name
        self._frame = scene.frame_current
        self._target = target

    @staticmethod
    def _inputs(scene: Any) -> dict[str, float]:
        node = compat.compositor_tree(scene).nodes.get(compositor.NODE)
        if node is None:
            raise InputError("The compositor has no Platelight Composite.", "Set up the compositor first.")
        return {
            name: node.inputs[name].default_value
            for name, kind, *_ in compositor.INPUTS
            if kind == "NodeSocketFloat"
        }

    def __enter__(self) -> Self:
        scene, plate = self._scene, self._plate
        camera = bpy.data.cameras.new("Platelight Composite")
        scene.camera = bpy.data.objects.new("Platelight Composite", camera)
        scene.collection.objects.link(scene.camera)
        scene.frame_set(self._frame)
        render = scene.render
        render.engine = compat.engine_id("CYCLES")
        scene.cycles.samples = 1
        render.resolution_x, render.resolution_y = plate.width, plate.height
        render.resolution_percentage = 100
        render.use_compositing, render.use_sequencer = True, False
        render.use_file_extension = False
        render.filepath = str(self._target)
        compat.set_multilayer_exr(render.image_settings)
        pictures = {"Relit": plate.relit, "Grain Picture": plate.grain}
        if plate.backdrop_map is not None:
            pictures["Backdrop"] = plate.backdrop_map
        compositor.place_group(scene, pictures, self._settings, frames_of(plate))
        return self

    def __exit__(self, *_exc: object) -> None:
        scene = bpy.data.scenes.get(self.name)
        if scene is None:  # undone, or another file
            return
        tree = getattr(scene, "compositing_node_group", None)
        camera = scene.camera
        data = camera.data
        bpy.data.scenes.remove(scene)
        bpy.data.objects.remove(camera)
        bpy.data.cameras.remove(data)
        if tree is not None:
            bpy.data.node_groups.remove(tree)


def read_combined(path: Path) -> Pixels:
    """The compositor's picture (H, W, 4) out of the file that Blender wrote.

    Raises:
        InputError: it is not there.
    """
    layers = exr.read(path).layers
    for name, plane in layers.items():
        if name.rpartition(".")[2] in {"Combined", "", "Image"} and plane.ndim == 3 and plane.shape[2] == 4:
            return color.to_rec709(plane)
    raise InputError(f"{path} has no composite, only {', '.join(layers)}.", "Set up the compositor again.")
