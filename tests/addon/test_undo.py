"""Undo: operators that change the scene go back and forth with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.blender
def test_operators_are_undone_and_redone(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("undo.py")
    assert seen["load"] == [1, 0, 1]
    assert seen["light"] == [["forest.exr", 30.0], ["", 0.0], ["forest.exr", 30.0]]
    stands, gone = [True, 2, 1], [False, 0, 0]
    assert seen["build"] == [stands, gone, stands]
    scaled, unscaled, again = seen["scale"]
    assert scaled == again
    assert scaled > 1.5
    assert unscaled == pytest.approx(1.0)
    assert seen["remove"] == [0, 1, 0]
    assert seen["back"] == [*stands, pytest.approx(0.75, abs=1e-3)]  # with its maps
