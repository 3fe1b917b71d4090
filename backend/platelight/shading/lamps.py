"""Small bright lamps: taken out of a light and evaluated one by one, exactly for each pixel.

A sun of half a degree holds much of a light's power in a few texels, where a quadrature of the lobe would
need thousands of samples. As points, whose own width widens the lobe, they cost a few terms per pixel; to a
lobe as narrow as a lamp they are the texels that they were.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from platelight.shading import brdf, environment

ROWS = 256
"""Rows of the raster of blocks, each of which may be a lamp: 0.7° apart."""
_MOST = 32
_SHARE, _STRONG = 1e-3, 1e-2
"""A block is a lamp when it stands out by this share of the light's power. Wide tables err by about 1 % of a lamp."""
_AT_ONCE = 1 << 16
"""Pixels times lamps in one go: what stays in a core's cache."""


@dataclass(frozen=True)
class Lamps:
    """``dirs`` and ``power (N, K, 3)``, radiance times sr; ``spread (N, K)``, standard deviation in rad.

    Strongest first; the first ``strong`` of them weigh enough to be evaluated for each pixel of any roughness.
    ``texel_dirs`` and ``texel_power (N, T, 3)`` are all lamps, texel by texel, for narrow lobes; ``texels (N, T)`` are the
    flat places of these in a light of the rows that :func:`take` was given, before any turn.
    """

    dirs: Tensor
    power: Tensor
    spread: Tensor
    strong: int
    texel_dirs: Tensor
    texel_power: Tensor
    texels: Tensor

    def rotated(self, degrees: float) -> Lamps:
        """The lamps of the light turned by ``degrees``; see :func:`environment.rotate`."""
        dirs, texels = (environment.turn(d, degrees) for d in (self.dirs, self.texel_dirs))
        return replace(self, dirs=dirs, texel_dirs=texels)


def take(env: Tensor, fine: int) -> tuple[Tensor, Lamps]:
    """What is left of a light ``(N, 3, h, 2h)`` at ``ROWS`` rows, and its lamps, of texels of ``fine`` rows; differentiable.

    A light of fewer rows is never enlarged for that: only the texels of lamps are looked up.
    """
    n, c, h, _ = env.shape
    if fine % h:
        env, h = environment.resize(env, fine), fine
    size, w = fine // ROWS, 2 * ROWS
    mean = environment.resize(env, ROWS)
    # What a block would be without its lamp: the darkest of the blocks around it.
    known = mean.detach()
    dark = _darkest(known)
    areas = environment.solid_angles(ROWS, env.device, env.dtype)[:, 0]
    energy = ((known - dark).sum(1) * areas[:, None]).flatten(1)
    total = (known.sum((1, 3)) * areas).sum(1).clamp_min(1e-12)
    best, index = energy.topk(_MOST, dim=1)
    keep = (best > _SHARE * total[:, None]).to(env.dtype)
    # The texels of the chosen blocks, (N, K, size²).
    inner = torch.arange(size, device=env.device)
    block = index.div(w, rounding_mode="floor")
    row = block[..., None, None] * size + inner[:, None].expand(size, size)
    column = (index % w)[..., None, None] * size + inner.expand(size, size)
    row, column = row.flatten(2), column.flatten(2)
    angles = environment.solid_angles(fine, env.device, env.dtype)[:, 0][row]
    step = fine // h
    own = row.div(step, rounding_mode="floor") * (2 * h) + column.div(step, rounding_mode="floor")
    excess = env.flatten(2).gather(2, own.flatten(1)[:, None].expand(-1, c, -1)).unflatten(2, own.shape[1:])
    chosen = index[:, None].expand(-1, c, -1)
    floor = dark.flatten(2).gather(2, chosen)
    taken = (excess - floor[..., None]).clamp_min(0.0) * angles[:, None] * keep[:, None, :, None]
    weight = taken.sum(1)
    share = weight / weight.sum(-1, keepdim=True).clamp_min(1e-12)
    spots = environment.directions_at(row, column, fine, env.dtype).movedim(-1, 1)
    center = (spots * share[:, None]).sum(-1)
    up = center.new_tensor((0.0, 1.0, 0.0))[None, :, None]
    center = torch.where(keep[:, None] > 0.0, center, up)
    center = center / center.square().sum(1, keepdim=True).clamp_min(1e-12).sqrt()
    variance = (0.5 * (spots - center[..., None]).square().sum(1) * share).sum(-1)
    # The reading of a texel stands for its area too: its own variance per axis.
    variance = variance + angles.mean(-1) / 12.0
    left = mean.flatten(2).scatter_add(2, chosen, -(taken.sum(3) / areas[block][:, None]))
    strong = int((best > _STRONG * total[:, None]).sum(1).max())
    used = max(1, int(keep.sum(1).max()))
    lamps = Lamps(
        center.transpose(1, 2)[:, :used],
        taken.sum(3).transpose(1, 2)[:, :used],
        variance.sqrt()[:, :used],
        strong,
        spots[:, :, :used].flatten(2).transpose(1, 2),
        taken[:, :, :used].flatten(2).transpose(1, 2),
        (row * (2 * fine) + column)[:, :used].flatten(1),
    )
    return left.reshape(n, c, ROWS, w), lamps


