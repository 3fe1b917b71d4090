"""Properties that mean what the options of the backend's requests mean.

They are built from the request types themselves, so that names, defaults, ranges and help texts have one home.
"""

from typing import Any

import bpy

from . import wire
from .languages import CONTEXT

# What each choice of a request means, for its tooltip.
_CHOICES: dict[str, dict[str, str]] = {
    "matte": {
        "auto": "Finds the subject",
        "full": "The whole frame is the subject",
        "given": "A matte of your own: a file, or the plate's alpha",
    },
    "backdrop": {
        "none": "Nothing: the subject alone, with alpha",
        "plate": "The plate itself",
        "light": "The light, as the camera sees it",
        "given": "A picture, numbered files or a movie of your own",
    },
}


def _property(option: wire.Option) -> Any:
    """A bpy property that means what the option means."""
    words: dict[str, Any] = {
        "name": option.title,
        "description": option.description[:1].upper() + option.description[1:],
        "translation_context": CONTEXT,
    }
    if option.choices == ("off", "on"):
        return bpy.props.BoolProperty(default=option.default == "on", **words)
    if option.choices:
        items = [(choice, choice.capitalize(), _CHOICES[option.name][choice]) for choice in option.choices]
        return bpy.props.EnumProperty(items=items, default=option.default, **words)
    if option.type is bool:
        return bpy.props.BoolProperty(default=option.default, **words)
    bounds: dict[str, Any] = {}
    if option.minimum is not None:
        bounds["min"] = option.type(option.minimum)
    if option.maximum is not None:
        bounds["max"] = option.type(option.maximum)
    if bounds == {"min": 0.0, "max": 1.0}:
        bounds["subtype"] = "FACTOR"
    kind = bpy.props.IntProperty if option.type is int else bpy.props.FloatProperty
    return kind(default=option.default, **bounds, **words)


def options(request: Any, *names: str) -> dict[str, Any]:
    """Properties for the named options of a request."""
    found = {option.name: _property(option) for option in wire.options_of(request) if option.name in names}
    if missing := set(names) - set(found):
        raise KeyError(f"{request.__name__} has no option {sorted(missing)}")
    return found
