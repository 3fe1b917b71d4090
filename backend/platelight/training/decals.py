"""What is printed on things: ornament drawn from a seed, and photographed textures, as tiles for planar projection."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from platelight.images.color import srgb_to_linear

SIDE = 128


def _ink(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """A saturated, black or muted color with full coverage, linear."""
    kind = rng.random()
    if kind < 0.3:
        value = float(rng.uniform(0.01, 0.1))
        return value, value, value, 1.0
    r, g, b = rng.uniform(0.01, 0.8, 3) ** (2.0 if kind < 0.8 else 1.0)
    return float(r), float(g), float(b), 1.0


def ornament(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """One tile (SIDE, SIDE, 4): strokes, dots, flowers, checks, bands and letters over nothing."""
    tile = np.zeros((SIDE, SIDE, 4), np.float32)

    def point() -> tuple[int, int]:
        return int(rng.integers(SIDE)), int(rng.integers(SIDE))

    for _ in range(int(rng.integers(1, 6))):
        kind, ink = int(rng.integers(7)), _ink(rng)
        for _ in range(int(rng.integers(1, 12))):
            if rng.random() < 0.3:
                ink = _ink(rng)
            if kind == 0:  # brush strokes
                path = np.array(point()) + np.cumsum(rng.normal(size=(10, 2)) * rng.uniform(2, 7), 0)
                cv2.polylines(tile, [path.astype(np.int32)], False, ink, int(rng.integers(1, 4)), cv2.LINE_AA)
            elif kind == 1:  # dots and rings
                cv2.circle(
                    tile, point(), int(rng.integers(2, 18)), ink, int(rng.choice([-1, -1, 1, 2])), cv2.LINE_AA
                )
            elif kind == 2:  # flowers and stars
                phi = np.linspace(0, 2 * np.pi, 90)
                radius = rng.uniform(5, 30) * (0.5 + 0.5 * np.abs(np.cos(phi * rng.integers(2, 9) / 2)))
                ring = np.stack([np.cos(phi), np.sin(phi)], 1) * radius[:, None] + np.array(point())
                cv2.fillPoly(tile, [ring.astype(np.int32)], ink, cv2.LINE_AA)
            elif kind == 3:  # patches
                corners = np.array(point()) + rng.normal(size=(int(rng.integers(3, 7)), 2)) * rng.uniform(
                    8, 40
                )
                cv2.fillPoly(tile, [cv2.convexHull(corners.astype(np.int32))], ink, cv2.LINE_AA)
            elif kind == 4:  # print
                word = "".join(chr(int(c)) for c in rng.integers(48, 91, int(rng.integers(1, 8))))
                cv2.putText(
                    tile,
                    word,
                    point(),
                    int(rng.integers(8)),
                    rng.uniform(0.3, 1.6),
                    ink,
                    int(rng.integers(1, 4)),
                    cv2.LINE_AA,
                )
            elif kind == 5:  # bands
                y, high = int(rng.integers(SIDE)), int(rng.integers(1, 22))
                cv2.rectangle(tile, (0, y), (SIDE, y + high), ink, -1)
            else:  # checks
                y, x = np.mgrid[:SIDE, :SIDE]
                pitch = int(rng.integers(6, 40))
                tile[((x // pitch) + (y // pitch)) % 2 == 0] = ink
                break
    return np.clip(tile, 0, 1)


def ornaments(count: int, seed: int) -> Tensor:
    """``count`` tiles (count, 4, SIDE, SIDE): linear color and coverage."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([ornament(rng) for _ in range(count)])).permute(0, 3, 1, 2).contiguous()


def textures(folder: Path | None) -> Tensor | None:
    """Photographed surfaces as tiles (K, 4, SIDE, SIDE) with full coverage: the color maps below a folder, or None."""
    if folder is None:
        return None
    tiles: list[Tensor] = []
    for path in sorted([*folder.rglob("*olor*.jpg"), *folder.rglob("*olor*.png")]):
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if pixels is None:
            continue
        linear = srgb_to_linear(pixels[..., ::-1].astype(np.float32) / 255)
        for scale in (1, 2, 4):  # coarse to fine
            wide = cv2.resize(linear, (SIDE * scale, SIDE * scale), interpolation=cv2.INTER_AREA)
            tile = torch.from_numpy(np.ascontiguousarray(wide[:SIDE, :SIDE])).permute(2, 0, 1)
            tiles.append(torch.cat([tile, torch.ones(1, SIDE, SIDE)]))
    return torch.stack(tiles) if tiles else None
