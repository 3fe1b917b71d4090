"""Things that stand: what lies below the plane of a support is taken out of a view, as a table takes it out of a photograph.

A bank's things float, so that all of their outline is where the surface turns away. Photographed things stand or lie: their
lower outline is where they meet a table, on which cameras look down a little, and there the surface does not turn away at
all. Who has only seen the former takes the latter for it, and turns whole things by ten to twenty degrees towards
the camera's axis (docs/training.md has the figures).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[np.float64]

STEEP = 40.0  # degrees by which cameras look down at most
ROLL = 5.0  # standard deviation, degrees
LEAST, MOST = 0.03, 0.45  # of a thing's height that is cut off
LEFT = 0.35  # of its pixels at least are left
STIFF = 0.15  # a pose bends rest coordinates: an affine camera must explain them but for this part
FEW, ENOUGH = 200, 4000  # pixels: fewer tell nothing, more are not needed


def stood(
    part: npt.NDArray[np.uint8],
    rest: npt.NDArray[np.float16],
    normal: npt.NDArray[np.float16],
    generator: torch.Generator,
) -> npt.NDArray[np.uint8]:
    """The parts (S, S) of a view without what lies below a random support; unchanged where that cannot be told.

    Args:
        part, rest (S, S, 3), normal (S, S, 3): as a bank holds them (:mod:`.raycast`), of a thing whose rest coordinates are its own.
    """
    rows, columns = np.nonzero(part)
    if len(rows) < FEW:
        return part
    draws = torch.rand(3, generator=generator).tolist()
    roll = math.radians(ROLL) * float(torch.randn((), generator=generator))
    frame = camera_frame(rows, columns, rest, normal)
    if frame is None:
        return part
    right, up, back = frame
    tilt = math.radians(STEEP) * draws[0]
    upright = math.cos(tilt) * (math.cos(roll) * up + math.sin(roll) * right) + math.sin(tilt) * back
    height = rest[rows, columns].astype(np.float64) @ upright
    low, high = np.quantile(height, (0.005, 0.995))
    above = height >= low + (LEAST + (MOST - LEAST) * draws[1]) * (high - low)
    if above.mean() < LEFT:
        return part
    left = part.copy()
    left[rows[~above], columns[~above]] = 0
    return left


def camera_frame(
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    rest: npt.NDArray[np.float16],
    normal: npt.NDArray[np.float16],
) -> tuple[Array, Array, Array] | None:
    """The camera's right, up and back as unit vectors (3,) of rest coordinates, by least squares; None for what is bent."""
    every = -(-len(rows) // ENOUGH)
    some_rows, some_columns = rows[::every], columns[::every]
    place = rest[some_rows, some_columns].astype(np.float64)
    seen = np.stack([some_columns, -some_rows], 1).astype(np.float64)
    terms = np.concatenate([place, np.ones((len(place), 1))], 1)
    found, *_ = np.linalg.lstsq(terms, seen, rcond=None)
    off = np.sqrt(((terms @ found - seen) ** 2).mean(0)) / np.maximum(seen.std(0), 1e-6)
    right, up = found[:3, 0], found[:3, 1]
    if off.max() > STIFF or min(np.linalg.norm(right), np.linalg.norm(up)) < 1e-9:
        return None
    right = right / np.linalg.norm(right)
    up = up - (up @ right) * right
    if np.linalg.norm(up) < 1e-9:
        return None
    up = up / np.linalg.norm(up)
    back = np.cross(right, up)
    # Rest coordinates may be a mirror image of the thing: normals tell which way is nearer.
    beside = np.minimum(columns + 1, rest.shape[1] - 1)
    step = (rest[rows, beside].astype(np.float64) - rest[rows, columns].astype(np.float64)) @ back
    known = (beside > columns) & (np.abs(normal[rows, beside].astype(np.float64)).sum(-1) > 0)
    facing = normal[rows, columns].astype(np.float64)
    slope = -facing[:, 0] / np.maximum(facing[:, 2], 0.2)
    near = known & (np.abs(step) < np.quantile(np.abs(step), 0.9))
    return right, up, back if float((step * slope)[near].sum()) >= 0 else -back


__all__ = ["stood"]
