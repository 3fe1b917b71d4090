"""Light that spreads below skin, by Cycles' own Christensen-Burley diffusion over the card's facets.

Burley's method looks for surface near a point in straight lines and needs no closed mesh, which facets are not: a random
walk would leak between them. Two things of a card would still be wrong, and are mended here. Facets at the matte's outer
edge reach far towards the camera and away from it, as they are nearly edge-on: they count as much more skin than there
is. They are turned to the camera, to ``FRINGE_FACING``. And where the matte or the plate ends there is no skin to take the
light over, so the share that spreads goes to 0 there (``weight``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .node_tools import NodeBuilder

ATTRIBUTE = "platelight_skin"
FRINGE_FACING = 0.4  # least n.v of facets whose matte is below 0.5
# Of diffused red, green and blue light in skin, over that of red: "skin1" of Jensen et al., "A Practical Model for
# Subsurface Light Transport", SIGGRAPH 2001, has mean free paths of 3.67, 1.37 and 0.68 mm.
RATIO = (1.0, 0.37, 0.19)
# Mean free path of diffused light over the width d of Burley's profile exp(-r/d) + exp(-r/3d): Christensen and Burley 2015,
# eq. 8, for albedos up to 0.6.
_PROFILE = 3.5
# Cycles' radius over d, whatever the albedo: what it divides by so that Burley looks like its former Gaussian.
_CYCLES = 4.0 * math.pi * 1.04
_DIRECTIONS = 4  # and the opposite ones, at two distances


def width(millimeters: float, meters: float) -> float:
    """Width d of red light's profile in scene units; light goes 2.5 d on average.

    Args:
        millimeters: mean free path of diffused red light.
        meters: length of a scene unit.
    """
    return millimeters * 1e-3 / meters / _PROFILE


def reach(millimeters: float, meters: float) -> float:
    """How far 86 % of red light stays, in scene units."""
    return 5.0 * width(millimeters, meters)


def weight(
    b: NodeBuilder, matte_at: Callable[[Any], Any], place: Any, tangent: Any, facing: Any, size: Any
) -> Any:
    """Geometry Nodes: 1 where there is skin all around a facet as far as light reaches, 1/2 for half as far, else 0.

    Args:
        matte_at: samples the matte at a place of the plate, 0 outside of it.
        place: the facet's own place, (0, 0) to (1, 1).
        tangent, facing: where the facet leans to, a unit vector, and its n.v.
        size: the reach as a share of the plate's width and height at the facet's depth.
    """
    lean = b.math("SUBTRACT", 1.0, facing)
    rings: list[Any] = [1.0, 1.0]
    for index in range(_DIRECTIONS):
        angle = math.pi * index / _DIRECTIONS
        along = (math.cos(angle), math.sin(angle), 0.0)
        # A circle on the facet is an ellipse in the picture.
        short = b.math("MULTIPLY", b.vector("DOT_PRODUCT", tangent, along), lean)
        step = b.vector("MULTIPLY", b.vector("SUBTRACT", along, b.vector("SCALE", tangent, short)), size)
        for ring, share in enumerate((1.0, 0.5)):
            for sign in (share, -share):
                there = b.vector("ADD", place, b.vector("SCALE", step, sign))
                rings[ring] = b.math("MINIMUM", rings[ring], matte_at(there))
    return b.math("MULTIPLY", b.math("ADD", *rings), 0.5, clamp=True)


def set_skin(material: Any, profile: float) -> None:
    """Have a card's material spread light below its surface by ``width``, or (0) no more."""
    tree = material.node_tree
    shader, source = tree.nodes["Principled BSDF"], tree.nodes.get(ATTRIBUTE)
    share = shader.inputs["Subsurface Weight"]
    if profile <= 0.0:
        if source is not None:
            tree.nodes.remove(source)
            share.default_value = 0.0
        return
    if source is None:
        b = NodeBuilder(tree)
        source = b.add(
            "ShaderNodeAttribute", label=ATTRIBUTE, attribute_name=ATTRIBUTE, attribute_type="GEOMETRY"
        )
        source.location = (shader.location.x - 180, shader.location.y - 320)
        b.feed(share, source.outputs["Fac"])
    shader.subsurface_method = "BURLEY"
    shader.inputs["Subsurface Scale"].default_value = profile * _CYCLES
    shader.inputs["Subsurface Radius"].default_value = RATIO
