"""What a batch must hold, measured: killed at random and resumed, memory against a short shot, overlap of its stages.

python tests/e2e/shot_bench.py out/bench                                   # 200 frames of 1080p, ten kills, real networks
python tests/e2e/shot_bench.py out/bench --frames 60 --size 480x270 --stand-in 0.1   # a quick stand-in for the networks
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from platelight import images

SHORT = 10


@dataclass(frozen=True)
class Run:
    """How a process ended: exit code (None: killed), seconds, peak resident MiB."""

    code: int | None
    seconds: float
    peak: float


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
        if not path.is_file():
            images.write_light(path, np.maximum(plate + grain, 0).astype(np.float32), {})
    images.write_light(folder / "sky.exr", np.full((32, 64, 3), 1.0, np.float32), {})


def run(folder: Path, line: str, stand_in: float | None, kill_after: float | None = None) -> Run:
    """Run the command as a process of its own, killed after so many seconds where asked."""
    start = ["-m", "platelight.cli"] if stand_in is None else [str(Path(__file__).with_name("stand_in.py"))]
    environment = {**os.environ, "STAND_IN_SECONDS": str(stand_in or 0.0)}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *start, *line.split()], cwd=folder, env=environment, stdout=subprocess.DEVNULL
    )
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            code = None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
            process.returncode = 0  # it is gone: nobody else is to wait for it
            return Run(code, time.monotonic() - began, usage.ru_maxrss / 1024)
        if kill_after is not None and time.monotonic() - began > kill_after:
            process.kill()
        time.sleep(0.02)


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


def main() -> int:
    """Print the figures as JSON; 1 where one is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument(
        "--stand-in", type=float, metavar="SECONDS", help="seconds of a job instead of the networks"
    )
    parser.add_argument("--seed", type=int, default=0)
    parsed, options = parser.parse_known_args()
    width, _, height = parsed.size.partition("x")
    parsed.folder.mkdir(parents=True, exist_ok=True)
    make(parsed.folder, parsed.frames, (int(width), int(height)))
    line = " ".join(["relight shot.####.exr --light sky.exr", *options])
    short = run(parsed.folder, f"{line} --frames 1-{SHORT} -o short --overwrite", parsed.stand_in)
    report = parsed.folder / "report.json"
    whole = run(parsed.folder, f"{line} -o whole --overwrite --report {report.name}", parsed.stand_in)
    assert (short.code, whole.code) == (0, 0), (short, whole)
    seconds = json.loads(report.read_text())["seconds"]
    rng, kills, again = random.Random(parsed.seed), 0, 0
    killed = parsed.folder / "killed"
    assert not killed.exists(), f"{killed} is there; remove it first"
    while True:
        before = records(killed)
        after = None
        if kills < parsed.kills:  # at any moment: starting up, reading, computing, writing
            after = rng.uniform(0.1, 2 * whole.seconds / parsed.kills)
        ended = run(parsed.folder, f"{line} -o killed", parsed.stand_in, after)
        again += sum(records(killed).get(name) != when for name, when in before.items())
        kills += ended.code is None
        if ended.code is not None:
            break
    slowest = max(seconds["compute"], seconds["read"] / 2, seconds["write"] / 2)
    found = {
        "frames": parsed.frames, "size": parsed.size, "kills": kills, "exit code": ended.code,
        "bytes equal": contents(killed) == contents(parsed.folder / "whole"), "done frames made again": again,
        "peak MiB": round(whole.peak), "peak of 10 frames, MiB": round(short.peak),
        "peak / peak of 10 frames": round(whole.peak / short.peak, 3),
        "wall / slowest stage": round(seconds["wall"] / slowest, 3), "seconds": seconds,
    }  # fmt: skip
    print(json.dumps(found, indent=1))
    good = ended.code == 0 and found["bytes equal"] and again == 0 and whole.peak <= 1.1 * short.peak
    return 0 if good and seconds["wall"] <= 1.15 * slowest else 1


if __name__ == "__main__":
    raise SystemExit(main())
