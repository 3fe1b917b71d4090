"""The shelf of HDRIs in the Light panel: those that Blender carries, those downloaded, those in folders of one's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import bpy
import bpy.utils.previews

from . import preferences

SHELVES = (
    ("BLENDER", "Blender", "The HDRIs that every Blender carries"),
    ("DOWNLOADED", "Downloaded", "HDRIs downloaded from Poly Haven"),
    ("FOLDERS", "Folders", "HDRIs in the folders set in the preferences, and in Blender's asset libraries"),
)
SHOWN = 48  # thumbnails at a time
_KINDS = frozenset({".exr", ".hdr"})
_DEPTH, _MOST = 3, 2000  # levels and files that are looked at below a folder

_icons: Any = None
_listed: dict[Path, tuple[Path, ...]] = {}


class Shown(NamedTuple):
    """What is drawn of a shelf: files, and how many more there are."""

    files: tuple[Path, ...]
    more: int


def carried() -> tuple[Path, ...]:
    """The HDRIs that Blender carries for its Material Preview, and those the user installed beside them."""
    lights = (light for light in bpy.context.preferences.studio_lights if light.type == "WORLD")
    return tuple(sorted({Path(light.path) for light in lights}, key=lambda path: path.name.lower()))


def files(shelf: str) -> tuple[Path, ...]:
    """All files of a shelf; folders are read once, until ``refresh``."""
    if shelf == "BLENDER":
        return carried()
    if shelf == "DOWNLOADED":
        return _below(preferences.user_folder() / "polyhaven" / "hdris")
    return tuple(path for folder in preferences.hdri_folders() for path in _below(folder))


def shown(shelf: str, words: str) -> Shown:
    """Those of a shelf whose names contain every one of ``words``."""
    wanted = words.lower().split()
    found = [path for path in files(shelf) if all(word in path.name.lower() for word in wanted)]
    return Shown(tuple(found[:SHOWN]), max(0, len(found) - SHOWN))


def preview(path: Path) -> Any:
    """The thumbnail of a file; Blender makes it in the background when it is first drawn."""
    if _icons is None:
        return None
    key = str(path)
    if key not in _icons:
        # A download has a picture of Poly Haven's own, which is there at once.
        small = path.parent.parent / "thumbnails" / f"{path.stem.rpartition('_')[0]}.png"
        _icons.load(key, str(small if small.is_file() else path), "IMAGE")
    return _icons[key]


def icon(path: Path) -> int:
    """Icon of a thumbnail; 0 where there is none yet."""
    found = preview(path)
    return int(found.icon_id) if found is not None else 0


def refresh() -> None:
    """Look into the folders again when they are next drawn."""
    _listed.clear()


def _below(folder: Path) -> tuple[Path, ...]:
    if folder not in _listed:
        _listed[folder] = tuple(sorted(_walk(folder, _DEPTH), key=lambda path: path.name.lower()))
    return _listed[folder]


def _walk(folder: Path, depth: int) -> list[Path]:
    found: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if len(found) >= _MOST:
                    break
                if entry.is_dir() and depth > 1:
                    found += _walk(Path(entry.path), depth - 1)
                elif Path(entry.name).suffix.lower() in _KINDS:
                    found.append(Path(entry.path))
    except OSError:
        return found  # a folder that is gone or closed to us holds nothing
    return found


def register() -> None:
    """Make room for icons."""
    global _icons
    _icons = bpy.utils.previews.new()


def unregister() -> None:
    """Undo ``register``."""
    global _icons
    if _icons is not None:
        bpy.utils.previews.remove(_icons)
        _icons = None
    refresh()
