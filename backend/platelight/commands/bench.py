"""``platelight bench``: seconds a stage and peak memory of one frame, cold and warm, beside a memory copy.

The plate is scikit-image's portrait enlarged to the size asked for; stages are those the pipeline itself reports.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable

import cv2
import numpy as np

from platelight.images.atomic import write_bytes
from platelight.images.color import srgb_to_linear
from platelight.images.sanitize import Pixels
from platelight.pipeline import service
from platelight.protocol.requests import Decompose, Relight

SIZES = {"540p": (540, 960), "1080p": (1080, 1920), "4k": (2160, 3840)}
Stages = dict[str, float]


def portrait(size: tuple[int, int]) -> Pixels:
    """The portrait, linear, in the middle of a gray frame of this size."""
    from skimage import data

    height, width = size
    picture = srgb_to_linear(data.astronaut().astype(np.float32) / 255.0)  # type: ignore[no-untyped-call]
    frame = np.full((height, width, 3), 0.18, np.float32)
    left = (width - height) // 2
    frame[:, left : left + height] = cv2.resize(
        picture, (height, height), interpolation=cv2.INTER_CUBIC
    ).clip(0)
    return frame


def sky(rows: int = 512) -> Pixels:
    """A light with a horizon and a sun, at an HDRI's usual size."""
    light = np.full((rows, 2 * rows, 3), 0.3, np.float32)
    light[: rows // 2] = (0.5, 0.7, 1.0)
    light[rows // 4 : rows // 4 + 4, rows // 3 : rows // 3 + 4] = 2000.0
    return light


class Stopwatch:
    """A progress callback that keeps the seconds between reports, by the name of the stage that began."""

    def __init__(self) -> None:
        self.stages: Stages = {}
        self.began, self.stage = time.perf_counter(), ""

    def __call__(self, _fraction: float, stage: str) -> None:
        now = time.perf_counter()
        if self.stage:
            self.stages[self.stage] = self.stages.get(self.stage, 0.0) + now - self.began
        self.began, self.stage = now, stage


def timed(job: Callable[[Stopwatch], service.JobResult]) -> tuple[Stages, service.JobResult]:
    """Stages of one job, with ``total``."""
    watch, began = Stopwatch(), time.perf_counter()
    result = job(watch)
    return {**watch.stages, "total": time.perf_counter() - began}, result


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform != "darwin" else peak / 2**20


def run(parsed: argparse.Namespace) -> int:
    """Run the command."""
    from rich.console import Console
    from rich.table import Table

    service.configure(parsed.device, parsed.threads)
    plate, light = portrait(SIZES[parsed.size]), sky()
    runs: list[tuple[str, Stages]] = []
    for name in ("cold", "warm"):
        stages, maps = timed(lambda watch: service.run_job(Decompose(), {"plate": plate}, watch))
        runs.append((f"decompose, {name}", stages))
    planes = {**{k: v for k, v in maps.planes.items() if k != "light"}, "light": light, "plate": plate}
    for name in ("cold", "warm"):
        stages, _ = timed(lambda watch: service.run_job(Relight(backdrop="light"), planes, watch))
        runs.append((f"relight, {name}", stages))
    began = time.perf_counter()
    touched = sum(plane.nbytes for plane in planes.values())
    for plane in planes.values():
        plane.copy()
    copy = time.perf_counter() - began
    table = Table(title=f"{parsed.size}, {parsed.device}, {parsed.threads or 'all'} threads")
    for column in ("job", "stage", "seconds"):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    for name, stages in runs:
        for stage, seconds in stages.items():
            table.add_row(
                name if stage == "total" else "",
                stage,
                f"{seconds:.2f}",
                style="bold" if stage == "total" else "",
            )
    console = Console()
    console.print(table)
    console.print(
        f"peak resident memory {peak_mib():.0f} MiB; a copy of all planes ({touched / 2**20:.0f} MiB) {copy:.3f} s"
    )
    if parsed.json:
        report = {
            "size": parsed.size,
            "runs": dict(runs),
            "peak_mib": peak_mib(),
            "copy_seconds": copy,
            "bytes": touched,
        }
        write_bytes(parsed.json, json.dumps(report, indent=2).encode())
    return 0
