"""Dailies of folders as they come: unpadded numbers, frames that the subject has left, frames of two sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platelight import cli, images
from platelight.commands import view
from platelight.images import sheet


@pytest.fixture
def relit(tmp_path: Path) -> Path:
    for number in (1, 2, 10):
        result = np.full((6, 8, 4), 0.1 * number, np.float32)
        result[..., 3] = 1
        images.write_relit(tmp_path / f"shot.{number}.relit.exr", {"relit": result * (number != 2)}, {})
    return tmp_path


def test_a_sheet_is_in_the_order_of_numbers(relit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = []
    monkeypatch.setattr(sheet, "contact_sheet", lambda path, given: rows.extend(given))
    assert cli.main(["view", "sheet", str(relit), "-o", str(relit / "sheet.png"), "--columns", "4"]) == 0
    assert [tile.label for tile in rows[0][:3]] == ["shot.1", "shot.2", "shot.10"]
    left = rows[0][1].pixels  # nobody is in it
    np.testing.assert_allclose(left, view.BEHIND, rtol=1e-5)


def test_frames_of_two_sizes_are_named(relit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2, 10):
        size = (4, 4) if number == 10 else (6, 8)
        planes = {name: np.full((*size, 3), 0.5, np.float32) for name in ("plate", "normal", "albedo")}
        flat = np.full(size, 0.5, np.float32)
        planes |= dict.fromkeys(("matte", "roughness", "reflectivity", "cavity", "depth"), flat)
        images.write_maps(relit / f"shot.{number}.maps.exr", planes, {})
        images.write_relit(relit / f"shot.{number}.relit.exr", {"relit": np.ones((*size, 4), np.float32)}, {})
    assert cli.main(["view", "wipe", str(relit), "-o", str(relit / "wipe.mp4")]) == 2
    assert "shot.10 is 4×4, but shot.1 is 8×6." in capsys.readouterr().err
    assert not (relit / "wipe.mp4").exists()
