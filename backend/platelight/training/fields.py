"""Batched signed distance fields in torch: N shapes of one make-up, each with its own parameters.

Points are (N, P, 3), distances (N, P), parameters (N, 1) or (N, 1, 3). Shapes live within about 1.2 of the origin.
Sources of the distances: Quilez, "distance functions" (iquilezles.org, 2008 to 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Shape = Callable[[Tensor], Tensor]


def local(points: Tensor, middle: Tensor, turn: Tensor | None) -> Tensor:
    """Points in a part's own frame: middle (N, 1, 3), turn (N, 3, 3) whose columns are the part's axes."""
    moved = points - middle
    return moved if turn is None else torch.matmul(moved, turn)


def ellipsoid(points: Tensor, size: Tensor) -> Tensor:
    """Approximate distance to an ellipsoid of half axes size (N, 1, 3); first order exact at the surface."""
    scaled = points / size
    radius: Tensor = scaled.norm(dim=2)
    slope: Tensor = (scaled / size).norm(dim=2)
    return radius * (radius - 1) / slope.clamp_min(1e-4)


def limb(points: Tensor, start: Tensor, end: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Capsule between start and end (N, 1, 3) whose radius runs from first to last (N, 1)."""
    along = end - start
    away = points - start
    t = ((away * along).sum(2) / along.square().sum(2).clamp_min(1e-6)).clamp(0, 1)
    distance: Tensor = (away - t[..., None] * along).norm(dim=2)
    return distance - torch.lerp(first.expand_as(t), last.expand_as(t), t)


def box(points: Tensor, half: Tensor, rounding: Tensor) -> Tensor:
    """Box of half sizes (N, 1, 3) with rounded edges (N, 1)."""
    q = points.abs() - (half - rounding[..., None])
    outside: Tensor = q.clamp_min(0).norm(dim=2)
    return outside + q.amax(2).clamp_max(0) - rounding


def torus(points: Tensor, major: Tensor, minor: Tensor) -> Tensor:
    """Ring about the Y axis."""
    around = torch.hypot(points[..., 0], points[..., 2]) - major
    return torch.hypot(around, points[..., 1]) - minor


def cylinder(points: Tensor, radius: Tensor, half: Tensor, rounding: Tensor) -> Tensor:
    """Cylinder about the Y axis with rounded rims."""
    across = torch.hypot(points[..., 0], points[..., 2]) - radius + rounding
    high = points[..., 1].abs() - half + rounding
    outside = torch.hypot(across.clamp_min(0), high.clamp_min(0))
    return outside + torch.maximum(across, high).clamp_max(0) - rounding


def stone(points: Tensor, planes: Tensor, offsets: Tensor) -> Tensor:
    """A convex body cut by planes (N, K, 3) at offsets (N, 1, K): the farthest plane."""
    return (torch.matmul(points, planes.transpose(1, 2)) - offsets).amax(2)


@dataclass(frozen=True)
class Profile:
    """A turned profile: radius = |base + sum of waves|, height 2 * half; ``wall`` > 0 hollows it out from above."""

    base: Tensor
    amplitude: Tensor  # (N, 1, K)
    phase: Tensor  # (N, 1, K)
    half: Tensor
    wall: Tensor

    def radius(self, y: Tensor) -> Tensor:
        """Radius (N, P) at heights y (N, P)."""
        t = (y / self.half) * 0.5 + 0.5
        waves = torch.arange(1, self.amplitude.shape[2] + 1, device=y.device, dtype=y.dtype)
        value = self.base + (
            self.amplitude * torch.cos(math.pi * waves * t.clamp(0, 1)[..., None] + self.phase)
        ).sum(2)
        return value.abs().clamp_min(0.06)


def lathe(points: Tensor, profile: Profile) -> Tensor:
    """A vase, cup or bottle: shortened distances, since the profile may be steep."""
    across = torch.hypot(points[..., 0], points[..., 2])
    radius = profile.radius(points[..., 1])
    wall = (across - radius) * 0.6
    outer = torch.maximum(wall, points[..., 1].abs() - profile.half)
    inside = torch.maximum((across - radius + profile.wall) * 0.6, -points[..., 1] - profile.half + 0.06)
    hollow = torch.maximum(outer, -inside)
    return torch.where(profile.wall > 0, hollow, outer)


