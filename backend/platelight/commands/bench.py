"""``platelight bench``: seconds a stage and peak memory of one frame, cold and warm, beside what bounds them.

The plate is scikit-image's portrait enlarged to the size asked for; stages are those the pipeline itself reports. With
several sizes each is measured in a process of its own, and the growth of time and memory with pixels is fitted.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from platelight.commands.bench_bounds import (
    CYCLES_SAMPLES,
    convolution_seconds,
    copy_seconds,
    counted,
    cycles_seconds,
)
from platelight.commands.bench_light import change_seconds
from platelight.images.atomic import write_bytes
from platelight.images.color import srgb_to_linear
from platelight.images.sanitize import Pixels
from platelight.pipeline import service
from platelight.protocol.errors import PlatelightError
from platelight.protocol.requests import Decompose, Relight, Request

SIZES = {
    "540p": (540, 960),
    "1080p": (1080, 1920),
    "4k": (2160, 3840),
    "8k": (4320, 7680),
    "16k": (8640, 16384),
}
Stages = dict[str, float]
Report = dict[str, Any]


def portrait(size: tuple[int, int]) -> Pixels:
    """The portrait, linear, cropped to this shape: the subject covers much of the frame, as in a close shot."""
    from skimage import data

    height, width = size
    picture = srgb_to_linear(data.astronaut().astype(np.float32) / 255.0)  # type: ignore[no-untyped-call]
    side = picture.shape[0]
    rows, columns = min(side, round(side * height / width)), min(side, round(side * width / height))
    left = (side - columns) // 2
    cropped = picture[:rows, left : left + columns]
    frame: Pixels = cv2.resize(cropped, (width, height), interpolation=cv2.INTER_CUBIC).clip(0)
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
    if len(parsed.size) == 1:
        report = measure(parsed)
        show(report)
        content: Any = report
    else:
        reports = [_apart(parsed, size) for size in parsed.size]
        content = {"reports": reports, "growth": growth(reports)}
        for report in reports:
            show(report)
        print(
            "growth with pixels, exponents: "
            + ", ".join(f"{k} {v:.2f}" for k, v in content["growth"].items())
        )
    if parsed.json:
        write_bytes(parsed.json, json.dumps(content, indent=2).encode())
    return 0


def _apart(parsed: argparse.Namespace, size: str) -> Report:
    """One size in a process of its own, for its peak memory is its own there."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        command = [sys.executable, "-m", "platelight.cli", "bench", "--size", size, "--json", str(file)]
        command += ["--device", parsed.device, "--networks", parsed.networks]
        command += ["--threads", str(parsed.threads)] if parsed.threads else []
        command += ["--memory", str(parsed.memory)] if parsed.memory else []
        command += ["--cycles"] if parsed.cycles else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PlatelightError(
                f"The bench of {size} failed: {done.stderr.strip()[-500:]}", "Try it alone."
            )
        report: Report = json.loads(file.read_bytes())
    return report


def growth(reports: list[Report]) -> dict[str, float]:
    """Exponents of seconds (warm) and of memory above the idle process against pixels: least squares in logarithms.

    1 is proportional growth; parts of fixed cost pull it below.
    """
    pixels = np.log([report["pixels"] for report in reports])
    found = {}
    for job in ("decompose, warm", "relight, warm", "physical render alone, warm"):
        seconds = np.log([report["runs"][job]["total"] for report in reports])
        found[job] = float(np.polyfit(pixels, seconds, 1)[0])
    memory = np.log([max(report["peak_mib"] - report["idle_mib"], 1.0) for report in reports])
    return {**found, "memory": float(np.polyfit(pixels, memory, 1)[0])}


def measure(parsed: argparse.Namespace) -> Report:
    """Time one size in this process."""
    service.configure(parsed.device, parsed.threads)
    service.choose_engine(parsed.networks)
    if parsed.memory:
        service.limit_memory(int(parsed.memory * 2**30))
    size = parsed.size[0]
    plate, light = portrait(SIZES[size]), sky()
    service.networks()
    idle = peak_mib()
    runs: dict[str, Stages] = {}

    def job(name: str, request: Request, planes: Mapping[str, Pixels]) -> service.JobResult:
        stages, result = timed(lambda watch: service.run_job(request, dict(planes), watch))
        runs[name] = stages
        return result

    maps = job("decompose, cold", Decompose(), {"plate": plate}).planes
    planes = {**{k: v for k, v in maps.items() if k != "light"}, "light": light, "plate": plate}
    job("relight, cold", Relight(backdrop="light"), planes)
    job("decompose, warm", Decompose(), {"plate": plate})
    job("relight, warm", Relight(backdrop="light"), planes)
    bare = {k: v for k, v in planes.items() if k != "plate"}
    job("physical render alone, warm", Relight(pbr_only=True), bare)
    peak = peak_mib()
    copy, touched = copy_seconds(planes)
    operations = _operations(plate, planes)
    report: Report = {
        "size": size,
        "pixels": plate.shape[0] * plate.shape[1],
        "device": parsed.device,
        "engine": parsed.networks,
        "threads": parsed.threads or "all",
        "memory_gib": parsed.memory,
        "runs": runs,
        "idle_mib": idle,
        "peak_mib": peak,
        "copy_seconds": copy,
        "bytes": touched,
        "operations": operations,
        "convolution_seconds": convolution_seconds(operations, torch.device(parsed.device)),
        "light_changes": change_seconds(maps, light, parsed.device, parsed.threads),
    }
    if parsed.cycles:
        report["cycles_seconds"] = cycles_seconds(planes, light, parsed.threads)
    return report


def _operations(plate: Pixels, planes: Mapping[str, Pixels]) -> float:
    """Floating-point operations of the networks in one decompose and one relight; only PyTorch tells them."""
    service.choose_engine("torch")
    loaded = service.networks()
    with counted((loaded.normal, loaded.illum, loaded.diffuse, loaded.specular, loaded.render)) as count:
        service.run_job(Decompose(), {"plate": plate})
        service.run_job(Relight(backdrop="light"), dict(planes))
    return float(count["operations"])


def show(report: Report) -> None:
    """Print a table of stages, and the bounds below it."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{report['size']}, {report['device']}, {report['threads']} threads, engine {report['engine']}"
    )
    for column in ("job", "stage", "seconds"):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    for name, stages in report["runs"].items():
        for stage, seconds in stages.items():
            whole = stage == "total"
            table.add_row(name if whole else "", stage, f"{seconds:.2f}", style="bold" if whole else "")
    console = Console()
    console.print(table)
    alone = report["runs"]["physical render alone, warm"]["total"]
    lines = [
        f"peak resident memory {report['peak_mib']:.0f} MiB ({report['idle_mib']:.0f} before the first frame)",
        f"a copy of all planes ({report['bytes'] / 2**20:.0f} MiB): {report['copy_seconds']:.3f} s",
        f"plain convolutions of the networks' {report['operations'] / 1e9:.0f} GFLOP: {report['convolution_seconds']:.2f} s",
    ]
    lines += [
        f"{name} changed, through a server to the composite: {1000 * spent['median']:.0f} ms, "
        f"at least {1000 * spent['least']:.0f}"
        for name, spent in report["light_changes"].items()
    ]
    if "cycles_seconds" in report:
        cycles = report["cycles_seconds"]
        lines.append(
            f"Cycles, {CYCLES_SAMPLES} samples, denoised: {cycles:.1f} s, {cycles / alone:.0f} times the physical render alone"
        )
    for line in lines:
        console.print(line)
