"""Sequences: maps of each frame drive the card, a range is analyzed and relit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LEVELS = [0.1, 0.3, 0.6]


@pytest.mark.blender
def test_every_frame_has_its_own_maps(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("sequence.py")
    assert seen["range"] == [1001, 1003]
    assert (seen["one"], seen["all"], seen["files"]) == (1, 5, 3)
    assert seen["partly"]  # one frame with a cavity map and one without: none
    assert seen["read"] == pytest.approx([0.25, 0.6, 0.75], rel=1e-3)
    assert seen["thumbnail"] == [24, 24, pytest.approx(0.881, abs=0.01)]  # 0.75 as sRGB shows it
    assert seen["proxy's frames"] == [[1001, 3]] * 5  # albedo, roughness, depth, matte, cavity
    assert seen["composite's frames"] == [[1001, 3]] * 2
    assert seen["rendered"] == pytest.approx(LEVELS, rel=0.02)
    assert seen["relight"] == ["FINISHED"]
    assert seen["frame back"] == 1
    assert seen["lights"] == [
        pytest.approx([turn, 0.5, factor], abs=1e-3)
        for turn, factor in ((0.0, 1.0), (10.0, 2.0), (20.0, 3.0))
    ]
    lit = [level * factor * 2**0.5 for level, factor in zip(LEVELS, (1, 2, 3), strict=True)]
    assert seen["results"] == pytest.approx(lit, rel=0.02)
    assert seen["by backend"] == ["FINISHED"]
    assert seen["asked last"] == ["Relight"] * 3
    assert seen["cavities"] == pytest.approx([0.4, 0.5, 0.8], rel=1e-3)
    assert len(seen["lamps"]) == 3
    ends = [seen["lamps"][0], seen["lamps"][2]]
    assert ends == [pytest.approx([x, power, 2.0], abs=1e-3) for x, power in ((0, 50), (2, 150))]
    assert 0.0 < seen["lamps"][1][0] < 2.0  # Blender eases in between
    assert seen["pass of a frame"] == pytest.approx(0.5, rel=1e-3)
    assert "no albedo of frame 1004" in seen["missing"]
    assert seen["after load"] == pytest.approx(0.75, rel=1e-3)


def test_names_of_frames(addon: Callable[[str], Any], tmp_path: Path) -> None:
    mapfiles = addon("mapfiles")
    for frame in (98, 99, 100, 102):
        (tmp_path / f"a2.{frame:03d}.exr").touch()
    assert mapfiles.frame_range(tmp_path / "a2.099.exr") == (98, 100)
    assert mapfiles.frame_path(tmp_path / "a2.099.exr", 7).name == "a2.007.exr"
    assert mapfiles.frame_range(tmp_path / "still.exr") == (0, 0)
    with pytest.raises(mapfiles.InputError, match="no frame number"):
        mapfiles.frame_path(tmp_path / "still.exr", 1)


@pytest.mark.blender
def test_what_the_user_does_while_a_sequence_is_rendered(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("sequence_meanwhile.py")
    first, last, before = seen["passes"]
    assert first == pytest.approx(0.1, rel=0.05)
    assert last == before == pytest.approx(0.4, rel=0.05)
    assert seen["preview.png"] == pytest.approx([0.1, 0.5], rel=0.05)  # straight: no dark edges
    assert seen["saved"] == seen["relit"] == ["FINISHED"]
    assert seen["composite"] == pytest.approx([0.1, 0.05], rel=0.01)
    assert seen["composite's file"] == [True, False, False]
    assert seen["results"] == [pytest.approx([level, 0.5], rel=0.03) for level in (0.1, 0.2, 0.4)]
    assert seen["frame back"] == 7
    assert "Another scene was chosen" in seen["stopped"]
    assert seen["frames of both"] == [7, 5]
    assert seen["before it"] == ["stopped.1001.png"]
    assert seen["world's frames"] == [1001, 3, True]
    darker, brighter = seen["lit"]
    assert brighter / darker == pytest.approx(16.0, rel=0.05)  # albedo and light are each 4 times


def test_a_version_is_no_frame(addon: Callable[[str], Any], tmp_path: Path) -> None:
    mapfiles = addon("mapfiles")
    for name in ("sky_v12", "sky_v13", "V1", "V2", "shot_v2.1001", "shot_v2.1002", "env2", "env3", "v2.0009"):
        (tmp_path / f"{name}.exr").touch()
    for still in ("sky_v13", "V2"):
        assert mapfiles.neighbors(tmp_path / f"{still}.exr") == (False, False), still
        assert mapfiles.frame_number(tmp_path / f"{still}.exr") is None, still
    assert mapfiles.frame_range(tmp_path / "shot_v2.1001.exr") == (1001, 1002)
    assert mapfiles.frame_range(tmp_path / "env3.exr") == (2, 3)
    assert mapfiles.frame_path(tmp_path / "v2.0009.exr", 10).name == "v2.0010.exr"


@pytest.mark.blender
def test_a_subject_that_leaves_the_shot(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("no_subject.py")
    refused = "No subject was found in the plate."
    assert refused in seen["one frame"]
    assert refused in seen["range without"]
    assert not seen["maps without"]
    assert seen["range"].endswith("is analyzed, 3 frames, 2 without a subject.")
    # matte, foreground, normal's z, albedo, roughness, reflectivity, cavity, depth, light
    neutral = pytest.approx([0.0, 0.0, 1.0, 0.0, 1.0, 0.04, 1.0, 1.0, 0.0], abs=1e-4)
    assert seen["maps"] == [neutral, pytest.approx([1.0, 0.5, 1.0, 0.5, 1.0, 0.0, 1.0, 1.0, 1.0]), neutral]
    assert seen["relit"] == "The range is relit."
    assert seen["alpha"] == pytest.approx([0.0, 1.0, 0.0], abs=1e-3)
    assert seen["command"] == [0, 2]  # a shot; one frame of it alone
    assert seen["made"] == [f"shot.{frame}.relit.exr" for frame in (1, 2, 3)]
