"""Add-on preferences, and the frozen copy of them that work off the main thread may read."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import bpy


class Settings(NamedTuple):
    """Preferences copied before work starts: a thread must never read RNA, which may be freed under it."""

    endpoint: str
    backend: str
    start_backend: bool
    device: str
    folder: Path
    start_timeout: float


class PlatelightPreferences(bpy.types.AddonPreferences):
    """Where the backend is and how it is run."""

    bl_idname = __package__

    endpoint: bpy.props.StringProperty(
        name="Endpoint",
        description="Address of the backend, as tcp://host:port; empty is the one on this computer",
    )
    backend: bpy.props.StringProperty(
        name="Backend Program",
        description="The platelight program, or a Python that has the package; empty looks for it",
        subtype="FILE_PATH",
    )
    start_backend: bpy.props.BoolProperty(
        name="Start With First Job",
        description="Start a local backend when a job needs one and none answers; it ends with Blender",
        default=True,
    )
    device: bpy.props.EnumProperty(
        name="Device",
        description="What a backend started here computes on",
        items=[
            ("auto", "Automatic", "A GPU if there is one"),
            ("cpu", "CPU", ""),
            ("cuda", "CUDA", ""),
            ("mps", "Metal", ""),
        ],
        default="auto",
    )
    start_timeout: bpy.props.FloatProperty(
        name="Start Timeout",
        description="Seconds a backend may take to start",
        default=120.0,
        min=1.0,
        max=3600.0,
    )
    log_level: bpy.props.EnumProperty(
        name="Log Level",
        description="How much Platelight writes to the console",
        items=[(level, level.capitalize(), "") for level in ("ERROR", "WARNING", "INFO", "DEBUG")],
        default="WARNING",
        update=lambda self, _context: set_log_level(self.log_level),
    )

    def draw(self, _context: Any) -> None:
        """Draw the preferences."""
        layout = self.layout
        layout.use_property_split = True
        for name in ("endpoint", "backend", "device", "start_backend", "start_timeout", "log_level"):
            layout.prop(self, name)


def set_log_level(level: str) -> None:
    """Set the level of this extension's loggers."""
    import logging

    logging.getLogger(__package__).setLevel(level)


def user_folder() -> Path:
    """The extension's own folder for logs and work files, outside the installed code."""
    try:
        return Path(bpy.utils.extension_path_user(__package__, create=True))
    except ValueError:  # run from a source tree, not as an installed extension
        folder = Path(bpy.utils.user_resource("DATAFILES", path="platelight", create=True))
        return folder


def settings() -> Settings:
    """A frozen copy of the preferences; the environment variable ``PLATELIGHT_ENDPOINT`` wins over them."""
    addon = bpy.context.preferences.addons.get(__package__)
    endpoint, backend, start, device, timeout = "", "", True, "auto", 120.0
    if addon is not None and addon.preferences is not None:
        own = addon.preferences
        endpoint, backend, start = own.endpoint, bpy.path.abspath(own.backend), own.start_backend
        device, timeout = own.device, own.start_timeout
    return Settings(
        os.environ.get("PLATELIGHT_ENDPOINT") or endpoint, backend, start, device, user_folder(), timeout
    )
