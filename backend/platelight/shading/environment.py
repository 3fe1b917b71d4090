"""Lat-long environments: directions, solid angles, sampling, rotation, resizing, spherical harmonics.

The convention, in one place: an environment is ``(N, C, h, 2h)`` of linear radiance, rows of equal angle,
texel centers at half integers, the top row up. In the camera's frame (+X right, +Y up, +Z towards the
camera) column coordinate u and row coordinate v in [0, 1] mean the direction::

    φ = 2π (u - 1/2),  θ = π v,  d = (sin θ sin φ, cos θ, -sin θ cos φ)

so the center column is where the camera looks, both edges are behind it, and +X is at u = 3/4.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from platelight.protocol.errors import InputError

_BAND = 64


def check(env: Tensor) -> int:
    """The height of an environment ``(N, C, h, 2h)``; InputError for any other shape."""
    if env.ndim != 4 or env.shape[-1] != 2 * env.shape[-2]:
        raise InputError(
            f"The light has shape {tuple(env.shape)}, which is no lat-long.",
            "Give an image that is twice as wide as it is high.",
        )
    return int(env.shape[-2])


def directions(
    h: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
    rows: tuple[int, int] | None = None,
) -> Tensor:
    """Unit directions ``(h, 2h, 3)`` of the texel centers, in the camera's frame; of ``rows`` (first, end) only where given."""
    row = torch.arange(*(rows or (0, h)), device=device)
    return directions_at(row[:, None], torch.arange(2 * h, device=device), h, dtype)


