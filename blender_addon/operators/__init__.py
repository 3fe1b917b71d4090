"""Operators: thin wrappers over what ``scene.py``, ``remote.py`` and ``jobs.py`` do."""

import bpy

from . import (
    analyse,
    backend,
    composite,
    frames,
    instant,
    light,
    load,
    pairing,
    plate,
    polyhaven,
    reach,
    refine,
    render,
    turn,
)

CLASSES = (
    *load.CLASSES,
    *plate.CLASSES,
    *analyse.CLASSES,
    *light.CLASSES,
    *turn.CLASSES,
    *reach.CLASSES,
    *instant.CLASSES,
    *polyhaven.CLASSES,
    *render.CLASSES,
    *refine.CLASSES,
    *frames.CLASSES,
    *composite.CLASSES,
    *backend.CLASSES,
    *pairing.CLASSES,
)


def register() -> None:
    """Register every operator."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    """Undo ``register``."""
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
