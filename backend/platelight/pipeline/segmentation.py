"""Where the subject is, coarsely: a packaged network for people, whose outline follows colors; color models for objects."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from platelight.images.sanitize import Pixels
from platelight.models import packaged
from platelight.protocol.errors import NoSubjectError

log = logging.getLogger(__name__)

NETWORK_SIZE = 256
COLOR_MODEL_SIDE = 384

# How far from the network's outline colors may move it, in radii of a disc of the subject's area; a piece whose own
# outline is by more than a share the end of that reach, or the frame, runs on beyond it and is not the subject's rim.
BEYOND, WITHIN, OPEN = 0.2, 0.12, 0.15
CORNER = 0.72  # side of a window about a corner of the subject, of the subject's own
HESITATION = 0.15  # median probability above which a hole is one that the network missed
SURE = 0.8  # probability from which colors take nothing off: dark hair before a dark street looks like the street

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Coarse:
    """A first guess: ``probability`` (H, W) of the subject in [0, 1], and which method made it."""

    probability: Pixels
    method: str


def find_subject(encoded: Pixels) -> Coarse:
    """Find the subject of a picture.

    A plain backdrop is told from its border colors, which also serves green screens and objects, unless the network
    for people sees more of a person than differs from it (dark hair before a dark wall); else that network decides; else
    GrabCut (Rother et al. 2004) separates what differs from the border.

    Args:
        encoded: (H, W, 3) sRGB-encoded, in [0, 1].

    Raises:
        NoSubjectError: none of them finds anything.
    """
    if min(encoded.shape[:2]) >= 8:
        plain = _on_plain_backdrop(encoded)
        person = _person(encoded)
        if plain is not None and not (person is not None and _lacks(plain, person)):
            return Coarse(plain, "plain backdrop")
        if person is not None:
            return Coarse(person, "selfie segmentation")
        thing = _by_color_model(encoded)
        if thing is not None:
            return Coarse(thing, "color model")
    raise NoSubjectError("No subject was found in the plate.", "Pass --matte full or a matte file.")


def person_probability(encoded: Pixels) -> Pixels:
    """The network's answer (H, W) for (H, W, 3) sRGB in [0, 1], averaged with that for the mirror image."""
    square = (NETWORK_SIZE, NETWORK_SIZE)
    small = np.asarray(cv2.resize(encoded, square, interpolation=cv2.INTER_AREA), dtype=np.float32)
    both = [packaged.run("selfie_segmentation", x)[0][..., 0] for x in (small, small[:, ::-1])]
    both[1] = both[1][:, ::-1]
    mean = (both[0] + both[1]) * np.float32(0.5)
    return np.asarray(_resize(mean, encoded.shape[:2]), dtype=np.float32)


