"""Translations are whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

# What other platforms' preferences show, and what Blender itself names.
ELSEWHERE = {
    "Metal",
    "For Apple GPUs",
    "ROCm",
    "For AMD GPUs; about 12 GB",
    "CUDA",
    "For NVIDIA GPUs; about 6 GB",
}


@pytest.mark.blender
def test_every_label_has_a_german_entry(run_blender: Callable[..., Any]) -> None:
    seen = run_blender("languages.py")
    assert seen["needed"] > 250
    assert seen["missing"] == []
    assert set(seen["unused"]) <= ELSEWHERE
    assert seen["empty"] == []
    assert seen["fields"] == []
    assert seen["operators named"][0].startswith("3 ")
