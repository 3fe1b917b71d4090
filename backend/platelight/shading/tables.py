"""Tables of the specular lobe under one light, for viewers near the camera's axis.

The specular radiance of a pixel depends on its reflection direction ρ, on its roughness and on where the
viewer stands in relation to ρ. Viewers are near the camera's axis, so the half vector of ρ and +Z, ``n0``,
gives the plane of incidence and a first angle θ0; tables hold the lobe for four angles of n and v about
θ0, and :func:`find` interpolates by the pixel's own angle. They are grids over θ0 (0° to 102°: beyond
90° a pixel beside the axis turns away from it) and the azimuth of ``n0``.

Values are the lobe's mean radiance; the energy is a factor of its own (:func:`sampling.albedos`). They
are sums over the light, with the kernels of :mod:`.lobes`: no sampling noise.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from platelight.shading import lobes, polar, sampling

MIN_ROUGHNESS = lobes.ROUGHNESSES[-1]
_PAIRS = 2 * len(lobes.NODES)
WIDTH = 3 * _PAIRS
"""Numbers in a cell: for each of 4 nodes, RGB for F = 1, then RGB for the edge."""
_SPACING = 0.25
_CELLS = 300_000


@functools.cache
def shape(level: int) -> tuple[int, int]:
    """Rows and columns of a level's table, without the column that closes the circle."""
    spacing = max(_SPACING * lobes.ROUGHNESSES[level] ** 2, math.sqrt(lobes.REACH * 2.0 * math.pi / _CELLS))
    rows = max(64, math.ceil(lobes.REACH / spacing) + 1)
    return rows, max(128, 2 * math.ceil(math.pi / spacing))


def raw(level: int, light: Tensor, wider: Tensor | None) -> Tensor:
    """Spectrum of a level before the division by its energy: ``(O, F, 4 nodes * 2, C * 2)``.

    Args:
        light: the light's spectrum on the level's rings, from :func:`polar.coarsen`, of the level's frequencies and maybe more.
        wider: for narrow levels, this function's answer for :func:`lobes.wider` under the same light.
    """
    kernel = lobes.kernel(level, light.device, light.dtype)
    rows, channels = kernel.theta0.numel(), light.shape[2] * 2
    x = light[:, : kernel.frequencies].flatten(2)
    if kernel.dense is not None or wider is None:
        assert kernel.dense is not None
        out = torch.bmm(x.permute(1, 2, 0), kernel.dense)
        return out.reshape(-1, channels, rows, _PAIRS).permute(2, 0, 3, 1)
    wide = lobes.far(level) * wider
    up = polar.cubic(kernel.theta0.cpu(), lobes.REACH, wide.shape[0] - 1).to(wide)
    wide = (up @ wide.flatten(1)).reshape(rows, *wide.shape[1:])
    base = torch.nn.functional.pad(wide, (0, 0, 0, 0, 0, kernel.frequencies - wide.shape[1]))
    nodes = []
    for node, groups in enumerate(kernel.groups):
        parts, start = [], 0
        for group in groups:
            kept, rings = group.cosines.shape[0], group.window.shape[-1]
            weights = (group.cosines @ group.window.flatten(1)).reshape(kept, -1, rings)
            near = x[group.first : group.first + rings, :kept].transpose(0, 1)
            value = torch.bmm(weights, near).reshape(kept, 2, group.count, channels).permute(2, 0, 1, 3)
            far = base[start : start + group.count, :, 2 * node : 2 * node + 2]
            parts.append(torch.cat((far[:, :kept] + value, far[:, kept:]), dim=1))
            start += group.count
        nodes.append(torch.cat(parts))
    return torch.cat(nodes, dim=2)


def table(level: int, spectrum: Tensor) -> Tensor:
    """``(rows * (columns + 1), 24)`` of a level from its spectrum of :func:`raw`."""
    grid = _grid(level, spectrum)
    return torch.cat((grid, grid[:, :1]), dim=1).reshape(-1, WIDTH)


