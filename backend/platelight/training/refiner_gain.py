"""What the refiner adds to the physical render, measured: decibels, structural similarity and perceptual distance of both.

``python -m platelight.training.refiner_gain SUITE... --weights DIR`` takes each plate of evaluation suites apart and relights it. The
perceptual distance is that of ``losses.Perceptual`` (VGG16 features, Johnson, Alahi, Fei-Fei 2016) between display-referred
pictures, black outside the matte, after one best scale; of a plate with several lights, the last one's.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from platelight.pipeline import service
from platelight.pipeline.evaluate import evaluate
from platelight.pipeline.metrics import PEAK_PERCENTILE, best_scale
from platelight.training.losses import Perceptual

Pixels = npt.NDArray[np.float32]


def display(linear: Pixels, matte: Pixels, peak: float) -> torch.Tensor:
    """A linear picture (H, W, 3) as a screen shows it where ``peak`` is white, (1, 3, H, W), black outside the matte."""
    shown = np.clip(linear / peak, 0, 1) ** (1 / 2.2) * (matte > 0.5)[..., None]
    return torch.from_numpy(np.ascontiguousarray(shown, np.float32)).permute(2, 0, 1)[None]


@torch.no_grad()
def distance(vgg: Perceptual, picture: Pixels, truth: Pixels, matte: Pixels) -> float:
    """Perceptual distance of a relit picture to the true one, both linear (H, W, 3); 0 for the same up to a scale."""
    inside = matte > 0.5
    peak = max(float(np.percentile(truth[inside], PEAK_PERCENTILE)), 1e-12)
    scaled = np.asarray(picture * best_scale(picture[inside], truth[inside]), np.float32)
    return float(vgg(display(scaled, matte, peak), display(truth, matte, peak)))


def row(suite: Path, vgg: Perceptual, limit: int | None) -> str:
    """One suite's line of the table."""
    found: dict[str, list[float]] = {"pbr": [], "relit": []}

    def seen(case: str, pictures: Mapping[str, Pixels]) -> None:
        for name, values in found.items():
            if name in pictures:
                values.append(distance(vgg, pictures[name], pictures["true_relit"], pictures["matte"]))

    report = evaluate(suite, limit=limit, seen=seen)
    cells = []
    for name in found:
        psnr, ssim = report.mean[f"{name}_psnr"], report.mean[f"{name}_ssim"]
        cells.append(f"{psnr:.2f} dB / {ssim:.3f} / {np.mean(found[name]):.3f}")
    return f"| `{report.name}` | {len(report.cases)} | {' | '.join(cells)} |"


def main(argv: list[str] | None = None) -> int:
    """Print a table, a line a suite."""
    parser = argparse.ArgumentParser(prog="python -m platelight.training.refiner_gain", description=__doc__)
    parser.add_argument("suites", type=Path, nargs="+", help="suites whose plates have relit pictures")
    parser.add_argument("--weights", type=Path, help="folder of the networks; by default the shipped ones")
    parser.add_argument("--limit", type=int, help="only the first cases of each")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(argv)
    service.configure("cpu", options.threads, options.weights)
    vgg = Perceptual()
    print("| suite | plates | physical render: PSNR / SSIM / perceptual | refined |")
    print("| --- | --- | --- | --- |")
    for suite in options.suites:
        print(row(suite, vgg, options.limit), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
