"""``--light HDRI``, ``--light HDRI@U,V``: target lights and where in the plate they were taken. Blender uses it too."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import NamedTuple

from platelight.protocol.errors import InputError
from platelight.protocol.requests import MOST_LIGHTS, Place, light_planes

HELP = (
    "lat-long HDRI to relight with, or light.####.exr: one a frame; needed unless there is a --lamp. Several, each given as "
    "HDRI@U,V, blend between the places in the plate where they were taken (0,0 is the upper left corner, 1,1 the lower right)"
)
_PLACED = re.compile(r"(?P<path>.+)@(?P<u>[^@,/\\]+),(?P<v>[^@,/\\]+)")


class Light(NamedTuple):
    """A light of the command line: the file as it was given, and its place."""

    path: str
    place: Place | None = None


def light(text: str) -> Light:
    """Read one ``--light``; complaints are for argparse. What does not end in two numbers is all file name."""
    found = _PLACED.fullmatch(text)
    if found is None:
        return Light(text)
    try:
        u, v = float(found["u"]), float(found["v"])
    except ValueError:
        return Light(text)
    if not (0.0 <= u <= 1.0 and 0.0 <= v <= 1.0):
        raise argparse.ArgumentTypeError(
            f"the place {found['u']},{found['v']} is outside the plate, which goes from 0,0 to 1,1"
        )
    return Light(found["path"], (u, v))


def places(lights: Sequence[Light]) -> tuple[Place, ...]:
    """The places of several lights; none for one, which lights all.

    Raises:
        InputError: too many, or one has no place or another's.
    """
    if len(lights) < 2:
        return ()
    if len(lights) > MOST_LIGHTS:
        raise InputError(f"There are {len(lights)} lights.", f"Give {MOST_LIGHTS} at most.")
    found = []
    for one in lights:
        if one.place is None:
            raise InputError(
                f"{one.path} is one of {len(lights)} lights and has no place.",
                f"Say where in the plate it was taken: {one.path}@0.5,0.2.",
            )
        found.append(one.place)
    light_planes(found)
    return tuple(found)
