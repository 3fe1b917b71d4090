"""Settings that are changed for one render and put back, whatever was deleted, undone or loaded in between.

Undo and file loading free what Python points to: so owners and values are kept by name, and looked for again.
A step that Blender's undo took during the render brings the render's settings back: its scene carries their token, by
which the user's are found again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple
from uuid import uuid4

import bpy

from . import compat


class Ref(NamedTuple):
    """Where a piece of Blender's data is: the list of ``bpy.data``, name and library's file in it, and the path from there."""

    collection: str
    name: str
    library: str | None
    path: str


def ref(thing: Any) -> Ref:
    """The place of a data-block, or of a part of one."""
    owner = thing.id_data
    library = owner.library.filepath if owner.library is not None else None
    return Ref(_collection(type(owner)), owner.name, library, _path(owner, thing))


def _path(owner: Any, thing: Any) -> str:
    if owner == thing:
        return ""
    # These know no path of their own.
    if isinstance(thing, bpy.types.TimelineMarker):
        return f"timeline_markers[{list(owner.timeline_markers).index(thing)}]"
    if isinstance(thing, bpy.types.LayerCollection):
        return next(
            f"view_layers[{index}].{path}"
            for index, layer in enumerate(owner.view_layers)
            for path, part in layer_paths(layer.layer_collection)
            if part == thing
        )
    return str(thing.path_from_id())


def layer_paths(part: Any, path: str = "layer_collection") -> Iterator[tuple[str, Any]]:
    """A collection in a view layer and all below it, each with its path."""
    yield path, part
    for index, child in enumerate(part.children):
        yield from layer_paths(child, f"{path}.children[{index}]")


@functools.cache
def _collection(kind: type) -> str:
    for item in bpy.data.bl_rna.properties:
        if item.type == "COLLECTION" and issubclass(kind, getattr(bpy.types, item.fixed_type.identifier)):
            return str(item.identifier)
    raise TypeError(f"{kind} is not in bpy.data")


def found(place: Ref) -> Any:
    """What is there now, or None."""
    owner = getattr(bpy.data, place.collection).get((place.name, place.library))
    if owner is None or not place.path:
        return owner
    try:
        return owner.path_resolve(place.path)
    except ValueError:
        return None


def _kept(value: Any) -> Any:
    return ref(value) if isinstance(value, bpy.types.ID) else value


_TOKEN = "platelight_render"
_Values = list[tuple[Ref, str, Any]]


class Temporary:
    """Settings of a scene and what is in it, as they were before ``set``.

    Attributes:
        living: those that are not put back yet.
        finished: those that are, by their tokens.
    """

    living: ClassVar[list[Temporary]] = []
    finished: ClassVar[dict[str, Temporary]] = {}

    def __init__(self, scene: Any, remove: Callable[[], None] | None = None) -> None:
        """``remove`` takes away what was made for the render; it is called whenever the settings are put back."""
        self._scene = ref(scene)
        self._image = compat.image_settings(scene.render.image_settings)
        self._before: _Values = []
        self._during: tuple[_Values, dict[str, Any]] | None = None
        self._remove = remove
        self._token = scene[_TOKEN] = uuid4().hex
        self.living.append(self)

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Change one property, if it is not so already."""
        before = getattr(owner, name)
        if before != value:
            self._before.append((ref(owner), name, _kept(before)))
            setattr(owner, name, value)

    def clear_markers(self, scene: Any) -> None:
        """Unbind the cameras of the timeline's markers: Blender renders with theirs and not with the scene's."""
        for marker in scene.timeline_markers:
            self.set(marker, "camera", None)

    def put_back(self) -> None:
        """Set everything as it was, in the other order; what is gone is passed over."""
        if self not in self.living:
            return
        self.living.remove(self)
        self.finished[self._token] = self
        # A step of undo may hold the settings of any render that it has lived through: two a frame in a range.
        while len(self.finished) > 2 * bpy.context.preferences.edit.undo_steps:
            del self.finished[next(iter(self.finished))]
        self._restore()

    def _restore(self) -> None:
        self._apply(self._before, self._image)
        if self._remove is not None:
            self._remove()

    def _apply(self, values: _Values, image: dict[str, Any]) -> tuple[_Values, dict[str, Any]]:
        """Set values, the last first, and return what was until now, to be set in the same way."""
        now = []
        for place, name, value in reversed(values):
            owner = found(place)
            if owner is not None:
                now.append((place, name, _kept(getattr(owner, name))))
                setattr(owner, name, found(value) if isinstance(value, Ref) else value)
        scene = found(self._scene)
        if scene is None:
            return now, image
        scene.pop(_TOKEN, None)
        settings = scene.render.image_settings
        was = compat.image_settings(settings)
        compat.restore_image_settings(settings, image)
        return now, was

    def before_saving(self) -> None:
        """The user's settings, for as long as the file is saved."""
        self._during = self._apply(self._before, self._image)

    def after_saving(self) -> None:
        """The render's settings again, if they were put away."""
        if self._during is None:
            return
        self._apply(*self._during)
        self._during = None
        scene = found(self._scene)
        if scene is not None:
            scene[_TOKEN] = self._token


def before_saving() -> None:
    """A file that is saved during a render holds the user's settings and not the render's."""
    for each in reversed(Temporary.living):
        each.before_saving()


def after_saving() -> None:
    """The render's settings are back."""
    for each in Temporary.living:
        each.after_saving()


def after_undo() -> None:
    """A scene that undo or redo brought back from the time of a render that has ended gets the user's settings."""
    for scene in bpy.data.scenes:
        done = Temporary.finished.get(scene.get(_TOKEN, ""))
        if done is not None and found(done._scene) == scene:  # a copy carries the token of another
            done._restore()
