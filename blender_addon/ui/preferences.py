"""Drawing of the preferences: the backend here or elsewhere, its installation, cache, HDRI folders, shortcuts."""

from typing import Any

from .. import keymap, mapfiles, preferences, wire
from ..languages import translate
from ..session import session

# Whose failures are told here.
_OPERATORS = ("test_backend", "pair", "forget_backend", "copy_key", "install_backend", "start_backend")


def draw(layout: Any, own: Any) -> None:
    """All of it, each part under its title."""
    layout.use_property_split = True
    for title, part in (
        ("Backend", _backend),
        ("Installation", _installation),
        ("Cache", _cache),
        ("HDRI Folders", _folders),
        ("Shortcuts", _shortcuts),
    ):
        box = layout.box()
        box.label(text=title)
        part(box.column(), own)


def _backend(layout: Any, own: Any) -> None:
    layout.prop(own, "endpoint")
    if own.endpoint:
        _pairing(layout, own.endpoint)
    else:
        for name in ("backend", "device", "start_backend", "start_timeout"):
            layout.prop(own, name)
    layout.operator("platelight.test_backend", icon="LINKED")
    if session.message and (not session.is_error or session.where in _OPERATORS):
        layout.label(text=session.message, icon="ERROR" if session.is_error else "INFO")
    layout.prop(own, "log_level")


def _pairing(layout: Any, endpoint: str) -> None:
    try:
        key = wire.trusted_key(endpoint)
    except wire.PlatelightError as error:
        layout.label(text=str(error), icon="ERROR")
        return
    if key:
        text = translate("Paired: its public key begins with {key}", key=key[:8])
        layout.label(text=text, icon="LOCKED")
    else:
        layout.label(
            text="Not paired: copy this computer's key, let it in there, enter the key from there",
            icon="UNLOCKED",
        )
    row = layout.row(align=True)
    row.operator("platelight.copy_key", icon="COPYDOWN")
    row.operator("platelight.pair", icon="KEYINGSET")
    if key:
        row.operator("platelight.forget_backend", icon="X")


def _installation(layout: Any, own: Any) -> None:
    for name in ("install_device", "install_python", "install_options"):
        layout.prop(own, name)
    layout.operator("platelight.install_backend", icon="IMPORT")


def _cache(layout: Any, own: Any) -> None:
    if session.cache_bytes is None:
        session.cache_bytes = mapfiles.used_bytes(preferences.user_folder())
    layout.prop(own, "cache_gib")
    used = translate("{size:.2f} GiB are used", size=session.cache_bytes / (1 << 30))
    layout.label(text=used, icon="DISK_DRIVE")
    layout.label(text=str(preferences.user_folder()), icon="FILE_FOLDER")
    layout.operator("platelight.clear_cache", icon="TRASH")


def _folders(layout: Any, own: Any) -> None:
    for index, item in enumerate(own.hdri_folders):
        row = layout.row(align=True)
        row.prop(item, "path", text="")
        row.operator("platelight.remove_hdri_folder", text="", icon="REMOVE").index = index
    layout.operator("platelight.add_hdri_folder", icon="ADD")


def _shortcuts(layout: Any, _own: Any) -> None:
    import bpy
    import rna_keymap_ui  # Blender's own drawing of its Keymap preferences

    configuration = bpy.context.window_manager.keyconfigs.user
    shown = ""
    for chosen, item in keymap.users_items():
        if chosen.name != shown:
            shown = chosen.name
            layout.label(text=shown)
        layout.context_pointer_set("keymap", chosen)
        rna_keymap_ui.draw_kmi(["ADDON", "USER", "DEFAULT"], configuration, chosen, item, layout, 0)
