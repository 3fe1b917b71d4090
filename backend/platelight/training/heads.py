"""ICT-FaceKit heads (Li et al. 2020, MIT license) in torch: drawn, rasterized and shadowed on any device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from platelight.training.families import Draw
from platelight.training.materials import Noise, unit
from platelight.training.parts import Part
from platelight.training.raster import Raster, rasterize
from platelight.training.raymarch import Camera, Hits, Occlusion, chosen, develop_views, euler, frame, pick
from platelight.training.views import Views

ROWS, TURNS = 40, 80  # vertices of the clothing stand-in


@dataclass(frozen=True)
class Model:
    """neutral (V, 3), identity (K, V, 3), expression (E, V, 3), faces (F, 3), part (F,), all on one device."""

    neutral: Tensor
    identity: Tensor
    expression: Tensor
    faces: Tensor
    part: Tensor

    @classmethod
    def load(cls, path: Path, device: torch.device) -> Model:
        """Read ``heads.safetensors`` of a pack."""
        held = load_file(path)
        whole = {"faces", "part"}
        return cls(**{k: (v.long() if k in whole else v.float()).to(device) for k, v in held.items()})


@dataclass(frozen=True)
class Mesh:
    """N meshes that share their faces: vertices and rest (N, V, 3), faces (F, 3), part (N, F)."""

    vertices: Tensor
    rest: Tensor
    faces: Tensor
    part: Tensor

    def normals(self) -> Tensor:
        """Vertex normals (N, V, 3), averaged over faces by area."""
        a, b, c = (self.vertices[:, self.faces[:, k]] for k in range(3))
        face = torch.linalg.cross(b - a, c - a)
        total = torch.zeros_like(self.vertices)
        for k in range(3):
            total = total.index_add(1, self.faces[:, k], face)
        return unit(total, dim=2)


def _noise(points: Tensor, frequency: Tensor, generator: torch.Generator) -> Tensor:
    """Noise (N, V, 1) of unit variance over points (N, V, 3)."""
    return Noise(generator)(points.transpose(1, 2)[..., None], frequency)[..., 0].transpose(1, 2)


def draw_heads(model: Model, count: int, generator: torch.Generator) -> Mesh:
    """Random identities and expressions with hair and clothing stand-ins, about 30 units high, facing +Z."""
    d = Draw(count, generator)
    spread = d.uniform(0.4, 1.1, 1)
    head = model.neutral + torch.einsum("nk,kvc->nvc", d.normal(len(model.identity)) * spread, model.identity)
    active = d.uniform(0, 1, len(model.expression)) < 0.12
    amount = torch.where(active, d.uniform(0, 0.9, len(model.expression)), 0.0)
    head = head + torch.einsum("nk,kvc->nvc", amount, model.expression)
    neutral = model.neutral.expand(count, -1, -1)
    plain = Mesh(head, neutral, model.faces, model.part.expand(count, -1))
    normal = plain.normals()
    uneven = d.uniform(0, 0.12, 1, 1) * d.chance(0.5)[..., None]
    head = head + normal * uneven * _noise(neutral, d.uniform(0.8, 2.5), generator)
    # Hair: the scalp lifted off, from a hairline down to a random height at the back.
    x, y, z = model.neutral.unbind(1)
    line = 9.6 + d.uniform(-1.0, 1.5, 1) + 0.9 * _noise(neutral, d.uniform(0.4, 0.4), generator)[..., 0]
    low = d.uniform(-9.0, 6.0, 1) + 1.5 * (z + 1.0)
    skinny = torch.zeros(len(z), dtype=torch.bool, device=z.device)
    skinny[model.faces[model.part == int(Part.SKIN)].flatten()] = True
    scalp = torch.where(z > 2.0, y > line, y > low) & (x.abs() < 12) & skinny & d.chance(0.85)
    strand = neutral * torch.cat([d.uniform(3, 3, 1, 1), d.uniform(0.2, 1.0, 1, 1), d.uniform(3, 3, 1, 1)], 2)
    lock = 1 - 1.5 * _noise(strand, d.uniform(1.0, 2.5), generator).abs()
    body = d.uniform(0.3, 2.2, 1, 1) * (1 + 0.35 * _noise(neutral, d.uniform(0.6, 0.6), generator))
    lift = (body + d.uniform(0.05, 0.3, 1, 1) * lock).clamp_min(0.05)
    head = torch.where(scalp[..., None], head + normal * lift, head)
    rest = torch.where(scalp[..., None], head * head.new_tensor([2.0, 0.3, 2.0]), neutral)
    hairy = scalp[:, model.faces].all(2)
    part = torch.where(hairy, int(Part.HAIR), model.part)
    cloth, cloth_faces = _clothes(d, head[..., 1].amin(1), generator)
    return Mesh(
        torch.cat([head, cloth], 1),
        torch.cat([rest, cloth * 0.3], 1),
        torch.cat([model.faces, cloth_faces + head.shape[1]]),
        torch.cat([part, torch.full((count, len(cloth_faces)), int(Part.CLOTH), device=d.device)], 1),
    )


def _clothes(d: Draw, neck: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Shoulders below a neck (N,): a folded superellipsoid (N, ROWS * TURNS, 3) and its faces."""
    theta = torch.linspace(0.02, math.pi - 0.02, ROWS, device=d.device)[:, None]
    phi = torch.arange(TURNS, device=d.device)[None] * (2 * math.pi / TURNS)
    ball = torch.stack(
        [
            torch.sin(theta) * torch.sin(phi),
            torch.cos(theta).expand(-1, TURNS),
            torch.sin(theta) * torch.cos(phi),
        ],
        2,
    ).view(1, -1, 3)
    size = torch.cat([d.uniform(17, 24, 1, 1), d.uniform(14, 20, 1, 1), d.uniform(8, 12, 1, 1)], 2)
    points = ball.sign() * ball.abs() ** d.uniform(0.7, 1.0, 1, 1) * size
    drop = points[..., 0].abs() ** 1.5 * 0.04
    points = torch.stack([points[..., 0], points[..., 1] - drop, points[..., 2]], 2)
    folds = _noise(points * points.new_tensor([1, 0.4, 1]), d.uniform(0.15, 0.6), generator)
    folds = torch.where(d.chance(0.6)[..., None], 1 - 1.5 * folds.abs(), folds)
    points = points + ball * folds * d.uniform(0.2, 1.4, 1, 1)
    down = torch.stack([0 * neck, neck - d.uniform(6, 14) + 2.0, d.uniform(-3, 0)], 1)
    i, j = torch.meshgrid(
        torch.arange(ROWS - 1, device=d.device), torch.arange(TURNS, device=d.device), indexing="ij"
    )
    a, b = (i * TURNS + j).flatten(), (i * TURNS + (j + 1) % TURNS).flatten()
    faces = torch.cat([torch.stack([a, a + TURNS, b], 1), torch.stack([b, a + TURNS, b + TURNS], 1)])
    return points + down[:, None], faces


