"""Depth from normals: perspective bilateral normal integration.

Cao, Santo, Shi, Okura, Matsushita, *Bilateral Normal Integration*, ECCV 2022: least squares in log depth, where
at each pixel the left and right (upper and lower) one-sided differences share a weight that slides towards the
side on which the surface is continuous, so that steps stay steps. Solved here coarse to fine: directly
while that is fast, then polished by conjugate gradients.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg

from platelight.images.sanitize import Pixels
from platelight.pipeline.planes import CPU, enlarged, resized, shrunk
from platelight.pipeline.resample import Window, fov_of, middle_of
from platelight.pipeline.room import UNBOUNDED

log = logging.getLogger(__name__)

Levels = tuple[tuple[int, int], ...]
"""Long sides of rasters, coarse to fine, and how often each is solved; the first number of times also where nothing was there before."""

LEVELS: Levels = ((96, 12), (192, 2), (384, 1))
FORM_LEVELS: Levels = ((96, 6), (192, 2))
"""Those by which it is told what surface there is at all; see :func:`surface_normals`."""
DIRECT_LIMIT = 40_000
MEDIAN_PIXELS = 1 << 22

SHARPNESS = 10.0
"""k of the paper, there 2 with up to 150 rounds; larger finds steps in a dozen."""
GRAZING = 0.05
"""Smallest n·v that is believed; nearer the silhouette the slope would explode."""

FIRMEST = 7.0
"""Bound of the sigmoid's argument: a side keeps a weight of 1/1000, so that the system stays regular."""

Doubles = npt.NDArray[np.float64]
Middle = tuple[float, float]
Rays = tuple[float, Doubles, Doubles]
"""Focal length in pixels, and x and y of the rays through the pixels inside at a depth of one, y upwards."""


def integrate_normals(normal: Pixels, matte: Pixels, fov: float) -> Pixels:
    """Integrate camera-space normals into depth.

    Args:
        normal: (H, W, 3) unit, +X right, +Y up, +Z to the camera; (0, 0, 0) where unknown.
        matte: (H, W) in [0, 1]; the surface is where it is above 0.5.
        fov: horizontal field of view of the whole frame in degrees, 1 to 170.

    Returns:
        (H, W) float32 depth along −Z, positive, larger is farther. It is known up to scale only: the median over
        the subject is 1; parts that do not touch each have a median of 1. Outside, the nearest depth goes on.

    Raises:
        ValueError: shapes do not agree or ``fov`` is out of range.
    """
    if normal.shape[:2] != matte.shape or normal.shape[-1] != 3:
        raise ValueError(f"normal is {normal.shape}, matte {matte.shape}")
    if not 1.0 <= fov <= 170.0:
        raise ValueError(f"fov must be 1 to 170 degrees, not {fov}")
    height, width = matte.shape
    window = _extent(matte)
    rows, columns = (
        slice(window.top, window.top + window.height),
        slice(window.left, window.left + window.width),
    )
    normal, matte, size = normal[rows, columns], matte[rows, columns], (window.height, window.width)
    middle = middle_of(window, (height, width))
    surface, _, _ = _coarse_to_fine(normal, matte, fov_of(window, width, fov), LEVELS, middle)
    if surface is None:
        return np.ones((height, width), dtype=np.float32)
    center = _median_inside(surface, normal, matte)
    out = np.empty((height, width), dtype=np.float32)
    inner = out[rows]
    for top, bottom in UNBOUNDED.bands(*size, CPU):
        inner[top:bottom, columns] = np.exp(np.clip(enlarged(surface, size, top, bottom) - center, -8.0, 8.0))
    inner[:, : columns.start] = inner[:, columns.start, None]
    inner[:, columns.stop :] = inner[:, columns.stop - 1, None]
    out[: rows.start], out[rows.stop :] = inner[0], inner[-1]
    return out


