"""The fast integrator: a light is filtered once, then maps are shaded by look-ups.

Diffuse is one look-up in :mod:`.irradiance`. Specular is one in the tables of :mod:`.specular` times the lobe's
energy, plus the small bright lamps of :mod:`.lamps`, which the tables leave out.
``docs/shading.md`` has the reasons and the measured errors against :mod:`.reference`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Tensor

from platelight.shading import environment, irradiance, lamps, sampling, tables
from platelight.shading.reference import Shading, facing, integrate, view_directions
from platelight.shading.specular import Specular, lamp_share

__all__ = ["PrefilteredLight", "Shading", "integrate", "prefilter", "shade", "view_directions"]

_CHUNK = 1 << 14
_KEPT = 4


@dataclass(frozen=True)
class PrefilteredLight:
    """What :func:`shade` needs to know of a light; made by :func:`prefilter`.

    Attributes:
        env: the light itself, ``(N, 3, h, 2h)``.
        diffuse: irradiance over π, ``(N, 3, 128, 256)``.
        specular: for each of the N lights, its lamps and tables (made as they are asked for).
    """

    env: Tensor
    diffuse: Tensor
    specular: tuple[Specular, ...]

    def rotated(self, degrees: float) -> PrefilteredLight:
        """The light turned by ``degrees`` more (see :func:`environment.rotate`), filtered anew.

        The tables are tied to the camera's axis, so nothing of them can be kept.
        """
        return prefilter(environment.rotate(self.env, degrees))


_cache: OrderedDict[tuple[object, ...], PrefilteredLight] = OrderedDict()
_lock = Lock()


def prefilter(env: Tensor) -> PrefilteredLight:
    """Filter a light ``(N, 3, h, 2h)`` of linear radiance; differentiable with respect to it.

    The last few lights that need no gradient are kept for the process: a sequence has one.
    """
    environment.check(env)
    if env.requires_grad and torch.is_grad_enabled():
        return _prefilter(env)
    digest = hashlib.blake2b(env.detach().cpu().contiguous().numpy().tobytes()).digest()
    key = (digest, tuple(env.shape), env.dtype, str(env.device))
    with _lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    # Out of inference mode, so that a kept light serves a caller who wants gradients of the maps.
    with torch.inference_mode(False), torch.no_grad():
        light = _prefilter(env.detach().clone())
    with _lock:
        _cache[key] = light
        while len(_cache) > _KEPT:
            _cache.popitem(last=False)
    return light


def _prefilter(env: Tensor) -> PrefilteredLight:
    return PrefilteredLight(env, irradiance.irradiance_map(env), tuple(Specular(one) for one in env.split(1)))


def shade(
    light: PrefilteredLight,
    normal: Tensor,
    albedo: Tensor,
    roughness: Tensor,
    f0: Tensor,
    view: Tensor,
    layered: bool = False,
) -> Shading:
    """Diffuse and specular radiance of maps under a prefiltered light.

    Args:
        light: from :func:`prefilter`, of N lights or of one.
        normal: ``(N, 3, H, W)`` unit, camera space.
        albedo: ``(N, 3 or 1, H, W)`` linear.
        roughness: ``(N, 1, H, W)`` perceptual, 0.1 to 1 (the light seen in less is that of 0.1).
        f0: ``(N, 1, H, W)`` or ``(N, 3, H, W)`` reflectance at normal incidence.
        view: ``(3, H, W)`` or ``(N or 1, 3, H, W)`` unit vectors to the camera, within 30° of +Z.
        layered: dim the diffuse lobe by 1 - E(n·v, α, f0), what the specular lobe leaves of the light, as
            Cycles' Principled BSDF does with its base.

    Differentiable with respect to the maps and the light; in float32 or float64.
    """
    n, _, height, width = normal.shape
    view = view if view.ndim == 4 else view[None]
    bent, nv = facing(normal, view)
    count = len(light.specular)
    irradiated, glossy = [], []
    for i in range(n):
        maps = [m[i % m.shape[0]].flatten(1) for m in (normal, bent, view, nv, roughness)]
        diffuse, specular = light.diffuse[i % count][None], light.specular[i % count]
        levels = tables.levels(roughness[i % roughness.shape[0]])
        rows = specular.rows(*levels)
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for start in range(0, height * width, _CHUNK):
            piece, facet, eye, cosine, r = (m[:, start : start + _CHUNK] for m in maps)
            rough = r[0].clamp(tables.MIN_ROUGHNESS, 1.0)
            mean = tables.lookup(rows, levels, facet, eye, cosine[0], rough)
            white, edge = sampling.albedo_pair(cosine[0], r[0])
            irradiance_pi = environment.sample(diffuse, piece[None, :, None])[0, :, 0]
            glossy_white, glossy_edge = white * mean[:, :3].T, edge * mean[:, 4:7].T
            lamp, lamp_edge = lamps.specular(specular.lamps, facet, eye, cosine[0], rough, lamp_share(rough))
            glossy_white, glossy_edge = glossy_white + lamp, glossy_edge + lamp_edge
            parts.append((irradiance_pi, glossy_white, glossy_edge))
        lambert, white, edge = (
            torch.cat(p, dim=1).reshape(-1, height, width) for p in zip(*parts, strict=True)
        )
        irradiated.append(lambert)
        glossy.append(edge + f0[i % f0.shape[0]] * (white - edge))
    base = torch.stack(irradiated) * albedo
    if layered:
        base = base * (1.0 - sampling.directional_albedo(nv, roughness, f0)).clamp_min(0.0)
    return Shading(base, torch.stack(glossy))
