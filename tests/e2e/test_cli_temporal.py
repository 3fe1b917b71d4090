"""Steadied batches: whole, killed and split, the bytes are the same."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from platelight import images
from platelight.pipeline.temporal import AFTER, KEYS
from test_cli_batch import contents, finished, killed

FRAMES = 26
LINE = "relight shot.####.exr --light sky.exr --matte full --temporal on"


@pytest.fixture
def shot(tmp_path: Path) -> Path:
    """A texture that drifts to the right, brighter and darker by turns, so that its albedo flickers."""
    rng = np.random.default_rng(0)
    texture = np.kron(rng.uniform(0.1, 0.7, (12, 40, 3)), np.ones((4, 4, 1)))
    for number in range(1, FRAMES + 1):
        window = texture[:, number : number + 64] * (1.1 if number % 2 else 0.9)
        images.write_light(tmp_path / f"shot.{number:04d}.exr", window, {})
    images.write_light(tmp_path / "sky.exr", np.full((8, 16, 3), 2.0, np.float32), {})
    return tmp_path


def maps(folder: Path) -> dict[str, str]:
    """What a chunk shares with the whole: outputs and their records, not what is kept between runs."""
    return {name: digest for name, digest in contents(folder).items() if "safetensors" not in name}


def test_killed_and_split_equal_the_whole(shot: Path) -> None:
    assert finished(shot, f"{LINE} -o whole", log="whole.log")[0] == 0
    assert not list((shot / "whole").rglob("steady/*"))
    computed = Counter((shot / "whole.log").read_text().splitlines())
    assert set(computed.values()) == {1}
    assert len(computed) == 2 * FRAMES
    for chunk in ("1-7", "20-26", "8-19"):
        assert finished(shot, f"{LINE} --frames {chunk} --shot 1-{FRAMES} -o split")[0] == 0
    assert maps(shot / "split") == maps(shot / "whole")
    kills = killed(shot, f"{LINE} -o killed", "killed.log", 3, 0.03, random.Random(5))
    assert kills >= 2
    assert not list((shot / "killed").rglob("steady/*"))  # nor what the killed runs left there
    assert maps(shot / "killed") == maps(shot / "whole")
    again = Counter((shot / "killed.log").read_text().splitlines())
    # In flight, beside those read and written: the frames that wait for their neighbors, and key frames.
    assert sum(again.values()) - 2 * FRAMES <= kills * (AFTER + KEYS + 2 * 4)


def test_flicker_goes_and_the_source_light_is_one(shot: Path) -> None:
    for mode in ("on", "off"):
        line = f"decompose shot.####.exr --matte full --temporal {mode} -o {mode}"
        assert finished(shot, line)[0] == 0

    def flicker(mode: str) -> float:
        found = [images.read_maps(shot / mode / f"shot.{k:04d}.maps.exr")[0]["albedo"] for k in range(7, 16)]
        return float(
            np.mean([np.abs(b[4:-4, 4:-5] - a[4:-4, 5:-4]).mean() for a, b in itertools.pairwise(found)])
        )

    assert flicker("on") < flicker("off") / 3
    lights = [images.read_light(shot / "on" / f"shot.{k:04d}.light.exr") for k in range(1, FRAMES + 1)]
    assert all((light == lights[0]).all() for light in lights)


def test_the_window_gives_what_the_whole_shot_in_memory_gives(shot: Path) -> None:
    """Frames wait in a window for those around them; the measure of flicker steadies a shot all at once."""
    pytest.importorskip("embreex")
    from platelight.training.flicker import steady

    for mode in ("on", "off"):
        assert finished(shot, f"decompose shot.####.exr --matte full --temporal {mode} -o {mode}")[0] == 0
    steady(shot / "off", shot / "memory")
    for k in (1, 9, 14, FRAMES):
        found = [
            images.read_maps(shot / folder / f"shot.{k:04d}.maps.exr")[0]["albedo"]
            for folder in ("on", "memory")
        ]
        np.testing.assert_allclose(found[0], found[1], atol=2e-3)


def test_a_gap_and_a_bad_frame_are_done_without(shot: Path) -> None:
    (shot / "shot.0008.exr").unlink()
    (shot / "shot.0015.exr").write_bytes(b"\x76\x2f\x31\x01 and no more")
    code, out, err = finished(shot, f"{LINE} --frames 1-{FRAMES} -o out --keep-going")
    assert code == 3
    assert len([path for path in out.split() if path.endswith("relit.exr")]) == FRAMES - 2
    assert "shot.0008.exr: no such file" in err
    assert "shot.0015.exr is not a readable EXR file" in err
    code, _, err = finished(shot, f"{LINE} --frames 5-7 --shot 6-20 -o out")
    assert code == 2
    assert "Widen --shot" in err


def test_a_shot_without_one_good_frame_does_not_end_the_others(shot: Path) -> None:
    for number in range(1, 4):
        (shot / f"bad.{number:04d}.exr").write_bytes(b"\x76\x2f\x31\x01 and no more")
    line = "decompose bad.####.exr shot.####.exr --matte full --temporal on --frames 1-3 -o out --report report.json"
    code, out, err = finished(shot, f"{line} --keep-going")
    assert code == 3
    assert len([path for path in out.split() if path.endswith("maps.exr")]) == 3
    for number in range(1, 4):
        assert f"bad.{number:04d}.exr is not a readable EXR file" in err
    report = json.loads((shot / "report.json").read_bytes())
    assert [len(report[what]) for what in ("failed", "done")] == [3, 3]
    code, _, err = finished(shot, line.replace("-o out", "-o other"))
    assert code == 2
    assert "bad.0001.exr is not a readable EXR file" in err


def left_in(shot: Path, numbers: list[int]) -> None:
    """Frames of the shot become black but for those that a subject is in."""
    for number in set(range(1, FRAMES + 1)) - set(numbers):
        images.write_light(shot / f"shot.{number:04d}.exr", np.zeros((48, 64, 3)), {})


def test_frames_that_the_subject_has_left_are_neutral(shot: Path) -> None:
    left_in(shot, list(range(6, 20)))  # the first and last of the key frames show nothing
    code, _, err = finished(shot, f"{LINE} -o whole")
    assert code == 0, err
    assert err.count("Neutral maps are written.") == FRAMES - 14
    planes, _ = images.read_maps(shot / "whole" / "shot.0003.maps.exr")
    assert not planes["matte"].any()
    assert not planes["albedo"].any()
    assert (planes["normal"] == [0, 0, 1]).all()
    light = images.read_light(shot / "whole" / "shot.0003.light.exr")
    assert (light == images.read_light(shot / "whole" / "shot.0010.light.exr")).all()
    assert light.min() > 0.1
    assert finished(shot, f"{LINE} --frames 6-19 -o inside")[0] == 0
    steady, alone = (
        images.read_maps(shot / folder / "shot.0006.maps.exr")[0]["normal"] for folder in ("whole", "inside")
    )
    np.testing.assert_array_equal(steady, alone)  # empty neighbors say nothing
    for chunk in ("1-7", "20-26", "8-19"):
        assert finished(shot, f"{LINE} --frames {chunk} --shot 1-{FRAMES} -o split")[0] == 0
    assert maps(shot / "split") == maps(shot / "whole")


def test_where_no_key_frame_shows_a_subject_each_frame_keeps_its_light(shot: Path) -> None:
    left_in(shot, [2, 3])
    code, _, err = finished(shot, f"{LINE} -o out")
    assert code == 0, err
    assert "frames 1, 5, 9, 13, 18, 22, 26 show no subject" in err
    lights = [images.read_light(shot / "out" / f"shot.{k:04d}.light.exr").mean() for k in (1, 2, 3)]
    assert lights[0] == 0
    assert min(lights[1:]) > 0.1
    assert lights[1] != lights[2]
    assert finished(shot, f"{LINE} --frames 3 --shot 1-{FRAMES} -o chunk")[0] == 0
    assert maps(shot / "chunk").items() <= maps(shot / "out").items()
    code, _, err = finished(shot, "decompose shot.0001.exr --matte full -o out")  # a still is refused
    assert code == 2
    assert "No subject was found" in err


def test_a_chunk_of_one_frame_is_steadied_as_in_the_whole(shot: Path) -> None:
    line = "decompose shot.####.exr --matte full --working-size 64"
    assert finished(shot, f"{line} --temporal on --frames 1-9 -o whole")[0] == 0
    for mode in ("on", "auto"):
        code, _, err = finished(shot, f"{line} --temporal {mode} --frames 9 --shot 1-9 -o {mode}")
        assert code == 0, err
        assert maps(shot / mode)["shot.0009.maps.exr"] == maps(shot / "whole")["shot.0009.maps.exr"]


def test_a_chunk_needs_lights_and_backdrops_of_its_own_frames_only(shot: Path) -> None:
    for number in range(1, FRAMES + 1):
        images.write_light(shot / f"wall.{number:04d}.exr", np.full((8, 16, 3), 2.0, np.float32), {})
    line = LINE.replace("sky", "wall.####") + " --backdrop wall.####.exr --frames 9-18"
    assert finished(shot, f"{line} --shot 1-{FRAMES} -o all")[0] == 0
    for number in (*range(1, 9), *range(19, FRAMES + 1)):
        (shot / f"wall.{number:04d}.exr").unlink()
    code, _, err = finished(shot, f"{line} --shot 1-{FRAMES} -o chunk")
    assert (code, err) == (0, "")
    assert maps(shot / "chunk") == maps(shot / "all")
    (shot / "shot.0020.exr").write_bytes(b"\x76\x2f\x31\x01 and no more")
    code, _, err = finished(shot, f"{line} --shot 1-{FRAMES} -o broken")
    assert code == 0
    assert "shot.0020.exr is not a readable EXR file" in err
    assert "The frames near it do without it." in err


def test_stills_have_nothing_to_steady(shot: Path) -> None:
    code, _, err = finished(shot, "decompose shot.0001.exr --matte full --temporal on -o out")
    assert code == 2
    assert (
        err == "platelight: There is no sequence to steady. Give shot.####.exr, a movie, or --temporal off.\n"
    )
