"""Reflectivity f0 as the sockets of Blender's Principled BSDF; standard library only, for the add-on too.

Principled takes Fresnel from an index of refraction and scales its f0 by twice the IOR Level:
``F0(IOR) = ((IOR - 1) / (IOR + 1))²``, 0.04 at the default IOR of 1.5, where a level of 1 gives 0.08.
"""

from __future__ import annotations

import math

BASE_IOR = 1.5
BASE_F0 = 0.04
MAX_F0 = 0.95
"""Beyond it a dielectric's index runs away (f0 of 0.95 is already an IOR of 78)."""


def principled_from_f0(f0: float) -> tuple[float, float]:
    """(IOR Level, IOR) of the Principled BSDF for a reflectance at normal incidence.

    Up to 0.08 the IOR stays 1.5 and the level is f0 / 0.08; beyond, the level stays 0.5 (no scaling) and
    the IOR carries f0. Values outside [0, 0.95] are clamped.
    """
    f0 = min(max(float(f0), 0.0), MAX_F0)
    if f0 <= 2.0 * BASE_F0:
        return f0 / (2.0 * BASE_F0), BASE_IOR
    root = math.sqrt(f0)
    return 0.5, (1.0 + root) / (1.0 - root)


def f0_from_principled(ior_level: float, ior: float) -> float:
    """The reflectance at normal incidence that an IOR Level and an IOR stand for."""
    return ((ior - 1.0) / (ior + 1.0)) ** 2 * 2.0 * ior_level
