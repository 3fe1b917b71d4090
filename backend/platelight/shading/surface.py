"""What shading a pixel takes that no light changes: where it looks, and how much it makes of what it sees there.

Angles, logarithms and powers are most of a pixel's cost, so that maps which see one light after another keep them
(:meth:`Picture.kept`): a light then costs the reading of its tables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from platelight.shading import environment, fused, lamps, parallel, sampling, tables
from platelight.shading.reference import facing
from platelight.shading.specular import Specular, lamp_share

_CHUNK, _ON_DEVICE = 1 << 14, 1 << 22
"""Most pixels in one go: on processors what they take stays in a core's cache, elsewhere it fills the device."""


@dataclass(frozen=True)
class Surface:
    """P pixels, at most 176 bytes each.

    Attributes:
        at: u and v of the normal in a lat-long, ``(1, 1, P)`` each.
        cells: where the pixels look into specular tables.
        seen: what lamps need to know, from :func:`lamps.seen`.
        paint: ``(3 or 1, P)``, what the diffuse lobe makes of irradiance over π.
        f0: ``(3 or 1, P)``.
        white, edge: ``(P,)``, the specular lobe's energy for F = 1 and for F = (1 - l·h)⁵.
    """

    at: tuple[Tensor, Tensor]
    cells: tables.Cells
    seen: Tensor
    paint: Tensor
    f0: Tensor
    white: Tensor
    edge: Tensor

    @classmethod
    def of(cls, levels: tuple[int, int], layered: bool, maps: tuple[Tensor, ...]) -> Surface:
        """Of maps ``(channels, P)`` whose roughness lies within the levels."""
        return fused.on(maps[0].device, find)(levels, layered, *maps)

    def under(self, diffuse: Tensor, specular: Specular, rows: Tensor) -> Tensor:
        """Diffuse, then specular radiance ``(6, P)``: ``diffuse (1, 3, h, 2h)`` is irradiance over π, ``rows`` tables."""
        lamp = lamps.specular(specular.lamps, self.seen)
        return fused.on(rows.device, light)(self, environment.closed(diffuse), rows, lamp)


def find(
    levels: tuple[int, int], layered: bool, normal: Tensor, bent: Tensor, view: Tensor, nv: Tensor,
    roughness: Tensor, albedo: Tensor, f0: Tensor,
) -> Surface:  # fmt: skip
    """:meth:`Surface.of`."""
    rough = roughness[0].clamp(tables.MIN_ROUGHNESS, 1.0)
    white, edge, glass = sampling.albedos(nv[0], roughness[0])
    paint = albedo
    if layered:
        paint = albedo * sampling.layer_share(glass, f0)
    return Surface(
        environment.coordinates(normal[None, :, None]),
        tables.find(levels, bent, view, nv[0], rough),
        lamps.seen(bent, view, nv[0], rough, lamp_share(rough)),
        paint,
        f0,
        white,
        edge,
    )


def light(surface: Surface, diffuse: Tensor, rows: Tensor, lamp: Tensor) -> Tensor:
    """:meth:`Surface.under` with the closed map of irradiance and what lamps give."""
    mean = tables.read(rows, surface.cells)
    glossy_edge = surface.edge * mean[3:] + lamp[3:]
    glossy = glossy_edge + surface.f0 * (surface.white * mean[:3] + lamp[:3] - glossy_edge)
    glossy = glossy.clamp_min(0.0)  # beside a strong lamp the tables' series rings a little below
    base = environment.sample_closed(diffuse, *surface.at)[0, :, 0] * surface.paint
    return torch.cat((base, glossy))


@dataclass(frozen=True)
class Picture:
    """One picture's maps in chunks of pixels: maps ``(channels, P)`` as they are, or what was found of them."""

    levels: tuple[int, int]
    layered: bool
    size: tuple[int, int]
    device: torch.device
    chunks: tuple[tuple[Tensor, ...] | Surface, ...]

    def kept(self) -> Picture:
        """The same for a light that changes: found now, in at most 176 bytes a pixel."""
        return replace(self, chunks=tuple(parallel.each(self._found, self.chunks, self.device)))

    def under(self, diffuse: Tensor, specular: Specular) -> Tensor:
        """Diffuse, then specular radiance ``(6, H, W)`` of one light."""
        rows = specular.rows(*self.levels)
        parts = parallel.each(
            lambda chunk: self._found(chunk).under(diffuse, specular, rows), self.chunks, self.device
        )
        return torch.cat(parts, dim=1).reshape(6, *self.size)

    def _found(self, chunk: tuple[Tensor, ...] | Surface) -> Surface:
        return chunk if isinstance(chunk, Surface) else Surface.of(self.levels, self.layered, chunk)


def pictures(
    normal: Tensor, albedo: Tensor, roughness: Tensor, f0: Tensor, view: Tensor, layered: bool
) -> list[Picture]:
    """N pictures; for the arguments see :func:`integrate.shade`."""
    count, _, height, width = normal.shape
    view = view if view.ndim == 4 else view[None]
    bent, nv = facing(normal, view)
    found = []
    for i in range(count):
        maps = [m[i % m.shape[0]].flatten(1) for m in (normal, bent, view, nv, roughness, albedo, f0)]
        # Chunks of one size, an even number of them, so that two threads end together.
        count = height * width
        most = _CHUNK if normal.device.type == "cpu" else _ON_DEVICE
        several = 2 * -(-count // (2 * most)) if count > most // 4 else 1
        chunks = tuple(zip(*(m.split(-(-count // several), dim=1) for m in maps), strict=True))
        levels = tables.levels(roughness[i % roughness.shape[0]])
        found.append(Picture(levels, layered, (height, width), normal.device, chunks))
    return found
