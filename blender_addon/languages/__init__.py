"""Translations through Blender's own mechanism: labels, tooltips and why buttons are gray. Sentences of errors are English.

A language is a file ``CODE.json``, from the English text as it stands in the code to the translation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bpy

CONTEXT = "Platelight"
"""Context of labels that Blender uses for other things, whose translations would win: a face is no side of a mesh here."""
_CODES = {"de": ("de", "de_DE")}  # file, and what Blender calls the language


def messages(code: str) -> dict[str, str]:
    """All translations of a language."""
    found: dict[str, str] = json.loads(Path(__file__).with_name(f"{code}.json").read_text("utf-8"))
    return found


def translate(text: str, **values: Any) -> str:
    """A label in the user's language, with values put into its braces."""
    return str(bpy.app.translations.pgettext_iface(text)).format(**values)


def tip(text: str) -> str:
    """A tooltip in the user's language."""
    return str(bpy.app.translations.pgettext_tip(text))


def register() -> None:
    """Hand the translations to Blender; labels of operators have a context of their own."""
    contexts = ("*", bpy.app.translations.contexts.operator_default, CONTEXT)
    table = {
        locale: {(context, text): said for text, said in messages(code).items() for context in contexts}
        for code, locales in _CODES.items()
        for locale in locales
    }
    bpy.app.translations.register(__package__, table)


def unregister() -> None:
    """Undo ``register``."""
    bpy.app.translations.unregister(__package__)
