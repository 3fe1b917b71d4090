"""What is known of paint before any network: a thing is painted with few paints, and shading goes with form, not paint.

The networks leave shading in the albedo of subjects under one hard lamp and tell dark things from light ones too timidly.
Three old findings on real things mend much of both, on a small raster, in logarithms:

- **With form** (as in Barron, Malik 2015). Under distant light shading is a smooth function of the normal. What of the
  shading no cubic of the normal explains, robustly fitted, is mostly paint, so most of it goes to the albedo.
- **Along edges** (color Retinex: Land, McCann 1971; Grosse et al. 2009). Where the color changes, paint does, and the
  step of the plate is a step of albedo, as shading is the same on both sides. Elsewhere the network's own step counts.
- **Between places of one color** (Shen, Yeo 2011, in the manner of a bilateral filter). Where two places have the same
  chromaticity and nearly the same albedo, they are the same paint: each is moved to the mean of its like, smoothly.

Colors are those of the network's albedo, so that neither tinted light nor shade counts as paint.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import spsolve
from torch import Tensor
from torch.nn import functional as F

from platelight.models.networks import FLOOR, luminance
from platelight.pipeline.resample import fitted, resize

SIDE = 160  # long side of the raster; finer detail stays the network's and the plate's
SAME_COLOR, OTHER_COLOR = (
    0.03,
    0.09,
)  # difference of log chromaticity between neighbors: no edge of paint, surely one
NETWORK = 0.02  # pull to the network's own level, against one between neighbors
LIKE_COLOR, LIKE_LEVEL = 0.1, 0.5  # widths of what is one paint: log chromaticity, log albedo
DARK = 0.03  # of a normalized plate: below, colors are noise
LARGEST_STEP = 2.0
FORM_SHARE, FORM_SMOOTH, LARGEST_REST = (
    0.8,
    0.03,
    1.2,
)  # of the rest that goes to paint; the rest of it is cast shadow
SEEN = 0.7  # of a step where the color changes is the plate's; folds of the form often lie along edges of paint too
ANCHORS = 900
SMOOTH = 0.04  # of the raster's side: likes are brought together by change as smooth as this, so that creases stay dark;
# no renderer here darkens them again, and without it relit photographs lose more than the albedo gains

Array = npt.NDArray[np.float64]
Inside = npt.NDArray[np.bool_]


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
    bright = luminance(small_plate.clamp_min(0))
    seen = torch.log(small_plate.clamp_min(0) + FLOOR).mean(1, keepdim=True)
    facing = F.normalize(resize(normal, target), dim=1)
    sure = (bright / DARK).clamp(0, 1)
    new = _levels(_array(level), _array(color), _array(seen), _array(sure), _array(facing), inside)
    change = torch.zeros_like(level)
    change[0, 0] = torch.from_numpy(new).to(change) - level[0, 0]
    change[0, 0][torch.from_numpy(~inside).to(change.device)] = 0
    carried = _carried(change, color, _chromaticity(albedo), torch.from_numpy(inside).to(change)[None, None])
    mean = (carried * matte).sum() / matte.sum().clamp_min(1e-6)
    return reflectance + carried - mean


def _chromaticity(log_albedo: Tensor) -> Tensor:
    return log_albedo - log_albedo.mean(1, keepdim=True)


def _array(field: Tensor) -> Array:
    """(1, C, h, w) -> (h, w, C) or (h, w)."""
    array = field[0].permute(1, 2, 0).double().cpu().numpy()
    return array[..., 0] if array.shape[-1] == 1 else array


def _levels(level: Array, color: Array, plate: Array, sure: Array, normal: Array, inside: Inside) -> Array:
    """New log albedo (h, w).

    Args:
        level: the network's log albedo (h, w). color: its log chromaticity (h, w, 3). plate: (h, w), logarithm.
        sure: how sure colors are, 0 to 1. normal: (h, w, 3), unit. inside: where the subject is.
    """
    level = level + FORM_SHARE * _smooth(
        _unexplained(plate - level, sure, normal, inside), inside, FORM_SMOOTH
    )
    stepped = _along_edges(level, color, plate, sure, inside)
    out = level.copy()
    out[inside] = (
        stepped + _smooth(_among_likes(stepped, color, sure, inside) - stepped, inside, SMOOTH)[inside]
    )
    return out


def _smooth(values: Array, inside: Inside, sigma: float) -> Array:
    """Values of the pixels inside, as a smooth field (h, w)."""
    field, sigma = np.zeros(inside.shape), sigma * max(inside.shape)
    field[inside] = values
    smooth: Array = gaussian_filter(field, sigma) / np.maximum(
        gaussian_filter(inside.astype(np.float64), sigma), 1e-3
    )
    return smooth


def _unexplained(shading: Array, sure: Array, normal: Array, inside: Inside) -> Array:
    """What is left of log shading (pixels inside,) after a cubic of the normal: Cauchy weights, six rounds."""
    x, y, z = normal[inside].T
    terms = np.stack(
        [np.ones_like(x), x, y, z, x * x, y * y, x * y, x * z, y * z,
         x**3, y**3, x * x * y, x * y * y, x * x * z, y * y * z, x * y * z], -1)  # fmt: skip
    wanted, trust = shading[inside], np.maximum(sure[inside], 0.05)
    weight, ridge = trust, 1e-4 * len(wanted) * np.eye(terms.shape[1])
    rest = wanted
    for _ in range(6):
        weighted = terms * weight[:, None]
        rest = wanted - terms @ np.linalg.solve(weighted.T @ terms + ridge, weighted.T @ wanted)
        weight = trust / (1 + (rest / (1.5 * np.median(np.abs(rest)) + 1e-3)) ** 2)
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
    every = max(1, len(levels) // ANCHORS)
    a_color, a_level, a_weight = colors[::every], levels[::every], weights[::every]
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
