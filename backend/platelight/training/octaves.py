"""Whether training pictures are as crisp as photographs: how much of plates and normals lies in each octave.

``python -m platelight.training.octaves SUITE... --bank B --lights L --textures T`` reduces the plates and true normals of evaluation
suites to the size that networks see, makes pictures of the bank, and prints for each octave the mean absolute
difference of two Gaussian blurs: of the logarithm of a plate's luminance and of the normals. What networks have never seen
they take for paint, or for nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from platelight.images.plate import read_matte, read_plate
from platelight.models.networks import LUMINANCE, MIDDLE
from platelight.pipeline.evaluate import find_suites, load_suite, read_normal
from platelight.training.supply import Ingredients, make_generator

Pixels = npt.NDArray[np.float32]
SIZE = 160  # a network's pictures; subjects fill FILLED of them
FILLED = 0.9
BLURS = (0.7, 1.4, 2.8, 5.6)  # pixels
LEAST = 200  # pixels away from the matte's edge: fewer tell nothing


def octaves(image: Pixels, matte: Pixels) -> list[float] | None:
    """Detail of an image (H, W, C) in octaves from the finest on, away from the matte's (H, W) edge; None where that is nowhere."""
    solid = (matte > 0.9).astype(np.float32)
    inside = cv2.erode(solid, np.ones((7, 7))) > 0
    if inside.sum() < LEAST:
        return None

    def blurred(sigma: float) -> Pixels:
        soft = cv2.GaussianBlur(image * solid[..., None], (0, 0), sigma).reshape(image.shape)
        return np.asarray(soft / np.maximum(cv2.GaussianBlur(solid, (0, 0), sigma), 1e-3)[..., None])

    steps = [image, *map(blurred, BLURS)]
    return [float(np.linalg.norm(a - b, axis=-1)[inside].mean()) for a, b in pairwise(steps)]


def of_picture(plate: Pixels, normal: Pixels, matte: Pixels) -> list[float] | None:
    """Octaves of a plate's brightness, then those of its normals: all (H, W, 3) as the networks see them, and the matte (H, W)."""
    brightness = plate.clip(0) @ np.array(LUMINANCE, np.float32)
    level = MIDDLE / max(float(brightness[matte > 0.5].mean()), 1e-12)
    bright = np.log(brightness * level + 0.02)[..., None]
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    found = [octaves(np.asarray(x, np.float32), matte) for x in (bright, normal / np.maximum(length, 1e-6))]
    return None if None in found else [value for part in found if part for value in part]


def of_suite(folder: Path) -> list[list[float]]:
    """Octaves of each of a suite's plates that have true normals, reduced by area."""
    at, suite = load_suite(folder)
    rows = []
    for case in suite.cases:
        if not case.normal:
            continue
        plate = read_plate(at / case.plate).pixels
        size = (plate.shape[0], plate.shape[1])
        matte, normal = read_matte(at / case.matte, size), read_normal(at / case.normal, size)
        if not (matte > 0.5).any():
            continue
        y, x = (np.flatnonzero((matte > 0.5).any(axis)) for axis in (1, 0))
        window = (slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1))
        scale = SIZE * FILLED / max(y[-1] + 1 - y[0], x[-1] + 1 - x[0])
        to = (max(1, round(scale * (x[-1] + 1 - x[0]))), max(1, round(scale * (y[-1] + 1 - y[0]))))
        small = (
            cv2.resize(image[window].astype(np.float32), to, interpolation=cv2.INTER_AREA)
            for image in (plate, normal, matte)
        )
        row = of_picture(*(np.asarray(image, np.float32) for image in small))
        rows += [row] if row else []
    return rows


def of_made(made_of: Ingredients, count: int, seed: int) -> list[list[float]]:
    """Octaves of ``count`` training pictures, but for those that are too small to tell."""
    generator = make_generator(made_of, SIZE, seed, torch.device("cpu"))
    rows = []
    for _ in range(count):
        batch = generator.batch(1)
        plate, normal = (x[0].permute(1, 2, 0).numpy() for x in (batch.plate, batch.surface.normal))
        row = of_picture(plate, normal, batch.matte[0, 0].numpy())
        rows += [row] if row else []
    return rows


def line(name: str, rows: Iterable[list[float]]) -> str:
    """A line of the table: the geometric mean of each octave; empty where no picture tells."""
    found = np.array(list(rows))
    if not len(found):
        return f"| {name} | 0 |  |  |"
    means = np.exp(np.log(found + 1e-6).mean(0))
    half = len(means) // 2
    return f"| {name} | {len(found)} | {' '.join(f'{v:.3f}' for v in means[:half])} | {' '.join(f'{v:.3f}' for v in means[half:])} |"


def main(argv: list[str] | None = None) -> int:
    """Print a table: a line a suite, and one for what is made."""
    parser = argparse.ArgumentParser(prog="python -m platelight.training.octaves", description=__doc__)
    parser.add_argument("suites", type=Path, nargs="+", help="suites whose plates have normals")
    parser.add_argument("--bank", type=Path, required=True, help="folder of train geometry")
    parser.add_argument("--lights", type=Path, required=True, help="folder of HDRIs")
    parser.add_argument("--textures", type=Path, help="folder of color maps to print")
    parser.add_argument("--count", type=int, default=96, help="training pictures")
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args(argv)
    print("| pictures | count | brightness, finest octave first | normals |")
    print("| --- | --- | --- | --- |")
    for suite in find_suites(options.suites):
        print(line(f"`{suite.name}`", of_suite(suite)), flush=True)
    made_of = Ingredients(lights=options.lights, bank=options.bank, textures=options.textures)
    print(line("made", of_made(made_of, options.count, options.seed)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
