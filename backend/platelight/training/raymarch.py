"""Sphere-trace batches of distance fields on any device into the views that ``pictures`` paints and lights.

What ``raycast`` does to meshes with Embree, without Embree: normal, rest coordinates, part, eight lamp shadows and
visibility-weighted transfer. Costly fields are first baked to a grid, on which rays, shadows and ambient visibility
march; the surface itself is then found on the exact field. All random numbers come from the given generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from platelight.training.fields import Composition
from platelight.training.materials import unit
from platelight.training.views import Views, harmonics

LIGHTS = 8
CELLS = 40
SPAN = 1.3
CELL = 2 * SPAN / (CELLS - 1)
RAYS = 16  # directions of ambient visibility a pixel
BANDS = (1.0, *[2 / 3] * 3, *[0.25] * 5)  # cosine lobe over pi, by degree (Ramamoorthi, Hanrahan 2001)
Field = Callable[[Tensor], Tensor]
Occlusion = Callable[[Tensor, Tensor], Tensor]  # origins, directions (N, P, 3) -> blocked (N, P)


@dataclass(frozen=True)
class Camera:
    """N cameras at the origin of their own space, looking along -Z, each before one subject.

    turn (N, 3, 3): subject to camera; center (N, 3) and radius (N,) of the subject in its own space;
    move (N, 3): where its center goes, in radii; window (N, 3): middle x, y and side on the plane z = -1.
    """

    turn: Tensor
    center: Tensor
    radius: Tensor
    move: Tensor
    window: Tensor

    def rays(self, size: int) -> Tensor:
        """Unit directions (N, size * size, 3) in camera space, row by row from the top."""
        c = (torch.arange(size, device=self.window.device) + 0.5) / size - 0.5
        x = self.window[:, :1] + c * self.window[:, 2:]
        y = self.window[:, 1:2] - c * self.window[:, 2:]
        grid = [x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)]
        return unit(torch.stack([*grid, -torch.ones_like(grid[0])], 3).flatten(1, 2), dim=2)

    def to_subject(self, directions: Tensor) -> Tensor:
        """Directions (N, P, 3) from camera space to the subject's."""
        return torch.matmul(directions, self.turn)

    def to_camera(self, directions: Tensor) -> Tensor:
        return torch.matmul(directions, self.turn.transpose(1, 2))

    def place(self, points: Tensor) -> Tensor:
        """Points (N, P, 3) of the subject in camera space, in radii."""
        moved = self.to_camera((points - self.center[:, None]) / self.radius.view(-1, 1, 1))
        return moved + self.move[:, None]

    @property
    def eye(self) -> Tensor:
        """Where the camera is (N, 1, 3), in the subject's space."""
        return (self.center - self.radius[:, None] * torch.einsum("ni,nij->nj", self.move, self.turn))[
            :, None
        ]


