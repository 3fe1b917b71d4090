"""What a batch must hold, measured: killed at random and resumed, memory against a short shot, overlap of its stages.

python tests/e2e/shot_bench.py out/bench                                   # 200 frames of 1080p, ten kills, real networks
python tests/e2e/shot_bench.py out/bench --frames 60 --size 480x270 --stand-in 0.1   # a quick stand-in for the networks

Further options go to ``relight``. In this order: the shot's first ten frames; the whole, against which the rest is held; with
one stage at a time, which tells how long the slowest takes alone (``--alone`` frames of it and ten, from which the whole
follows by a straight line; 0: all frames); and killed again and again. What is known is in ``figures.json`` after each part.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from platelight import images
from platelight.pipeline.batch import BEHIND
from platelight.pipeline.temporal import AFTER, KEYS
from stand_in import digest

SHORT = 10
IN_FLIGHT = 2 * (1 + BEHIND + 1) + AFTER + KEYS
"""Jobs that a kill may cost: of frames computed and being written, taken apart and relit; of those that wait for their
neighbors; of key frames, whose maps wait for their turn."""


@dataclass(frozen=True)
class Run:
    """How a process ended: exit code (None: killed), seconds, peak resident MiB, seconds of processors."""

    code: int | None
    seconds: float
    peak: float
    processors: float


@dataclass(frozen=True)
class Bench:
    """Where the shot is, and what all runs have in common."""

    folder: Path
    options: list[str]
    stand_in: float | None

    def run(self, *line: str, kill_after: float | None = None, log: str = "", alone: bool = False) -> Run:
        """Relight as a process of its own, killed after so many seconds where asked."""
        said = {
            "STAND_IN_SECONDS": "real" if self.stand_in is None else str(self.stand_in),
            "STAND_IN_LOG": log,
        }
        environment = {**os.environ, **said, "STAND_IN_ALONE": "1" if alone else ""}
        start = [sys.executable, str(Path(__file__).with_name("stand_in.py").resolve())]
        began = time.monotonic()
        process = subprocess.Popen(
            [*start, "relight", "shot.####.exr", "--light", "sky.exr", *self.options, *line],
            cwd=self.folder, env=environment, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                code = None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
                process.returncode = 0  # it is gone: nobody else is to wait for it
                used = usage.ru_utime + usage.ru_stime
                return Run(code, time.monotonic() - began, usage.ru_maxrss / 1024, used)
            if kill_after is not None and time.monotonic() - began > kill_after:
                process.kill()
            time.sleep(0.02)

    def finished(self, *line: str, alone: bool = False) -> tuple[Run, dict[str, float]]:
        """A run to its end, and the seconds of its stages."""
        done = self.run(*line, "--overwrite", "--report", "report.json", alone=alone)
        if done.code != 0:
            raise SystemExit(f"shot_bench: relight {' '.join(line)} ended with {done.code}.")
        seconds: dict[str, float] = json.loads((self.folder / "report.json").read_text())["seconds"]
        return done, seconds

    def alone(self, frames: int, total: int) -> dict[str, float]:
        """Seconds of the stages for ``total`` frames, one at work at a time: measured for ``frames`` of them, and for ten,
        between which a straight line tells what a frame more takes."""
        found = []
        for count in dict.fromkeys((SHORT, frames) if SHORT < frames < total else (total,)):
            found.append(self.finished("--frames", f"1-{count}", "-o", "alone", alone=True)[1])
            shutil.rmtree(self.folder / "alone")
        first, last = found[0], found[-1]
        more = (total - frames) / (frames - SHORT) if len(found) > 1 else 0.0
        return {name: round(last[name] + more * (last[name] - first[name]), 3) for name in last}


def make(folder: Path, frames: int, size: tuple[int, int]) -> None:
    """A portrait that drifts, with grain; and a light."""
    from skimage import data

    picture = (data.astronaut().astype(np.float32) / 255) ** 2.2
    width, height = size
    scale = 1.2 * max(width, height) / 512
    for k in range(frames):
        move = np.array([[scale, 0, -0.1 * width + 0.2 * k], [0, scale, -0.02 * height]], np.float32)
        plate = cv2.warpAffine(picture, move, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        grain = np.random.default_rng(k).normal(0, 0.01, plate.shape)
        path = folder / f"shot.{k + 1:04d}.exr"
        images.write_light(path, np.maximum(plate + grain, 0).astype(np.float32), {})
    images.write_light(folder / "sky.exr", np.full((32, 64, 3), 1.0, np.float32), {})


def contents(folder: Path) -> dict[str, str]:
    """Outputs and records by sha256."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".safetensors"
    }


