"""From a plate to a true alpha and the subject's own colors.

The coarse subject (:mod:`.segmentation`) becomes a trimap; closed-form matting (Levin et al. 2008, PyMatting)
solves the band between at bounded resolution; a color guided filter (He et al. 2013) carries the solution to
full resolution; and multi-level foreground estimation (Germer et al. 2020, PyMatting) takes the backdrop's
color out of the edges.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import scipy.sparse

from platelight.images.color import linear_to_srgb
from platelight.images.sanitize import Pixels
from platelight.pipeline.planes import CPU, enlarged, shrunk
from platelight.pipeline.room import UNBOUNDED, Room
from platelight.pipeline.segmentation import Coarse, find_subject
from platelight.protocol.errors import NoSubjectError

log = logging.getLogger(__name__)

SOLVE_SIDE = 640
"""Long side at which the matting system is solved: 0.3 s on one core; at 1024 it takes over 3 s."""
FOREGROUND_SIDE = 1024
FIND_SIDE = 1920
Map = npt.NDArray[Any]
PRIOR_STRENGTH = 0.005
GRAIN = 4.0
"""Standard deviations of grain up to which a difference of alpha is taken for grain, by half."""
TILES, TILE = 256, 16
RIPPLE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
"""What is left of a plate without its values, slopes and bends."""


def estimate_matte(pixels_linear: Pixels, room: Room = UNBOUNDED) -> tuple[Map, Map]:
    """Cut the subject out of a plate.

    Args:
        pixels_linear: (H, W, 3) linear Rec.709, finite and not negative.
        room: for what is made; at full size, work is done in bands of rows.

    Returns:
        alpha (H, W) in [0, 1], and the straight foreground color (H, W, 3), linear.

    Raises:
        NoSubjectError: nothing in the plate could be a subject.
    """
    # A network of 256 pixels and colors of the border gain nothing from more than this.
    small = _resize(pixels_linear, _bounded(pixels_linear.shape[:2], FIND_SIDE))
    encoded, gain = display_encoded(small), display_gain(small)
    coarse = find_subject(encoded)
    log.debug(
        "subject by %s, %.1f %% of the frame", coarse.method, 100 * float((coarse.probability > 0.5).mean())
    )
    # A lens mixes subject and backdrop in light, so the matte is solved on linear values.
    alpha, mean = _solve_alpha(pixels_linear, coarse, gain, room)
    if mean < 1e-4:
        raise NoSubjectError("No subject was found in the plate.", "Pass --matte full or a matte file.")
    return alpha, estimate_foreground(pixels_linear, alpha, room)


def estimate_foreground(pixels_linear: Map, alpha: Map, room: Room = UNBOUNDED) -> Map:
    """The subject's color without the backdrop's share, (H, W, 3) linear straight; the plate at alpha 1.

    Solved at ≤ 1024 pixels, then corrected at full size so that ``alpha·F + (1 − alpha)·B`` is the plate.
    """
    height, width = alpha.shape
    bands = room.bands(height, width, CPU)
    out = room.empty(height, width, 3)
    # Hard mattes as well: reduced, their rim would have the backdrop in it.
    if min(alpha.shape) < 4 or not any((alpha[top:bottom] < 1.0).any() for top, bottom in bands):
        out[:] = pixels_linear
        return out
    from pymatting.foreground.estimate_foreground_ml import estimate_foreground_ml

    small = _bounded((height, width), FOREGROUND_SIDE)
    low = _resize(pixels_linear, small)
    # The solver cuts colors off at 1, and a window behind hair is brighter.
    scale = np.float32(max(1.0, float(low.max())))
    solved = estimate_foreground_ml(low / scale, _resize(alpha, small), return_background=True)
    front_small, back_small = (np.asarray(part, dtype=np.float32) * scale for part in solved)
    brightest = np.float32(max(1.0, max(float(pixels_linear[top:bottom].max()) for top, bottom in bands)))
    for top, bottom in bands:
        cover = alpha[top:bottom].astype(np.float32, copy=False)[..., None]
        plate = pixels_linear[top:bottom].astype(np.float32, copy=False)
        front = enlarged(front_small, (height, width), top, bottom)
        if small != (height, width):
            rest = 1.0 - cover
            residual = plate - cover * front - rest * enlarged(back_small, (height, width), top, bottom)
            front = front + residual * cover / (cover**2 + rest**2)
        out[top:bottom] = np.where(cover >= 1.0, plate, np.clip(front, 0.0, brightest))
    return out


def warm() -> float:
    """Load the network and PyMatting, compiling what numba has not cached yet; returns the seconds it took.

    The very first import after an installation compiles for about half a minute; ``make setup`` and
    ``platelight doctor`` do it, so that no artist waits for it.
    """
    start = time.perf_counter()
    ys, xs = np.mgrid[0:48, 0:48]
    disc = ((ys - 24) ** 2 + (xs - 24) ** 2 < 150).astype(np.float32)
    estimate_matte(np.repeat(disc[..., None] * 0.6 + 0.1, 3, axis=-1))
    return time.perf_counter() - start


def display_gain(pixels_linear: Pixels) -> float:
    """What brings a plate to an exposure that a network trained on photographs expects."""
    bright = float(np.percentile(pixels_linear.max(axis=-1)[::2, ::2], 99.0))
    # Photographs are left alone; only plates graded far from them (dark EXRs, raw sun) are moved.
    return 0.9 / bright if bright > 1e-6 and not 0.4 <= bright <= 1.5 else 1.0


def display_encoded(pixels_linear: Pixels) -> Pixels:
    """sRGB in [0, 1] at the exposure of :func:`display_gain`; shape kept."""
    return linear_to_srgb(np.clip(pixels_linear * np.float32(display_gain(pixels_linear)), 0.0, 1.0))


def _solve_alpha(full: Pixels, coarse: Coarse, gain: float, room: Room) -> tuple[Map, float]:
    """Alpha (H, W) of a plate that ``gain`` exposes for display, and its mean."""
    size = (full.shape[0], full.shape[1])
    small = _bounded(size, SOLVE_SIDE)

    def shown(band: Pixels) -> Pixels:
        return np.clip(band * np.float32(gain), 0.0, 1.0)

    guide = _resize(full, small, shown)
    # Hesitation (0.3 to 0.7) is no evidence of half transparency, so the prior is steeper than the network.
    prior = np.clip(2.0 * _resize(coarse.probability, small) - 0.5, 0.0, 1.0).astype(np.float32)
    trimap = _trimap(prior, coarse.method)
    unknown = trimap == 0.5
    if not unknown.any() or min(small) < 16 or not (trimap == 1.0).any() or not (trimap == 0.0).any():

        def rows(top: int, bottom: int) -> Pixels:
            return (enlarged(coarse.probability, size, top, bottom) > 0.5).astype(np.float32)
    else:
        solved = _closed_form(guide, trimap, prior, PRIOR_STRENGTH)
        grow = _guided(guide, solved, unknown, _grain(full, shown, unknown)) if small != size else None

        def rows(top: int, bottom: int) -> Pixels:
            plate = full[top:bottom].astype(np.float32, copy=False)
            alpha = solved[top:bottom] if grow is None else grow(shown(plate), size, top, bottom)
            # The solver leaves a haze of a few thousandths in what is plainly outside or inside.
            return np.clip((alpha - 0.03) / 0.94, 0.0, 1.0).astype(np.float32)

    out, total = room.empty(*size), 0.0
    for top, bottom in room.bands(*size, CPU):
        band = rows(top, bottom)
        total += float(band.sum(dtype=np.float64))
        out[top:bottom] = band
    return out, total / (size[0] * size[1])


def _trimap(probability: Pixels, method: str) -> Pixels:
    """1 inside, 0 outside, 0.5 in a band as wide as the method and the subject's size ask for."""
    inside = probability > 0.5
    reach = np.sqrt(float(inside.sum()) / np.pi)  # radius of a disc of the same area
    if method == "selfie segmentation":
        outer, inner = max(4, round(0.055 * reach)), max(3, round(0.035 * reach))
    else:
        outer = inner = max(4, round(0.015 * reach))
    trimap = np.full(probability.shape, 0.5, dtype=np.float32)
    trimap[cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5) > inner] = 1.0
    trimap[cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5) > outer] = 0.0
    return trimap


