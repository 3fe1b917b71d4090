"""Dynamic masks for masked pretraining: overlapping patches sized by detail, outpainting, free-form strokes.

A mask is (N, 1, H, W) with 1 where the picture is kept. Every mask has exactly the share of hidden pixels asked for,
since each kind is drawn as a field of arrival times whose earliest share is hidden.
"""

from __future__ import annotations

import math
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional as F

from platelight.models.networks import luminance

SIZES = (5, 9, 17, 33, 49)  # sides of patches in pixels of a picture of 128


class Kind(StrEnum):
    """How a picture is masked."""

    PATCHES = "patches"
    OUTPAINT = "outpaint"
    STROKES = "strokes"


SHARES = {Kind.PATCHES: 0.6, Kind.OUTPAINT: 0.2, Kind.STROKES: 0.2}


def detail(picture: Tensor) -> Tensor:
    """How busy an encoded picture (N, 3, H, W) is around each pixel: (N, 1, H, W) in [0, 1], about 0.5 on average."""
    y = F.pad(luminance(picture), (1, 1, 1, 1), mode="replicate")
    gx, gy = y[..., 1:-1, 2:] - y[..., 1:-1, :-2], y[..., 2:, 1:-1] - y[..., :-2, 1:-1]
    busy = torch.hypot(gx, gy)
    for _ in range(2):
        busy = F.avg_pool2d(busy, 9, 1, 4, count_include_pad=False)
    return busy / (busy + busy.mean((2, 3), keepdim=True) + 1e-6)


def hide_earliest(arrival: Tensor, share: Tensor) -> Tensor:
    """Mask that hides the earliest ``share`` (N,) of each field of arrival times (N, 1, H, W)."""
    flat = arrival.flatten(1)
    rank = flat.argsort(dim=1).argsort(dim=1)
    return (rank >= (share * flat.shape[1]).round()[:, None]).float().view_as(arrival)


def patch_arrival(busy: Tensor, generator: torch.Generator) -> Tensor:
    """Squares of many sizes arrive at random; small ones mostly where ``busy`` is high, large ones where it is low."""
    scale = busy.shape[-1] / 128
    soonest = torch.full_like(busy, float("inf"))
    wish = torch.linspace(0, 1, len(SIZES), device=busy.device).view(1, -1, 1, 1)
    likings = torch.softmax(-12.0 * (1 - busy - wish).square(), dim=1)  # of each size, at each pixel
    for index, side in enumerate(SIZES):
        size = max(3, int(side * scale) // 2 * 2 + 1)
        clock = torch.rand(busy.shape, generator=generator, device=busy.device).clamp_min(1e-9)
        # The first arrival of a Poisson process whose density gives every size the same area.
        arrival = -torch.log(clock) * size * size / likings[:, index : index + 1].clamp_min(1e-4)
        soonest = torch.minimum(soonest, -F.max_pool2d(-arrival, size, 1, size // 2))
    return soonest


def outpaint_arrival(n: int, size: int, generator: torch.Generator) -> Tensor:
    """What is kept is a rectangle of random shape and place: distance from it, farthest first."""
    device = generator.device
    axis = (torch.arange(size, device=device) + 0.5) / size * 2 - 1
    middle = torch.rand(n, 2, 1, 1, generator=generator, device=device) * 1.6 - 0.8
    ratio = torch.exp((torch.rand(n, 1, 1, generator=generator, device=device) - 0.5) * 1.4)
    away = torch.maximum(
        (axis.view(1, 1, -1) - middle[:, 0]).abs() * ratio, (axis.view(1, -1, 1) - middle[:, 1]).abs()
    )
    return -away[:, None]


def stroke_arrival(n: int, size: int, generator: torch.Generator, strokes: int = 6, bends: int = 5) -> Tensor:
    """Distance to random walks with round brushes of different widths: what is nearest is hidden."""
    device = generator.device
    c = (torch.arange(size, device=device) + 0.5) / size * 2 - 1
    points = torch.stack([c.view(1, -1).expand(size, size), c.view(-1, 1).expand(size, size)], 2).view(
        1, 1, -1, 2
    )
    start = torch.rand(n, strokes, 1, 2, generator=generator, device=device) * 2 - 1
    turn = torch.rand(n, strokes, bends, generator=generator, device=device) * 1.6 - 0.8
    angle = turn.cumsum(2) + torch.rand(n, strokes, 1, generator=generator, device=device) * 2 * math.pi
    step = torch.stack([torch.cos(angle), torch.sin(angle)], 3) * 0.3
    joints = torch.cat([start, start + step.cumsum(2)], 2)
    width = 0.04 + 0.2 * torch.rand(n, strokes, 1, generator=generator, device=device)
    nearest = torch.full((n, size * size), 9.0, device=device)
    for k in range(bends):
        a, b = joints[:, :, k, None], joints[:, :, k + 1, None]
        along = b - a
        t = (((points - a) * along).sum(3) / along.square().sum(3).clamp_min(1e-6)).clamp(0, 1)
        away = (points - a - t[..., None] * along).norm(dim=3) - width
        nearest = torch.minimum(nearest, away.amin(1))
    return nearest.view(n, 1, size, size)


def dynamic_masks(
    picture: Tensor, generator: torch.Generator, low: float = 0.3, high: float = 0.75
) -> tuple[Tensor, Tensor]:
    """Masks for encoded square pictures (N, 3, S, S) on the generator's device, hiding low to high of each.

    Returns the mask (N, 1, S, S) and which ``Kind`` each is, by its place in ``SHARES`` (N,).
    """
    n, size, device = len(picture), picture.shape[-1], picture.device
    share = low + (high - low) * torch.rand(n, generator=generator, device=device)
    weights = torch.tensor(list(SHARES.values()), device=device)
    kind = torch.multinomial(weights, n, replacement=True, generator=generator)
    fields = torch.stack(
        [
            patch_arrival(detail(picture), generator),
            outpaint_arrival(n, size, generator),
            stroke_arrival(n, size, generator),
        ]
    )
    chosen = fields[kind, torch.arange(n, device=device)]
    # Free-form strokes hide less: beyond half they are no strokes any more.
    share = torch.where(kind == list(SHARES).index(Kind.STROKES), share.clamp_max(0.5), share)
    return hide_earliest(chosen, share), kind
