"""Families of shapes drawn from a generator, as compositions of distance fields: the fast kin of ``sculpts``."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from platelight.training.fields import (
    Composition,
    Profile,
    Relief,
    Sheet,
    Slot,
    box,
    cylinder,
    ellipsoid,
    lathe,
    limb,
    local,
    sheet,
    stone,
    torus,
)
from platelight.training.parts import Part

GRID = 160  # texels on a side of a sheet's heights


class Draw:
    """Random parameters for N shapes, on the generator's device."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.n, self.g, self.device = count, generator, generator.device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(N, *shape) uniform numbers."""
        return torch.rand(self.n, *shape, generator=self.g, device=self.device) * (high - low) + low

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return torch.exp(self.uniform(math.log(low), math.log(high), *shape))

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self.n, *shape, generator=self.g, device=self.device)

    def chance(self, share: float) -> Tensor:
        """(N, 1) True with probability ``share``."""
        return self.uniform(0, 1, 1) < share

    def either(self, count: int) -> int:
        """One number below ``count`` for all N: what differs in make-up differs between batches."""
        return int(torch.randint(count, (), generator=self.g, device=self.device))

    def rotation(self) -> Tensor:
        """(N, 3, 3), uniform over SO(3)."""
        w, x, y, z = F.normalize(self.normal(4), dim=1).unbind(1)
        rows = [
            1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
            2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
            2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
        ]  # fmt: skip
        return torch.stack(rows, 1).view(-1, 3, 3)

    def relief(self, share: float, most: float, low: float, high: float) -> Relief:
        """Relief on a share of the shapes, of amounts up to ``most`` and frequencies low to high."""
        waves = 8
        direction = F.normalize(self.normal(3, 2 * waves), dim=1)
        stretch = torch.exp(self.normal(3, 1) * 0.8)
        coarse = direction[..., :waves] * 2.5
        fine = direction[..., waves:] * self.log_uniform(low, high, 1, 1) * stretch
        fine = fine * self.uniform(0.6, 1.4, 1, waves)
        # Steeper relief than this would make the distance lie too much to march along.
        amount = torch.minimum(self.uniform(0.1, 1, 1) * most, 0.35 / fine.norm(dim=1).mean(1, keepdim=True))
        return Relief(
            amount * self.chance(share),
            torch.cat([coarse, fine], 2),
            self.uniform(0, 2 * math.pi, 1, 2 * waves),
            self.chance(0.5).float(),
        )

    def part(self, which: Part | None = None) -> Tensor:
        """(N, 1) a given part, or one of the four of objects."""
        if which is not None:
            return torch.full((self.n, 1), int(which), device=self.device)
        return int(Part.OBJECT_A) + torch.randint(4, (self.n, 1), generator=self.g, device=self.device)


def pitch_matrix(degrees: Tensor) -> Tensor:
    """Rotations (N, 3, 3) about X by angles (N,)."""
    a = torch.deg2rad(degrees)
    one, zero = torch.ones_like(a), torch.zeros_like(a)
    rows = [one, zero, zero, zero, torch.cos(a), -torch.sin(a), zero, torch.sin(a), torch.cos(a)]
    return torch.stack(rows, 1).view(-1, 3, 3)


