"""Whatever happens while a job is under way, Blender goes on: no exception, a sentence, a clean state."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.slow
@pytest.mark.blender
@pytest.mark.skipif(sys.platform == "win32", reason="signals and a shell script")
def test_trouble_in_the_middle_of_a_job(
    run_blender: Callable[..., Any], backend_program: Callable[..., str]
) -> None:
    backend = backend_program("--job addon_job:run_job")
    seen = run_blender("trouble.py", environment={"PLATELIGHT_BACKEND": backend})

    def ends(name: str, result: str, words: str) -> None:
        found = seen[name]
        assert found[0] == result, (name, found)
        assert words in found[1], (name, found)
        assert found[2] < 20.0, (name, found)
        assert found[3] is True, (name, found)

    ends("escape", "CANCELLED", "Cancelled.")
    assert seen["no maps"] is False
    ends("cancel", "CANCELLED", "Cancelled.")
    ends("removed", "CANCELLED", "The plate was removed while it was analyzed.")
    ends("loaded", "CANCELLED", "ended with the file that it belonged to")
    ends("undone", "FINISHED", "is analyzed")
    assert seen["undone"][4] == 250
    assert seen["maps after undo"] is True
    ends("killed", "CANCELLED", "The backend ended in the middle of the job. Try again")
    ends("after the kill", "FINISHED", "is analyzed")
    ends("switched off", "CANCELLED", "")
    assert seen["server ended"]
    ends("on again", "FINISHED", "is analyzed")
    assert seen["changed for it"]
    for ended, still, restored, said in seen["refused"]:  # whoever is refused does not wait for ever
        assert (ended, still, restored) == (["CANCELLED"], False, True), said
    assert "did not begin to render" in seen["refused"][0][3]
    assert "renders something else" in seen["refused"][1][3]
    for name in ("render", "render undone", "render plate removed"):
        ends(name, "CANCELLED", "Cancelled.")
        assert seen[name][4] is True, (name, seen[name])
    assert seen["render switched off"] == [True, "/mine", 0, 0]
