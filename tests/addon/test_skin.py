"""Skin: light that spreads below the card's facets, in Cycles, against the real sphere and the profile that is meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.blender


@pytest.mark.slow
def test_light_spreads_below_the_facets_as_below_a_sphere(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("skin.py", timeout=900)
    print(seen)
    for light, least in (("hdri", 0.1), ("sun", 0.04)):
        errors = seen[light]
        assert errors["effect"] > least, "skin changes nothing"
        assert errors["error"] < 0.02, (light, errors)
        assert errors["larger facets"] < 0.04, (light, errors)
        assert max(errors["level"], errors["plain level"]) < 0.02, (light, errors)
    # mm are mm; what is left is the width of a pixel, 0.76 mm, most of all for blue, whose light goes 0.5 mm
    red, green, blue = seen["edge"]
    assert 0.95 < red < 1.1, seen["edge"]
    assert 0.95 < green < 1.25, seen["edge"]
    assert 0.95 < blue < 1.5, seen["edge"]
    assert seen["lost"] < 1e-3, "light of Combined that is in none of the passes which Refine takes"
    borders = seen["borders"]
    assert borders["darkest"] > 0.92, "a dark rim where skin ends"
    assert borders["brightest"] < 1.05, "a bright rim where skin ends"
    assert abs(borders["mean"] - 1.0) < 0.02
    off, on, wider, off_again, mine, method = seen["switched"]
    assert off == off_again
    assert [off[0], on[0], wider[0]] == [False, True, True]
    assert on[2] == wider[2] == off[2] + 1
    assert mine == 0.25, "a subsurface that the user set was taken away"
    assert method == "BURLEY"