def creature(count: int, generator: torch.Generator) -> Composition:
    """A body with paired limbs, a head with eyes, ears, muzzle and mouth, and grooves; facing +Z, upright."""
    d = Draw(count, generator)
    body_part, eye_part = (
        d.part(Part.OBJECT_A),
        torch.where(d.chance(0.4), d.part(Part.OBJECT_B), d.part(Part.OBJECT_A)),
    )
    soft = d.log_uniform(0.02, 0.2, 1)
    fine = torch.full_like(soft, 0.02)
    always = torch.ones(count, 1, dtype=torch.bool, device=d.device)
    slots: list[Slot] = []

    def blob(middle: Tensor, size: Tensor, blend: Tensor, on: Tensor = always, cut: bool = False,
             turn: Tensor | None = None, part: Tensor = body_part) -> None:  # fmt: skip
        slots.append(Slot(lambda p: ellipsoid(local(p, middle, turn), size), blend, on, part, cut))

    def rod(a: Tensor, b: Tensor, first: Tensor, last: Tensor, blend: Tensor, on: Tensor = always,
            cut: bool = False) -> None:  # fmt: skip
        slots.append(Slot(lambda p: limb(p, a, b, first, last), blend, on, body_part, cut))

    def point(*ranges: tuple[float, float]) -> Tensor:
        return torch.cat([d.uniform(low, high, 1, 1) for low, high in ranges], 2)

    body = d.uniform(0.28, 0.55, 1, 3)
    blob(torch.zeros_like(body), body, soft, turn=pitch_matrix(d.uniform(-70, 20)))
    head = d.uniform(0.2, 0.46, 1, 3)
    rise = body[..., 1] + head[..., 1] * d.uniform(0.2, 0.9, 1)
    neck = torch.stack([0 * rise, rise, d.uniform(-0.1, 0.9, 1) * body[..., 2]], 2).clamp(-0.85, 0.85)
    blob(neck, head, soft)

    def on_head(x: tuple[float, float], y: tuple[float, float]) -> Tensor:
        xy = point(x, y)
        z = (1 - xy.square().sum(2, keepdim=True)).clamp_min(0.05).sqrt()
        return neck + torch.cat([xy, z], 2) * head

    has_muzzle = d.chance(0.8)
    muzzle, size = on_head((0, 0), (-0.5, 0.0)), head * d.uniform(0.2, 0.6, 1, 3)
    blob(muzzle, size, soft * d.uniform(0.2, 1.0, 1), has_muzzle)
    tip = muzzle + torch.cat([0 * size[..., :2], size[..., 2:]], 2)
    blob(tip, (size.mean(2, keepdim=True) * d.uniform(0.2, 0.5, 1, 1)).expand(-1, 1, 3), fine,
         has_muzzle & d.chance(0.6), part=eye_part)  # fmt: skip
    if d.either(20) < 17:
        eye = on_head((0.25, 0.6), (0.0, 0.5))
        radius = (head.mean(2, keepdim=True) * d.uniform(0.1, 0.3, 1, 1)).expand(-1, 1, 3)
        blob(eye, radius * 1.35, fine * 2, d.chance(0.6), cut=True)
        blob(eye, radius, fine * 0.6, part=eye_part)
    if d.either(10) < 8:
        base = neck + head * torch.cat(
            [d.uniform(0.3, 0.9, 1, 1), d.uniform(0.5, 0.9, 1, 1), d.uniform(0, 0, 1, 1)], 2
        )
        end = base + point((0, 0.25), (0.05, 0.4), (-0.1, 0.1))
        wide = d.uniform(0.05, 0.15, 1)
        rod(base, end, wide, wide * d.uniform(0.1, 0.9, 1), soft * 0.5)
        hollow = (base + end) * 0.5 + F.pad(wide[..., None], (2, 0))
        blob(hollow, wide[..., None] * wide.new_tensor([0.6, 1.6, 0.6]), fine, d.chance(0.5), cut=True)
    if d.either(10) < 6:
        place = on_head((0, 0), (-0.7, -0.4))
        corner = torch.stack(
            [head[..., 0] * d.uniform(0.3, 0.7, 1), d.uniform(-0.05, 0.08, 1), d.uniform(-0.06, -0.06, 1)], 2
        )
        rod(place, place + corner, d.uniform(0.014, 0.014, 1), d.uniform(0.01, 0.01, 1), fine, cut=True)
    for _ in range(1 + d.either(3)):
        start = body * d.uniform(-0.9, 0.9, 1, 3)
        start = torch.cat([body[..., :1] * d.uniform(0.4, 0.95, 1, 1), start[..., 1:]], 2)
        bend = start + point((0.0, 0.35), (-0.5, 0.2), (-0.15, 0.5))
        end = (bend + point((-0.15, 0.2), (-0.45, 0.1), (-0.1, 0.4))).clamp(-1.05, 1.05)
        thick, thin = d.uniform(0.07, 0.2, 1), d.uniform(0.04, 0.12, 1)
        rod(start, bend, thick, thin, soft)
        rod(bend, end, thin, thin * 0.8, soft * 0.7)
        blob(end, thin[..., None] * thin.new_tensor([1.3, 0.8, 2.0]), soft * 0.6, d.chance(0.5))
    if d.either(10) < 4:
        start = body * body.new_tensor([0.0, -0.3, -1.0])
        rod(start, point((-0.8, 0.8), (-0.5, 0.6), (-0.8, -0.8)), soft * 0 + 0.12, soft * 0 + 0.05, soft)
    for _ in range(d.either(4)):  # carved lines
        a = body * F.normalize(d.normal(1, 3), dim=2)
        width = d.uniform(0.008, 0.025, 1)
        rod(a, a + d.normal(1, 3) * 0.3, width, width, fine, cut=True)
    return Composition(tuple(slots), d.chance(0.92).float(), d.relief(0.55, 0.02, 6, 26))


