"""The fast integrator: a light is filtered once, then maps are shaded by look-ups.

Diffuse is one look-up in :mod:`.irradiance`. Specular is one in the tables of :mod:`.specular` times the lobe's
energy, plus the small bright lamps of :mod:`.lamps`, which the tables leave out.
``docs/shading.md`` has the reasons and the measured errors against :mod:`.reference`.
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from platelight.shading import environment, irradiance, parallel
from platelight.shading.reference import Shading, integrate, view_directions
from platelight.shading.specular import Specular
from platelight.shading.store import Store
from platelight.shading.surface import Picture, pictures

__all__ = [
    "Picture",
    "PrefilteredLight",
    "Shading",
    "integrate",
    "pictures",
    "prefilter",
    "relit",
    "shade",
    "view_directions",
]

_KEPT = 2
"""Lights in memory: with all levels, and one turn of it, each takes up to half a gigabyte."""


@dataclass(frozen=True)
class PrefilteredLight:
    """What :func:`shade` needs to know of a light; made by :func:`prefilter`.

    Attributes:
        diffuse: irradiance over π, ``(N, 3, 128, 256)``.
        specular: for each of the N lights, its lamps and tables (made as they are asked for).
        gain: what all radiance is multiplied by.
    """

    diffuse: Tensor
    specular: tuple[Specular, ...]
    gain: float = 1.0

    def rotated(self, degrees: float) -> PrefilteredLight:
        """The light turned by ``degrees`` more (see :func:`environment.rotate`).

        Irradiance and lamps are turned. The specular tables are tied to the camera's axis: the levels that a plate needs
        are summed anew when it is shaded, from the same texels.
        """
        turned = tuple(one.rotated(degrees) for one in self.specular)
        return replace(self, diffuse=environment.rotate(self.diffuse, degrees), specular=turned)

    def one(self, index: int) -> PrefilteredLight:
        """One of N lights."""
        return replace(
            self, diffuse=self.diffuse[index : index + 1], specular=self.specular[index : index + 1]
        )

    def exposed(self, ev: float) -> PrefilteredLight:
        """The light times 2^ev; nothing is filtered."""
        return replace(self, gain=self.gain * 2.0**ev)


_cache: OrderedDict[tuple[object, ...], PrefilteredLight] = OrderedDict()
_lock = Lock()


def prefilter(env: Tensor, store: Store | None = None) -> PrefilteredLight:
    """Filter a light ``(N, 3, h, 2h)`` of linear radiance; differentiable with respect to it.

    The last lights that need no gradient are kept for the process: a sequence has one. With ``store``, specular tables
    are also kept on disk for the next process.
    """
    environment.check(env)
    if env.requires_grad and torch.is_grad_enabled():
        return _prefilter(env)
    digest = hashlib.sha256(env.detach().cpu().contiguous().numpy().data).digest()
    key = (digest, tuple(env.shape), env.dtype, str(env.device))
    with _lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    # Out of inference mode, so that a kept light serves a caller who wants gradients of the maps.
    with torch.inference_mode(False), torch.no_grad():
        light = _prefilter(
            env.detach().clone(), store, hashlib.blake2b(repr(key).encode(), digest_size=16).hexdigest()
        )
    with _lock:
        _cache[key] = light
        while len(_cache) > _KEPT:
            _cache.popitem(last=False)
    return light


def _prefilter(env: Tensor, store: Store | None = None, name: str = "") -> PrefilteredLight:
    parts = [
        functools.partial(Specular.of, one, (store, f"{name}-{i}") if store else None)
        for i, one in enumerate(env.split(1))
    ]
    jobs: list[Callable[[], Any]] = [functools.partial(irradiance.irradiance_map, env), *parts]
    diffuse, *specular = parallel.each(lambda job: job(), jobs, env.device)
    return PrefilteredLight(diffuse, tuple(specular))


def ready() -> bool:
    """Make one thing ahead that turning the lights in memory will take; False where nothing is left to be made.

    Tables that were on disk leave the process without the kernels that other tables are summed up with.
    """
    with _lock:
        lights = list(_cache.values())
    return any(one.ready() for light in lights for one in light.specular)


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
        layered: dim the diffuse lobe as Cycles' Principled BSDF does with its base (:func:`sampling.layer_share`).

    Differentiable with respect to the maps and the light; in float32 or float64.
    """
    return relit(light, *pictures(normal, albedo, roughness, f0, view, layered))


def relit(light: PrefilteredLight, *pictures: Picture) -> Shading:
    """As :func:`shade`, of maps whose pictures may have been kept."""
    count = len(light.specular)
    each = [
        picture.under(light.diffuse[i % count][None], light.specular[i % count])
        for i, picture in enumerate(pictures)
    ]
    both = torch.stack(each) if len(each) > 1 else each[0][None]
    if light.gain != 1.0:
        both = both * light.gain
    return Shading(both[:, :3], both[:, 3:])
