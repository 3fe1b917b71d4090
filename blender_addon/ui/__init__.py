"""Panels, top to bottom in the order of work, in the 3D Viewport and in the Image Editor."""

from collections.abc import Callable
from typing import Any

import bpy

from ..operators.load import offered
from ..plate_properties import is_analysed, is_built
from . import draw, draw_light, instant

_STEPS: tuple[tuple[str, str, Callable[[Any, Any], None]], ...] = (
    ("backend", "Backend", lambda layout, context: draw.backend(layout, context)),
    ("plate", "Plate", lambda layout, context: draw.plate(layout, context.scene.platelight)),
    ("maps", "Maps", lambda layout, context: draw.maps(layout, context)),
    (
        "light",
        "Light",
        lambda layout, context: (
            draw_light.light(layout, context.scene.platelight),
            instant.draw(layout, context.scene.platelight),
        )[0],
    ),
    ("shelf", "HDRIs", lambda layout, context: draw_light.shelf(layout, context.scene.platelight)),
    ("library", "Poly Haven", lambda layout, context: draw_light.library(layout, context.scene.platelight)),
    (
        "preview",
        "Preview",
        lambda layout, context: draw.preview(
            layout, context.scene.platelight, context.space_data.type == "VIEW_3D"
        ),
    ),
    ("composite", "Composite", lambda layout, context: draw.composite(layout, context)),
)


class PLATELIGHT_UL_plates(bpy.types.UIList):
    """The plates of a scene."""

    def draw_item(
        self,
        _context: Any,
        layout: Any,
        _data: Any,
        item: Any,
        _icon: Any,
        _active: Any,
        _name: Any,
        _index: Any = 0,
    ) -> None:
        """One plate: its name, and whether it is analyzed and built."""
        layout.prop(item, "name", text="", emboss=False, icon="IMAGE_DATA")
        if is_analysed(item):
            layout.label(text="", icon="RENDERLAYERS")
        if is_built(item):
            layout.label(text="", icon="CAMERA_DATA")


class PLATELIGHT_MT_footage(bpy.types.Menu):
    """Movie clips and images of this file"""

    bl_idname = "PLATELIGHT_MT_footage"
    bl_label = "Footage of This File"

    def draw(self, _context: Any) -> None:
        """One line each."""
        clips, pictures = offered()
        for kind, things, icon in (("CLIP", clips, "TRACKER"), ("IMAGE", pictures, "IMAGE_DATA")):
            for thing in things:
                entry = self.layout.operator("platelight.use_footage", text=thing.name, icon=icon)
                entry.kind, entry.name = kind, thing.name
        if not clips and not pictures:
            self.layout.label(text="No movie clip and no image is in this file")


def _panel(space: str, step: str, title: str, function: Callable[[Any, Any], None], order: int) -> type:
    """A panel class for one step of the work in one kind of editor."""

    def draw_panel(self: Any, context: Any) -> None:
        self.layout.use_property_split = True
        self.layout.use_property_decorate = False
        function(self.layout, context)
        draw.failure(self.layout, context, step)

    name = f"PLATELIGHT_PT_{'view3d' if space == 'VIEW_3D' else 'image'}_{step}"
    members = {
        "__doc__": f"{title} of Platelight",
        "bl_idname": name,
        "bl_label": title,
        "bl_space_type": space,
        "bl_region_type": "UI",
        "bl_category": "Platelight",
        "bl_order": order,
        "bl_options": {"DEFAULT_CLOSED"} if step in {"shelf", "library"} else set(),
        "draw": draw_panel,
    }
    return type(name, (bpy.types.Panel,), members)


CLASSES: tuple[type, ...] = (
    PLATELIGHT_UL_plates,
    PLATELIGHT_MT_footage,
    *(
        _panel(space, step, title, function, order)
        for space in ("VIEW_3D", "IMAGE_EDITOR")
        for order, (step, title, function) in enumerate(_STEPS)
    ),
)


def register() -> None:
    """Register list and panels."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    """Undo ``register``."""
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
