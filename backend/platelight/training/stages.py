"""What each stage trains, on what, and by which loss. Earlier networks are frozen and run as they will in use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from platelight.models import registry
from platelight.models.form import brighter, lit_as
from platelight.models.networks import (
    FLOOR,
    GRID,
    NORMAL_CONTRAST,
    DiffuseNet,
    Illumination,
    IllumNet,
    NormalNet,
    SpecularNet,
    diffuse_shading,
    finish_of,
    luminance,
    stretched,
)
from platelight.models.precision import half_precision
from platelight.models.unet import UNet
from platelight.shading.environment import sample, solid_angles
from platelight.training.lights import ROWS, PhongConvolver
from platelight.training.losses import (
    angular,
    gradients,
    masked_mean,
    scale_free,
)
from platelight.training.pictures import Batch
from platelight.training.start import Start, begin

Metrics = dict[
    str, Tensor
]  # of no dimension, detached: reading one stalls a GPU, so the log reads them seldom


@dataclass(frozen=True)
class Maps:
    """What the trained part of the pipeline says of a batch."""

    features: list[Tensor]
    normal: Tensor
    light: Illumination | None = None
    shading: Tensor | None = None
    brighter: Tensor | None = None
    albedo: Tensor | None = None
    roughness: Tensor | None = None
    f0: Tensor | None = None


class Frozen:
    """The networks trained before this stage, evaluated without gradients, in the order of the method."""

    def __init__(self, folder: Path, names: tuple[str, ...], contrast: float = 1.0) -> None:
        self.contrast = contrast
        self.networks = {name: registry.load(name, torch.get_default_device(), folder) for name in names}

    @torch.no_grad()
    def run(self, batch: Batch) -> Maps:
        """As far along the pipeline as there are networks."""
        plate, matte = batch.plate, batch.matte
        with half_precision(batch.plate.device):
            normal_net = self.networks["normal"]
            assert isinstance(normal_net, NormalNet)
            features, normal = normal_net.features_and_normal(plate, matte)
            features = [f.float() for f in features]
        if "illum" not in self.networks:
            return Maps(features, normal)
        illum = self.networks["illum"]
        assert isinstance(illum, IllumNet)
        light = illum.predict(features, plate, matte, normal)
        if self.contrast > 1:  # IllumNet sees NormalNet's own answer, in use too
            span = torch.rand(len(plate), 1, 1, 1, device=plate.device)
            normal = stretched(normal, 1 + (self.contrast - 1) * span)
        shading = lit_as(luminance(plate), matte, normal, diffuse_shading(light, normal))
        slope = brighter(shading, matte, normal)
        if "diffuse" not in self.networks:
            return Maps(features, normal, light, shading, slope)
        with half_precision(batch.plate.device):
            diffuse = self.networks["diffuse"]
            assert isinstance(diffuse, DiffuseNet)
            again, _, albedo = diffuse.predict(plate, matte, normal, shading, slope)
            normal = F.normalize(normal + again, dim=1)
        if "specular" not in self.networks:
            return Maps(features, normal, light, shading, slope, albedo)
        with half_precision(batch.plate.device):
            specular = self.networks["specular"]
            assert isinstance(specular, SpecularNet)
            roughness, f0 = specular.predict(plate, matte, normal, albedo)
        return Maps(features, normal, light, shading, slope, albedo, roughness, f0)


class Stage:
    """A network in training: ``loss`` of a batch and metrics a person can read.

    Made on torch's default device. ``modules_beside`` are kept by checkpoints with the network.
    ``pack`` is a folder made by ``train pack``, for machines that lack the packages which hold pretrained weights.
    """

    name: str
    needs: tuple[str, ...] = ()
    targets = 0
    contrast = 1.0

    def __init__(self, weights: Path, pack: Path | None = None) -> None:
        self.frozen = Frozen(weights, self.needs, self.contrast) if self.needs else None
        self.pack = pack
        self.network: nn.Module = registry.NETWORKS[self.name]()
        self.modules_beside: dict[str, nn.Module] = {}

    def start(self, weights: Path, start: Start = Start.USUAL) -> str:
        """Initialize the network; says from what."""
        assert isinstance(self.network, UNet)
        return begin(self.network, start, weights, self.pack, lambda: registry.load("normal", folder=weights))

    def maps(self, batch: Batch) -> Maps:
        assert self.frozen is not None
        return self.frozen.run(batch)

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        raise NotImplementedError

    def after_step(self) -> None:
        """Called after each optimizer step (the adversary learns here)."""


def albedo_error(correction: Tensor, batch: Batch) -> Tensor:
    """Logarithm of the albedo that a correction of the plate gives over the true one, (N, 3, H, W)."""
    given = correction.clamp(-4, 4) + torch.log(batch.plate.clamp_min(0) + FLOOR)
    return given - torch.log(batch.surface.albedo + 0.02)


def finish_errors(roughness: Tensor, f0: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Mean absolute errors of roughness and of the square root of f0."""
    rough = masked_mean((roughness - batch.surface.roughness).abs(), batch.matte)
    reflect = masked_mean((f0.sqrt() - batch.surface.f0.clamp_min(1e-4).sqrt()).abs(), batch.matte)
    return rough, reflect