def directions_at(row: Tensor, column: Tensor, h: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Unit directions ``(..., 3)`` of some texel centers of ``h`` rows; ``row`` and ``column`` broadcast."""
    phi = ((column.double() + 0.5) / (2 * h) - 0.5) * (2.0 * math.pi)
    theta = (row.double() + 0.5) / h * math.pi
    s = torch.sin(theta)
    x, y, z = torch.broadcast_tensors(s * torch.sin(phi), torch.cos(theta), -s * torch.cos(phi))
    return torch.stack((x, y, z), dim=-1).to(dtype)


def even_directions(count: int) -> Tensor:
    """Unit directions (count, 3), evenly over the sphere (Fibonacci's lattice; Gonzalez 2010)."""
    index = torch.arange(count, dtype=torch.float32) + 0.5
    height = 1 - 2 * index / count
    angle = math.pi * (1 + 5**0.5) * index
    ring = (1 - height * height).sqrt()
    return torch.stack([ring * torch.cos(angle), ring * torch.sin(angle), height], -1)


def solid_angles(
    h: int, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Exact solid angle of each texel in sr, ``(h, 2h)``; they sum to 4π."""
    edges = torch.cos(torch.arange(h + 1, device=device, dtype=torch.float64) / h * math.pi)
    rows = (edges[:-1] - edges[1:]) * (math.pi / h)
    return rows[:, None].expand(h, 2 * h).to(dtype)


def coordinates(dirs: Tensor) -> tuple[Tensor, Tensor]:
    """(u, v) in [0, 1] of unit directions ``(N, 3, H, W)``: two ``(N, H, W)`` tensors."""
    x, y, z = dirs.unbind(1)
    # Exactly at the poles atan2 has no gradient: any longitude will do, so the center column is taken.
    pole = (x == 0.0) & (z == 0.0)
    u = torch.atan2(x, torch.where(pole, torch.ones_like(z), -z)) / (2.0 * math.pi) + 0.5
    # atan2 of the sine keeps full precision near the poles, where acos loses half the digits.
    s = torch.sqrt((x * x + z * z).clamp_min(1e-20))
    v = torch.atan2(s, y) / math.pi
    return u, v


def sample(env: Tensor, dirs: Tensor) -> Tensor:
    """Bilinear radiance ``(N, C, H, W)`` of ``env (N, C, h, 2h)`` at unit ``dirs (N or 1, 3, H, W)``.

    Longitude wraps, latitude is clamped to the centers of the first and last rows. Differentiable with
    respect to both.
    """
    return sample_at(env, *coordinates(dirs))


def sample_at(env: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """:func:`sample` at coordinates in [0, 1], ``(N or 1, H, W)`` each."""
    check(env)
    return sample_closed(closed(env), u, v)


def closed(env: Tensor) -> Tensor:
    """The environment with one wrapped column on each side, so that grid_sample never meets the seam."""
    return torch.cat((env[..., -1:], env, env[..., :1]), dim=-1)


def sample_closed(env: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """:func:`sample_at` of what :func:`closed` made, for who reads one environment many times."""
    return sample_grid(env, grid_of(u, v, env.shape[-1] - 2))


def grid_of(u: Tensor, v: Tensor, width: int) -> Tensor:
    """Coordinates ``(N, H, W, 2)`` for :func:`sample_grid` in environments of a width, for who reads many at one place."""
    x = (u * width + 1.0) / (width + 2) * 2.0 - 1.0
    return torch.stack((x, v * 2.0 - 1.0), dim=-1)


def sample_grid(env: Tensor, grid: Tensor) -> Tensor:
    """:func:`sample_closed` at coordinates of :func:`grid_of`."""
    grid = grid.expand(env.shape[0], -1, -1, -1)
    return F.grid_sample(env, grid, mode="bilinear", padding_mode="border", align_corners=False)


def enlarged(env: Tensor) -> Callable[[Tensor], Tensor]:
    """A reader of radiance at unit ``dirs (N or 1, 3, H, W)`` for pictures whose pixels are smaller than the texels.

    Bilinear texels show as stairs along every bright edge. Here logarithms are interpolated, by a cubic B-spline, so that an
    edge of any contrast is smooth and nothing is negative or rings; a single texel spreads over two. Four bilinear reads make
    the sixteen taps: Sigg and Hadwiger, "Fast third-order texture filtering", GPU Gems 2, 2005.
    """
    h = check(env)
    floor = 1e-3 * average_luminance(env).clamp_min(1e-12).reshape(-1, 1, 1, 1)
    logs = closed(torch.log(env.clamp_min(0.0) + floor))

    def halves(at: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Both places to read along an axis, in [0, 1], and the second one's weight."""
        texel = at * count - 0.5
        base = torch.floor(texel)
        f = texel - base
        first, last = (1.0 - f).pow(3) / 6.0, f.pow(3) / 6.0
        third = 1.0 / 6.0 + f * (1.0 + f * (1.0 - f)) / 2.0
        weight = third + last
        before = base - first / (1.0 - weight)
        return (before + 0.5) / count, (base + 1.5 + last / weight) / count, weight

    def read(dirs: Tensor) -> Tensor:
        u, v = coordinates(dirs)
        *across, right = halves(u, 2 * h)
        *down, below = halves(v, h)
        rows = []
        for y in down:
            a, b = (sample_grid(logs, grid_of(x % 1.0, y, 2 * h)) for x in across)
            rows.append(torch.lerp(a, b, right[:, None]))
        return (torch.exp(torch.lerp(rows[0], rows[1], below[:, None])) - floor).clamp_min(0.0)

    return read


def rotate(env: Tensor, degrees: float | Tensor) -> Tensor:
    """The environment turned about the vertical, as Blender's World Mapping Z rotation turns it.

    A positive angle moves what is seen to the right: a light in the center column (ahead of the camera)
    moves towards +X by ``degrees``. Shifts of a fraction of a texel interpolate linearly along the row.

    Args:
        env: ``(N, C, h, 2h)``.
        degrees: one angle, or a tensor of N angles.
    """
    w = 2 * check(env)
    turns = torch.as_tensor(degrees, dtype=torch.float64, device=env.device).reshape(-1) / 360.0
    shift = (turns - torch.floor(turns)) * w
    whole = torch.floor(shift)
    fraction = (shift - whole).to(env.dtype)
    columns = (torch.arange(w, device=env.device)[None] - whole.to(torch.int64)[:, None]) % w
    if turns.numel() == 1:
        rolled = env[..., columns[0]]
        if float(fraction[0]) == 0.0:
            return rolled
    else:
        index = columns[:, None, None, :].expand(-1, env.shape[1], env.shape[2], -1)
        rolled = env.gather(-1, index)
    return torch.lerp(rolled, rolled.roll(1, dims=-1), fraction[:, None, None, None])


def turn(dirs: Tensor, degrees: float) -> Tensor:
    """Directions ``(..., 3)`` turned as :func:`rotate` turns the light."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y, z = dirs.unbind(-1)
    return torch.stack((x * c - z * s, y, z * c + x * s), dim=-1)


def seen_from(env: Tensor, axes: Tensor) -> Tensor:
    """The environment as a camera sees it whose axes are the columns of ``axes (3, 3)`` in the environment's frame.

    Each texel is the mean of 3 x 3 samples, weighted by solid angle: by one, a sun of one texel would shine up to half
    a time stronger or weaker, and flicker as the camera moves. In bands of rows, so that memory stays that of a few.
    """
    h, fine = check(env), 3 * check(env)
    weights = solid_angles(fine, env.device, env.dtype)[:, :1]
    bands = []
    for top in range(0, h, _BAND):
        rows = (3 * top, 3 * min(h, top + _BAND))
        ways = directions(fine, env.device, env.dtype, rows) @ axes.T.to(env)
        share = weights[slice(*rows)]
        seen = sample(env, ways.permute(2, 0, 1)[None]) * share
        sums = seen.unflatten(-1, (2 * h, 3)).unflatten(-3, (-1, 3)).sum((-3, -1))
        bands.append(sums / (3.0 * share.reshape(-1, 3).sum(1))[:, None])
    return torch.cat(bands, dim=-2)


def expose(env: Tensor, ev: float | Tensor) -> Tensor:
    """The environment times 2^ev; a tensor of N exposures serves a batch."""
    stops = torch.as_tensor(ev, dtype=env.dtype, device=env.device)
    return env * torch.exp2(stops.reshape(-1, 1, 1, 1) if stops.ndim else stops)


def resize(env: Tensor, h: int) -> Tensor:
    """``env (N, C, H, 2H)`` at ``(N, C, h, 2h)``; the integral over the sphere is kept.

    Each new texel is the mean of the old ones that it covers, weighted by the solid angle of the overlap
    (so it also serves sizes that do not divide, and enlarges by repeating).
    """
    old = check(env)
    if h == old:
        return env
    if old % h == 0:  # the usual case, and much cheaper than by matrices
        step = old // h
        share = solid_angles(old, env.device, env.dtype)[:, 0].unflatten(0, (h, step))
        share = share / share.sum(1, keepdim=True) / step
        columns = functools.reduce(torch.add, (env[..., k::step] for k in range(step)))
        reduced: Tensor = (columns.unflatten(-2, (h, step)) * share[..., None]).sum(-2)
        return reduced
    if h % old == 0:
        return env.repeat_interleave(h // old, -1).repeat_interleave(h // old, -2)
    rows = _overlap(torch.cos(torch.arange(old + 1, dtype=torch.float64) / old * math.pi).neg(), h, True)
    columns = _overlap(torch.arange(2 * old + 1, dtype=torch.float64) / (2 * old), 2 * h, False)
    rows, columns = (m.to(env.device, env.dtype) for m in (rows, columns))
    return torch.matmul(rows, torch.matmul(env, columns.T))


def _overlap(edges: Tensor, count: int, latitude: bool) -> Tensor:
    """Row-normalized overlap ``(count, len(edges) - 1)`` of new cells with old ones along one axis."""
    steps = torch.arange(count + 1, dtype=torch.float64) / count
    new = torch.cos(steps * math.pi).neg() if latitude else steps
    low = torch.maximum(new[:-1, None], edges[None, :-1])
    high = torch.minimum(new[1:, None], edges[None, 1:])
    share = (high - low).clamp_min(0.0)
    return share / share.sum(1, keepdim=True)


def average(env: Tensor) -> Tensor:
    """Mean radiance over the sphere, ``(N, C)``: the color of a uniform light of the same power."""
    weights = solid_angles(check(env), env.device, env.dtype) / (4.0 * math.pi)
    return (env * weights).sum(dim=(-2, -1))


def average_luminance(env: Tensor) -> Tensor:
    """Mean luminance over the sphere, ``(N,)``, for linear Rec.709 radiance ``(N, 3, h, 2h)``."""
    rec709 = torch.tensor((0.2126, 0.7152, 0.0722), device=env.device, dtype=env.dtype)
    return average(env) @ rec709
