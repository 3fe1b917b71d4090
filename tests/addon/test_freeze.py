"""Blender stays responsive while jobs run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.blender, pytest.mark.slow]


def test_a_4k_job_never_holds_the_main_thread(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("freeze.py")
    assert seen["analyzed"]
    assert seen["dirty"]
    assert seen["result"] == [2160, 3840, 4]
    for job in ("analyze", "again", "refine", "painted"):
        assert seen[job]["ticks"] > 5, seen
        # Of this process's own time: the clock also counts what other programs take of a busy machine.
        assert max(seen[job]["work"], seen[job]["held"]) <= 50.0, seen
