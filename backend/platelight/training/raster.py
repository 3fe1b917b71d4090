"""A z-buffer rasterizer in torch for meshes of many small triangles: exact coverage, no loop over triangles.

Triangles are sorted by the size of their bounding boxes in pixels; each class tests a square of pixels at once, and
the nearest hit is kept by one scatter of keys that hold depth and face.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CLASSES = (2, 4, 8, 16, 32, 64, 128, 256, 512)
CHUNK = 1 << 22  # pixel tests at once
FACE_BITS = 20


@dataclass(frozen=True)
class Raster:
    """face (N, S, S), -1 where nothing is; weight (N, S, S, 3) of its corners; near and far depth (N, S, S), 0 outside."""

    face: Tensor
    weight: Tensor
    near: Tensor
    far: Tensor


def _edges(xy: Tensor, px: Tensor, py: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Screen-space barycentric coordinates of points px, py (M, K) in triangles xy (M, 3, 2); NaN-free."""
    ax, ay, bx, by, cx, cy = (xy[:, i, j, None] for i in range(3) for j in range(2))
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    area = torch.where(area.abs() < 1e-9, torch.full_like(area, 1e9), area)
    u = ((bx - px) * (cy - py) - (by - py) * (cx - px)) / area
    v = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) / area
    return u, v, 1 - u - v


def rasterize(points: Tensor, faces: Tensor, window: Tensor, size: int) -> Raster:
    """Rasterize N meshes: points (N, V, 3) in camera space (looking along -Z), shared faces (F, 3), window (N, 3)."""
    n, device = len(points), points.device
    depth = -points[..., 2]
    safe = depth.clamp_min(0.05)
    column = ((points[..., 0] / safe - window[:, :1]) / window[:, 2:] + 0.5) * size - 0.5
    row = ((window[:, 1:2] - points[..., 1] / safe) / window[:, 2:] + 0.5) * size - 0.5
    screen = torch.stack([column, row], 2)[:, faces]  # (N, F, 3, 2)
    inverse = (1 / safe)[:, faces]
    low = screen.amin(2).ceil().clamp(0, size)
    high = screen.amax(2).floor().clamp(-1, size - 1)
    extent = (high - low + 1).clamp_min(0)
    empty = (extent.amin(2) < 1) | (depth[:, faces].amin(2) < 0.05)
    extent = torch.where(empty, 0.0, extent.amax(2))
    top = inverse.amax() * 1.0001
    keys = torch.full((n * size * size,), -1, dtype=torch.long, device=device)
    far = torch.full((n * size * size,), float("inf"), device=device)
    before = 0
    for width in CLASSES:
        picture, face = torch.nonzero((extent > before) & (extent <= width), as_tuple=True)
        before = width
        step = max(1, CHUNK // (width * width))
        dy, dx = torch.meshgrid(
            torch.arange(width, device=device), torch.arange(width, device=device), indexing="ij"
        )
        for first in range(0, len(face), step):
            i, f = picture[first : first + step], face[first : first + step]
            xy, corner = screen[i, f], low[i, f]
            px, py = corner[:, :1] + dx.flatten(), corner[:, 1:] + dy.flatten()
            u, v, w = _edges(xy, px, py)
            iz = u * inverse[i, f, :1] + v * inverse[i, f, 1:2] + w * inverse[i, f, 2:]
            inside = (u >= 0) & (v >= 0) & (w >= 0) & (px < size) & (py < size)
            where = (i[:, None] * size + py.clamp_max(size - 1).long()) * size + px.clamp_max(size - 1).long()
            where, iz = where[inside], iz[inside]
            key = ((iz / top) * (1 << 30)).long() << FACE_BITS | f[:, None].expand_as(inside)[inside]
            keys.scatter_reduce_(0, where, key, "amax")
            far.scatter_reduce_(0, where, iz, "amin")
        if width >= size:
            break
    hit = keys >= 0
    found = torch.where(hit, keys & ((1 << FACE_BITS) - 1), 0).view(n, size, size)
    each = torch.arange(n, device=device).view(-1, 1, 1)
    pixel = torch.arange(size, device=device, dtype=points.dtype)
    px = pixel.view(1, 1, -1).expand(n, size, size).reshape(-1, 1)
    py = pixel.view(1, -1, 1).expand(n, size, size).reshape(-1, 1)
    u, v, w = _edges(screen[each, found].view(-1, 3, 2), px, py)
    corner = inverse[each, found].view(-1, 3)
    weight = torch.cat([u, v, w], 1) * corner
    total = weight.sum(1, keepdim=True)
    shown = hit.view(n, size, size)
    weight = (weight / torch.where(total.abs() < 1e-9, 1.0, total)).view(n, size, size, 3)
    near = torch.where(hit, 1 / total[:, 0].clamp_min(1e-6), 0.0).view(n, size, size)
    back = torch.where(hit, 1 / far, 0.0).view(n, size, size)
    return Raster(torch.where(shown, found, -1), weight, near, back)
