"""Material classes; a module of its own, so that painting needs no mesh library."""

from __future__ import annotations

from enum import IntEnum


class Part(IntEnum):
    """Material class of a face."""

    NONE = 0
    SKIN = 1
    HAIR = 2
    CLOTH = 3
    TEETH = 4
    GUMS = 5
    SCLERA = 6
    IRIS = 7
    OBJECT_A = 8
    OBJECT_B = 9
    OBJECT_C = 10
    OBJECT_D = 11