def _closed_form(guide: Pixels, trimap: Pixels, prior: Pixels, strength: float) -> Pixels:
    """Closed-form matting of the part of the picture that holds the unknown band.

    ``(L + λ) α = λ p``: the coarse probability p pulls weakly, by λ = ``strength``, where color does not tell
    subject from backdrop; without it whiskers of backdrop grow out of shoulders. It also keeps the system
    well conditioned.
    """
    from pymatting.laplacian.cf_laplacian import cf_laplacian
    from pymatting.preconditioner.ichol import ichol
    from pymatting.preconditioner.jacobi import jacobi
    from pymatting.solver.cg import cg

    ys, xs = np.nonzero(trimap == 0.5)
    window = (slice(max(0, ys.min() - 3), ys.max() + 4), slice(max(0, xs.min() - 3), xs.max() + 4))
    image, part = np.ascontiguousarray(guide[window], dtype=np.float64), trimap[window]
    if min(part.shape) < 3:
        return np.where(trimap == 0.5, prior, trimap).astype(np.float32)
    unknown = (part == 0.5).ravel()
    laplacian = cf_laplacian(image, epsilon=1e-6, is_known=part != 0.5).tocsr()
    rows = laplacian[unknown]
    system = rows[:, unknown] + strength * scipy.sparse.identity(int(unknown.sum()), format="csr")
    given = (part == 1.0).ravel()[~unknown].astype(np.float64)
    guess = prior[window].ravel()[unknown].astype(np.float64)
    right = strength * guess - rows[:, ~unknown] @ given
    try:
        solved = cg(system, right, x0=guess, M=ichol(system.tocsc()), maxiter=400, rtol=1e-4)
    except ValueError as error:  # PyMatting: no incomplete Cholesky factor, or no convergence
        log.debug("closed-form matting: %s; again with another preconditioner", error)
        solved = cg(system, right, x0=guess, M=jacobi(system.tocsc()), maxiter=4000, rtol=1e-3)
    values = part.astype(np.float64).ravel()
    values[unknown] = np.clip(solved, 0.0, 1.0)
    alpha = trimap.copy()
    alpha[window] = values.reshape(part.shape)
    return alpha