def blobs(count: int, generator: torch.Generator) -> Composition:
    """Ellipsoids grown out of one another: fruit, toys, abstract sculpture."""
    d = Draw(count, generator)
    blend = d.log_uniform(0.02, 0.3, 1)
    slots: list[Slot] = []
    grown: list[tuple[Tensor, Tensor]] = []
    own = d.part(Part.OBJECT_A)
    for index in range(3 + d.either(8)):
        size = d.uniform(0.25, 0.6, 1, 3) if index < 2 else d.uniform(0.06, 0.35, 1, 3)
        middle = torch.zeros_like(size)
        if grown:
            parent, extent = grown[min(d.either(len(grown)), d.either(3))]
            reach = extent.mean(2, keepdim=True) * 0.85 + size.mean(2, keepdim=True) * 0.5
            middle = (parent + F.normalize(d.normal(1, 3), dim=2) * reach).clamp(-0.85, 0.85)
        grown.append((middle, size))
        turn = d.rotation()
        shape = partial(_turned_ellipsoid, middle=middle, turn=turn, size=size)
        part = torch.where(d.chance(0.2), d.part(), own)
        slots.append(Slot(shape, blend, torch.ones_like(blend) > 0, part))
    return Composition(tuple(slots), torch.zeros_like(blend), d.relief(0.6, 0.03, 4, 24))


def _turned_ellipsoid(points: Tensor, middle: Tensor, turn: Tensor, size: Tensor) -> Tensor:
    return ellipsoid(local(points, middle, turn), size)


def primitives(count: int, generator: torch.Generator) -> Composition:
    """One to five things of geometry: balls, boxes, cut stones, rings, cylinders, turned profiles."""
    d = Draw(count, generator)
    slots: list[Slot] = []
    always = torch.ones(count, 1, dtype=torch.bool, device=d.device)
    number = (1, 1, 1, 2, 3, 4, 5)[d.either(7)]
    for index in range(number):
        scale = 0.85 if number == 1 else 0.6
        middle = d.normal(1, 3) * (0.0 if index == 0 else 0.45)
        middle, turn, kind = middle.clamp(-0.75, 0.75), d.rotation(), d.either(6)
        if kind == 0:
            shape = partial(ellipsoid, size=d.uniform(0.4, 1.0, 1, 3) * scale)
        elif kind == 1:
            half = d.uniform(0.25, 0.8, 1, 3) * scale
            shape = partial(box, half=half, rounding=d.log_uniform(0.005, 0.1, 1))
        elif kind == 2:
            planes = F.normalize(d.normal(6 + d.either(14), 3), dim=2)
            axes = torch.eye(3, device=d.device).expand(count, 3, 3)
            planes = torch.cat([planes, axes, -axes], 1)  # closed on all sides
            shape = partial(stone, planes=planes, offsets=d.uniform(0.55, 0.9, 1, planes.shape[1]) * scale)
        elif kind == 3:
            major = d.uniform(0.4, 0.7, 1) * scale
            shape = partial(torus, major=major, minor=d.uniform(0.12, 0.3, 1) * scale)
        elif kind == 4:
            radius, high = d.uniform(0.2, 0.7, 1) * scale, d.uniform(0.2, 0.9, 1) * scale
            shape = partial(cylinder, radius=radius, half=high, rounding=d.log_uniform(0.005, 0.1, 1))
        else:
            shape = partial(lathe, profile=_profile(d, scale))
        placed = partial(_placed, shape=shape, middle=middle, turn=turn)
        slots.append(Slot(placed, d.log_uniform(0.004, 0.08, 1), always, d.part()))
    return Composition(tuple(slots), torch.zeros(count, 1, device=d.device), d.relief(0.4, 0.05, 2, 26))


