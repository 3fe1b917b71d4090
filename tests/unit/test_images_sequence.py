"""What PLATE arguments mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from platelight.images import expand, parse_frames
from platelight.images.sequence import missing_numbers, numbered, usual_step
from platelight.protocol.errors import InputError


@pytest.fixture
def shot(tmp_path: Path) -> Path:
    for number in (1001, 1002, 1003, 1010, 10000):
        (tmp_path / f"shot.{number:04d}.exr").touch()
    (tmp_path / "shot.1001.png").touch()
    (tmp_path / "shot.abcd.exr").touch()
    return tmp_path


@pytest.mark.parametrize("pattern", ["shot.####.exr", "shot.%04d.exr"])
def test_patterns_find_all_in_numeric_order(shot: Path, pattern: str) -> None:
    frames = expand([str(shot / pattern)])
    assert [frame.number for frame in frames] == [1001, 1002, 1003, 1010, 10000]
    assert frames[0].stem == "shot.1001"


def test_frames_choose_and_must_exist(shot: Path) -> None:
    frames = expand([str(shot / "shot.####.exr")], "1001-1003x2")
    assert [frame.path.name for frame in frames] == ["shot.1001.exr", "shot.1003.exr"]
    with pytest.raises(InputError, match=r"shot\.1004\.exr: no such file \(6 frames are missing\)"):
        expand([str(shot / "shot.####.exr")], "1001-1010")


def test_frame_ranges() -> None:
    assert parse_frames("1,3,5-9x2,3") == [1, 3, 5, 7, 9]
    assert parse_frames("6,1-5:2,-2--1") == [-2, -1, 1, 3, 5, 6]
    for wrong in ("a", "5-1", "1-9x0", "", "1-99999999"):
        with pytest.raises(InputError, match="is not a frame range"):
            parse_frames(wrong)


def test_refusals(shot: Path) -> None:
    with pytest.raises(InputError, match="matches no file"):
        expand([str(shot / "other.####.exr")])
    with pytest.raises(InputError, match="is a folder"):
        expand([str(shot)])
    with pytest.raises(InputError, match="no such file"):
        expand([str(shot / "nothing.png")])
    with pytest.raises(InputError, match=r"would both write shot\.1001\.maps\.exr"):
        expand([str(shot / "shot.1001.exr"), str(shot / "shot.1001.png")])
    (shot / "clip.mov").touch()
    with pytest.raises(InputError, match=r"clip\.mov is not a movie"):
        expand([str(shot / "clip.mov")])


def test_gaps_are_told_and_a_shot_on_twos_has_none(shot: Path, caplog: pytest.LogCaptureFixture) -> None:
    expand([str(shot / "shot.####.exr")])
    assert "no files for the frames 1004-1009,1011-9999" in caplog.text
    assert missing_numbers([1, 3, 5, 7]) == ""
    assert missing_numbers([1, 3, 7, 9]) == "5"
    assert missing_numbers([4]) == ""
    assert usual_step([1, 3, 5, 7, 8, 9]) == 2  # a stray frame between twos
    assert usual_step([4]) == usual_step([]) == 1


def test_missing_frames_are_listed_when_not_strict(shot: Path) -> None:
    frames = expand([str(shot / "shot.####.exr")], "1003-1005", strict=False)
    assert [frame.number for frame in frames] == [1003, 1004, 1005]


def test_a_pattern_beside_the_plates_follows_their_numbers(shot: Path) -> None:
    assert numbered("light.####.exr", 7).name == "light.0007.exr"
    assert numbered("light.%03d.exr", 1234).name == "light.1234.exr"
    assert numbered("light.exr", None).name == "light.exr"
    with pytest.raises(InputError, match="no frame number"):
        numbered("light.####.exr", None)


def test_a_real_file_with_a_hash_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "take#3.png").touch()
    assert expand([str(tmp_path / "take#3.png")])[0].number is None


def test_brackets_in_folders_and_negative_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "[v001]"
    folder.mkdir()
    for name in ("-002", "-001", "0000", "0001"):
        (folder / f"shot.{name}.exr").touch()
    pattern = str(folder / "shot.####.exr")
    assert [frame.number for frame in expand([pattern])] == [-2, -1, 0, 1]
    assert expand([pattern], "-2-0") == expand([pattern])[:3]
    (folder / "0007.exr").touch()
    assert [frame.number for frame in expand([str(folder / "####.exr")])] == [7]


def test_a_range_is_of_sequences(shot: Path) -> None:
    with pytest.raises(InputError, match="is one picture, which --frames says nothing of"):
        expand([str(shot / "shot.1001.exr"), str(shot / "shot.1002.exr")], "7-9")
