"""``platelight relight --lamp`` and several ``--light``: what they do to a plate, and wrong ones told in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from platelight import cli
from platelight.images import write_light, write_maps
from platelight.images.exr import read_exr

SIZE = (20, 30)


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    one = np.ones(SIZE, np.float32)
    normal = np.zeros((*SIZE, 3), np.float32)
    normal[..., 2] = 1.0
    color = np.full((*SIZE, 3), 0.5, np.float32)
    planes = {"plate": color, "albedo": color, "normal": normal, "matte": one, "depth": one}
    path = tmp_path / "shot.maps.exr"
    write_maps(path, {**planes, "roughness": 0.5 * one, "reflectivity": 0.04 * one}, {})
    return path


def test_a_lamp_alone_lights_the_plate(maps: Path, tmp_path: Path) -> None:
    lamp = "sun power=2 direction=0,0,-1 color=1,0.5,0.25"
    out = tmp_path / "out"
    words = ["--maps", str(maps), "-o", str(out), "--pbr-only", "--shadows", "on", "--distance", "2"]
    assert cli.main(["relight", *words, "--lamp", lamp]) == 0
    part = read_exr(out / "shot.relit.exr")[0]
    diffuse = np.stack([part.channels[f"diffuse.{c}"] for c in "RGB"], -1).astype(np.float32)
    # Irradiance 2 times albedo over π, less what the specular lobe takes.
    lambert = np.array([1.0, 0.5, 0.25]) / np.pi
    assert (diffuse < lambert).all()
    np.testing.assert_allclose(diffuse, np.broadcast_to(lambert, diffuse.shape), rtol=0.08)
    settings = json.loads(part.attributes["platelight:relight"])
    assert settings["lamps"][0]["kind"] == "sun"
    assert settings["light"] is None


@pytest.mark.parametrize(("words", "said"), [
    ([], "There is no light."), (["--lamp", "sun power=1"], "the sun lacks direction"),
    (["--lamp", "point power=1 at=0,0,0", "--light-csv", "a.csv"], "--light-csv moves an HDRI"),
])  # fmt: skip
def test_what_is_missing_is_told(
    maps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert cli.main(["relight", "--maps", str(maps), "-o", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_several_lights_blend_between_their_places(maps: Path, tmp_path: Path) -> None:
    """A bright sky at the left edge and a dark one at the right: brightness falls along a straight line."""
    for name, level in (("bright", 3.0), ("dark", 1.0)):
        write_light(tmp_path / f"{name}.exr", np.full((8, 16, 3), level, np.float32), {})
    words = ["--maps", str(maps), "-o", str(tmp_path / "out"), "--pbr-only"]
    lights = ["--light", f"{tmp_path}/bright.exr@0.0,0.5", "--light", f"{tmp_path}/dark.exr@1,0.5"]
    assert cli.main(["relight", *words, *lights]) == 0
    part = read_exr(tmp_path / "out" / "shot.relit.exr")[0]
    got = part.channels["diffuse.G"].astype(np.float32)
    across = 3.0 - 2.0 * (np.arange(SIZE[1]) + 0.5) / SIZE[1]
    np.testing.assert_allclose(got / got[:, -1:], np.broadcast_to(across / across[-1], SIZE), rtol=0.02)
    settings = json.loads(part.attributes["platelight:relight"])
    assert settings["light"] == ["bright.exr", "dark.exr"]
    assert settings["places"] == [[0.0, 0.5], [1.0, 0.5]]


def test_four_lights_blend_over_both_sides(maps: Path, tmp_path: Path) -> None:
    """Skies at the middles of the plate's quarters: brightness follows both sides, and the middle has a quarter of each."""
    levels = {(0.25, 0.25): 4.0, (0.75, 0.25): 3.0, (0.25, 0.75): 2.0, (0.75, 0.75): 1.0}
    words = ["--maps", str(maps), "-o", str(tmp_path / "out"), "--pbr-only"]
    for (u, v), level in levels.items():
        path = tmp_path / f"{level:g}.exr"
        write_light(path, np.full((8, 16, 3), level, np.float32), {})
        words += ["--light", f"{path}@{u},{v}"]
    assert cli.main(["relight", *words]) == 0
    got = read_exr(tmp_path / "out" / "shot.relit.exr")[0].channels["diffuse.G"].astype(np.float32)
    got /= got[-1, -1]  # where the light of 1 is alone
    got = np.stack([got[:, 0], got[:, 14:16].mean(1), got[:, -1]])[
        :, [0, 9, 10, -1]
    ]  # left, middle, right; top to bottom
    wanted = np.array([[4.0, 3.0, 2.0], [3.5, 2.5, 1.5], [3.0, 2.0, 1.0]])
    np.testing.assert_allclose(np.c_[got[:, 0], got[:, 1:3].mean(1), got[:, 3]], wanted, rtol=0.02)


@pytest.mark.parametrize(("words", "said"), [
    (["a@0.5,0.2", "b"], "b is one of 2 lights and has no place. Say where in the plate it was taken: b@0.5,0.2."),
    (["a@0.5,0.2", "b@0.5,1.2"], "the place 0.5,1.2 is outside the plate"),
    (["a@0.5,0.2", "b@0.5,0.2"], "Two lights are at one place."),
    ([f"a@0.{k},0.2" for k in range(5)], "There are 5 lights. Give 4 at most."),
    (["me@home,2.exr"], "me@home,2.exr: no such file"),
])  # fmt: skip
def test_lights_without_places_are_told(
    maps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    lights = [part for word in words for part in ("--light", word)]
    try:
        code = cli.main(["relight", "--maps", str(maps), "-o", str(tmp_path / "out"), *lights])
    except SystemExit as left:  # argparse's own way
        code = int(left.code or 0)
    assert code == 2
    assert said in capsys.readouterr().err
