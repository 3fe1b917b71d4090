"""Add-on preferences, and the frozen copy of them that work off the main thread may read."""

import os
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import bpy

from .installer import Device, devices
from .wire import InputError


class Settings(NamedTuple):
    """Preferences copied before work starts: a thread must never read RNA, which may be freed under it."""

    endpoint: str
    backend: str
    start_backend: bool
    device: str
    folder: Path
    start_timeout: float
    quota: int | None


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


class PlatelightFolder(bpy.types.PropertyGroup):
    """A folder of HDRIs."""

    path: bpy.props.StringProperty(
        name="Folder", description="Folder whose HDRIs the Light panel shows", subtype="DIR_PATH"
    )


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
            ("cpu", "CPU", "The processor"),
            ("cuda", "CUDA", "An NVIDIA GPU"),
            ("mps", "Metal", "An Apple GPU"),
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
    hdri_folders: bpy.props.CollectionProperty(
        type=PlatelightFolder, name="HDRI Folders", description="Folders of HDRIs of your own"
    )
    start_timeout: bpy.props.FloatProperty(
        name="Start Timeout (s)",
        description="Seconds a backend may take to start",
        default=120.0,
        min=1.0,
        max=3600.0,
    )
    cache_gib: bpy.props.FloatProperty(
        name="Cache Quota (GiB)",
        description="GiB on disk for maps and downloaded HDRIs, and as many again, at least 4, for what a backend started here "
        "keeps; beyond it the oldest that are a day old and not in use go. 0 sets no limit, but 20 for the backend",
        default=20.0,
        min=0.0,
        soft_max=500.0,
        precision=1,
    )
    log_level: bpy.props.EnumProperty(
        name="Log Level",
        description="How much Platelight writes to the console",
        items=[
            ("ERROR", "Error", "What failed"),
            ("WARNING", "Warning", "What failed, and what may be wrong"),
            ("INFO", "Info", "Progress of jobs as well"),
            ("DEBUG", "Debug", "Everything"),
        ],
        default="WARNING",
        update=lambda self, _context: set_log_level(self.log_level),
    )

    def draw(self, _context: Any) -> None:
        """Draw the preferences."""
        from .ui import preferences as drawing  # late: the panels read the preferences

        drawing.draw(self.layout, self)


CLASSES = (PlatelightFolder, PlatelightPreferences)


def register() -> None:
    """Register the preferences."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    """Undo ``register``."""
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)


def own() -> PlatelightPreferences | None:
    """The preferences themselves; None where the extension was not switched on by Blender, as in tests."""
    addon = bpy.context.preferences.addons.get(__package__)
    return addon.preferences if addon is not None else None


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
    """A frozen copy of what the user chose for the installation.

    Raises:
        InputError: pip's options have an open quote.
    """
    chosen = own()
    if chosen is None:
        return InstallChoice(devices()[0], "", ())
    python = bpy.path.abspath(chosen.install_python) if chosen.install_python else ""
    words = chosen.install_options
    if os.name == "nt":  # a folder's backslashes escape nothing
        words = words.replace("\\", "\\\\")
    try:
        options = tuple(shlex.split(words))
    except ValueError as error:
        raise InputError(
            f"The options of pip cannot be read ({error}).",
            "Close the quotes in the extension's preferences.",
        ) from error
    return InstallChoice(Device(chosen.install_device), python, options)


def hdri_folders() -> tuple[Path, ...]:
    """Folders of HDRIs of the user's own, and Blender's asset libraries on this computer."""
    chosen = own()
    folders = [item.path for item in chosen.hdri_folders] if chosen is not None else []
    folders += [library.path for library in bpy.context.preferences.filepaths.asset_libraries]
    return tuple(dict.fromkeys(Path(bpy.path.abspath(path)) for path in folders if path))


def polyhaven_addresses() -> tuple[str, ...]:
    """API and thumbnails of Poly Haven or of a mirror: ``PLATELIGHT_POLYHAVEN`` is the address of one that has both."""
    mirror = os.environ.get("PLATELIGHT_POLYHAVEN", "")
    return (mirror, f"{mirror}/thumbs") if mirror else ()


def cache_quota() -> int | None:
    """Bytes that the cache may take; None for no limit."""
    chosen = own()
    return int(chosen.cache_gib * (1 << 30)) if chosen is not None and chosen.cache_gib > 0.0 else None


def settings() -> Settings:
    """A frozen copy of the preferences; the environment variable ``PLATELIGHT_ENDPOINT`` wins over them."""
    chosen = own()
    endpoint, backend, start, device, timeout = "", "", True, "auto", 120.0
    if chosen is not None:
        endpoint, backend, start = chosen.endpoint, bpy.path.abspath(chosen.backend), chosen.start_backend
        device, timeout = chosen.device, chosen.start_timeout
    endpoint = os.environ.get("PLATELIGHT_ENDPOINT", endpoint)
    return Settings(endpoint, backend, start, device, user_folder(), timeout, cache_quota())
