"""Platelight in Blender: plates taken apart, lit by Cycles and finished by the backend's refiner."""

import logging

import bpy

from . import (
    browser,
    cli,
    hdris,
    instant,
    keymap,
    languages,
    maps,
    operators,
    preferences,
    properties,
    temporary,
    ui,
)
from .session import session

log = logging.getLogger(__name__)
_handler: logging.Handler | None = None


@bpy.app.handlers.persistent
def _before_save(path: object = "", *_args: object) -> None:
    try:
        maps.stay(str(path or ""))
        maps.claim(str(path or ""))
        maps.pack()
    finally:
        temporary.before_saving()


@bpy.app.handlers.persistent
def _after_save(*_args: object) -> None:
    temporary.after_saving()


@bpy.app.handlers.persistent
def _after_undo(*_args: object) -> None:
    temporary.after_undo()


@bpy.app.handlers.persistent
def _before_load(*_args: object) -> None:
    # Another file comes: what is under way belongs to this one. The backend stays.
    instant.stop()
    session.abandon("What was under way ended with the file that it belonged to.")


def register() -> None:
    """Register everything, in the order in which it leans on one another."""
    global _handler
    _handler = logging.StreamHandler()
    _handler.setFormatter(logging.Formatter("platelight: %(message)s"))
    log.addHandler(_handler)
    languages.register()
    preferences.register()
    properties.register()
    browser.register()
    hdris.register()
    operators.register()
    ui.register()
    keymap.register()
    cli.register()
    bpy.app.handlers.save_pre.append(_before_save)
    for handlers in (bpy.app.handlers.save_post, bpy.app.handlers.save_post_fail):
        handlers.append(_after_save)
    for handlers in (bpy.app.handlers.undo_post, bpy.app.handlers.redo_post):
        handlers.append(_after_undo)
    bpy.app.handlers.load_pre.append(_before_load)
    own = preferences.own()
    preferences.set_log_level(own.log_level if own is not None else "WARNING")


def unregister() -> None:
    """Undo ``register``, backwards, and end what is under way: what is left over hangs the interpreter."""
    global _handler
    instant.stop()
    session.close()
    bpy.app.handlers.load_pre.remove(_before_load)
    for handlers in (bpy.app.handlers.undo_post, bpy.app.handlers.redo_post):
        handlers.remove(_after_undo)
    for handlers in (bpy.app.handlers.save_post, bpy.app.handlers.save_post_fail):
        handlers.remove(_after_save)
    bpy.app.handlers.save_pre.remove(_before_save)
    cli.unregister()
    keymap.unregister()
    ui.unregister()
    operators.unregister()
    hdris.unregister()
    browser.unregister()
    properties.unregister()
    preferences.unregister()
    languages.unregister()
    if _handler is not None:
        log.removeHandler(_handler)
        _handler = None