class NormalStage(Stage):
    """Normals, and beside them hints of albedo and finish.

    A network that must also tell paint from shading reads form from shading where it would else trust outlines only,
    and the networks that start from this one answer at first what its hints say.
    """

    name = "normal"
    ALBEDO, FINISH = 0.4, 0.15

    def start(self, weights: Path, start: Start = Start.USUAL) -> str:
        assert isinstance(self.network, UNet)
        return begin(self.network, Start.IMAGENET if start is Start.USUAL else start, weights, self.pack)

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        net = self.network
        assert isinstance(net, NormalNet)
        with half_precision(batch.plate.device):
            _, predicted, hints = net.everything(batch.plate, batch.matte)
        loss, degrees = angular(predicted, batch.surface.normal, batch.matte)
        loss = loss + gradients(predicted - batch.surface.normal, batch.matte)
        error = albedo_error(hints[:, :3], batch)
        shape = masked_mean(scale_free(error, batch.matte).abs(), batch.matte)
        rough, reflect = finish_errors(*finish_of(hints[:, 3:]), batch)
        loss = loss + self.ALBEDO * (shape + gradients(error, batch.matte)) + self.FINISH * (rough + reflect)
        return loss, {
            "degrees": degrees.detach(),
            "albedo": shape.detach(),
            "roughness": rough.detach(),
            "sqrt_f0": reflect.detach(),
        }


class IllumStage(Stage):
    name = "illum"
    needs = ("normal",)

    def __init__(self, weights: Path, pack: Path | None = None) -> None:
        super().__init__(weights, pack)
        self.convolve = PhongConvolver(ROWS, GRID)
        self.area = {rows: solid_angles(rows) / solid_angles(rows).mean() for rows in (GRID, ROWS)}

    def start(self, weights: Path, start: Start = Start.USUAL) -> str:
        net = self.network
        assert isinstance(net, IllumNet)
        nn.init.constant_(net.lobes.bias, -1.0)
        nn.init.constant_(net.decoder[2].bias, -1.5)  # type: ignore[arg-type]
        return "random"

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        maps = self.maps(batch)
        net = self.network
        assert isinstance(net, IllumNet)
        light = net.predict(maps.features, batch.plate, batch.matte, maps.normal)
        truth = self.convolve(batch.latlong)
        error = (torch.log(light.lobes + 0.02) - torch.log(truth + 0.02)).abs()
        diffuse, glossy = (error[:, :1] * self.area[GRID]).mean(), (error[:, 1:] * self.area[GRID]).mean()
        decoded = ((torch.log1p(light.latlong) - torch.log1p(batch.latlong)).abs() * self.area[ROWS]).mean()
        shading, true_shading = (
            diffuse_shading(light, batch.surface.normal),
            sample(truth[:, 0], batch.surface.normal),
        )
        seen = masked_mean((torch.log(shading + 0.02) - torch.log(true_shading + 0.02)).abs(), batch.matte)
        return diffuse + 0.5 * glossy + decoded + seen, {
            "lobe": diffuse.detach(),
            "seen": seen.detach(),
            "map": decoded.detach(),
        }


class DiffuseStage(Stage):
    name = "diffuse"
    needs = ("normal", "illum")
    FORM, RELIEF = 1.0, 2.0  # weights of the normals that are read again, and of their differences
    contrast = NORMAL_CONTRAST  # normals are stretched by as much at most, as photographs need more of it than these pictures

    def paint_error(self, answer: Tensor, batch: Batch) -> Tensor:
        """Logarithm of the albedo that an answer gives over the true one, (N, 3, H, W)."""
        return albedo_error(answer, batch)

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        maps = self.maps(batch)
        assert maps.shading is not None
        assert maps.brighter is not None
        net = self.network
        assert isinstance(net, DiffuseNet)
        with half_precision(batch.plate.device):
            normal, correction = net.everything(
                batch.plate, batch.matte, maps.normal, maps.shading, maps.brighter
            )
        form, degrees = angular(normal, batch.surface.normal, batch.matte)
        before = angular(maps.normal, batch.surface.normal, batch.matte)[1]
        form = form + self.RELIEF * gradients(normal - batch.surface.normal, batch.matte)
        error = self.paint_error(correction, batch)
        free = scale_free(error, batch.matte)
        shape = masked_mean(free.abs(), batch.matte)
        level = masked_mean(error.abs(), batch.matte)
        # In light as well as in logarithms: what is bright in the albedo is what is seen when it is lit again.
        seen = masked_mean(batch.surface.albedo * torch.expm1(free.clamp(-4, 1.5)).abs(), batch.matte)
        paint = shape + 0.3 * level + 1.5 * gradients(error, batch.matte) + seen
        return paint + self.FORM * form, {
            "degrees": degrees.detach(),
            "before": before.detach(),
            "shape": shape.detach(),
            "level": level.detach(),
            "seen": seen.detach(),
        }


class SpecularStage(Stage):
    name = "specular"
    needs = ("normal", "illum", "diffuse")

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        maps = self.maps(batch)
        assert maps.albedo is not None
        net = self.network
        assert isinstance(net, SpecularNet)
        with half_precision(batch.plate.device):
            roughness, f0 = net.predict(batch.plate, batch.matte, maps.normal, maps.albedo)
        rough, reflect = finish_errors(roughness, f0, batch)
        return rough + reflect, {"roughness": rough.detach(), "sqrt_f0": reflect.detach()}


def cosine_rate(fraction: float, warm: float = 0.02) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine down to 2 %."""
    if fraction < warm:
        return max(fraction / warm, 0.05)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (fraction - warm) / (1 - warm)))