def without(env: Tensor, lamps: Lamps) -> Tensor:
    """A light of the rows that :func:`take` was given, less its lamps as they were found, before any turn."""
    angles = environment.solid_angles(env.shape[-2], env.device, env.dtype)[:, 0]
    excess = lamps.texel_power / angles[lamps.texels.div(env.shape[-1], rounding_mode="floor")][..., None]
    place = lamps.texels[:, None].expand(-1, env.shape[1], -1)
    return env.flatten(2).scatter_add(2, place, -excess.transpose(1, 2)).reshape(env.shape)


def _darkest(blocks: Tensor) -> Tensor:
    """The least of the 5 x 5 blocks about each. By slices, for pooling took ten times as long."""
    wrapped = torch.cat((blocks[..., -2:], blocks, blocks[..., :2]), dim=-1)
    return _least(F.pad(_least(wrapped, -1), (0, 0, 2, 2), value=math.inf), -2)


def _least(x: Tensor, axis: int) -> Tensor:
    """The least of each five neighbors along an axis, which is four shorter then: that of two, of four, and one more."""
    count = x.shape[axis]
    two = torch.minimum(x.narrow(axis, 0, count - 1), x.narrow(axis, 1, count - 1))
    four = torch.minimum(two.narrow(axis, 0, count - 3), two.narrow(axis, 2, count - 3))
    return torch.minimum(four.narrow(axis, 0, count - 4), x.narrow(axis, 4, count - 4))


def seen(normal: Tensor, view: Tensor, nv: Tensor, roughness: Tensor, share: Tensor) -> Tensor:
    """What :func:`specular` needs to know of pixels, ``(9, P)``.

    Args:
        normal, view: ``(3, P)``; nv, roughness: ``(P,)``.
        share: ``(P,)``, how far a pixel's lobe is narrow.
    """
    return torch.cat((normal, view, torch.stack((nv, roughness, share))))


def specular(lamps: Lamps, maps: Tensor) -> Tensor:
    """Radiance ``(6, P)`` of one light's lamps for pixels of :func:`seen`: RGB for F = 1, then for F = (1 - l·h)⁵.

    A lobe sees all texels as far as it is narrow, and the strong lamps as far as it is not.
    """
    share = maps[8]
    out = maps.new_zeros(6, maps.shape[1])
    if lamps.strong:
        wide = _lobes(lamps.dirs[0, : lamps.strong], lamps.power[0], lamps.spread[0], maps)
        out = out + wide * (1.0 - share)
    narrow = share.detach().nonzero()[:, 0]
    if lamps.texel_dirs.shape[1] and narrow.numel():
        found = _lobes(lamps.texel_dirs[0], lamps.texel_power[0], None, maps[:, narrow])
        out = out.index_add(1, narrow, found * share[narrow])
    return out


def _lobes(dirs: Tensor, power: Tensor, spread: Tensor | None, maps: Tensor) -> Tensor:
    """:func:`specular` of some lamps that all pixels see. Lamps are rows, as short products of matrices are faster so."""
    count = dirs.shape[0]
    weights = power[:count].T
    widening = dirs.new_zeros(1) if spread is None else 0.25 * spread[:count, None].square()
    parts = []
    for piece in maps.split(max(1, _AT_ONCE // count), dim=1):
        nl, lv, nv, r = dirs @ piece[:3], dirs @ piece[3:6], piece[6], piece[7]
        # A half vector turns by half of what its light does.
        alpha2 = torch.addcmul(widening, r.square(), r.square())
        half2 = (2.0 + 2.0 * lv).clamp_min(1e-8)  # the square of twice l·h
        lobe = brdf.cosine_lobe(nl, nv, half2, alpha2)
        edge = lobe * brdf.schlick_weight(0.5 * half2.sqrt())
        parts.append(torch.cat((weights @ lobe, weights @ edge)))
    return torch.cat(parts, dim=1)
