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
from platelight.pipeline.resample import fitted, fuse, padded, resize

log = logging.getLogger(__name__)

GLOBAL_SIDE = 192  # near the size that the networks were trained at: form and light are read here
FORM_SIDES = (128, 192)
LIGHT_SIDE = 160
# In doubt a network answers with the mean of what it thinks possible, and the mean of tilted normals faces the camera.
# On photographs it doubts more than on its own pictures; docs/training.md has the figures by which this was chosen.
NORMAL_CONTRAST = 1.4


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


def two_scales(run: Callable[..., Tensor], working: int, *inputs: Tensor) -> Tensor:
    """Run a network on its inputs at ``GLOBAL_SIDE`` and at ``working``, and fuse the answers.

    The first input decides the size; all are (1, C, H, W) of one size. Returns (1, K, h, w) at the working size.
    """
    size = (inputs[0].shape[-2], inputs[0].shape[-1])

    def at(side: int) -> Tensor:
        target = fitted(size, side)
        answer = run(*(padded(resize(x, target)) for x in inputs))
        return answer[..., : target[0], : target[1]]

    coarse = at(min(GLOBAL_SIDE, working))
    if fitted(size, working) == tuple(coarse.shape[-2:]):
        return coarse
    return fuse(coarse, at(working))


def predict_normal(networks: Networks, plate: Tensor, matte: Tensor, working: int) -> Tensor:
    """Unit normals (1, 3, h, w) at the working size from a normalized plate (1, 3, H, W).

    The global form is the mean over two sizes and their mirror images, which costs little at these sizes; detail
    comes from one pass at the working size. ``NORMAL_CONTRAST`` then undoes part of the network's shrinkage.
    """
    size = (plate.shape[-2], plate.shape[-1])
    largest = fitted(size, min(GLOBAL_SIDE, working))

    def at(side: int, mirrored: bool) -> Tensor:
        target = fitted(size, side)
        x, m = resize(plate, target), resize(matte, target)
        if not mirrored:
            return networks.normal.predict(padded(x), padded(m))[..., : target[0], : target[1]]
        answer = networks.normal.predict(padded(x.flip(-1)), padded(m.flip(-1)))[
            ..., : target[0], : target[1]
        ].flip(-1)
        return torch.cat([-answer[:, :1], answer[:, 1:]], 1)

    with networks.half_precision():
        votes = [
            resize(at(min(side, working), flip), largest) for side in FORM_SIDES for flip in (False, True)
        ]
        form = F.normalize(torch.stack(votes).mean(0), dim=1)
        detailed = form if fitted(size, working) == largest else fuse(form, at(working, False))
    stretched = torch.cat([detailed[:, :2] * NORMAL_CONTRAST, detailed[:, 2:]], 1)
    return F.normalize(stretched, dim=1)


def predict_light(networks: Networks, plate: Tensor, matte: Tensor) -> Illumination:
    """The source light in the units of the normalized plate."""
    size = fitted((plate.shape[-2], plate.shape[-1]), LIGHT_SIDE)
    plate, matte = padded(resize(plate, size)), padded(resize(matte, size))
    with networks.half_precision():
        features, normal = networks.normal.features_and_normal(plate, matte)
    return networks.illum.predict([f.float() for f in features], plate, matte, normal)