def _extent(matte: Pixels) -> Window:
    """The surface and a little around it: a raster of the frame would hold little of a small subject."""
    height, width = matte.shape
    rows, columns = np.zeros(height, dtype=bool), np.zeros(width, dtype=bool)
    for top, bottom in UNBOUNDED.bands(height, width, CPU):
        inside = matte[top:bottom] > 0.5
        rows[top:bottom] = inside.any(1)
        columns |= inside.any(0)
    found = []
    for seen in (rows, columns):
        places = np.flatnonzero(seen) if seen.any() else np.array([0, len(seen) - 1])
        around = 2 + (places[-1] - places[0]) // 50
        start, stop = max(0, int(places[0] - around)), min(len(seen), int(places[-1] + around + 1))
        found.append((start, stop - start))
    (top, high), (left, wide) = found
    return Window(top, left, high, wide)


def surface_normals(
    normal: Pixels, matte: Pixels, fov: float, middle: Middle = (0.0, 0.0)
) -> tuple[Pixels, Pixels]:
    """The normals of the surface that normals integrate to, which need not be those given: few fields are a surface's.

    Args:
        normal, matte, fov: as for :func:`integrate_normals`, but of a part of the frame.
        middle: where the frame's own middle lies, to the right and below this part's, in widths of the part.

    Returns:
        (h, w, 3) float32 unit normals on a raster whose long side is at most the last of ``FORM_LEVELS``, and on the same
        raster those given; both (0, 0, 0) off the surface.
    """
    surface, level, mask = _coarse_to_fine(normal, matte, fov, FORM_LEVELS, middle)
    given = np.asarray(level * mask[..., None], np.float32)
    found = np.zeros_like(given)
    if surface is not None and mask.any():
        found[mask] = _facing(surface[mask], level[mask], mask, fov, middle)
    return found, given


def _coarse_to_fine(
    normal: Pixels, matte: Pixels, fov: float, levels: Levels, middle: Middle = (0.0, 0.0)
) -> tuple[Doubles | None, Doubles, npt.NDArray[np.bool_]]:
    """Log depth on the raster of the last level, gone on outside, and that raster's normals and mask; None where nothing is inside."""
    height, width = matte.shape
    sizes = []
    for side, _ in levels:
        scale = min(1.0, side / max(height, width))
        sizes.append((max(1, round(height * scale)), max(1, round(width * scale))))
    sums, share = _shrunk(normal, matte, sizes[-1])
    surface: Doubles | None = None
    level, mask = sums, np.zeros((0, 0), dtype=bool)
    for size, (_, rounds) in zip(sizes, levels, strict=True):
        if size == mask.shape:
            continue
        level, mask = _level(sums, share, size)
        if not mask.any():
            continue
        start = None if surface is None else resized(surface, size)
        rays = _rays(mask, fov, middle)
        found = _solve_level(level, mask, rays, start, levels[0][1] if surface is None else rounds)
        surface = _extended(found, mask)
    return surface, level, mask


def _facing(z: Doubles, normal: Doubles, mask: npt.NDArray[np.bool_], fov: float, middle: Middle) -> Doubles:
    """Unit normals (N, 3) of a log depth (N,): one-sided differences, of which that across a step counts little."""
    focal, ray_x, ray_y = _rays(mask, fov, middle)
    slope = _slope(normal, focal, ray_x, ray_y)
    index = np.full(mask.shape, -1)
    index[mask] = np.arange(len(z))
    along = []
    for axis in (1, 0):
        low, high = _edges(index, axis)
        forward = _forward_weight(slope, low, high, z)
        step, total, weight = z[high] - z[low], np.zeros(len(z)), np.full(len(z), 1e-12)
        for end, share in ((low, forward[low]), (high, 1.0 - forward[high])):
            total += np.bincount(end, share * step, len(z))
            weight += np.bincount(end, share, len(z))
        along.append(total / weight)
    right, down = along
    facing = np.stack([right, -down, 1.0 / focal + right * ray_x - down * ray_y], axis=-1)
    return np.asarray(facing / np.linalg.norm(facing, axis=-1, keepdims=True))


