"""The plate card and the World in Cycles, against the real sphere and the light convention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.blender


@pytest.mark.slow
def test_the_card_renders_as_the_real_sphere(run_blender: Callable[..., Any]) -> None:
    errors = run_blender("card_against_sphere.py")["errors"]
    assert len(errors) == 8
    assert max(errors.values()) <= 0.01, errors
    assert min(errors.values()) > 0.0, (
        "a sphere and a card never agree to the last bit: the same file was read"
    )


def test_world_rotation_is_the_convention(run_blender: Callable[..., Any]) -> None:
    errors = run_blender("world_rotation.py")
    assert len(errors) == 4
    assert max(errors.values()) <= 0.01, errors
