"""``python -m platelight.training.light_stage_sheet URL HDRI OUT.png``: a set's subjects and maps, to be looked at."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

from platelight.images.plate import read_light
from platelight.images.sheet import Tile, contact_sheet
from platelight.training.light_stage_lights import fibonacci
from platelight.training.light_stage_reader import StageReader


def main(argv: list[str] | None = None) -> int:
    """Write one row a subject: relit, two lamps, albedo, normal, roughness, f0, depth."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("url")
    options.add_argument("hdri", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument("--count", type=int, default=12)
    chosen = options.parse_args(argv)
    pixels = np.asarray(read_light(chosen.hdri), np.float32)
    env = torch.from_numpy(cv2.resize(pixels, (128, 64), interpolation=cv2.INTER_AREA)).permute(2, 0, 1)[None]
    reader = StageReader(chosen.url)
    lamps = fibonacci(int(reader.manifest["lamps"]))
    ways = {"key": np.array([-0.6, 0.5, 0.62]), "rim": np.array([0.8, 0.3, -0.52])}
    rows = []
    for index in range(min(chosen.count, len(reader))):
        subject = reader.subject(index)

        def shown(image: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            return np.asarray(image.permute(1, 2, 0).expand(-1, -1, 3).numpy(), np.float32)

        def exposed(image: torch.Tensor, alpha: torch.Tensor = subject.alpha) -> torch.Tensor:
            return image * 0.25 / (image.sum() / (3 * alpha.sum()).clamp_min(1)).clamp_min(1e-6)

        row = [
            Tile(
                f"{subject.info['family']} {reader.names[index][8:14]}",
                shown(exposed(subject.relight(env)[0])),
            )
        ]
        for name, way in ways.items():
            row.append(Tile(name, shown(exposed(subject.olat[int((lamps @ way).argmax())].float()) * 0.7)))
        depth = subject.depth[subject.alpha > 0.5]
        near = (
            (subject.depth - depth.min())
            / (depth.max() - depth.min()).clamp_min(1e-6)
            * (subject.alpha > 0.5)
        )
        row += [
            Tile("albedo", shown(subject.albedo)),
            Tile("normal", shown((subject.normal * 0.5 + 0.5) * (subject.alpha > 0)), encoded=True),
            Tile("roughness", shown(subject.roughness), encoded=True),
            Tile("f0 x 4", shown(subject.f0 * 4), encoded=True),
            Tile("depth", shown(near), encoded=True),
        ]
        rows.append(row)
    contact_sheet(chosen.out, rows, width=176 * len(rows[0]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
