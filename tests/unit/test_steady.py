"""Steadied batches in this process: what is remembered of frames that fail or change while a batch runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platelight.commands import batch
from platelight.commands.kept import take_back
from platelight.commands.progress import Meter, Progress
from platelight.commands.records import HIDDEN, Ledger
from platelight.commands.temporal import Steady
from platelight.commands.work import Apart
from platelight.images import Frame, expand
from platelight.protocol.errors import ConnectionFailed, InputError, PlatelightError

FRAMES = 26
KEYS = [1, 5, 9, 13, 18, 22, 26]
NEAR_12 = range(4, 23)
"""Frames whose maps depend on frame 12: eight before it and ten after it."""


def texture(seed: int) -> np.ndarray:
    return np.kron(np.random.default_rng(seed).uniform(0.1, 0.7, (8, 40, 3)), np.ones((4, 4, 1))).astype(
        np.float32
    )


def save_plate(path: Path, number: int, seed: int = 0) -> None:
    """A texture that drifts to the left, brighter and darker by turns, on twos as well."""
    whole = path.with_name("new.npy")  # a batch may be reading at this moment
    np.save(whole, texture(seed)[:, number : number + 48] * np.float32(1.1 if number % 4 < 2 else 0.9))
    whole.replace(path)


@dataclass
class Shot:
    """A folder with a shot of plates, and batches over it."""

    folder: Path
    numbers: list[int]
    broken: set[int] = field(default_factory=set)
    """Frames at which the server goes away."""
    during: Callable[[int], None] = lambda number: None
    taken: list[int] = field(default_factory=list)
    """Frames taken apart by the last batch, in order."""

    def plate(self, number: int) -> Path:
        return self.folder / f"shot.{number:04d}.npy"

    def apart(self, frame: Frame, plate: Any, progress: Progress) -> Apart:
        number = frame.number or 0
        self.taken.append(number)
        self.during(number)
        if number in self.broken:
            raise ConnectionFailed("The server went away.", "Start it.")
        one = np.ones(plate.shape[:2], np.float32)
        normal = np.zeros_like(plate)
        normal[..., 2] = 1
        light = np.full((4, 8, 3), plate.mean() * (1 + 0.1 * np.sin(number)), np.float32)
        maps = {"plate": plate, "foreground": plate, "matte": one, "normal": normal, "albedo": plate * 0.5}
        scalars = {"roughness": one * 0.5, "reflectivity": one * 0.04, "cavity": one, "depth": one}
        return Apart({**maps, **scalars, "light": light}, {})

    def run(
        self, out: str = "out", frames: str | None = None, shot: str | None = None, **more: Any
    ) -> tuple[int, dict[str, Any]]:
        """Exit code and report."""
        self.taken.clear()
        listed = expand([str(self.folder / "shot.####.npy")], frames, strict=False)
        report = self.folder / "report.json"
        parsed = argparse.Namespace(
            **{"overwrite": False, "keep_going": True, "progress": "auto", "verbose": False, "memory": None,
               "report": report, **more}
        )  # fmt: skip
        ledger = Ledger(self.folder / out, "decompose", {})

        def files(frame: Frame) -> list[tuple[str, Path]]:
            return [("plate", frame.path)]

        def read(frame: Frame) -> tuple[Any, tuple[int, int]]:
            try:
                plate = np.load(frame.path)
            except (OSError, ValueError) as error:
                raise InputError(f"{frame.path} cannot be read.", "Check it.") from error
            return plate, plate.shape[:2]

        def write(frame: Frame, maps: dict[str, Any]) -> list[Path]:
            made = ledger.folder / f"{frame.stem}.maps.npy"
            np.save(made, np.dstack([maps["albedo"], np.full_like(maps["albedo"], maps["light"].mean())]))
            return [made]

        steady = Steady(listed, shot, ledger, files, {}, self.apart, lambda plate: None)

        def compute(stream: batch.Stream[Any], display: Meter) -> Iterator[tuple[Frame, Any]]:
            for frame, taken in steady.stream(stream, display):
                if isinstance(taken, Exception):
                    yield frame, taken
                else:
                    yield frame, batch.Made(taken[1].maps, taken[0].shape, taken[0].inputs)

        work = steady.fitted(batch.Work(files, read, compute, write), compute)  # type: ignore[arg-type]
        code = batch.run(listed, parsed, ledger, work, lambda: False)
        return code, json.loads(report.read_text())

    def contents(self, out: str = "out") -> dict[str, bytes]:
        """Outputs and records, not what is kept between runs."""
        found = (path for path in (self.folder / out).rglob("*") if path.suffix in (".npy", ".json"))
        return {str(path.relative_to(self.folder / out)): path.read_bytes() for path in found}


def frames_of(entries: list[str]) -> list[int]:
    return [int(stem.rpartition(".")[2]) for stem in entries]


@pytest.fixture
def shot(tmp_path: Path) -> Shot:
    found = Shot(tmp_path, list(range(1, FRAMES + 1)))
    for number in found.numbers:
        save_plate(found.plate(number), number)
    return found


@pytest.fixture
def whole(shot: Shot) -> dict[str, bytes]:
    """What a batch without any failure leaves."""
    assert shot.run("whole")[0] == 0
    return shot.contents("whole")


def test_frames_made_without_a_neighbor_that_failed_are_made_again(
    shot: Shot, whole: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    shot.broken = {12}
    code, report = shot.run()
    assert (code, [one["number"] for one in report["failed"]]) == (batch.PARTLY, [12])
    assert shot.contents() != whole
    shot.broken = set()
    assert shot.run()[0] == 0
    assert shot.contents() == whole
    assert set(NEAR_12) <= set(shot.taken)
    assert shot.run()[1]["done"] == []
    assert not caplog.text
    # The same beyond the frames of a chunk.
    shot.broken = {12}
    assert shot.run("chunk", "13-20", f"1-{FRAMES}")[0] == 0
    assert "The server went away. Start it. The frames near it do without it." in caplog.text
    shot.broken = set()
    assert len(shot.run("chunk", "13-20", f"1-{FRAMES}")[1]["done"]) == 8
    assert shot.contents("chunk").items() <= whole.items()


def test_a_light_without_one_of_its_key_frames_is_not_kept(
    shot: Shot, whole: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    shot.broken = {22}
    assert shot.run(frames="1-7", shot=f"1-{FRAMES}")[0] == 0
    assert "that of 6 of 7 key frames" in caplog.text
    assert not list((shot.folder / "out" / HIDDEN).glob("light.*"))
    shot.broken = set()
    assert len(shot.run(frames="1-7", shot=f"1-{FRAMES}")[1]["done"]) == 7
    assert shot.contents().items() <= whole.items()
    assert len(list((shot.folder / "out" / HIDDEN).glob("light.*"))) == 1
    # A key frame that is missing is known to be: its light is found again, and is another when it comes.
    shot.plate(26).unlink()
    assert shot.run("early", "1-7", f"1-{FRAMES}")[0] == 0
    assert shot.run("early", "8-9", f"1-{FRAMES}")[0] == 0
    assert 22 not in shot.taken
    save_plate(shot.plate(26), 26)
    assert len(shot.run("early", "1-9", f"1-{FRAMES}")[1]["done"]) == 9
    for name, data in shot.contents("early").items():
        assert name.endswith(".json") or data == whole[name]  # a record tells the new file's time


def test_overwrite_finds_the_light_again(shot: Shot, whole: dict[str, bytes]) -> None:
    (kept,) = (shot.folder / "whole" / HIDDEN).glob("light.*")
    before = kept.read_bytes()
    kept.write_bytes(before.replace(before[-12:], bytes(12)))
    shot.run("whole", overwrite=True)
    assert shot.contents("whole") == whole
    assert kept.read_bytes() == before


@pytest.mark.parametrize("number", [18, 19], ids=["key frame", "other frame"])
def test_a_plate_exported_again_meanwhile_is_made_from_again(shot: Shot, number: int) -> None:
    """Frame 17 is taken apart when frame 18 was, as a key frame; frame 20 when frame 19 was."""

    def change(now: int) -> None:
        if now in (17, 20) and abs(now - number) == 1:
            save_plate(shot.plate(number), number, seed=7)

    shot.during = change
    code, report = shot.run()
    assert (code, len(report["done"])) == (0, FRAMES)
    shot.during = lambda now: None
    again = frames_of(shot.run()[1]["done"])
    assert again == (shot.numbers if number in KEYS else list(range(number - 8, FRAMES + 1)))
    shot.run("whole")
    assert shot.contents() == shot.contents("whole")


def test_what_was_put_aside_and_is_gone_fails_its_frame_only(shot: Shot) -> None:
    def lose(now: int) -> None:
        if now == 2:
            for path in (shot.folder / "out" / HIDDEN / "steady").glob("shot.0009.*.maps.safetensors"):
                path.unlink()

    shot.during = lose
    code, report = shot.run()
    assert (code, [one["number"] for one in report["failed"]]) == (batch.PARTLY, [9])
    assert "cannot be read back" in report["failed"][0]["why"]
    with pytest.raises(PlatelightError, match=r"maps\.safetensors cannot be read back"):
        take_back(shot.folder / "maps.safetensors")


def test_a_report_is_written_whatever_ends_the_batch(shot: Shot, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Any:
        raise RuntimeError("a bug")

    shot.run(frames="1-3")
    monkeypatch.setattr("platelight.commands.temporal.averaged", broken)
    (shot.folder / "report.json").unlink()
    with pytest.raises(RuntimeError):
        shot.run(frames="1-5")
    assert json.loads((shot.folder / "report.json").read_text())["done"] == []


def test_a_stray_frame_does_not_end_the_steadying_of_a_shot_on_twos(
    shot: Shot, caplog: pytest.LogCaptureFixture
) -> None:
    shot.run(frames="1-25x2,12")
    raw = [np.load(shot.plate(number)) * 0.5 for number in (5, 7)]
    steady = [np.load(shot.folder / "out" / f"shot.{number:04d}.maps.npy")[..., :3] for number in (5, 7)]
    flicker = [float(np.abs(b[4:-4, 4:-6] - a[4:-4, 6:-4]).mean()) for a, b in (raw, steady)]
    assert flicker[1] < flicker[0] / 5
    assert not caplog.text
    for number in range(2, FRAMES, 2):
        shot.plate(number).unlink()
    shot.run("half", "1-9x2", "1-25x2")
    assert "of --shot" not in caplog.text
    shot.run("all", "1-9x2", "1-25")
    assert "only 13 of the 25 frames of --shot 1-25 are there" in caplog.text


def test_what_a_killed_run_left_half_written_goes(shot: Shot) -> None:
    hidden = shot.folder / "out" / HIDDEN
    (hidden / "steady").mkdir(parents=True)
    left = [
        hidden / ".light.0123456789abcdef.77-00000000.part.safetensors",
        hidden / "steady" / ".shot.0002.0123456789abcdef.77-00000000.part.safetensors",
        hidden / ".shot.0002.decompose.77-00000000.part.json",
        hidden.parent / ".shot.0002.maps.77-00000000.part.exr",
    ]
    for path in left:
        path.touch()
    shot.run(frames="1-3")
    assert not [path.name for path in left if path.exists()]
    # The stems of maps are not those of what is made from them.
    relit, other = (
        hidden.parent / f".{stem}.77-00000000.part.exr" for stem in ("shot.0002.relit", "shot.0004.relit")
    )
    for path in (relit, other):
        path.touch()
    Ledger(hidden.parent, "relight", {}).sweep(["shot.0002.maps"])
    assert (relit.exists(), other.exists()) == (False, True)
