"""What is known of paint before any network: a thing is painted with few paints, and shading goes with form, not paint.

The networks leave shading in the albedo of subjects under one hard lamp and tell dark things from light ones too timidly.
Three old findings on real things mend much of both, on a small raster, in logarithms:

- **With form** (as in Barron, Malik 2015). Under distant light shading is a smooth function of the normal. What of the
  shading no cubic of the normal explains, robustly fitted, is mostly paint, so most of it goes to the albedo.
- **Along edges** (color Retinex: Land, McCann 1971; Grosse et al. 2009). Where the color changes, paint does, and the
  step of the plate is a step of albedo, as shading is the same on both sides. Elsewhere the network's own step counts.
- **Between places of one color** (Shen, Yeo 2011, in the manner of a bilateral filter). Where two places have the same
  chromaticity and nearly the same albedo, they are the same paint: each is moved to the mean of its like. Creases go
  with the rest of the shading; the cavity map keeps them (:mod:`platelight.models.cavity`).

Colors are those of the network's albedo, so that neither tinted light nor shade counts as paint.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import spsolve
from torch import Tensor

from platelight.models.networks import FLOOR
from platelight.pipeline.form import Array, Inside, array_of, explained, facing, fit, smooth, trust_in
from platelight.pipeline.resample import fitted, resize

SIDE = 160  # long side of the raster; finer detail stays the network's and the plate's
# Difference of log chromaticity between neighbors: no edge of paint, surely one.
SAME_COLOR, OTHER_COLOR = 0.03, 0.09
NETWORK = 0.02  # pull to the network's own level, against one between neighbors
LIKE_COLOR, LIKE_LEVEL = 0.1, 0.5  # widths of what is one paint: log chromaticity, log albedo
LARGEST_STEP = 2.0
FORM_SHARE = 0.8  # of what form does not explain is paint, the rest of it cast shadow
FORM_SMOOTH, LARGEST_REST = 0.03, 1.2
SEEN = 0.7  # of a step where the color changes is the plate's; folds of the form often lie along edges of paint too
ANCHORS = 400  # places that all others are compared with


def evened(reflectance: Tensor, plate: Tensor, matte: Tensor, normal: Tensor) -> Tensor:
    """The reflectance with paint as above; its mean over the matte stays.

    Args:
        reflectance: (1, 3, h, w), the logarithm of albedo over (normalized plate + FLOOR).
        plate: (1, 3, h, w), normalized. matte: (1, 1, h, w). normal: (1, 3, h, w), unit.

    Returns:
        (1, 3, h, w): all three channels change by the same amount, color stays.
    """
    target = fitted((plate.shape[-2], plate.shape[-1]), SIDE)
    albedo = torch.log(plate.clamp_min(0) + FLOOR) + reflectance
    small_plate, small_matte, small_albedo = (resize(x, target) for x in (plate, matte, albedo))
    inside = (small_matte[0, 0] > 0.5).cpu().numpy()
    if inside.sum() < 16:
        return reflectance
    level, color = small_albedo.mean(1, keepdim=True), _chromaticity(small_albedo)
    seen = torch.log(small_plate.clamp_min(0) + FLOOR).mean(1, keepdim=True)
    new = _levels(
        array_of(level),
        array_of(color),
        array_of(seen),
        trust_in(small_plate),
        facing(normal, target),
        inside,
    )
    change = torch.zeros_like(level)
    change[0, 0] = torch.from_numpy(new).to(change) - level[0, 0]
    change[0, 0][torch.from_numpy(~inside).to(change.device)] = 0
    carried = _carried(change, color, _chromaticity(albedo), torch.from_numpy(inside).to(change)[None, None])
    mean = (carried * matte).sum() / matte.sum().clamp_min(1e-6)
    return reflectance + carried - mean


def _chromaticity(log_albedo: Tensor) -> Tensor:
    return log_albedo - log_albedo.mean(1, keepdim=True)


def _levels(level: Array, color: Array, plate: Array, sure: Array, normal: Array, inside: Inside) -> Array:
    """New log albedo (h, w).

    Args:
        level: the network's log albedo (h, w). color: its log chromaticity (h, w, 3). plate: (h, w), logarithm.
        sure: how sure colors are, 0 to 1. normal: (h, w, 3), unit. inside: where the subject is.
    """
    level = level + FORM_SHARE * smooth(
        _unexplained(plate - level, sure, normal, inside), inside, FORM_SMOOTH
    )
    stepped = _along_edges(level, color, plate, sure, inside)
    out = level.copy()
    out[inside] = _among_likes(stepped, color, sure, inside)
    return out


def _unexplained(shading: Array, sure: Array, normal: Array, inside: Inside) -> Array:
    """What is left of log shading, (pixels inside,), after what the normal explains."""
    wanted, form = shading[inside], normal[inside]
    rest: Array = wanted - explained(fit(wanted, sure[inside], form), form)
    return np.clip(rest, -LARGEST_REST, LARGEST_REST)


def _along_edges(level: Array, color: Array, plate: Array, sure: Array, inside: Inside) -> Array:
    """Least squares over all steps between neighbors: (pixels inside,)."""
    height, width = level.shape
    number = np.full(level.shape, -1)
    count = int(inside.sum())
    number[inside] = np.arange(count)
    normal, right = diags(np.full(count, NETWORK)).tocsr(), NETWORK * level[inside]
    for dy, dx in ((0, 1), (1, 0)):
        here, there = np.s_[: height - dy, : width - dx], np.s_[dy:, dx:]
        both = inside[here] & inside[there]
        i, j = number[here][both], number[there][both]
        step = np.linalg.norm(color[there] - color[here], axis=-1)[both]
        edge = np.clip((step - SAME_COLOR) / (OTHER_COLOR - SAME_COLOR), 0, 1)
        edge = edge * edge * (3 - 2 * edge) * np.minimum(sure[here], sure[there])[both]
        seen = np.clip((plate[there] - plate[here])[both], -LARGEST_STEP, LARGEST_STEP)
        own = (level[there] - level[here])[both]
        wanted = own + SEEN * edge * (seen - own)
        one = np.ones(len(i))
        steps = coo_matrix(
            (np.concatenate([one, -one]), (np.tile(np.arange(len(i)), 2), np.concatenate([j, i]))),
            shape=(len(i), count),
        ).tocsr()
        normal, right = normal + steps.T @ steps, right + steps.T @ wanted
    solved: Array = spsolve(normal.tocsc(), right)
    return solved


def _among_likes(level: Array, color: Array, sure: Array, inside: Inside) -> Array:
    """Each pixel's mean over what is the same paint, (pixels inside,); dark places hardly speak for others."""
    colors, weights = color[inside].astype(np.float32), sure[inside].astype(np.float32) + 1e-6
    levels = level.astype(np.float32)
    # One of every so many: always the first would be of a few columns where rows are of one length.
    every = -(-len(levels) // ANCHORS)
    chosen = np.arange(0, len(levels), every)
    chosen = np.minimum(chosen + np.random.default_rng(0).integers(0, every, len(chosen)), len(levels) - 1)
    a_color, a_level, a_weight = colors[chosen], levels[chosen], weights[chosen]
    distance = (colors**2).sum(1)[:, None] + (a_color**2).sum(1)[None] - 2 * colors @ a_color.T
    distance /= LIKE_COLOR**2
    distance += ((levels[:, None] - a_level[None]) / LIKE_LEVEL) ** 2
    kernel = np.exp(-0.5 * distance) * a_weight
    # A pixel is its own kind too: what is like nothing else stays as it is.
    mean: Array = (kernel @ a_level + 1e-3 * levels) / (kernel.sum(1) + 1e-3)
    return mean


def _carried(change: Tensor, color_small: Tensor, color: Tensor, known: Tensor) -> Tensor:
    """A change of level (1, 1, h, w) carried to (1, 1, H, W) along edges of color: joint bilateral (Kopf et al. 2007)."""
    size = (color.shape[-2], color.shape[-1])
    if size == tuple(change.shape[-2:]):
        return change
    stack = torch.cat([change, color_small, known], 1)
    total, weight = torch.zeros_like(color[:, :1]), torch.full_like(color[:, :1], 1e-6)
    row = (torch.arange(size[0], device=color.device) + 0.5) * (stack.shape[-2] / size[0]) - 0.5
    column = (torch.arange(size[1], device=color.device) + 0.5) * (stack.shape[-1] / size[1]) - 0.5
    for dy in (-1, 0, 1, 2):
        y = row.floor() + dy
        near_y = torch.exp(-0.5 * (row - y) ** 2)
        for dx in (-1, 0, 1, 2):
            x = column.floor() + dx
            near = near_y[:, None] * torch.exp(-0.5 * (column - x) ** 2)[None]
            picked = stack[
                ...,
                y.long().clamp(0, stack.shape[-2] - 1)[:, None],
                x.long().clamp(0, stack.shape[-1] - 1)[None],
            ]
            alike = torch.exp(-0.5 * ((picked[:, 1:4] - color) ** 2).sum(1, keepdim=True) / OTHER_COLOR**2)
            share = near * picked[:, 4:] * (alike + 1e-4)
            total, weight = total + share * picked[:, :1], weight + share
    return total / weight


__all__ = ["evened"]
