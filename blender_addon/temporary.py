"""Settings that are changed for one render and put back, whatever was deleted, undone or loaded in between.

Undo and file loading free what Python points to: so owners and values are kept by name, and looked for again.
"""

from __future__ import annotations

import functools
from typing import Any, ClassVar, NamedTuple

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


def _kept(value: Any) -> Any:
    return ref(value) if isinstance(value, bpy.types.ID) else value


class Temporary:
    """Settings of a scene and what is in it, as they were before ``set``.

    Attributes:
        living: those that are not put back yet.
    """

    living: ClassVar[list[Temporary]] = []

    def __init__(self, scene: Any) -> None:
        self._scene = ref(scene)
        self._image = compat.image_settings(scene.render.image_settings)
        self._before: list[tuple[Ref, str, Any]] = []
        self.living.append(self)

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Change one property, if it is not so already."""
        before = getattr(owner, name)
        if before != value:
            self._before.append((ref(owner), name, _kept(before)))
            setattr(owner, name, value)

    def put_back(self) -> None:
        """Set everything as it was, in the other order; what is gone is passed over."""
        self._exchange()
        self._before.clear()
        if self in self.living:
            self.living.remove(self)

    def _exchange(self) -> None:
        """Set everything to what is kept, the last change first, and keep what it was until now."""
        self._before.reverse()
        for number, (place, name, before) in enumerate(self._before):
            owner = found(place)
            if owner is not None:
                self._before[number] = (place, name, _kept(getattr(owner, name)))
                setattr(owner, name, found(before) if isinstance(before, Ref) else before)
        scene = found(self._scene)
        if scene is not None:
            now = compat.image_settings(scene.render.image_settings)
            compat.restore_image_settings(scene.render.image_settings, self._image)
            self._image = now


def before_saving() -> None:
    """A file that is saved during a render holds the user's settings and not the render's."""
    for each in reversed(Temporary.living):
        each._exchange()


def after_saving() -> None:
    """The render's settings are back."""
    for each in Temporary.living:
        each._exchange()
