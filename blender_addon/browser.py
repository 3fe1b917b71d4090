"""What the browser of HDRIs shows: the last page of results with its thumbnails. Lives as long as Blender runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy.utils.previews

from .polyhaven import Hdri

COUNT = 24  # HDRIs of a page


@dataclass(frozen=True)
class Page:
    """Results of a search."""

    hdris: tuple[Hdri, ...] = ()
    pictures: dict[str, Path] = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    words: str = ""


page = Page()
_icons: Any = None


def show(found: Page) -> None:
    """Make a page the one that is drawn."""
    global page
    page = found


def icon(hdri: str) -> int:
    """Icon of a thumbnail, loaded when it is first drawn; 0 where there is none."""
    path = page.pictures.get(hdri)
    if path is None or _icons is None:
        return 0
    if hdri not in _icons:
        _icons.load(hdri, str(path), "IMAGE")
    return int(_icons[hdri].icon_id)


def register() -> None:
    """Make room for icons."""
    global _icons
    _icons = bpy.utils.previews.new()


def unregister() -> None:
    """Undo ``register``."""
    global _icons, page
    if _icons is not None:
        bpy.utils.previews.remove(_icons)
        _icons = None
    page = Page()
