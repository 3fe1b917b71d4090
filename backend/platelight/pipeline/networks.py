"""The trained networks, loaded once, run at the resolution each of them needs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from platelight.models import registry
from platelight.models.networks import DiffuseNet, Illumination, IllumNet, NormalNet, RenderNet, SpecularNet
from platelight.models.precision import half_precision
from platelight.pipeline.resample import fitted, fuse, in_tiles, padded, resize
from platelight.pipeline.room import Large

log = logging.getLogger(__name__)

GLOBAL_SIDE = 160  # near the size that the networks were trained at: form and paint are read here
LIGHT_SIDE = 128
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
# In doubt a network answers with the mean of what it thinks possible, and the mean of tilted normals faces the camera.
# On photographs it doubts more than on its own pictures; docs/training.md has the figures by which this was chosen.
NORMAL_CONTRAST = 1.5


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
    def load(device: torch.device) -> Networks:
        """Load and verify the shipped weights."""
        loaded = {name: registry.load(name, device) for name in registry.NETWORKS}
        versions = {name: registry.describe(name).sha256[:12] for name in registry.NETWORKS}
        log.info("networks on %s: %s", device, versions)
        return Networks(**loaded, device=device, versions=versions)  # type: ignore[arg-type]

    def half_precision(self) -> AbstractContextManager[None]:
        """See ``precision.half_precision``."""
        return half_precision(self.device)


def with_detail(coarse: Tensor, run: Callable[..., Tensor], working: int, *inputs: Tensor | Large) -> Tensor:
    """Add detail passes to a field that was read at ``GLOBAL_SIDE``.

    Args:
        coarse: (1, K, h, w), the field where the whole is seen.
        run: the network, from tensors like ``inputs`` to (1, K, ...).
        working: long side of the finest pass.
        inputs: (1, C, H, W), all of one size.

    Returns:
        (1, K, h', w') at the working size.
    """
    size = (inputs[0].shape[-2], inputs[0].shape[-1])
    finest = fitted(size, working)
    if finest == tuple(coarse.shape[-2:]):
        return coarse
    passes = [(finest, FORM_CUT)]
    if max(finest) > 1.5 * MIDDLE_SIDE:
        passes = [(fitted(size, MIDDLE_SIDE), FORM_CUT), (finest, MIDDLE_CUT)]
    field = coarse
    for target, cut in passes:
        field = fuse(field, in_tiles(run, TILE, OVERLAP, *(resize(x, target) for x in inputs)), cut)
    return field


def in_passes(run: Callable[..., Tensor], working: int, *inputs: Tensor | Large) -> Tensor:
    """Run a network on its inputs where the whole is seen and again for detail: (1, K, h, w) at the working size.

    The first input decides the size; all are (1, C, H, W) of one size.
    """
    size = (inputs[0].shape[-2], inputs[0].shape[-1])
    target = fitted(size, min(GLOBAL_SIDE, working))
    whole = [padded(resize(x, target)) for x in inputs]
    # In float32 whatever the detail is in: here the level of the field is read, and bfloat16 moves it by up to 1.3 %.
    with torch.autocast(whole[0].device.type, enabled=False):
        coarse = run(*whole)[..., : target[0], : target[1]]
    return with_detail(coarse, run, working, *inputs)


def predict_normal(networks: Networks, plate: Tensor | Large, matte: Tensor | Large, working: int) -> Tensor:
    """Unit normals (1, 3, h, w) at the working size from a normalized plate (1, 3, H, W).

    The global form is the mean over the picture and its mirror images, upside down too: that light comes from
    above is a habit of the network that half of the votes turn round. Small pictures cost little; detail comes from
    larger passes. ``NORMAL_CONTRAST`` then undoes part of the network's shrinkage.
    """
    size = (plate.shape[-2], plate.shape[-1])
    largest = fitted(size, min(GLOBAL_SIDE, working))

    def at(axes: tuple[int, ...]) -> Tensor:
        x, m = resize(plate, largest).flip(axes), resize(matte, largest).flip(axes)
        answer = networks.normal.predict(padded(x), padded(m))[..., : largest[0], : largest[1]].flip(axes)
        signs = [-1.0 if axis in axes else 1.0 for axis in (-1, -2)] + [1.0]
        return answer * answer.new_tensor(signs).view(1, 3, 1, 1)

    with networks.half_precision():
        form = F.normalize(torch.stack([at(axes) for axes in MIRRORS]).mean(0), dim=1)
        detailed = with_detail(form, networks.normal.predict, working, plate, matte)
    stretched = torch.cat([detailed[:, :2] * NORMAL_CONTRAST, detailed[:, 2:]], 1)
    return F.normalize(stretched, dim=1)


def predict_light(networks: Networks, plate: Tensor | Large, matte: Tensor | Large) -> Illumination:
    """The source light in the units of the normalized plate: the mean of what the picture and its mirror images tell."""
    size = fitted((plate.shape[-2], plate.shape[-1]), LIGHT_SIDE)
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
