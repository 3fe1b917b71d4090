"""What a user deletes, adds and saves: nothing of it is lost, nothing of ours stays away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.blender


def test_what_was_deleted_comes_back_and_what_was_added_stays(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("deleted_things.py")
    assert seen["deleted"] == {
        "card": [False, False, True, True],
        "proxy": [True, True, False, True],
        "camera": [False, True, True, False],
        "collection": [False, False, False, False],
    }
    assert set(seen["back"]) == set(seen["deleted"])
    for name, found in seen["back"].items():
        assert found == [True] * 5, name
    assert seen["nested"] == [[True] * 4, False]
    assert seen["other scene's camera"] == [True, 1]
    assert seen["left"] == sorted(["Lamp", "Shared", seen["twin"]])
    assert seen["places"] == [1, 1, 1]
    assert seen["parts"] == [True, False]
    assert seen["gone"] == [False] * 3


def test_a_file_that_is_saved_has_all_of_it(run_blender: Callable[..., Any], tmp_path: Path) -> None:
    seen = run_blender("saving.py")
    assert seen["packed"] == {"albedo": True, "cavity": False, "normal": True, "matte_map": True}
    assert seen["painted"] == pytest.approx(0.75, abs=1e-3)
    assert seen["during"].endswith("x.exr")
    assert seen["after"] == "/mine"
    assert seen["saved"] == ["/mine", None]
    assert seen["same folder"] == "//matte_path.exr"
    assert seen["moved"] == seen["expected"]
    assert seen["output"] == "//out.exr"
    assert seen["clip"] == [str(tmp_path / "b" / "shot.1005.exr"), 10, 15]
    assert seen["clip's frame 12"] == 7.0
    assert seen["image"] == str(tmp_path / "b" / "shot.1001.exr")
    assert seen["in the cache"]
    assert seen["claims"]
    assert seen["cleared"] == [True, True, False]
