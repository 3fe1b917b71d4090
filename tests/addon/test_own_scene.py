"""What a user has beside the plate: a lens that is fitted or shifted, view layers, assets, a World, copies of the scene."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.blender
def test_the_users_own_things(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("own_scene.py")
    assert seen["cropped"] == [16, 12, pytest.approx(0.3, abs=1e-4), 48.0]
    assert seen["sun"] == [True, True, True, "sunny.exr"]
    for title, things in seen["lens"].items():
        for lowest, highest in things:  # card and proxy fill the picture, and no more
            assert lowest == pytest.approx([0.0, 0.0], abs=0.06), title
            assert highest == pytest.approx([1.0, 1.0], abs=0.06), title
        assert things[0] == [pytest.approx([0.0] * 2, abs=1e-4), pytest.approx([1.0] * 2, abs=1e-4)], title
    assert seen["own world"] == [True, True]
    assert seen["alone"][0] == pytest.approx(1.0, abs=1e-3)
    assert seen["with others"] == pytest.approx(seen["alone"], rel=0.03)
    assert seen["layers"] == {"ViewLayer": True, "A first one": True}
    during, again = seen["during"]
    assert during[1] == 4
    assert again == during
    assert seen["saved"] == seen["after"] != during
    assert seen["worlds"] == [True, True]
    assert seen["renamed"] == [True, True]
    assert seen["left"] == [0, True, pytest.approx(0.5, abs=1e-3), True]
