"""The trained networks, loaded once, run at the resolution each of them needs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from platelight.models import engine, registry
from platelight.models.form import brighter
from platelight.models.networks import (
    NORMAL_CONTRAST,
    DiffuseNet,
    Illumination,
    IllumNet,
    NormalNet,
    RenderNet,
    SpecularNet,
    stretched,
)
from platelight.models.precision import half_precision
from platelight.models.unet import UNet
from platelight.pipeline.resample import fitted, from_solid, fuse, group_side, in_tiles, padded, resize
from platelight.pipeline.room import Large

log = logging.getLogger(__name__)

GLOBAL_SIDE = 160  # near the size that the networks were trained at: form and paint are read here
LIGHT_SIDE = 128
REFINED_SIDE = 256  # RenderNet mends what is near, so it may see more; docs/training.md has the figures
MIRRORS: tuple[tuple[int, ...], ...] = (
    (),
    (-1,),
    (-2,),
    (-2, -1),
)  # axes along which a picture is flipped for a vote
# Detail comes from larger pictures. Where the working size is far from the global one, a pass between them tells what
# is neither form nor texture: eyes, nose, lips, folds. Of each pass only what is finer than its cut is believed.
MIDDLE_SIDE, FORM_CUT, MIDDLE_CUT = 384, 128, 192
TILE, OVERLAP = 1024, 128  # larger pictures are run in tiles
AGAIN_CONTRAST = 1.4  # as NORMAL_CONTRAST, of normals that are read again


@dataclass(frozen=True)
class Networks:
    """All five networks on one device."""

    normal: NormalNet
    illum: IllumNet
    diffuse: DiffuseNet
    specular: SpecularNet
    render: RenderNet
    device: torch.device
    versions: dict[str, str]

    @staticmethod
    def load(
        device: torch.device,
        folder: Path | None = None,
        wanted: engine.Engine = engine.Engine.TORCH,
    ) -> Networks:
        """Load and verify the shipped weights, or those of a folder, for an engine; see :func:`engine.choose`."""
        used, why = engine.choose(wanted, device)
        loaded = {name: registry.load(name, device, folder) for name in registry.NETWORKS}
        versions = {name: registry.describe(name, folder).sha256[:12] for name in registry.NETWORKS}
        for name, network in loaded.items():
            if isinstance(network, UNet):  # IllumNet is small
                engine.equip(network, used, f"{name}-{versions[name]}")
        log.info("networks on %s by %s (%s): %s", device, used, why, versions)
        return Networks(**loaded, device=device, versions=versions)  # type: ignore[arg-type]

    def half_precision(self) -> AbstractContextManager[None]:
        """See ``precision.half_precision``."""
        return half_precision(self.device)


def with_detail(coarse: Tensor, run: Callable[..., Tensor], working: int, *inputs: Tensor | Large) -> Tensor:
    """Add detail passes to a field that was read at ``GLOBAL_SIDE``.

    Off the subject a field says nothing, or nothing true; bands of it are blurred, so each pass is first gone on with beyond the rim.

    Args:
        coarse: (1, K, h, w), the field where the whole is seen.
        run: the network, from tensors like ``inputs`` to (1, K, ...).
        working: long side of the finest pass.
        inputs: (1, C, H, W), all of one size; the second is the matte.

    Returns:
        (1, K, h', w') at the working size.
    """
    size = (inputs[0].shape[-2], inputs[0].shape[-1])
    finest = fitted(size, working)
    if finest == tuple(coarse.shape[-2:]):
        return coarse
    passes = [(finest, FORM_CUT)]
    middle = group_side(size, MIDDLE_SIDE)
    if max(finest) > 1.5 * middle:
        passes = [(fitted(size, middle), FORM_CUT), (finest, MIDDLE_CUT)]
    field = from_solid(coarse, resize(inputs[1], (coarse.shape[-2], coarse.shape[-1])))
    for target, cut in passes:
        seen = [resize(x, target) for x in inputs]
        fine = from_solid(in_tiles(run, TILE, OVERLAP, *seen), seen[1])
        field = fuse(field, fine, cut)
    return field


def in_passes(
    run: Callable[..., Tensor],
    working: int,
    *inputs: Tensor | Large,
    whole: Callable[..., Tensor] | None = None,
    side: int = GLOBAL_SIDE,
) -> Tensor:
    """Run a network on its inputs where the whole is seen and again for detail: (1, K, h, w) at the working size.

    The first input decides the size, the second is the matte; all are (1, C, H, W) of one size. ``whole`` is what runs
    where the whole is seen, if it is another than ``run``; it gets pictures of sides that are multiples of 32. There their
    long side is ``side``.
    """
    size = (inputs[0].shape[-2], inputs[0].shape[-1])
    target = fitted(size, min(group_side(size, side), working))
    seen = [padded(resize(x, target)) for x in inputs]
    # In float32 whatever the detail is in: here the level of the field is read, and bfloat16 moves it by up to 1.3 %.
    with torch.autocast(seen[0].device.type, enabled=False):
        coarse = (whole or run)(*seen)[..., : target[0], : target[1]]
    field = with_detail(coarse, run, working, *inputs)
    return from_solid(field, resize(inputs[1], (field.shape[-2], field.shape[-1])))


def turned(directions: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Directions (1, 3, H, W) in the mirror image of a picture flipped along ``axes``."""
    signs = [-1.0 if axis in axes else 1.0 for axis in (-1, -2)] + [1.0]
    return directions.flip(axes) * directions.new_tensor(signs).view(1, 3, 1, 1)


