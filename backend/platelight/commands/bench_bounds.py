"""What the bench holds its figures against, measured in the same run: memory traffic, arithmetic, Cycles."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from platelight.images.exr import write_exr
from platelight.images.sanitize import Pixels
from platelight.protocol.errors import PlatelightError

CYCLES_SAMPLES = 64


def copy_seconds(planes: Mapping[str, Pixels]) -> tuple[float, int]:
    """Seconds that a copy of all planes takes, and their bytes."""
    began = time.perf_counter()
    for plane in planes.values():
        plane.copy()
    return time.perf_counter() - began, sum(plane.nbytes for plane in planes.values())


@contextmanager
def counted(networks: Iterable[nn.Module]) -> Iterator[Counter[str]]:
    """While it lasts, ``operations`` counts the floating-point operations of convolutions and linear layers."""
    count: Counter[str] = Counter()

    def convolution(layer: nn.Module, _inputs: Any, output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        count["operations"] += 2 * output.numel() * layer.weight[0].numel()

    def linear(layer: nn.Module, _inputs: Any, output: Tensor) -> None:
        assert isinstance(layer, nn.Linear)
        count["operations"] += 2 * output.numel() * layer.in_features

    hooks = [
        layer.register_forward_hook(convolution if isinstance(layer, nn.Conv2d) else linear)
        for network in networks
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    try:
        yield count
    finally:
        for hook in hooks:
            hook.remove()


def convolution_seconds(operations: float, device: torch.device) -> float:
    """Seconds that plain 3 x 3 convolutions of 64 channels at 128² take for as many floating-point operations."""
    x = torch.rand(1, 64, 128, 128, device=device).contiguous(memory_format=torch.channels_last)
    weight = torch.rand(64, 64, 3, 3, device=device).contiguous(memory_format=torch.channels_last)
    each = 2.0 * 64 * 64 * 9 * 128 * 128
    with torch.inference_mode():
        F.conv2d(x, weight, padding=1)
        began, turns = time.perf_counter(), 0
        while turns < 4 or (turns * each < operations and time.perf_counter() - began < 2.0):
            F.conv2d(x, weight, padding=1)
            turns += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - began) / (turns * each) * operations


def cycles_seconds(planes: Mapping[str, Pixels], light: Pixels, threads: int | None) -> float:
    """Seconds that Cycles takes for the maps on a plane that fills the frame, 64 samples and denoised.

    Scene loading is not counted: it is the second render of one scene.

    Raises:
        PlatelightError: there is no bpy, or it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name in ("albedo", "normal"):
            channels = {c: np.ascontiguousarray(planes[name][..., k]) for k, c in enumerate("RGB")}
            write_exr(Path(folder) / f"{name}.exr", channels, {})
        channels = {c: np.ascontiguousarray(light[..., k]) for k, c in enumerate("RGB")}
        write_exr(Path(folder) / "light.exr", channels, {})
        height, width = planes["albedo"].shape[:2]
        script = Path(__file__).with_name("bench_cycles.py")
        command = [sys.executable, str(script), folder, str(width), str(height), str(threads or 0)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1:] or [""]
    if done.returncode or not last[0].startswith("{"):
        raise PlatelightError(
            "Cycles could not be timed.", "Install platelight[blender], or leave --cycles out."
        )
    return float(json.loads(last[0])["seconds"])