@dataclass(frozen=True)
class Sheet:
    """A height field over the XY square: heights (N, 1, G, G), half extents (N, 1, 2), thickness and steepness (N, 1).

    ``disc`` (N, 1): 1 for a round outline, 0 for a square one.
    """

    heights: Tensor
    extent: Tensor
    thickness: Tensor
    shorten: Tensor
    disc: Tensor


def sheet(points: Tensor, field: Sheet) -> Tensor:
    """Distance to the sheet, shortened by its steepness."""
    where = points[..., :2] / field.extent
    height = F.grid_sample(
        field.heights, where[:, None], mode="bilinear", padding_mode="border", align_corners=False
    )[:, 0, 0]
    across = (points[..., 2] - height).abs() - field.thickness
    square = (where.abs() - 1).amax(2)
    outline = torch.where(field.disc > 0, where.norm(dim=2) - 1, square) * field.extent.amin(2)
    return torch.maximum(across * field.shorten, outline)


@dataclass(frozen=True)
class Slot:
    """One part of a composed shape: joined smoothly, or cut out; ``on`` (N, 1) says in which of the N it is there."""

    shape: Shape
    blend: Tensor
    on: Tensor
    part: Tensor
    cut: bool = False


@dataclass(frozen=True)
class Relief:
    """Waves along the surface: amount (N, 1), k (N, 3, W), phase (N, 1, W), ridged (N, 1) in {0, 1}."""

    amount: Tensor
    k: Tensor
    phase: Tensor
    ridged: Tensor

    def height(self, points: Tensor) -> Tensor:
        """Height (N, P), about the amount in size, none in half of the places."""
        half = self.k.shape[2] // 2
        waves = torch.sin(torch.baddbmm(self.phase.expand(-1, points.shape[1], -1), points, self.k))
        fine = waves[..., half:].sum(2) * math.sqrt(2.0 / half)
        fine = torch.where(self.ridged > 0, 1 - 1.5 * fine.abs(), fine)
        where = (waves[..., :half].sum(2) * math.sqrt(2.0 / half) + 0.5).clamp(0, 1)
        return self.amount * where * fine


@dataclass(frozen=True)
class Composition:
    """N shapes with the same slots. ``mirror`` (N, 1) folds space at x = 0; ``simple`` is cheap to evaluate anywhere."""

    slots: tuple[Slot, ...]
    mirror: Tensor
    relief: Relief | None
    simple: bool = False

    def __len__(self) -> int:
        return len(self.mirror)

    def _fold(self, points: Tensor) -> Tensor:
        x = torch.where(self.mirror > 0, points[..., 0].abs(), points[..., 0])
        return torch.stack([x, points[..., 1], points[..., 2]], 2)

    def smooth(self, points: Tensor) -> Tensor:
        """Distance (N, P) without the relief."""
        p = self._fold(points)
        value = p.new_full(p.shape[:2], 9.0)
        for slot in self.slots:
            away = slot.shape(p)
            value = torch.where(slot.on, smooth_cut(value, away, slot.blend) if slot.cut else
                                smooth_join(value, away, slot.blend), value)  # fmt: skip
        return value

    def distance(self, points: Tensor) -> Tensor:
        """Distance (N, P) with the relief, shortened where that is steep."""
        value = self.smooth(points)
        return value if self.relief is None else value + self.relief.height(points)

    def parts(self, points: Tensor) -> Tensor:
        """Part (N, P) of the slot that is nearest."""
        p = self._fold(points)
        best = p.new_full(p.shape[:2], 9.0)
        part = torch.zeros_like(best, dtype=torch.long)
        for slot in self.slots:
            if slot.cut:
                continue
            away = slot.shape(p)
            nearer = slot.on & (away < best)
            best = torch.where(nearer, away, best)
            part = torch.where(nearer, slot.part, part)
        return part


def smooth_join(a: Tensor, b: Tensor, blend: Tensor) -> Tensor:
    """Polynomial smooth minimum."""
    h = (blend - (a - b).abs()).clamp_min(0)
    return torch.minimum(a, b) - h * h * (0.25 / blend)


def smooth_cut(a: Tensor, b: Tensor, blend: Tensor) -> Tensor:
    """``b`` smoothly taken away from ``a``."""
    h = (blend - (a + b).abs()).clamp_min(0)
    return torch.maximum(a, -b) + h * h * (0.25 / blend)