def _grain(full: Pixels, shown: Callable[[Pixels], Pixels], unknown: npt.NDArray[np.bool_]) -> Pixels:
    """Standard deviation of a plate's grain about its unknown band, (3,), where that is smooth (Immerkær 1996)."""
    height, width = full.shape[:2]
    ys, xs = np.nonzero(unknown)
    chosen = np.linspace(0, len(ys) - 1, min(len(ys), TILES)).astype(int)
    found = []
    for y, x in zip(ys[chosen], xs[chosen], strict=True):
        top = min(y * height // unknown.shape[0], max(0, height - TILE))
        left = min(x * width // unknown.shape[1], max(0, width - TILE))
        tile = shown(full[top : top + TILE, left : left + TILE].astype(np.float32, copy=False))
        ripple = cv2.filter2D(tile, -1, RIPPLE, borderType=cv2.BORDER_REFLECT)
        found.append(np.abs(ripple).mean((0, 1)) * np.float32(np.sqrt(np.pi / 2) / 6))
    return np.asarray(np.percentile(found, 25, axis=0), np.float32)


def _guided(
    guide: Pixels, alpha: Pixels, unknown: npt.NDArray[np.bool_], grain: Pixels
) -> Callable[[Pixels, tuple[int, int], int, int], Pixels]:
    """Alpha (h, w) as a function of color, fitted small, to be applied large.

    Where subject and backdrop are nearly of one color, it rises so steeply that a plate's ``grain`` (3,) would boil in it: what
    differs from the smooth alpha by no more than that is left out.

    Returns:
        A function from the plate's rows ``top`` to ``bottom``, and the plate's size, to alpha there.
    """
    radius, epsilon = 2, 2e-5
    kernel = (2 * radius + 1, 2 * radius + 1)

    def mean(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return cv2.boxFilter(plane, -1, kernel, borderType=cv2.BORDER_REFLECT)

    near = cv2.dilate(unknown.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=radius + 1) > 0
    mean_i, mean_a = mean(guide), mean(alpha)
    outer = np.stack([mean(guide[..., i] * guide[..., j]) for i in range(3) for j in range(3)], axis=-1)[near]
    center = mean_i[near]
    covariance = outer.reshape(-1, 3, 3) - center[:, :, None] * center[:, None, :] + epsilon * np.eye(3)
    cross = mean(guide * alpha[..., None])[near] - center * mean_a[near][:, None]
    slope = np.zeros_like(guide)
    slope[near] = np.linalg.solve(covariance, cross[..., None])[..., 0]
    offset = mean_a - (slope * mean_i).sum(axis=-1)
    fit = np.dstack([mean(slope), mean(offset), near.astype(np.float32), alpha]).astype(np.float32)

    def rows(full: Pixels, size: tuple[int, int], top: int, bottom: int) -> Pixels:
        here = enlarged(fit, size, top, bottom)
        smooth = here[..., 5]
        detail = (here[..., :3] * full).sum(axis=-1) + here[..., 3] - smooth
        boil = ((GRAIN * grain * here[..., :3]) ** 2).sum(axis=-1)
        kept = detail * (detail**2 / np.maximum(detail**2 + boil, 1e-12))
        return np.asarray(smooth + np.where(here[..., 4] > 0.5, kept, np.float32(0.0)), np.float32)

    return rows


def _bounded(size: tuple[int, ...], side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _resize(plane: Map, size: tuple[int, int], of: Callable[[Pixels], Pixels] = lambda band: band) -> Pixels:
    """A function of a plane (H, W) or (H, W, C) at a size that is no larger."""

    def rows(top: int, bottom: int) -> Pixels:
        return of(plane[top:bottom].astype(np.float32, copy=False))

    return shrunk(rows, (plane.shape[0], plane.shape[1]), size)