def euler(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Rotations (N, 3, 3) from degrees (N,): roll about Z, then pitch about X, then yaw about Y."""
    a, b, c = (torch.deg2rad(v) for v in (yaw, pitch, roll))
    one, zero = torch.ones_like(a), torch.zeros_like(a)

    def matrix(*rows: Tensor) -> Tensor:
        return torch.stack(rows, 1).view(-1, 3, 3)

    ry = matrix(torch.cos(a), zero, torch.sin(a), zero, one, zero, -torch.sin(a), zero, torch.cos(a))
    rx = matrix(one, zero, zero, zero, torch.cos(b), -torch.sin(b), zero, torch.sin(b), torch.cos(b))
    rz = matrix(torch.cos(c), -torch.sin(c), zero, torch.sin(c), torch.cos(c), zero, zero, zero, one)
    return ry @ rx @ rz


def frame(points: Tensor, inside: Tensor, turn: Tensor, generator: torch.Generator) -> Camera:
    """Cameras that see points (N or 1, P, 3) where ``inside`` (N, P): most the whole subject, some a part of it."""
    n, device = len(turn), turn.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator, device=device) * (high - low) + low

    def normal(*shape: int) -> Tensor:
        return torch.randn(n, *shape, generator=generator, device=device)

    def bounds(values: Tensor) -> tuple[Tensor, Tensor]:
        low = torch.where(inside[..., None], values, 1e3).amin(1)
        high = torch.where(inside[..., None], values, -1e3).amax(1)
        return low, high

    low, high = bounds(points)
    some = inside.any(1)
    center = torch.where(some[:, None], (low + high) / 2, 0.0)
    radius = ((points - center[:, None]).norm(dim=2) * inside).amax(1).clamp_min(0.1) + CELL
    fov = torch.exp(uniform(math.log(12), math.log(60)))
    distance = 1.0 / torch.sin(torch.deg2rad(fov) / 2) * uniform(0.95, 1.2)
    move = torch.cat([normal(2) * 0.08, -distance[:, None]], 1)
    camera = Camera(turn, center, radius, move, torch.zeros(n, 3, device=device))
    seen = camera.place(points)
    low, high = bounds(seen[..., :2] / -seen[..., 2:].clamp_max(-0.1))
    extent = torch.where(some, (high - low).amax(1), 1.0).clamp_min(1e-3)
    whole = uniform(0, 1) < 0.65
    side = extent * torch.where(whole, uniform(1.02, 1.27), uniform(0.5, 0.95))
    slack = torch.where(whole, 0.04, 0.25)[:, None] * extent[:, None]
    middle = (low + high) / 2 + uniform(-1, 1, 2) * slack
    window = torch.cat([torch.where(some[:, None], middle, 0.0), side[:, None]], 1)
    return Camera(turn, center, radius, move, window)


def lattice_points(device: torch.device) -> Tensor:
    """Points (1, CELLS^3, 3) of the grid, x fastest."""
    axis = torch.linspace(-SPAN, SPAN, CELLS, device=device)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return torch.stack([x, y, z], -1).view(1, -1, 3)


def baked(values: Tensor) -> Field:
    """A distance field that interpolates (N, CELLS^3) values; outside the grid it grows as it should."""
    volume = values.view(-1, 1, CELLS, CELLS, CELLS)

    def field(points: Tensor) -> Tensor:
        inner = points.clamp(-SPAN, SPAN)
        found = F.grid_sample(
            volume, (inner / SPAN)[:, None, None], padding_mode="border", align_corners=True
        )
        outside: Tensor = (points - inner).norm(dim=2)
        return found[:, 0, 0, 0] + outside

    return field


def chosen(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (N, Q) of the True pixels of (N, P), padded to the longest row by others, and which are true."""
    longest = max(int(mask.sum(1).max()), 1)
    index = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :longest]
    return index, mask.gather(1, index)


def pick(values: Tensor, index: Tensor) -> Tensor:
    """values (N, P[, C]) at index (N, Q)."""
    if values.ndim == 2:
        return values.gather(1, index)
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))


