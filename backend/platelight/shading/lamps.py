"""Small bright lamps: taken out of a light and evaluated one by one, exactly for each pixel.

A sun of half a degree holds much of a light's power in a few texels, where a quadrature of the lobe would
need thousands of samples. As points, whose own width widens the lobe, they cost a few terms per pixel; to a
lobe as narrow as a lamp they are the texels that they were.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from platelight.shading import brdf, environment

_CELLS = 256
"""Rows of the raster of blocks, each of which may be a lamp: 0.7° apart."""
_MOST = 32
_SHARE, _STRONG = 1e-3, 1e-2
"""A block is a lamp when it stands out by this share of the light's power. Wide tables err by about 1 % of a lamp."""
_AT_ONCE = 1 << 15
"""Pixels times lamps in one go: what stays in a core's cache."""


@dataclass(frozen=True)
class Lamps:
    """``dirs`` and ``power (N, K, 3)``, radiance times sr; ``spread (N, K)``, standard deviation in rad.

    Strongest first; the first ``strong`` of them weigh enough to be evaluated for each pixel of any roughness.
    ``texel_dirs`` and ``texel_power (N, T, 3)`` are all lamps, texel by texel, for narrow lobes.
    """

    dirs: Tensor
    power: Tensor
    spread: Tensor
    strong: int
    texel_dirs: Tensor
    texel_power: Tensor

    def rotated(self, degrees: float) -> Lamps:
        """The lamps of the light turned by ``degrees``; see :func:`environment.rotate`."""
        dirs, texels = (environment.turn(d, degrees) for d in (self.dirs, self.texel_dirs))
        return replace(self, dirs=dirs, texel_dirs=texels)


def take(env: Tensor) -> tuple[Tensor, Lamps]:
    """The light ``(N, 3, h, 2h)`` without its lamps, and the lamps; differentiable."""
    n, c, h, w = env.shape
    size = max(1, h // _CELLS)
    if h % size or h < 8:
        none = env.new_zeros(n, 0, 3)
        return env, Lamps(none, none, env.new_zeros(n, 0), 0, none, none)
    # What a block would be without its lamp: the darkest of the blocks around it.
    mean = environment.resize(env.detach(), h // size)
    dark = _darkest(mean)
    areas = environment.solid_angles(h // size, env.device, env.dtype).flatten()
    energy = (mean - dark).sum(1).flatten(1) * areas
    total = (mean.flatten(2) * areas).sum((1, 2)).clamp_min(1e-12)
    best, index = energy.topk(min(_MOST, energy.shape[1]), dim=1)
    keep = (best > _SHARE * total[:, None]).to(env.dtype)
    # The texels of the chosen blocks, (N, K, size²).
    inner = torch.arange(size, device=env.device)
    row = index.div(w // size, rounding_mode="floor")[..., None, None] * size + inner[:, None]
    column = (index % (w // size))[..., None, None] * size + inner
    texel = (row * w + column).flatten(2)
    angles = environment.solid_angles(h, env.device, env.dtype).flatten()[texel]
    pick = texel.flatten(1)[:, None].expand(-1, c, -1)
    excess = env.flatten(2).gather(2, pick).unflatten(2, texel.shape[1:])
    floor = dark.flatten(2).gather(2, index[:, None].expand(-1, c, -1))
    taken = (excess - floor[..., None]).clamp_min(0.0) * angles[:, None] * keep[:, None, :, None]
    weight = taken.sum(1)
    share = weight / weight.sum(-1, keepdim=True).clamp_min(1e-12)
    spots = environment.directions(h, env.device, env.dtype).reshape(-1, 3)[texel].movedim(-1, 1)
    center = (spots * share[:, None]).sum(-1)
    up = center.new_tensor((0.0, 1.0, 0.0))[None, :, None]
    center = torch.where(keep[:, None] > 0.0, center, up)
    center = center / center.square().sum(1, keepdim=True).clamp_min(1e-12).sqrt()
    variance = (0.5 * (spots - center[..., None]).square().sum(1) * share).sum(-1)
    # The reading of a texel stands for its area too: its own variance per axis.
    variance = variance + angles.mean(-1) / 12.0
    rest = env.flatten(2).scatter_add(2, pick, -(taken / angles[:, None]).flatten(2))
    strong = int((best > _STRONG * total[:, None]).sum(1).max())
    used = max(1, int(keep.sum(1).max()))
    lamps = Lamps(
        center.transpose(1, 2)[:, :used],
        taken.sum(3).transpose(1, 2)[:, :used],
        variance.sqrt()[:, :used],
        strong,
        spots[:, :, :used].flatten(2).transpose(1, 2),
        taken[:, :, :used].flatten(2).transpose(1, 2),
    )
    return rest.reshape(env.shape), lamps


def _darkest(blocks: Tensor) -> Tensor:
    """The least of the 5 x 5 blocks about each. By slices, for pooling took ten times as long."""
    h, w = blocks.shape[-2:]
    wrapped = torch.cat((blocks[..., -2:], blocks, blocks[..., :2]), dim=-1)
    across = functools.reduce(torch.minimum, (wrapped[..., k : k + w] for k in range(5)))
    tall = F.pad(across, (0, 0, 2, 2), value=math.inf)
    return functools.reduce(torch.minimum, (tall[..., k : k + h, :] for k in range(5)))


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
    parts = []
    for piece in maps.split(max(1, _AT_ONCE // dirs.shape[0]), dim=1):
        nl, lv = piece[:3].T @ dirs.T, piece[3:6].T @ dirs.T
        nv, r = piece[6, :, None], piece[7, :, None]
        half = (2.0 + 2.0 * lv).clamp_min(1e-8).sqrt()
        # A half vector turns by half of what its light does.
        alpha = r * r if spread is None else (r.pow(4) + 0.25 * spread[: dirs.shape[0]].square()).sqrt()
        lobe = brdf.ggx_distribution((nl + nv) / half, alpha) * brdf.smith_visibility(nl, nv, alpha)
        lobe = lobe * nl.clamp_min(0.0)
        edge = lobe * brdf.schlick_weight(0.5 * half)
        parts.append(power[: dirs.shape[0]].T @ torch.cat((lobe, edge)).T)
    both = [part.unflatten(1, (2, -1)).transpose(0, 1).flatten(0, 1) for part in parts]
    return torch.cat(both, dim=1)