def predict_normal(networks: Networks, plate: Tensor | Large, matte: Tensor | Large, working: int) -> Tensor:
    """Unit normals (1, 3, h, w) at the working size from a normalized plate (1, 3, H, W).

    The global form is the mean over the picture and its mirror images, upside down too: that light comes from
    above is a habit of the network that half of the votes turn round. Small pictures cost little; detail comes from
    larger passes. ``NORMAL_CONTRAST`` then undoes part of the network's shrinkage.
    """
    size = (plate.shape[-2], plate.shape[-1])
    largest = fitted(size, min(group_side(size, GLOBAL_SIDE), working))

    def at(axes: tuple[int, ...]) -> Tensor:
        x, m = resize(plate, largest).flip(axes), resize(matte, largest).flip(axes)
        return turned(networks.normal.predict(padded(x), padded(m))[..., : largest[0], : largest[1]], axes)

    with networks.half_precision():
        form = F.normalize(torch.stack([at(axes) for axes in MIRRORS]).mean(0), dim=1)
        detailed = with_detail(form, networks.normal.predict, working, plate, matte)
    return stretched(detailed, NORMAL_CONTRAST)


def read_again(
    networks: Networks, working: int, plate: Tensor, matte: Tensor, normal: Tensor, shading: Tensor
) -> tuple[Tensor, Tensor]:
    """Normals (1, 3, h, w), and the logarithm of albedo over plate (1, 3, h, w), by what the light explains.

    The normals are the mean of those given and of those that are read again: each reading is wrong in its own way.

    Args:
        plate, matte, normal, shading: (1, C, h, w), all of the working size.
    """
    slope = brighter(shading, matte, normal)

    def run(p: Tensor, m: Tensor, n: Tensor, s: Tensor, b: Tensor) -> Tensor:
        return torch.cat(networks.diffuse.everything(p, m, F.normalize(n, dim=1), s, b), 1)

    def vote(p: Tensor, m: Tensor, n: Tensor, s: Tensor, b: Tensor) -> Tensor:
        answers = []
        for axes in MIRRORS:
            given = (p.flip(axes), m.flip(axes), turned(n, axes), s.flip(axes), turned(b, axes))
            answer = run(*given)
            answers.append(torch.cat([turned(answer[:, :3], axes), answer[:, 3:].flip(axes)], 1))
        return torch.stack(answers).mean(0)

    given = (plate, matte, normal, shading, slope)
    with networks.half_precision():
        field = in_passes(run, working, *given, whole=vote)
    again = stretched(F.normalize(field[:, :3], dim=1), AGAIN_CONTRAST)
    return F.normalize(normal + again, dim=1), field[:, 3:]


def predict_light(networks: Networks, plate: Tensor | Large, matte: Tensor | Large) -> Illumination:
    """The source light in the units of the normalized plate: the mean of what the picture and its mirror images tell."""
    whole = (plate.shape[-2], plate.shape[-1])
    size = fitted(whole, group_side(whole, LIGHT_SIDE))
    small_plate, small_matte = resize(plate, size), resize(matte, size)
    lobes, latlongs = [], []
    for axes in MIRRORS:
        x, m = padded(small_plate.flip(axes)), padded(small_matte.flip(axes))
        with networks.half_precision():
            features, normal = networks.normal.features_and_normal(x, m)
        light = networks.illum.predict([f.float() for f in features], x, m, normal)
        lobes.append(light.lobes.flip(axes))  # a lat-long is mirrored as the picture is
        latlongs.append(light.latlong.flip(axes))
    return Illumination(torch.stack(lobes).mean(0), torch.stack(latlongs).mean(0))
