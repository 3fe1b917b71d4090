"""A few seconds of each kind of damage; ``python tests/wire/fuzz.py`` runs them at full size."""

from __future__ import annotations

from pathlib import Path

import fuzz
from conftest import Server


def test_damaged_headers_are_refused_or_read() -> None:
    seen = fuzz.headers(20_000)
    assert seen["refused"] > 30_000
    assert seen["refused"] + seen["read"] == 40_000


def test_damaged_conversations(shared_server: Server) -> None:
    assert fuzz.sequences(shared_server, 40)["conversations"] == 40


def test_damaged_exr_files(tmp_path: Path) -> None:
    seen = fuzz.exrs(tmp_path, 200)
    assert set(seen) <= {"read", "refused"}
    assert seen["refused"] > 100
