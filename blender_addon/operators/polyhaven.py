"""The browser of Poly Haven's HDRIs: look, and take one."""

from pathlib import Path
from typing import Any

import bpy

from .. import browser, hdris, polyhaven, preferences, wire
from ..jobs import Reporter, Work
from ..modal import JobOperator
from ..session import session
from .common import idle, refuse


def _online(cls: Any) -> bool:
    return bpy.app.online_access or refuse(
        cls, "Blender is set to stay offline: allow Online Access in Preferences > System > Network"
    )


def _library() -> polyhaven.Library:
    if not bpy.app.online_access:
        raise wire.InputError(
            "Blender is set to stay offline.", "Allow Online Access in Preferences > System > Network."
        )
    return polyhaven.Library(preferences.user_folder() / "polyhaven", *preferences.polyhaven_addresses())


class PLATELIGHT_OT_browse_hdris(JobOperator, bpy.types.Operator):
    """Look for HDRIs at polyhaven.com (free, CC0) by the words and the category in the panel"""

    bl_idname = "platelight.browse_hdris"
    bl_label = "Search Poly Haven"

    @classmethod
    def poll(cls, _context: Any) -> bool:
        """Needs the network."""
        return _online(cls) and idle(cls)

    def prepare(self, context: Any) -> tuple[str, Work]:
        """Copy the words."""
        state = context.scene.platelight
        words, category, library = state.browse_words, state.browse_category, _library()

        def work(reporter: Reporter) -> browser.Page:
            reporter.progress(0.0, "asking for the list")
            found = library.hdris()
            shown = polyhaven.chosen(found, words, "" if category == "all" else category, browser.COUNT)
            pictures: dict[str, Path] = {}
            for index, hdri in enumerate(shown):
                if reporter.cancelled():
                    raise wire.Cancelled("Cancelled.")
                reporter.progress((index + 1) / (len(shown) + 1), hdri.name)
                pictures[hdri.id] = library.thumbnail(hdri.id)
            return browser.Page(tuple(shown), pictures, tuple(polyhaven.categories(found)), words)

        return "Searching Poly Haven", work

    def finish(self, _context: Any, value: browser.Page) -> None:
        """Show what was found."""
        browser.show(value)
        session.say(f"{len(value.hdris)} HDRIs." if value.hdris else f"Nothing matches {value.words}.")


class PLATELIGHT_OT_download_hdri(JobOperator, bpy.types.Operator):
    """Download this HDRI and light the scene with it"""

    bl_idname = "platelight.download_hdri"
    bl_label = "Use HDRI"
    bl_options = {"REGISTER", "UNDO"}

    name: bpy.props.StringProperty(
        name="HDRI", description="Its name at polyhaven.com, such as studio_small_03"
    )

    @classmethod
    def poll(cls, _context: Any) -> bool:
        """Needs the network."""
        return _online(cls) and idle(cls)

    def prepare(self, context: Any) -> tuple[str, Work]:
        """Copy name and resolution."""
        name, resolution, library = self.name, context.scene.platelight.browse_resolution, _library()
        return f"Downloading {name}", lambda reporter: library.download(name, resolution, reporter)

    def finish(self, _context: Any, value: Path) -> None:
        """Make it the light."""
        hdris.refresh()
        bpy.ops.platelight.set_light(filepath=str(value))


CLASSES = (PLATELIGHT_OT_browse_hdris, PLATELIGHT_OT_download_hdri)
