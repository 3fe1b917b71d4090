"""Settings that are changed for one render and put back, whatever was deleted, undone or loaded in between.

Undo and file loading free what Python points to: so owners and values are kept by name, and looked for again.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import bpy

from . import compat


class Ref(NamedTuple):
    """Where a piece of Blender's data is: the list of ``bpy.data``, the name in it, and the path from there."""

    collection: str
    name: str
    path: str


def ref(thing: Any) -> Ref:
    """The place of a data-block, or of a part of one."""
    owner = thing.id_data
    path = "" if owner == thing else thing.path_from_id()
    return Ref(_collection(type(owner)), owner.name, path)


@functools.cache
def _collection(kind: type) -> str:
    for item in bpy.data.bl_rna.properties:
        if item.type == "COLLECTION" and issubclass(kind, getattr(bpy.types, item.fixed_type.identifier)):
            return str(item.identifier)
    raise TypeError(f"{kind} is not in bpy.data")


def found(place: Ref) -> Any:
    """What is there now, or None."""
    owner = getattr(bpy.data, place.collection).get(place.name)
    if owner is None or not place.path:
        return owner
    try:
        return owner.path_resolve(place.path)
    except ValueError:
        return None


class Temporary:
    """Settings of a scene and what is in it, as they were before ``set``."""

    def __init__(self, scene: Any) -> None:
        self._scene = ref(scene)
        self._image = compat.image_settings(scene.render.image_settings)
        self._before: list[tuple[Ref, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Change one property, if it is not so already."""
        before = getattr(owner, name)
        if before != value:
            kept = ref(before) if isinstance(before, bpy.types.ID) else before
            self._before.append((ref(owner), name, kept))
            setattr(owner, name, value)

    def put_back(self) -> None:
        """Set everything as it was, in the other order; what is gone is passed over."""
        while self._before:
            place, name, before = self._before.pop()
            owner = found(place)
            if owner is not None:
                setattr(owner, name, found(before) if isinstance(before, Ref) else before)
        scene = found(self._scene)
        if scene is not None:
            compat.restore_image_settings(scene.render.image_settings, self._image)