def records(folder: Path) -> dict[str, int]:
    """When each frame was recorded as done."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / ".platelight").glob("*.json")}


def killed(
    bench: Bench,
    kills: int,
    span: float,
    rng: random.Random,
    whole: dict[str, str],
    told: Callable[..., None],
) -> dict[str, Any]:
    """Run into ``killed``, killed at any moment of ``span`` seconds on the average, until a run ends by itself.

    ``whole`` is what must come out of it; ``told`` gets what is known after each kill.
    """
    out, log = bench.folder / "killed", bench.folder / "jobs.log"
    plates = {
        path.stem: digest(images.read_plate(path, "auto").pixels) for path in bench.folder.glob("shot.*.exr")
    }
    log.write_text("")
    hits = again = late = 0
    worst: list[int] = []
    before: dict[str, int] = {}
    jobs: set[str] = set()
    while True:
        # At any moment: starting up, reading, computing, writing.
        after = rng.uniform(0.1, 2 * span) if hits < kills else None
        ended = bench.run("-o", "killed", log=str(log), kill_after=after)
        lines = log.read_text().splitlines()
        log.write_text("")
        done = {f"Decompose {plates[name.removesuffix('.relight.json')]}" for name in before}
        repeated = sum(count - (line not in jobs) for line, count in Counter(lines).items())
        late += sum(line in done for line in lines)
        jobs |= set(lines)
        worst.append(repeated)
        now = records(out)
        again += sum(now.get(name) != when for name, when in before.items())
        before = now
        hits += ended.code is None
        so_far = {
            "kills": hits, "frames recorded": len(now), "jobs": len(jobs), "jobs done twice": sum(worst),
            "most of them after one kill": max(worst), "in flight at most": IN_FLIGHT,
            "done frames taken apart again": late, "done frames made again": again,
        }  # fmt: skip
        told(**so_far)
        if ended.code is not None:
            return {**so_far, "exit code": ended.code, "bytes equal": contents(out) == whole}


def main() -> int:
    """Print the figures as JSON, and what is missed; 1 where something is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument(
        "--stand-in", type=float, metavar="SECONDS", help="seconds of a job instead of the networks"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--alone", type=int, default=30, help="frames measured with one stage at a time; 0: all"
    )
    parsed, options = parser.parse_known_args()
    width, _, height = parsed.size.partition("x")
    parsed.folder.mkdir(parents=True)
    make(parsed.folder, parsed.frames, (int(width), int(height)))
    bench = Bench(parsed.folder.resolve(), options, parsed.stand_in)  # runs have it as their working folder
    figures: dict[str, Any] = {"frames": parsed.frames, "size": parsed.size}
    held: dict[str, bool] = {}

    def told(**more: Any) -> None:
        figures.update(more)
        missed = [name for name, good in held.items() if not good]
        text = json.dumps({**figures, "missed": missed}, indent=1)
        (bench.folder / "figures.json").write_text(text + "\n")
        print(f"shot_bench: {json.dumps(more)}", file=sys.stderr, flush=True)

    short, _ = bench.finished("--frames", f"1-{SHORT}", "-o", "short")
    shutil.rmtree(bench.folder / "short")
    whole, seconds = bench.finished("-o", "whole")
    expected = contents(bench.folder / "whole")
    shutil.rmtree(bench.folder / "whole")  # a hundred frames of 1080p are some gigabytes
    busy = whole.processors / (whole.seconds * (os.cpu_count() or 1))
    held["memory within 10 %"] = whole.peak <= 1.1 * short.peak
    held["computing 90 % of the time"] = seconds["compute"] >= 0.9 * seconds["wall"]
    told(**{
        "peak MiB": round(whole.peak), "peak of 10 frames, MiB": round(short.peak),
        "peak / peak of 10 frames": round(whole.peak / short.peak, 3), "seconds": seconds,
        "share of the time that is computed": round(seconds["compute"] / seconds["wall"], 3),
        "share of the processors that is used": round(busy, 3),
    })  # fmt: skip
    frames = min(parsed.alone or parsed.frames, parsed.frames)
    alone = bench.alone(frames, parsed.frames)
    name, slowest = max(
        ((name, alone[name]) for name in ("compute", "read", "write")), key=lambda one: one[1]
    )
    held["wall within 15 % of the slowest stage"] = seconds["wall"] <= 1.15 * slowest
    told(**{
        "frames measured one stage at a time": frames, "seconds, one stage at a time": alone, "slowest stage": name,
        "wall / slowest stage alone": round(seconds["wall"] / slowest, 3),
    })  # fmt: skip
    span = whole.seconds / max(1, parsed.kills)
    found = killed(bench, parsed.kills, span, random.Random(parsed.seed), expected, told)
    held["complete"] = found["exit code"] == 0 and found["frames recorded"] == parsed.frames
    held["killed as often as asked"] = found["kills"] == parsed.kills
    held["equal"] = found["bytes equal"]
    held["none twice but in flight"] = (
        found["done frames taken apart again"] == found["done frames made again"] == 0
        and found["most of them after one kill"] <= IN_FLIGHT
    )
    told(**found)
    print((bench.folder / "figures.json").read_text(), end="")
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
