"""The last stage of the method: RenderNet, against the true picture under the target light."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from platelight.models.cavity import cavity
from platelight.models.networks import FLOOR, GRID, RenderNet, encode, exposure_of
from platelight.models.precision import half_precision
from platelight.models.tone import tally, tone
from platelight.models.unet import UNet
from platelight.shading.doubt import soft_cosine
from platelight.shading.environment import directions, sample, solid_angles
from platelight.training.lights import LEVELS, ROWS, prefilter_matrix
from platelight.training.losses import (
    PatchDiscriminator,
    Perceptual,
    as_bright,
    in_light,
    masked_mean,
    similarity,
    white_of,
)
from platelight.training.pictures import Batch, Passes, Photographer
from platelight.training.stages import Metrics, Stage
from platelight.training.start import Start


class RenderStage(Stage):
    """Loss = reconstruction + perceptual + adversarial + specular-weighted reconstruction.

    Reconstruction is the error as it is seen, and, as it is measured, in light (``LINEAR``) and in structure (``ALIKE``).
    """

    name = "render"
    needs = ("normal", "illum", "diffuse", "specular")
    targets = 1
    WEIGHTS = (1.0, 0.2, 0.02, 0.5)
    LINEAR, ALIKE = 2.0, 0.5
    # One picture in as many is seen by VGG and the critic: all of them would cost more than the network itself.
    LOOKED_AT = 4

    def __init__(self, weights: Path, pack: Path | None = None) -> None:
        super().__init__(weights, pack)
        self.perceptual = Perceptual(pack)
        self.critic = PatchDiscriminator()
        self.modules_beside = {"critic": self.critic}
        self.critic_optimizer = torch.optim.AdamW(self.critic.parameters(), 2e-4, betas=(0.5, 0.99))
        self.doubted = soft_cosine(directions(GRID).reshape(-1, 3) @ directions(ROWS).reshape(-1, 3).T)
        self.doubted = self.doubted * solid_angles(ROWS).reshape(1, -1)
        self.doubted = self.doubted / self.doubted.sum(1, keepdim=True)
        self.levels = torch.stack([prefilter_matrix(ROWS, r) for r in LEVELS])
        self.last: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    def start(self, weights: Path, start: Start = Start.USUAL) -> str:
        origin = super().start(weights, start)
        assert isinstance(self.network, UNet)
        for parameter in self.network.head.parameters():  # the first answer is the physical render itself
            nn.init.zeros_(parameter)
        return origin

    def passes(self, batch: Batch) -> Passes:
        """The networks' maps and the PBR render under the target light, cavities and doubt but no shadows, at the exposure of a plate."""
        maps = self.maps(batch)
        assert maps.albedo is not None
        assert maps.roughness is not None
        assert maps.f0 is not None
        assert batch.target_latlong is not None
        light = batch.target_latlong
        reflectance = torch.log(maps.albedo + FLOOR) - torch.log(batch.plate.clamp_min(0) + FLOOR)
        deep = torch.exp(cavity(reflectance, batch.plate, batch.matte, maps.normal))
        doubted = torch.einsum("nct,dt->ncd", light.flatten(2), self.doubted).unflatten(-1, (GRID, 2 * GRID))
        diffuse = (maps.albedo * deep).clamp(0, 1) * sample(doubted, maps.normal)
        stack = torch.einsum("nct,ldt->ncld", light.flatten(2), self.levels).unflatten(-1, (ROWS, 2 * ROWS))
        nv = (maps.normal * batch.view).sum(1, keepdim=True).clamp(0.02, 1)
        mirror = F.normalize(2 * nv * maps.normal - batch.view, dim=1)
        specular = Photographer.prefiltered(stack, mirror, maps.roughness) * Photographer.split_sum(
            maps.f0, maps.roughness, nv
        )
        gain = exposure_of(diffuse + specular, batch.matte)
        return Passes(maps.normal, maps.albedo, diffuse * gain, specular * gain)

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        with torch.no_grad():
            given = batch.passes or self.passes(batch)
        assert batch.target is not None
        net = self.network
        assert isinstance(net, RenderNet)
        render, specular = given.diffuse + given.specular, given.specular
        with half_precision(batch.plate.device):
            relit = net.predict(batch.plate, batch.matte, given.normal, given.albedo, given.diffuse, specular)
        # In the render's tone, as in use. Both are at the exposure of the target: albedo has no absolute scale in a photograph.
        relit = relit * tone(tally(render, batch.matte), tally(relit, batch.matte))
        seen, truth = encode(relit) * batch.matte, encode(batch.target) * batch.matte
        physical = encode(render) * batch.matte
        reconstruction = masked_mean((seen - truth).abs(), batch.matte)
        before = masked_mean((physical - truth).abs(), batch.matte)
        white = white_of(batch.target, batch.matte)
        bright, dim = (as_bright(image, batch.target, batch.matte) / white for image in (relit, render))
        light, light_before = (in_light(image, batch.target / white, batch.matte) for image in (bright, dim))
        alike = similarity(bright, batch.target / white, batch.matte)
        shine = encode(specular) * 0.5 + 0.5
        highlight = masked_mean((seen - truth).abs() * shine, batch.matte)
        few = slice(0, max(1, len(seen) // self.LOOKED_AT))
        with half_precision(batch.plate.device):
            perceptual = self.perceptual(
                (seen[few] * 0.5 + 0.5).clamp(0, 1.5), (truth[few] * 0.5 + 0.5).clamp(0, 1.5)
            )
        adversarial = F.softplus(-self.critic(seen[few], physical[few], batch.matte[few])).mean()
        self.last = (seen[few].detach(), truth[few], physical[few], batch.matte[few])
        w = self.WEIGHTS
        total = (
            w[0] * reconstruction
            + self.LINEAR * light
            + self.ALIKE * (1 - alike)
            + w[1] * perceptual
            + w[2] * adversarial
            + w[3] * highlight
        )
        return total, {
            "relit": reconstruction.detach(),
            "pbr": before.detach(),
            "light": light.detach(),
            "pbr_light": light_before.detach(),
            "alike": alike.detach(),
            "pbr_alike": similarity(dim, batch.target / white, batch.matte).detach(),
            "highlight": highlight.detach(),
            "perceptual": perceptual.detach(),
            "adversarial": adversarial.detach(),
        }

    def after_step(self) -> None:
        if self.last is None:
            return
        seen, truth, physical, matte = self.last
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss = (
            F.softplus(-self.critic(truth, physical, matte)).mean()
            + F.softplus(self.critic(seen, physical, matte)).mean()
        )
        loss.backward()
        self.critic_optimizer.step()