def between_layers(
    raster: Raster, camera: Camera, size: int, steps: int = 18, reach: float = 2.2
) -> Occlusion:
    """Blocks rays that pass between the nearest and the farthest surface of each pixel.

    A head is taken as solid from front to back: exact for a nose's shadow or a chin's, too dark only where light
    would pass behind an ear or under a lock of hair.
    """
    layers = torch.stack([raster.near, raster.far], 1)
    grow = (reach / 0.03) ** (1 / steps)

    def blocked(origin: Tensor, direction: Tensor) -> Tensor:
        found = torch.zeros(origin.shape[:2], dtype=torch.bool, device=origin.device)
        for k in range(steps):
            p = origin + direction * (0.03 * grow**k)
            depth = -p[..., 2].clamp_max(-0.05)
            x = (p[..., 0] / depth - camera.window[:, :1]) / camera.window[:, 2:] * 2
            y = (camera.window[:, 1:2] - p[..., 1] / depth) / camera.window[:, 2:] * 2
            seen = F.grid_sample(layers, torch.stack([x, y], 2)[:, None], mode="nearest", align_corners=False)
            near, far = seen[:, 0, 0], seen[:, 1, 0]
            found = found | ((near > 0) & (depth > near + 0.02) & (depth < far))
        return found

    return blocked


def photograph_heads(model: Model, count: int, size: int, generator: torch.Generator) -> Views:
    """Views of random heads."""
    mesh = draw_heads(model, count, generator)
    d = Draw(count, generator)
    yaw = torch.where(d.chance(0.9)[:, 0], d.normal() * 35, d.uniform(-180, 180))
    turn = euler(yaw, d.normal() * 12, d.normal() * 8)
    # Framed from a random height upwards: a face, a head, or head and shoulders.
    inside = mesh.vertices[..., 1] > d.uniform(-24, -3, 1)
    camera = frame(mesh.vertices, inside, turn, generator)
    placed = camera.place(mesh.vertices)
    normals = camera.to_camera(mesh.normals())
    raster = rasterize(placed, mesh.faces, camera.window, size)
    pixel, valid = chosen(raster.face.flatten(1) >= 0)
    face = pick(raster.face.flatten(1), pixel).clamp_min(0)
    weight = pick(raster.weight.flatten(1, 2), pixel)
    corner = mesh.faces[face]
    each = torch.arange(count, device=face.device).view(-1, 1, 1)

    def interpolate(values: Tensor) -> Tensor:
        return (values[each, corner] * weight[..., None]).sum(2)

    point = interpolate(placed)
    normal = unit(interpolate(normals), dim=2)
    rays = camera.rays(size)
    ray = pick(rays, pixel)
    a, b, c = placed[each, corner].unbind(2)
    flat = unit(torch.linalg.cross(b - a, c - a), dim=2)
    flat = torch.where((flat * ray).sum(2, keepdim=True) > 0, -flat, flat)
    normal = torch.where((normal * flat).sum(2, keepdim=True) < 0, -normal, normal)  # sheets have two sides
    part = mesh.part.gather(1, face)
    hits = Hits(pixel, valid, point, normal, interpolate(mesh.rest), part)
    still = Camera(
        torch.eye(3, device=turn.device).expand(count, 3, 3),
        camera.center,
        camera.radius,
        camera.move,
        camera.window,
    )
    return develop_views(hits, still, rays, between_layers(raster, camera, size), 0.02, size, generator)