def fill(into: Tensor, level: int, spectrum: Tensor) -> None:
    """Write :func:`table` into memory that is there."""
    rows, columns = shape(level)
    cells = into.view(rows, columns + 1, WIDTH)
    cells[:, :columns] = _grid(level, spectrum)
    cells[:, columns] = cells[:, 0]


def _grid(level: int, spectrum: Tensor) -> Tensor:
    """Cells ``(rows, columns, 24)``."""
    rows, columns = shape(level)
    share, up = _sharpening(level, spectrum.device, spectrum.dtype)
    kept = share.shape[1]
    mean = (spectrum[:, :kept].unflatten(-1, (-1, 2)) * share[..., None, None]).flatten(1)
    found = torch.view_as_complex((up @ mean).reshape(rows, kept, WIDTH, 2))
    grid: Tensor = torch.fft.irfft(found, n=columns, dim=1)
    return grid


@functools.lru_cache(maxsize=2 * lobes.LEVELS)
@torch.inference_mode(False)
@torch.no_grad()
def _sharpening(level: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What takes a level's spectrum to its cells: a factor ``(O, F, 8)``, then a matrix ``(rows, O)``.

    The factor has one over the energy. Bilinear reading flattens a peak by h² / 12 of its second derivative on average over
    a cell. Cells are sharpened by as much, rows in the matrix and columns by frequency, so that what remains has either sign.
    """
    kernel = lobes.kernel(level, device, dtype)
    rows, columns = shape(level)
    count = kernel.theta0.numel()
    up = polar.cubic(torch.linspace(0.0, lobes.REACH, rows, dtype=torch.float64), lobes.REACH, count - 1)
    up[1:-1] -= (up[2:] - 2.0 * up[1:-1] + up[:-2]) / 12.0
    turn = torch.arange(min(kernel.frequencies, columns // 2 + 1), dtype=torch.float64)
    gain = columns * (1.0 + (1.0 - torch.cos(turn * (2.0 * math.pi / columns))) / 6.0)
    share = gain.to(device, dtype)[:, None] / kernel.energy.reshape(count, 1, _PAIRS)
    return share, up.to(device, dtype)


def place(roughness: Tensor) -> Tensor:
    """The level of a roughness, with its fraction."""
    steps = torch.log10(roughness) * -lobes.STEPS
    return torch.minimum(2.0 * steps, steps + lobes.NARROW / 2)


def levels(roughness: Tensor) -> tuple[int, int]:
    """First and last level that roughnesses need."""
    low, high = (min(max(float(r), MIN_ROUGHNESS), 1.0) for r in torch.aminmax(roughness.detach()))
    place = [lobes.place(-lobes.STEPS * math.log10(r)) for r in (high, low)]
    return int(place[0] + 1e-4), min(math.ceil(place[1] - 1e-4), lobes.LEVELS - 1)


@dataclass(frozen=True)
class Cells:
    """Where pixels look into the tables of some levels, whatever light they are of.

    ``index`` and ``weight (P, 8)`` of rows of the tables (4 where there is one level), ``powers (P, 4)`` of the place between nodes.
    """

    index: Tensor
    weight: Tensor
    powers: Tensor


def find(levels: tuple[int, int], normal: Tensor, view: Tensor, nv: Tensor, roughness: Tensor) -> Cells:
    """Where pixels look into the tables of all levels from the first to the last of ``levels``, one after another.

    Args:
        normal, view: unit vectors ``(3, P)``; ``nv (P,)`` their cosine, above 0.
        roughness: perceptual ``(P,)``, within the levels (clamped).

    Masks are multiplied rather than selected by, and rows are counted in floats (exact up to 2^24): on the CPU
    ``torch.where`` and integer arithmetic took more time than the look-ups.
    """
    dtype = nv.dtype
    flip = 1.0 - 2.0 * (nv.detach() + normal[2].detach() < 0.0).to(dtype)
    x, y, z = ((2.0 * nv * normal[k] - view[k] + (1.0 if k == 2 else 0.0)) * flip for k in range(3))
    flat = x * x + y * y
    turn = torch.atan2(y, x + (flat.detach() < 1e-16)) * (0.5 / math.pi)
    turn = turn + (turn.detach() < 0.0)
    theta0 = torch.atan2(flat.clamp_min(1e-16).sqrt(), z).clamp_max(lobes.REACH)
    low_end, high_end = (lobes.bend(end) for end in lobes.ends(torch.tan(0.5 * theta0)))
    cosine = nv.clamp(-1.0, 1.0 - 1e-6)
    angle = lobes.bend(((1.0 - cosine) / (1.0 + cosine)).sqrt())
    t = (2.0 * (angle - low_end) / (high_end - low_end) - 1.0).clamp(-1.3, 1.3)
    first, last = levels
    top = float(last - first)
    level = (place(roughness) - first).clamp(0.0, top)
    low = level.detach().floor().clamp_max(max(top - 1.0, 0.0))
    height, width, start = _layout(first, last, nv.device, dtype)
    which = low.to(torch.int32)
    indices, weights = [], []
    for k in range(2 if last > first else 1):
        columns = width.index_select(0, which + k)
        column, row = turn * columns, theta0 * height.index_select(0, which + k)
        left, upper = column.detach().floor(), row.detach().floor()
        # Scales of columns and rows end just short of a whole number; the stride has the closing column too.
        stride = columns.ceil() + 1.0
        corner = start.index_select(0, which + k) + upper * stride + left
        indices += [corner, corner + 1.0, corner + stride, corner + stride + 1.0]
        share = level - low if k else 1.0 - (level - low)
        fx, below = column - left, (row - upper) * share
        above = share - below
        right, lower = fx * above, fx * below
        weights += [above - right, right, below - lower, lower]
    powers = torch.stack((torch.ones_like(t), t, t * t, t * t * t), dim=1)
    return Cells(torch.stack(indices, 1).to(torch.int32), torch.stack(weights, 1), powers)


def read(tables: Tensor, cells: Cells) -> Tensor:
    """Mean radiance of the lobe ``(6, P)``, RGB for F = 1, then for the edge, from the tables of the cells' levels."""
    cell = sampling.gather(tables, cells.index, cells.weight)
    spread, gathered = _mixing(tables.device, tables.dtype)
    return gathered @ (cell * (cells.powers @ spread)).T


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)
@torch.no_grad()
def _layout(first: int, last: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """For each level, rows per rad, columns per turn (both just below whole numbers) and the first cell."""
    shapes = torch.tensor([shape(k) for k in range(first, last + 1)], dtype=torch.float64)
    rows, columns = shapes.unbind(1)
    cells = rows * (columns + 1.0)
    short = 1.0 - 1e-6
    parts = ((rows - 1.0) * (short / lobes.REACH), columns * short, torch.cumsum(cells, 0) - cells)
    height, width, start = (part.to(device, dtype) for part in parts)
    return height, width, start


@functools.lru_cache(maxsize=4)
@torch.inference_mode(False)
@torch.no_grad()
def _mixing(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """``(4, 24)`` from powers of the place between nodes to weights of a cell's numbers, and ``(6, 24)`` that adds them."""
    x = torch.tensor(lobes.NODES, dtype=torch.float64)
    cubics = torch.linalg.inv(torch.stack((torch.ones_like(x), x, x * x, x**3), dim=1)).T
    spread = cubics.T.repeat_interleave(WIDTH // len(lobes.NODES), dim=1)
    gathered = torch.eye(6, dtype=torch.float64).repeat(1, len(lobes.NODES))
    return spread.to(device, dtype), gathered.to(device, dtype)