def _person(encoded: Pixels) -> Pixels | None:
    probability = person_probability(encoded)
    if not _decisive(probability):
        return None
    # A second look, at the subject alone, sees two or more times finer where it does not fill the frame.
    height, width = probability.shape
    ys, xs = np.nonzero(probability > 0.5)
    margin = 0.15 * max(np.ptp(ys), np.ptp(xs))
    y0, y1 = int(max(0, ys.min() - margin)), int(min(height, ys.max() + 1 + margin))
    x0, x1 = int(max(0, xs.min() - margin)), int(min(width, xs.max() + 1 + margin))
    if (y1 - y0) * (x1 - x0) < 0.7 * height * width:
        closer = person_probability(np.ascontiguousarray(encoded[y0:y1, x0:x1]))
        if _decisive(closer):
            window = probability[y0:y1, x0:x1]
            probability[y0:y1, x0:x1] = 0.3 * window + 0.7 * closer
    probability = _from_four_corners(encoded, probability)
    kept = _large_parts(probability > 0.5)
    holes = _doubted(_filled(kept) & ~kept, probability)
    probability[holes] = 1.0
    kept |= holes
    # The fringe of a part that was dropped must go too, or it would leave unknown islands.
    near = cv2.dilate(
        kept.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=max(2, max(height, width) // 50)
    )
    return _along_colors(encoded, np.where(near > 0, probability, np.float32(0.0)).astype(np.float32))


def _from_four_corners(encoded: Pixels, probability: Pixels) -> Pixels:
    """The network's answer (H, W), lowered halfway to what it says of four overlapping windows about the subject's corners.

    A scrap of wall between a sleeve and a table is taken for the person from afar, and not from nearby. Nothing is raised: from
    nearby, others in the background are people, too.
    """
    height, width = probability.shape
    ys, xs = np.nonzero(probability > 0.5)
    if not len(ys):
        return probability
    margin = 0.1 * max(int(np.ptp(ys)), int(np.ptp(xs)))
    low = [int(max(0, v.min() - margin)) for v in (ys, xs)]
    high = [int(min(n, v.max() + 1 + margin)) for n, v in ((height, ys), (width, xs))]
    size = [max(1, round(CORNER * (b - a))) for a, b in zip(low, high, strict=True)]
    total, weights = np.zeros_like(probability), np.full_like(probability, 1e-6)
    for corner in np.ndindex(2, 2):
        start = [(b - n) if last else a for a, b, n, last in zip(low, high, size, corner, strict=True)]
        window = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
        seen = person_probability(np.ascontiguousarray(encoded[window]))
        # Each fades towards the windows beside it.
        fades = [np.minimum(1.0, (np.arange(n) + 1.0) / (n / 6.0)) for n in size]
        rows, columns = (f if last else f[::-1] for f, last in zip(fades, corner, strict=True))
        weight = np.outer(rows, columns).astype(np.float32)
        total[window] += seen * weight
        weights[window] += weight
    near = np.where(weights > 1e-3, total / weights, probability)
    return np.asarray(0.5 * probability + 0.5 * np.minimum(near, probability), np.float32)


def _along_colors(encoded: Pixels, probability: Pixels) -> Pixels:
    """The network's outline moved to where colors part (GrabCut, Rother et al. 2004), within reach of it.

    A network of 256 pixels cuts corners off what is held, and takes a rim of backdrop along sleeves and hair. Pieces
    are added or taken off one by one, and only those that colors bound.
    """
    height, width = probability.shape
    small = _for_colors(encoded)
    shrunk = cv2.resize(probability, small.shape[1::-1], interpolation=cv2.INTER_AREA)
    inside = shrunk > 0.5
    reach = np.sqrt(float(inside.sum()) / np.pi)
    within = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5) > WITHIN * reach
    beyond = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5) > BEYOND * reach
    cut = _grab_cut(
        small, np.where(inside, cv2.GC_PR_FGD, cv2.GC_PR_BGD), within | (shrunk > SURE), beyond, 2
    )
    if cut is None:
        return probability
    frame = np.ones_like(inside)
    frame[1:-1, 1:-1] = False
    opened = _bounded_pieces(inside & ~cut, within)
    kept = _large_parts((inside | _bounded_pieces(cut & ~inside, beyond | frame)) & ~opened)
    outline = (kept | _doubted(_filled(kept) & ~kept & ~opened, shrunk)).astype(np.float32)
    return np.asarray(_resize(outline, (height, width)), dtype=np.float32)


def _bounded_pieces(mask: Mask, limit: Mask) -> Mask:
    """The parts of a mask whose outline is the limit's by no more than the share ``OPEN``, and all slivers."""
    square = np.ones((3, 3), np.uint8)
    thick = cv2.morphologyEx(
        mask.astype(np.uint8), cv2.MORPH_OPEN, square
    )  # slivers would join what they run along
    count, labels = cv2.connectedComponents(thick, connectivity=4)
    body = thick > 0
    outline = body & (cv2.erode(np.pad(thick, 1), square)[1:-1, 1:-1] == 0)
    near = (
        cv2.dilate(limit.astype(np.uint8), square, iterations=2) > 0
    )  # GrabCut keeps off what it must not take
    at_limit = outline & near
    length, open_length = (np.bincount(labels[m], minlength=count) for m in (outline, at_limit))
    return np.asarray((mask & ~body) | ((open_length <= OPEN * length)[labels] & body))


def _grab_cut(
    picture: npt.NDArray[np.uint8], guess: npt.NDArray[Any], inside: Mask, outside: Mask, rounds: int
) -> Mask | None:
    """GrabCut of a picture (h, w, 3) from a guess of ``GC_PR_FGD`` and ``GC_PR_BGD``; None where it gives up."""
    labels = np.where(inside, cv2.GC_FGD, np.where(outside, cv2.GC_BGD, guess)).astype(np.uint8)
    cv2.setRNGSeed(0)  # it draws from there: the same plate must give the same matte
    try:
        cv2.grabCut(
            picture, labels, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), rounds, cv2.GC_INIT_WITH_MASK
        )
    except cv2.error as error:
        log.debug("GrabCut gave up: %s", error)
        return None
    return np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))


def _decisive(probability: Pixels) -> bool:
    """Whether the network knows what it sees: of people up to 0.3 of what it finds is unsure, of a cup 0.9, of stars 2."""
    inside = float((probability > 0.5).mean())
    unsure = float(((probability > 0.2) & (probability < 0.8)).mean())
    return inside > 0.005 and unsure < 0.5 * inside