def _inside(normal: Pixels, matte: Pixels) -> npt.NDArray[np.bool_]:
    return np.asarray((matte > 0.5) & (np.abs(normal).sum(axis=-1) > 0))


def _median_inside(surface: Doubles, normal: Pixels, matte: Pixels) -> float:
    """The median of a surface over the subject; of every k-th row and column where there are very many."""
    height, width = matte.shape
    step = max(1, round(np.sqrt(height * width / MEDIAN_PIXELS)))
    found = []
    for top, bottom in UNBOUNDED.bands(height, width, CPU):
        rows = slice(top + -top % step, bottom, step)
        inside = _inside(normal[rows, ::step], matte[rows, ::step])
        found.append(enlarged(surface, (height, width), top, bottom)[-top % step :: step, ::step][inside])
    values = np.concatenate(found)
    return float(np.median(values)) if values.size else 0.0


def _solve_level(
    normal: Doubles, mask: npt.NDArray[np.bool_], rays: Rays, start: Doubles | None, rounds: int
) -> Doubles:
    """Log depth (h, w) at one resolution; what lies outside ``mask`` is 0."""
    n = normal[mask]
    slope = _slope(n, *rays)
    index = np.full(mask.shape, -1)
    index[mask] = np.arange(len(n))
    # slope · ∂z/∂u = n_x and slope · ∂z/∂v = −n_y, v downwards: from n · ∂P/∂u = 0 with P = d (x, y, −1).
    axes = ((_edges(index, 1), n[:, 0]), (_edges(index, 0), -n[:, 1]))
    z = np.zeros(len(n)) if start is None else start[mask].astype(np.float64)
    unit = float(np.mean(slope**2))
    anchor = 1e-9 * unit  # holds the free constant of each part
    for turn in range(rounds):
        known = turn > 0 or start is not None
        right = np.zeros(len(n))
        diagonal = np.full(len(n), anchor)
        ends: list[npt.NDArray[Any]] = []
        coupling: list[Doubles] = []
        for (low, high), target in axes:
            forward = _forward_weight(slope, low, high, z) if known else np.full(len(n), 0.5)
            # An edge is the forward difference of its low pixel and the backward one of its high pixel.
            near, far = forward[low] * slope[low], (1.0 - forward[high]) * slope[high]
            stiffness = near * slope[low] + far * slope[high]
            flux = near * target[low] + far * target[high]
            for end, sign in ((high, 1.0), (low, -1.0)):
                diagonal += np.bincount(end, stiffness, len(n))
                right += sign * np.bincount(end, flux, len(n))
            ends.append(np.stack([low, high]))
            coupling.append(-stiffness)
        pairs, values = np.concatenate(ends, axis=1), np.concatenate(coupling)
        own = np.arange(len(n))
        rows, columns = np.concatenate([pairs[0], pairs[1], own]), np.concatenate([pairs[1], pairs[0], own])
        entries = np.concatenate([values, values, diagonal])
        z = solved(scipy.sparse.csc_matrix((entries / unit, (rows, columns))), right / unit, z)
    out = np.zeros(mask.shape)
    out[mask] = _centered(z, mask)
    return out


def _rays(mask: npt.NDArray[np.bool_], fov: float, middle: Middle) -> Rays:
    height, width = mask.shape
    focal = float(0.5 * width / np.tan(np.radians(fov) / 2.0))
    ys, xs = np.nonzero(mask)
    right, down = (0.5 + middle[0]) * width, 0.5 * height + middle[1] * width
    return focal, (xs + 0.5 - right) / focal, -(ys + 0.5 - down) / focal


def _slope(normal: Doubles, focal: float, ray_x: Doubles, ray_y: Doubles) -> Doubles:
    """What a step of log depth to the next pixel is multiplied by to give the normal's x or y, (N,)."""
    towards = normal[:, 2] - normal[:, 0] * ray_x - normal[:, 1] * ray_y
    return np.asarray(focal * np.maximum(towards, GRAZING))


