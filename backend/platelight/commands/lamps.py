"""``--lamp "point power=200 at=1,0.5,-1"``: a lamp in one argument."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from platelight.protocol.lamps import Lamp

KEYS = {
    "point": ("power", "at", "radius", "color"),
    "sun": ("power", "direction", "angle", "color"),
    "area": ("power", "at", "to", "direction", "up", "size", "color"),
    "spot": ("power", "at", "to", "direction", "cone", "blend", "radius", "color"),
}
"""What each kind of lamp takes; ``to`` is a place that it shines at, instead of ``direction``."""
NEEDED = {
    "point": ("power", "at"),
    "sun": ("power", "direction"),
    "area": ("power", "at"),
    "spot": ("power", "at"),
}
LENGTHS = {"at": 3, "to": 3, "direction": 3, "up": 3, "color": 3, "size": 2}
HELP = (
    "a lamp, in meters in the camera's frame (+X right, +Y up, the subject at -Z): 'point power=200 at=1,1,-1', 'sun "
    "power=3 direction=1,-1,-1', 'area power=100 at=-1,1,-1 to=0,0,-2 size=1,0.5', 'spot power=300 at=0,1,0 to=0,0,-2 "
    "cone=30'; may be given again; power in Blender's units; --distance says how far the subject is"
)


def lamp(text: str) -> Lamp:
    """Read one ``--lamp``; complaints are for argparse."""
    kind, *words = text.split() or [""]
    if kind not in KEYS:
        raise argparse.ArgumentTypeError(f"{text!r} begins with none of {', '.join(KEYS)}")
    values: dict[str, Any] = {}
    for word in words:
        key, equals, numbers = word.partition("=")
        if not equals or key not in KEYS[kind]:
            raise argparse.ArgumentTypeError(
                f"{word!r} is none of what a {kind} takes: {', '.join(KEYS[kind])}"
            )
        if key in values:
            raise argparse.ArgumentTypeError(f"{key} of the {kind} is given twice")
        values[key] = _numbers(key, numbers)
    if missing := [key for key in NEEDED[kind] if key not in values]:
        raise argparse.ArgumentTypeError(f"the {kind} lacks {' and '.join(missing)}")
    if to := values.pop("to", None):
        if "direction" in values:
            raise argparse.ArgumentTypeError(f"the {kind} has both to and direction")
        values["direction"] = tuple(b - a for a, b in zip(values["at"], to, strict=True))
    if "direction" in values and not any(values["direction"]):
        raise argparse.ArgumentTypeError(f"the {kind} shines nowhere: its direction has no length")
    try:
        return msgspec.convert({"kind": kind, **values}, Lamp)
    except msgspec.ValidationError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error


def _numbers(key: str, text: str) -> float | tuple[float, ...]:
    count = LENGTHS.get(key, 1)
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        wanted = "a number" if count == 1 else f"{count} numbers with commas between"
        raise argparse.ArgumentTypeError(f"{key}={text} is not {wanted}")
    return values[0] if count == 1 else values