def _lacks(plain: Pixels, person: Pixels) -> bool:
    """Whether what differs from a plain backdrop is a person of whom it lacks more than a rim."""
    sure, differs = person > 0.9, plain > 0.5
    both = float((sure & differs).sum())
    return both > 0.5 * float(differs.sum()) and both < 0.97 * float(sure.sum())


def _on_plain_backdrop(encoded: Pixels) -> Pixels | None:
    """Distance from the border's color where top and sides agree on one (a subject may cut the bottom)."""
    height, width = encoded.shape[:2]
    ring = max(1, min(height, width) // 64)
    border = np.concatenate(
        [encoded[:ring].reshape(-1, 3), encoded[:, :ring].reshape(-1, 3), encoded[:, -ring:].reshape(-1, 3)]
    )
    color = np.median(border, axis=0)
    off = np.abs(border - color).max(axis=-1)
    if float((off < 0.05).mean()) < 0.85 or float(np.median(off)) > 0.02:
        return None
    noise = float(np.median(off)) * 1.4826
    distance = np.abs(cv2.GaussianBlur(encoded, (0, 0), 0.8) - color.astype(np.float32)).max(axis=-1)
    subject = _large_parts(distance > max(0.05, 4.0 * noise))
    if not 0.005 < float(subject.mean()) < 0.95:
        return None
    return _filled(subject).astype(np.float32)


def _by_color_model(encoded: Pixels) -> Pixels | None:
    height, width = encoded.shape[:2]
    small = _for_colors(encoded)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    ring = max(2, min(small.shape[:2]) // 20)
    outside = np.ones(lab.shape[:2], dtype=bool)
    outside[ring:-ring, ring:-ring] = False
    cv2.setRNGSeed(0)  # k-means draws from it: the same plate must give the same matte
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    _, _, centers = cv2.kmeans(lab[outside], 5, np.zeros(0), stop, 1, cv2.KMEANS_PP_CENTERS)
    distance = np.min([np.linalg.norm(lab - center, axis=-1) for center in centers], axis=0)
    spread = float(np.percentile(distance[outside], 90))
    guess = np.where((distance > max(12.0, 1.5 * spread)) & ~outside, cv2.GC_PR_FGD, cv2.GC_PR_BGD)
    if float((guess == cv2.GC_PR_FGD).mean()) < 0.01:
        return None
    mask = _grab_cut(small, guess, np.zeros_like(outside), outside, 4)
    if mask is None:
        return None
    whole = int(mask.sum())
    mask = _filled(_large_parts(mask, 0.3))
    contrast = float(np.median(distance[mask])) if mask.any() else 0.0
    # Texture without a subject gives crumbs; a gradient gives a band of colors that the border has as well.
    if not 0.01 < float(mask.mean()) < 0.8 or mask.sum() < 0.6 * whole or contrast < max(15.0, 1.5 * spread):
        return None
    return np.asarray(_resize(mask.astype(np.float32), (height, width)), dtype=np.float32)


def _for_colors(encoded: Pixels) -> npt.NDArray[np.uint8]:
    """The picture (h, w, 3) in eight bits, as small as color models need it."""
    height, width = encoded.shape[:2]
    scale = min(1.0, COLOR_MODEL_SIDE / max(height, width))
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    small: npt.NDArray[np.uint8] = np.rint(
        cv2.resize(encoded, size, interpolation=cv2.INTER_AREA) * 255
    ).astype(np.uint8)
    return small


def _large_parts(mask: Mask, share: float = 0.05) -> Mask:
    """Keep connected parts of at least ``share`` of the largest one's area."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if count < 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return np.asarray((areas >= share * areas.max())[labels] & mask)


def _filled(mask: Mask) -> Mask:
    """Fill holes smaller than 2 % of the subject; larger ones are seen through."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < 0.02 * mask.sum()
    small[0] = False
    return np.asarray(mask | small[labels]) if count > 1 else mask


def _doubted(holes: Mask, probability: npt.NDArray[Any]) -> Mask:
    """Of holes those that the network may have missed; it is sure of what is seen through the crook of an arm."""
    count, labels = cv2.connectedComponents(holes.astype(np.uint8), connectivity=4)
    if count < 2:
        return holes
    missed = np.append(False, ndimage.median(probability, labels, np.arange(1, count)) > HESITATION)
    return np.asarray(missed[labels])


def _resize(plane: npt.NDArray[Any], size: tuple[int, ...]) -> npt.NDArray[Any]:
    return cv2.resize(plane, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
