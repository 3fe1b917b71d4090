"""Add-on preferences, and the frozen copy of them that work off the main thread may read."""

import os
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import bpy

from .installer import Device, devices


class Settings(NamedTuple):
    """Preferences copied before work starts: a thread must never read RNA, which may be freed under it."""

    endpoint: str
    backend: str
    start_backend: bool
    device: str
    folder: Path
    start_timeout: float


class InstallChoice(NamedTuple):
    """How the backend is to be installed."""

    device: Device
    python: str
    options: tuple[str, ...]


_DEVICES = {
    Device.CPU: ("CPU", "PyTorch without GPU support; about 1 GB with everything it needs"),
    Device.CUDA: ("CUDA", "For NVIDIA GPUs; about 6 GB"),
    Device.ROCM: ("ROCm", "For AMD GPUs; about 12 GB"),
    Device.METAL: ("Metal", "For Apple GPUs"),
}


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
    install_device: bpy.props.EnumProperty(
        name="Install For",
        description="What the backend is installed for",
        items=[(device.value, *_DEVICES[device]) for device in devices()],
    )
    install_python: bpy.props.StringProperty(
        name="Install With",
        description="Python 3.11 or newer that makes the backend's environment; empty looks for one",
        subtype="FILE_PATH",
    )
    install_options: bpy.props.StringProperty(
        name="Options of pip",
        description="Options for pip when the backend is installed, such as --index-url of a mirror",
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
        layout.separator()
        for name in ("install_device", "install_python", "install_options"):
            layout.prop(self, name)
        layout.operator("platelight.install_backend", icon="IMPORT")
        layout.operator("platelight.clear_cache", icon="TRASH")


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


def install_choice() -> InstallChoice:
    """A frozen copy of what the user chose for the installation."""
    addon = bpy.context.preferences.addons.get(__package__)
    if addon is None or addon.preferences is None:
        return InstallChoice(devices()[0], "", ())
    own = addon.preferences
    python = bpy.path.abspath(own.install_python) if own.install_python else ""
    return InstallChoice(Device(own.install_device), python, tuple(shlex.split(own.install_options)))


def polyhaven_addresses() -> tuple[str, ...]:
    """API and thumbnails of Poly Haven or of a mirror: ``PLATELIGHT_POLYHAVEN`` is the address of one that has both."""
    mirror = os.environ.get("PLATELIGHT_POLYHAVEN", "")
    return (mirror, f"{mirror}/thumbs") if mirror else ()


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
