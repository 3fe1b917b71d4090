"""The browser of HDRIs against a local server that speaks Poly Haven's API."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from haven import CONTENT, PNG, Haven


class Told:
    """A reporter that may cancel at a fraction."""

    def __init__(self, stop_at: float = 2.0) -> None:
        self.stop_at, self.last = stop_at, 0.0

    def progress(self, fraction: float, _text: str = "") -> None:
        self.last = fraction

    def cancelled(self) -> bool:
        return self.last >= self.stop_at


@pytest.fixture
def polyhaven(addon: Callable[[str], Any]) -> Any:
    return addon("polyhaven")


@pytest.fixture
def library(polyhaven: Any, haven: Haven, tmp_path: Path) -> Any:
    return polyhaven.Library(tmp_path / "cache", haven.address, f"{haven.address}/thumbs")


def test_search(polyhaven: Any, library: Any, haven: Haven) -> None:
    found = library.hdris()
    assert [hdri.id for hdri in found] == ["small_studio", "night_city", "dusk"]
    assert polyhaven.categories(found) == ["urban", "night", "studio"]
    assert [h.id for h in polyhaven.chosen(found, "neon CITY", "", 10)] == ["night_city"]
    assert [h.id for h in polyhaven.chosen(found, "", "urban", 10)] == ["night_city", "dusk"]
    assert polyhaven.chosen(found, "studio", "night", 10) == []
    assert len(polyhaven.chosen(found, "", "", 2)) == 2
    library.hdris()
    assert len(haven.asked) == 1  # the second list came from the cache
    assert haven.asked[0][2].startswith("Platelight/")
    assert library.thumbnail("dusk").read_bytes() == PNG


def test_download_is_kept(library: Any, haven: Haven) -> None:
    path = library.download("dusk", "1k", Told())
    assert path.read_bytes() == CONTENT
    asked = len(haven.asked)
    assert library.download("dusk", "1k", Told()) == path
    assert len(haven.asked) == asked


def test_a_broken_download_goes_on_where_it_stopped(polyhaven: Any, library: Any, haven: Haven) -> None:
    haven.break_after = 200_000
    with pytest.raises(polyhaven.JobFailed, match="broke off"):
        library.download("dusk", "1k", Told())
    assert library.download("dusk", "1k", Told()).read_bytes() == CONTENT
    ranges = [asked[1] for asked in haven.asked if asked[0].startswith("/dl/")]
    assert ranges[0] == ""
    assert 0 < int(ranges[1].removeprefix("bytes=").rstrip("-")) <= 200_000


def test_cancel_keeps_the_part(polyhaven: Any, library: Any, haven: Haven, tmp_path: Path) -> None:
    with pytest.raises(polyhaven.Cancelled):
        library.download("dusk", "1k", Told(stop_at=0.3))
    parts = list((tmp_path / "cache").rglob("*.part"))
    assert len(parts) == 1
    assert 0 < parts[0].stat().st_size < len(CONTENT)
    haven.continues = False  # a server without ranges: from the start
    assert library.download("dusk", "1k", Told()).read_bytes() == CONTENT
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_damage_is_noticed(polyhaven: Any, library: Any, haven: Haven, tmp_path: Path) -> None:
    haven.damage = 1
    assert library.download("dusk", "1k", Told()).read_bytes() == CONTENT
    haven.damage = 2
    with pytest.raises(polyhaven.JobFailed, match="damaged twice"):
        library.download("night_city", "1k", Told())
    assert not list((tmp_path / "cache").rglob("night_city*"))


def test_a_kept_file_is_checked_before_each_use(polyhaven: Any, library: Any, haven: Haven) -> None:
    path = library.download("dusk", "1k", Told())
    beside = path.with_name("dusk_1k.exr.sha256")
    assert beside.read_text() == f"{hashlib.sha256(CONTENT).hexdigest()}  dusk_1k.exr\n"
    polyhaven.check(path)
    path.write_bytes(CONTENT[:-1] + b"!")  # damaged where it lies, at the same size
    with pytest.raises(polyhaven.InputError, match=r"dusk_1k.exr was damaged after its download"):
        polyhaven.check(path)
    asked = len(haven.asked)
    assert library.download("dusk", "1k", Told()).read_bytes() == CONTENT
    assert [one[0] for one in haven.asked[asked:]] == ["/files/dusk", "/dl/x_1k.exr"]  # fetched again
    polyhaven.check(path)


@pytest.mark.parametrize("kept", [CONTENT, CONTENT[:-1] + b"!"], ids=["whole", "damaged"])
def test_a_file_without_its_sum_is_checked_by_the_api(
    polyhaven: Any, library: Any, haven: Haven, kept: bytes
) -> None:
    path = library.download("dusk", "1k", Told())
    beside = path.with_name("dusk_1k.exr.sha256")
    beside.unlink()
    path.write_bytes(kept)
    asked = len(haven.asked)
    assert library.download("dusk", "1k", Told()).read_bytes() == CONTENT
    fetched = [] if kept == CONTENT else ["/dl/x_1k.exr"]
    assert [one[0] for one in haven.asked[asked:]] == ["/files/dusk", *fetched]
    polyhaven.check(path)
    assert beside.is_file()


def test_bad_answers_are_sentences(polyhaven: Any, library: Any, haven: Haven, tmp_path: Path) -> None:
    with pytest.raises(polyhaven.JobFailed, match="no dusk of 16k"):
        library.download("dusk", "16k", Told())
    with pytest.raises(polyhaven.JobFailed, match="no name"):
        library.download("../etc/passwd", "1k", Told())
    nowhere = polyhaven.Library(tmp_path / "other", "http://127.0.0.1:9", "http://127.0.0.1:9")
    with pytest.raises(polyhaven.JobFailed, match="cannot be reached"):
        nowhere.hdris()
    haven.content = b""
    with pytest.raises(polyhaven.JobFailed, match="makes no sense"):
        library.download("dusk", "1k", Told())