def _placed(points: Tensor, shape: partial[Tensor], middle: Tensor, turn: Tensor) -> Tensor:
    return shape(local(points, middle, turn))


def _profile(d: Draw, scale: float, wall: float = 0.0) -> Profile:
    waves = torch.arange(1, 6, device=d.device)
    return Profile(
        d.uniform(0.35, 0.6, 1) * scale,
        d.normal(1, 5) * 0.15 / waves * scale,
        d.uniform(0, 6, 1, 5),
        d.uniform(0.4, 1.0, 1) * scale,
        d.uniform(0.03, 0.1, 1) * (wall > 0),
    )


def vessel(count: int, generator: torch.Generator) -> Composition:
    """A cup, bowl or vase, hollow, some with a handle."""
    d = Draw(count, generator)
    profile = _profile(d, 0.95, wall=1.0)
    own, always = d.part(Part.OBJECT_A), torch.ones(count, 1, dtype=torch.bool, device=d.device)
    side = profile.radius(torch.zeros(count, 1, device=d.device))[..., None]
    major, minor = d.uniform(0.2, 0.35, 1), d.uniform(0.03, 0.08, 1)
    middle = F.pad(side * 0.97, (0, 2))
    slots = (
        Slot(lambda p: lathe(p, profile), d.uniform(0.02, 0.02, 1), always, own),
        # A ring that stands upright; the half inside is cut away by the inner space below.
        Slot(lambda p: torus((p - middle)[..., [0, 2, 1]], major, minor), d.uniform(0.02, 0.05, 1), d.chance(0.35), own),
        Slot(lambda p: torch.maximum((torch.hypot(p[..., 0], p[..., 2]) - profile.radius(p[..., 1]) + profile.wall) * 0.6,
                                     -p[..., 1] - profile.half + 0.06),
             d.uniform(0.01, 0.02, 1), always, own, cut=True),
    )  # fmt: skip
    return Composition(slots, torch.zeros(count, 1, device=d.device), d.relief(0.4, 0.015, 4, 26))


def sheets(count: int, generator: torch.Generator) -> Composition:
    """Creased paper, cushions and carved plaques: height fields, facing +Z."""
    d = Draw(count, generator)
    axis = (torch.arange(GRID, device=d.device) + 0.5) / GRID * 2 - 1
    x, y = axis.view(1, 1, -1).expand(count, GRID, -1), axis.view(1, -1, 1).expand(count, -1, GRID)
    kind = d.either(4)
    steep = 1.0
    if kind <= 1:  # flat facets with sharp creases: minima and maxima of planes
        slope = d.normal(2) * 0.2
        z = slope[:, :1, None] * x + slope[:, 1:, None] * y
        amount = d.uniform(0.15, 0.9, 1, 1)
        for _ in range(3 + d.either(20)):
            slope, place = d.normal(2, 1, 1) * amount[:, None], d.uniform(-1, 1, 2)
            at = F.grid_sample(z[:, None], place.view(count, 1, 1, 2), align_corners=False).view(count, 1, 1)
            plane = (
                at
                + d.normal(1, 1) * 0.03
                + slope[:, 0] * (x - place[:, :1, None])
                + slope[:, 1] * (y - place[:, 1:, None])
            )
            z = torch.where(d.chance(0.5)[..., None], torch.minimum(z, plane), torch.maximum(z, plane))
        z = (z - z.flatten(1).median(1).values.view(-1, 1, 1)).clamp(-0.8, 0.8)
        thickness = d.uniform(0.012, 0.02, 1)
    elif kind == 2:  # a cushion with wrinkles from its seam
        power, seam = d.uniform(1.5, 6, 1, 1), d.uniform(0.0, 0.2, 1, 1)
        u, v = (x.abs() / (1 - seam)).clamp(0, 1), (y.abs() / (1 - seam)).clamp(0, 1)
        puff = ((1 - u**power) * (1 - v**power)).clamp_min(1e-4) ** d.uniform(0.4, 1.0, 1, 1)
        along, across = _noise(d, x, y, (1.0, 8.0)), _noise(d, x, y, (8.0, 1.0))
        near = torch.exp(-(1 - x.abs()) / 0.25), torch.exp(-(1 - y.abs()) / 0.25)
        z = puff * d.uniform(0.08, 0.5, 1, 1) + (along * near[0] + across * near[1]) * d.uniform(
            0, 0.035, 1, 1
        )
        z = z + d.uniform(0, 0.05, 1, 1) * (1 - 1.5 * _noise(d, x, y, (4.0, 4.0)).abs()) * puff
        z = z + d.normal(1, 1) * 0.15 * x * y + d.normal(1, 1) * 0.12 * x * x
        thickness = d.uniform(0.02, 0.04, 1)
    else:  # a plaque: shapes raised or sunk on a slightly bent ground
        z = d.normal(1, 1) * 0.15 * x * x + d.normal(1, 1) * 0.15 * y * y
        for _ in range(2 + d.either(7)):
            z = z + _raised(d, x, y)
        thickness = d.uniform(0.03, 0.08, 1)
        steep = 1.3
    extent = torch.cat([d.uniform(0.6, 0.95, 1), d.uniform(0.6, 0.95, 1)], 1)
    z = z * extent.mean(1).view(-1, 1, 1)
    # Height change per unit of length, so that steps along a ray never jump over a crease.
    gradient = (
        torch.maximum(z.diff(dim=1).abs().flatten(1).amax(1), z.diff(dim=2).abs().flatten(1).amax(1))
        * GRID
        / 2
    )
    shorten = 1 / (1 + (steep * gradient.clamp_max(2.5) / extent.mean(1)).square()).sqrt()
    field = Sheet(
        z[:, None].contiguous(), extent[:, None], thickness, shorten[:, None], d.chance(0.25).float()
    )
    slot = Slot(lambda p: sheet(p, field), torch.full((count, 1), 0.01, device=d.device),
                torch.ones(count, 1, dtype=torch.bool, device=d.device), d.part(Part.OBJECT_A))  # fmt: skip
    return Composition((slot,), torch.zeros(count, 1, device=d.device), None, simple=True)


