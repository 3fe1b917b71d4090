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


def test_the_cavity_map_is_a_factor_of_the_albedo(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("cavity.py")
    assert seen["error"] <= 1e-5, "not what albedo times cavity renders"
    assert seen["effect"] > 0.2
    assert seen["space"] == "Non-Color"
    assert seen["thumbnail"] == [0.25, 0.62]
    added = {"cavity", "Albedo x Cavity"}
    assert not added & set(seen["nodes"])
    assert set(seen["nodes with"]) == {*seen["nodes"], "Gamma", *added}
    assert seen["behind mine"]
    assert seen["proxy"]
    assert (seen["nodes without"], seen["back"]) == (seen["nodes"], 0.0)
    assert max(seen[name] for name in ("packed without", "packed", "packed painted", "saved")) <= 1e-3
    assert seen["keys"] == 3  # without, with, painted on: the instant preview reads each
    # Cycles' passes hold what these maps tell; depth is for shadows and lamps alone
    with_map = ["Relight", "cavity", "roughness"]
    assert seen["sent"] == [["Refine"], ["Relight", "roughness"], ["Refine", "cavity"], with_map]


def test_single_pixels_stay_sharp(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("card_pixels.py")
    assert seen["albedo"] == pytest.approx(0.4, rel=0.03)
    assert seen["matte"] == pytest.approx(0.5, rel=0.03)
    assert seen["back"] == [1.5, "ACCURATE"]
    towards, away = seen["gloss"]
    assert away == pytest.approx(towards, rel=0.15)
