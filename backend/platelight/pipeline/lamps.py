"""Lamps at their true distance on a plate's maps: what a request's lamps add to the physical render."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from platelight.pipeline.shadows import Raster, raster
from platelight.protocol.errors import InputError
from platelight.protocol.lamps import Lamp
from platelight.shading import beams, sampling, shadow
from platelight.shading.beams import Beam
from platelight.shading.integrate import view_directions

_CHUNK = 1 << 16


def beam_of(lamp: Lamp, device: torch.device | str = "cpu") -> Beam:
    """A request's lamp for the shading.

    Raises:
        InputError: it shines nowhere.
    """

    def vector(values: tuple[float, float, float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)

    direction, up = vector(lamp.direction), vector(lamp.up)
    if float(direction.norm()) < 1e-9:
        raise InputError(f"A {lamp.kind} lamp has a direction of length 0.", "Give where it shines.")
    direction = direction / direction.norm()
    up = up - (up @ direction) * direction
    if float(up.norm()) < 1e-6:  # any height will do for a lamp that looks along its own
        up = vector((1.0, 0.0, 0.0)) if abs(float(direction[0])) < 0.9 else vector((0.0, 1.0, 0.0))
        up = up - (up @ direction) * direction
    half = math.radians(0.5 * (lamp.angle if lamp.kind == "sun" else lamp.cone))
    return Beam(
        lamp.kind, lamp.power * vector(lamp.color), vector(lamp.at), direction, up / up.norm(), lamp.radius, half,
        lamp.blend, lamp.size,
    )  # fmt: skip


@torch.inference_mode()
def lamp_passes(
    maps: dict[str, Tensor], lamps: Sequence[Lamp], distance: float, fov: float, shadows: bool
) -> tuple[Tensor, Tensor]:
    """Diffuse and specular radiance (1, 3, H, W) of lamps, layered as Principled BSDF; 0 where the matte is.

    Args:
        maps: normal, albedo, roughness, reflectivity, matte, depth (1, C, H, W).
        distance: what a depth of 1 is, in m.
        fov: horizontal field of view of the whole frame in degrees.
        shadows: whether the subject shades itself.
    """
    matte, depth = maps["matte"], maps["depth"] * distance
    height, width = matte.shape[-2:]
    view = view_directions(height, width, fov).to(matte.device)[None]
    seen = ((matte > 0.0) & (depth > 0.0))[0, 0].flatten()

    def at(image: Tensor) -> Tensor:
        return image[0].flatten(1).T[seen]

    eye, facet, rough = at(view), at(maps["normal"]), at(maps["roughness"]).clamp(0.0, 1.0)
    point = at((-view / view[:, 2:]) * depth)
    ground = raster({**maps, "depth": depth}, fov) if shadows else None
    diffuse, white, edge = (torch.zeros_like(point) for _ in range(3))
    for lamp in lamps:
        beam = beam_of(lamp, str(matte.device))
        share = torch.ones_like(matte) if ground is None else _share(ground, beam, matte)
        left = at(share)
        for start in range(0, len(point), _CHUNK):
            part = slice(start, start + _CHUNK)
            parts = beams.lit(beam, point[part], facet[part], eye[part], rough[part])
            for total, one in zip((diffuse, white, edge), parts, strict=True):
                total[part] += one * left[part]
    nv = (facet * eye).sum(1, keepdim=True).clamp(0.01, 1.0)
    f0 = at(maps["reflectivity"])
    dimmed = sampling.layer_share(sampling.albedos(nv, rough)[2], f0)
    passes = torch.cat((diffuse * at(maps["albedo"]) * dimmed, edge + f0 * (white - edge)), 1)
    out = passes.new_zeros(height * width, 6)
    out[seen] = passes
    image = out.T.reshape(1, 6, height, width)
    return image[:, :3], image[:, 3:]


def _share(ground: Raster, beam: Beam, matte: Tensor) -> Tensor:
    """What the subject leaves of a lamp, (1, 1, H, W); an area is marched to by its middle."""
    surface = ground.fine
    apart = -beam.direction[None] if beam.kind == "sun" else beam.at - surface.point
    away = apart.square().sum(1, keepdim=True).clamp_min(1e-12).sqrt()
    reach = math.sqrt(beam.size[0] * beam.size[1] / math.pi) if beam.kind == "area" else beam.radius
    radius = away.new_full((1, 1), beam.half_angle) if beam.kind == "sun" else torch.atan(reach / away)
    far = None if beam.kind == "sun" else away
    share = ground.grown(shadow.cast(surface, apart / away, radius, far))
    return ground.window.paste(share, torch.ones_like(matte))