def _noise(d: Draw, x: Tensor, y: Tensor, stretch: tuple[float, float], waves: int = 8) -> Tensor:
    """Noise (N, G, G) over the sheet, of about unit variance, stretched along an axis."""
    k = d.normal(waves, 2, 1, 1) * d.uniform(0.8, 2.0, 1, 1, 1, 1) * d.uniform(0.5, 1.5, waves, 1, 1, 1)
    phase = d.uniform(0, 2 * math.pi, waves, 1, 1)
    angle = k[:, :, 0] * x[:, None] * stretch[0] + k[:, :, 1] * y[:, None] * stretch[1] + phase
    return torch.sin(angle).sum(1) * math.sqrt(2.0 / waves)


def _raised(d: Draw, x: Tensor, y: Tensor) -> Tensor:
    """One ellipse, star, ring or bar (N, G, G), raised or sunk with a bevel, at a random place and turn."""
    place, angle = d.uniform(-0.7, 0.7, 2, 1, 1), d.uniform(0, 2 * math.pi, 1, 1)
    px, py = x - place[:, 0], y - place[:, 1]
    u = px * torch.cos(angle) + py * torch.sin(angle)
    v = -px * torch.sin(angle) + py * torch.cos(angle)
    size, ratio = d.log_uniform(0.08, 0.6, 1, 1), d.log_uniform(0.3, 1.0, 1, 1)
    kind = d.either(4)
    radius = torch.hypot(u, v / ratio)
    if kind == 1:
        petals = 3 + d.either(14)
        wave = torch.cos(torch.atan2(v, u) * petals / 2).abs() ** d.uniform(0.3, 2, 1, 1)
        size = size * (0.5 + 0.5 * wave)
    away = radius - size
    if kind == 2:
        away = away.abs() - d.uniform(0.02, 0.08, 1, 1)
    if kind == 3:
        away = torch.maximum(u.abs() - size, v.abs() - size * ratio)
    t = (-away / d.log_uniform(0.03, 0.3, 1, 1)).clamp(0, 1)
    dome = (t * (2 - t)).clamp_min(0).sqrt()
    shape = torch.where(d.chance(0.4)[..., None], dome, t * t * (3 - 2 * t))
    return shape * d.normal(1, 1).clamp(-2, 2) * 0.06
