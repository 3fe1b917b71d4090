"""Shortcuts: one is set, the others wait for keys of the user's; all are listed and changed in the preferences."""

from __future__ import annotations

from typing import Any, NamedTuple

import bpy


class Shortcut(NamedTuple):
    """An operator and the key that it has from the start; ``NONE`` leaves it to the user."""

    operator: str
    key: str = "NONE"
    ctrl: bool = False
    alt: bool = False


SHORTCUTS = (
    Shortcut("platelight.turn_light", "L", ctrl=True, alt=True),
    Shortcut("platelight.analyse"),
    Shortcut("platelight.build_scene"),
    Shortcut("platelight.render_preview"),
    Shortcut("platelight.refine"),
    Shortcut("platelight.cancel"),
)
EDITORS = (("3D View", "VIEW_3D"), ("Image", "IMAGE_EDITOR"))
_made: list[tuple[Any, Any]] = []


def register() -> None:
    """Put the shortcuts into the add-ons' key configuration, which is absent where Blender has no interface."""
    configuration = bpy.context.window_manager.keyconfigs.addon
    if configuration is None:
        return
    for name, space in EDITORS:
        keymap = configuration.keymaps.new(name, space_type=space)
        for each in SHORTCUTS:
            item = keymap.keymap_items.new(each.operator, each.key, "PRESS", ctrl=each.ctrl, alt=each.alt)
            _made.append((keymap, item))


def unregister() -> None:
    """Undo ``register``."""
    while _made:
        keymap, item = _made.pop()
        keymap.keymap_items.remove(item)


def users_items() -> list[tuple[Any, Any]]:
    """(keymap, item) as the user has them, in the order of ``SHORTCUTS``, for the preferences."""
    configuration = bpy.context.window_manager.keyconfigs.user
    order = {each.operator: place for place, each in enumerate(SHORTCUTS)}
    found = []
    for name, _space in EDITORS:
        keymap = configuration.keymaps.get(name) if configuration is not None else None
        items = keymap.keymap_items if keymap is not None else ()
        ours = [item for item in items if item.idname.startswith("platelight.")]
        found += [
            (keymap, item) for item in sorted(ours, key=lambda item: order.get(item.idname, len(order)))
        ]
    return found
