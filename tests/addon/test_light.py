"""Light that matches: the scene's light on the plate, the plate's light in the scene."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.blender


@pytest.mark.slow
def test_the_scene_light_is_what_the_scene_sends(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("scene_light.py")
    assert seen["known"] <= 0.01
    assert seen["lamps"].pop("hidden") == 0.0
    assert seen["lamps"] == {"SUN": pytest.approx(1.0, abs=0.02), "POINT": pytest.approx(1.0, abs=0.02)}
    errors = seen["cornell"]
    assert errors["lamp in the map"] > 100.0
    assert 0.0 < errors["diffuse"] <= 0.03
    assert 0.0 < errors["glossy"] <= 0.05
    assert 0.0 < errors["principled"] <= 0.03


def test_a_camera_that_turns_later_leaves_the_light_where_the_world_is(
    run_blender: Callable[..., Any],
) -> None:
    """A tracked camera turns along its shot: Cycles and the backend must light each frame from the same side."""
    seen = run_blender("yawed.py")
    for told, by_cycles in seen.values():
        assert (
            sum(a * b for a, b in zip(told, by_cycles, strict=True)) > 0.9995
        )  # 1.8 degrees, under a texel's width
    ways = [by_cycles for _, by_cycles in seen.values()]
    assert sum(a * b for a, b in zip(*ways[:2], strict=True)) < 0.9


def test_the_plate_lends_its_light(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("plate_light.py")
    assert seen["gain"] == pytest.approx(1.0, abs=0.01)
    assert seen["gain without cavity"] == pytest.approx(1.0, abs=2e-3)
    assert max(seen[name] for name in ("gray card", "red patch", "blue patch")) <= 0.005
    assert seen["subject"] <= 0.02  # Cycles' noise of 64 samples
    assert seen["copied"] <= 2e-3  # the strength comes from maps kept as half floats
    assert 0.0 < seen["sun"] <= 0.02
    assert (seen["lamps"], seen["lamps after"]) == (1, 0)
    assert seen["world left"] == "mine"
    assert "not taken yet" in seen["not baked"]
    assert seen["match"] == ["FINISHED"]
    assert seen["baked"] == [16, 32, 3]
    assert seen["groups"] == ["", "Key", "Sky"]
    assert seen["groups sum"] < 1e-3
    assert 0.3 < seen["key alone"][0] < 0.5 < seen["key alone"][1]
    assert (seen["cameras"], seen["camera back"]) == (1, True)


@pytest.mark.slow
def test_the_proxy_casts_the_subjects_shadow(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("shadow_proxy.py")
    assert seen["shadow pixels"] > 50
    assert seen["overlap"] > 0.6  # the back of the subject is a guess, and it casts a part of the shadow
    assert seen["card alone"] < 0.03  # facets cast none
    assert seen["floor"] < 0.02
    assert seen["reflection seen"] > 0.005
    assert seen["reflection error"] < 0.5
    assert abs(seen["bias"]) < 0.01  # the proxy leaves the plate as it is
    wall = seen["wall"]
    assert wall["pixels"] > 200
    assert wall["overlap"] > 0.85
    assert wall["off"] < 0.01


def test_what_cameras_do_not_see_lights_all_the_same(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("bake_kinds.py")
    assert seen.pop("back") == [True] * 4
    assert seen.pop("world back") == [True, True, 1]
    assert len(seen) == 6
    assert seen == {name: pytest.approx(1.0, abs=0.03) for name in seen}
