"""What a render changes for its time is put back: after undo, in linked data, in markers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.blender
def test_what_a_render_changes_is_the_users_again(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("around_render.py")
    for name, (before, during, *after, later) in seen["undone"].items():
        assert during[0] != before[0] == "/mine", name
        assert during[-1] is not None, name
        assert after == [before] * 3, name
        assert later == "/later", name
    assert seen["undone"]["preview"][1][2] is False
    assert seen["undone"]["panoramas"][1][3] > seen["undone"]["panoramas"][0][3]
    assert seen["moved"] == 1.0  # what the user did meanwhile stays
    assert (seen["kept"], seen["kept at most"]) == (2, 4)
    assert seen["copy"] == [True, "/new"]
    assert seen["linked"] == [True, False, True, False]
    assert seen["preview"] == seen["matched"] == ["FINISHED"]
    assert seen["alpha"][0] > 0.5  # the plate's own camera, sharp
    assert seen["bound during"] == [False] * 3
    assert seen["markers"] == ["Other", "", seen["markers"][2]]
    assert seen["markers"][2].endswith("Camera")
    assert seen["user's"] == ["Other", True, True]