def _edges(index: npt.NDArray[Any], axis: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Neighbors along an axis that both lie on the surface: indices of the low and of the high pixel."""
    low, high = (index[:, :-1], index[:, 1:]) if axis == 1 else (index[:-1], index[1:])
    both = (low >= 0) & (high >= 0)
    return low[both], high[both]


def _forward_weight(slope: Doubles, low: npt.NDArray[Any], high: npt.NDArray[Any], z: Doubles) -> Doubles:
    """Each pixel's weight of its forward difference: near 1 where the backward one jumps, near 0 where it does."""
    step = (z[high] - z[low]) ** 2
    forward, backward = np.zeros(len(z)), np.zeros(len(z))
    forward[low], backward[high] = slope[low] ** 2 * step, slope[high] ** 2 * step
    jump = np.clip(SHARPNESS * (backward - forward), -FIRMEST, FIRMEST)
    return np.asarray(1.0 / (1.0 + np.exp(-jump)))


def solved(system: scipy.sparse.csc_matrix, right: Doubles, start: Doubles) -> Doubles:
    """Solve a symmetric positive definite system: directly while that is fast, else by conjugate gradients.

    Conjugate gradients only polish: the low frequencies, which converge last, come right from the level below.
    """
    if len(right) <= DIRECT_LIMIT:
        factor = scipy.sparse.linalg.splu(
            system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        )
        return np.asarray(factor.solve(right), dtype=np.float64)
    from pymatting.preconditioner.ichol import ichol
    from pymatting.solver.cg import cg

    if float(np.linalg.norm(right - system @ start)) <= 1e-6 * max(1.0, float(np.linalg.norm(right))):
        return start  # flat parts: the solver would divide by zero
    try:
        polished = cg(
            system, right, x0=start, M=ichol(system, discard_threshold=2e-3), maxiter=100, rtol=1e-5
        )
    except ValueError as error:  # no incomplete Cholesky factor, or no convergence
        log.debug("depth: %s; the coarser solution stands", error)
        return start
    return np.asarray(polished, dtype=np.float64)


def _centered(z: Doubles, mask: npt.NDArray[np.bool_]) -> Doubles:
    """Log depth with the median of each connected part at 0: nothing ties parts that do not touch."""
    labels, count = scipy.ndimage.label(mask)
    part = labels[mask] - 1
    medians = scipy.ndimage.median(z, part, np.arange(count))
    return np.asarray(z - np.asarray(medians)[part], dtype=np.float64)


def _shrunk(normal: Pixels, matte: Pixels, size: tuple[int, int]) -> tuple[Doubles, Doubles]:
    """Averages of the normals on the surface (h, w, 3), and of the surface's share (h, w), taken in bands."""

    def rows(top: int, bottom: int) -> Pixels:
        facets = normal[top:bottom].astype(np.float32, copy=False)
        weight = _inside(facets, matte[top:bottom]).astype(np.float32)
        return np.dstack([facets * weight[..., None], weight])

    small = shrunk(rows, (matte.shape[0], matte.shape[1]), size)
    return small[..., :3], small[..., 3]


def _level(sums: Doubles, share: Doubles, size: tuple[int, int]) -> tuple[Doubles, npt.NDArray[np.bool_]]:
    """Normals at one level, unit again, and the mask."""
    sums, share = resized(sums, size), resized(share, size)
    length = np.linalg.norm(sums, axis=-1)
    mask = (share > 0.5) & (length > 1e-6)
    unit = sums / np.maximum(length, 1e-6)[..., None]
    return unit.astype(np.float64), mask


def _extended(surface: Doubles, mask: npt.NDArray[np.bool_]) -> Doubles:
    nearest = scipy.ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return np.asarray(surface[tuple(nearest)], dtype=np.float64)