def first_hits(
    shape: Composition, coarse: Field | None, camera: Camera, rays: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """Distances (N, P) along rays to the exact surface, and which hit. ``coarse`` leads the way where it is given."""
    eye = camera.eye
    away = eye - camera.center[:, None]
    b = (away * rays).sum(2)
    root = b.square() - away.square().sum(2) + (camera.radius[:, None] * 1.05).square()
    half = root.clamp_min(0).sqrt()
    t, far = (-b - half).clamp_min(0), -b + half
    hit = torch.zeros_like(root, dtype=torch.bool)
    open_ = root > 0
    for tries in range(3):
        index, valid = chosen(open_)
        at, ray, end = pick(t, index), pick(rays, index), pick(far, index)
        if coarse is not None:
            for _ in range(24 if tries == 0 else 10):
                d = coarse(eye + at[..., None] * ray) - 0.4 * CELL
                at = torch.where((d > 0) & (at < end), at + d.clamp_min(0.1 * CELL) * 0.9, at)
            near = valid & (at < end) & (d < 0.6 * CELL)
            t = t.scatter(1, index, torch.where(valid, at, pick(t, index)))
            index, valid = _narrow(index, near)
            at, ray, end = pick(t, index), pick(rays, index), pick(far, index)
        close = (at * camera.window[:, 2:] / size * 0.25).clamp_min(0.0008)
        steps = (8 if coarse is not None else 32) if tries == 0 else 8
        d = torch.full_like(at, 9.0)
        for _ in range(steps):
            step = shape.distance(eye + at[..., None] * ray)
            d = torch.where(d < close, d, step)
            at = torch.where((d >= close) & (at < end), at + step.clamp(-CELL, 1.0) * 0.9, at)
        landed = valid & (d < close) & (at < end)
        for _ in range(2):  # from within a fraction of a pixel onto the surface itself
            nudge = shape.distance(eye + at[..., None] * ray).clamp(-CELL, CELL)
            at = torch.where(landed, at + 0.9 * nudge, at)
        t = t.scatter(1, index, torch.where(valid, at, pick(t, index)))
        hit = hit.scatter(1, index, landed | pick(hit, index))
        # Rays that grazed go on behind what they grazed.
        going = valid & ~landed & (at < end)
        open_ = torch.zeros_like(open_).scatter(1, index, going)
        if coarse is not None:
            t = torch.where(open_, t + CELL, t)
    return t, hit


def _narrow(index: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """The entries of index (N, Q) that are kept, as ``chosen`` gives them."""
    place, valid = chosen(keep)
    return index.gather(1, place), valid


def surface_normals(field: Field, points: Tensor, step: float = 1.5e-3) -> Tensor:
    """Unit gradient (N, P, 3) of a field by four evaluations at a tetrahedron's corners (Quilez)."""
    total = torch.zeros_like(points)
    for corner in ((1.0, -1.0, -1.0), (-1.0, -1.0, 1.0), (-1.0, 1.0, -1.0), (1.0, 1.0, 1.0)):
        way = points.new_tensor(corner)
        total = total + way * field(points + step * way)[..., None]
    return unit(total, dim=2)


def blocker(field: Field, start: float, steps: int = 14, reach: float = 2.6) -> Occlusion:
    """Marches rays through a distance field; ``start`` is where on the ray, and how thin a gap counts as touch."""

    def blocked(origin: Tensor, direction: Tensor) -> Tensor:
        t = torch.full(origin.shape[:2], start, device=origin.device)
        found = torch.zeros_like(t, dtype=torch.bool)
        for _ in range(steps):
            d = field(origin + t[..., None] * direction)
            found = found | ((d < 0.15 * start) & (t < reach))
            t = t + d.clamp_min(0.5 * start)
        return found

    return blocked


def light_directions(count: int, generator: torch.Generator) -> Tensor:
    """Directions towards lights (N, LIGHTS, 3), over the sphere but rarely from straight behind."""
    device = generator.device
    d = unit(torch.randn(count, 4 * LIGHTS, 3, generator=generator, device=device), dim=2)
    share = (0.75 + 0.5 * d[..., 2] + 0.2 * d[..., 1]).clamp(0.08, 1.0)
    keep = torch.rand(count, 4 * LIGHTS, generator=generator, device=device) < share
    index = keep.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :LIGHTS]
    return pick(d, index)


def cosine_directions(normals: Tensor, generator: torch.Generator) -> Tensor:
    """Stratified cosine-distributed directions (N, P, RAYS, 3) about normals (N, P, 3)."""
    side = math.isqrt(RAYS)
    cell = torch.arange(RAYS, device=normals.device)
    jitter = torch.rand(2, *normals.shape[:2], RAYS, generator=generator, device=normals.device)
    u, v = ((cell // side) + jitter[0]) / side, ((cell % side) + jitter[1]) / side
    r, phi = u.sqrt(), 2 * math.pi * v
    # A frame without branches (Duff et al. 2017).
    x, y, z = normals.unbind(2)
    sign = torch.where(z >= 0, 1.0, -1.0)
    a = -1 / (sign + z)
    b = x * y * a
    first = torch.stack([1 + sign * x * x * a, sign * b, -sign * x], 2)
    second = torch.stack([b, sign + y * y * a, -y], 2)
    return (
        first[:, :, None] * (r * torch.cos(phi))[..., None]
        + second[:, :, None] * (r * torch.sin(phi))[..., None]
        + normals[:, :, None] * (1 - u).clamp_min(0).sqrt()[..., None]
    )


def blocked_all(blocked: Occlusion, origin: Tensor, ways: Tensor) -> Tensor:
    """Which of K ways (N, Q, K, 3) from each origin (N, Q, 3) are blocked: (N, Q, K).

    A GPU takes all at once, for few large operations; a CPU one by one, which its caches prefer.
    """
    n, q, k, _ = ways.shape
    if origin.device.type == "cpu":
        return torch.stack([blocked(origin, ways[:, :, i]) for i in range(k)], 2)
    start = origin[:, :, None].expand(-1, -1, k, -1)
    return blocked(start.reshape(n, q * k, 3), ways.reshape(n, q * k, 3)).view(n, q, k)


@dataclass(frozen=True)
class Hits:
    """Surface points of N views: pixel (N, Q), valid (N, Q), point and normal in the subject's space, rest, part."""

    pixel: Tensor
    valid: Tensor
    point: Tensor
    normal: Tensor
    rest: Tensor
    part: Tensor


def develop_views(
    hits: Hits,
    camera: Camera,
    rays: Tensor,
    blocked: Occlusion,
    lift: float,
    size: int,
    generator: torch.Generator,
) -> Views:
    """Cast the shadows of hits and lay everything out as ``Views``; ``lift`` keeps origins off the surface."""
    n, count = len(rays), size * size
    stored = light_directions(n, generator)
    towards = camera.to_subject(stored)
    origin = hits.point + hits.normal * lift
    normal = camera.to_camera(hits.normal)
    ways = towards[:, None].expand(-1, origin.shape[1], -1, -1)
    facing = torch.matmul(hits.normal, towards.transpose(1, 2)) > 0
    clear = facing & ~blocked_all(blocked, origin, ways)

    def image(values: Tensor) -> Tensor:
        """(N, Q, C) -> (N, C, size, size), zero outside."""
        values = values * hits.valid[..., None]
        out = values.new_zeros(n, count, values.shape[2])
        out = out.scatter(1, hits.pixel[..., None].expand_as(values), values)
        return out.transpose(1, 2).reshape(n, -1, size, size)

    # Ambient occlusion at half size, in spherical harmonics; what is open is known exactly.
    even = (hits.pixel // size % 2 == 0) & (hits.pixel % 2 == 0) & hits.valid
    place, valid = chosen(even)
    directions = cosine_directions(pick(hits.normal, place), generator)
    stopped = blocked_all(blocked, pick(origin, place), directions).float()
    seen = camera.to_camera(directions.flatten(1, 2)).view_as(directions)
    dark = torch.einsum("nqk,nqkc->nqc", stopped, harmonics(seen)) / RAYS
    values = torch.cat([dark, torch.ones_like(dark[..., :1])], 2) * valid[..., None]
    half = size // 2
    spot = pick(hits.pixel, place)
    spot = (spot // size // 2) * half + spot % size // 2
    spot = torch.where(valid, spot, half * half)  # what is no pixel goes beside the picture
    small = values.new_zeros(n, half * half + 1, 10).scatter(1, spot[..., None].expand_as(values), values)
    small = F.avg_pool2d(small[:, :-1].transpose(1, 2).reshape(n, 10, half, half), 3, 1, 1)
    spread = small[:, :9] / small[:, 9:].clamp_min(1e-3)
    dark_full = F.interpolate(spread, scale_factor=2.0, mode="bilinear", align_corners=False)
    mask = image(torch.ones_like(hits.point[..., :1]))
    picture = image(normal)
    bright = harmonics(picture, 1) * rays.new_tensor(BANDS).view(1, 9, 1, 1)
    return Views(
        picture,
        image(hits.rest),
        image(hits.part[..., None].float())[:, 0].long(),
        image(clear.float()),
        (bright - dark_full) * mask,
        stored,
        -rays.transpose(1, 2).reshape(n, 3, size, size),
    )


def trace(shape: Composition, turn: Tensor, size: int, generator: torch.Generator) -> Views:
    """Views (N) of N composed shapes turned by ``turn`` (N, 3, 3), on the generator's device; ``size`` even."""
    n = len(shape)
    lattice = lattice_points(turn.device)
    values = shape.smooth(lattice.expand(n, -1, -1))
    camera = frame(lattice, values < 0.3 * CELL, turn, generator)
    coarse = None if shape.simple else baked(values)
    across = camera.rays(size)
    rays = camera.to_subject(across)
    t, hit = first_hits(shape, coarse, camera, rays, size)
    pixel, valid = chosen(hit)
    ray = pick(rays, pixel)
    point = camera.eye + pick(t, pixel)[..., None] * ray
    normal = surface_normals(shape.distance, point)
    facing = (normal * ray).sum(2, keepdim=True)
    normal = unit(
        normal - (facing + 0.01).clamp_min(0) * ray, dim=2
    )  # a grazing step may end on the far side
    offset = torch.randn(n, 1, 3, generator=generator, device=turn.device) * 3
    hits = Hits(pixel, valid, point, normal, point + offset, shape.parts(point))
    if coarse is None:
        return develop_views(hits, camera, across, blocker(shape.distance, 0.02, 20), 0.008, size, generator)
    return develop_views(hits, camera, across, blocker(coarse, 0.5 * CELL), 0.8 * CELL, size, generator)
