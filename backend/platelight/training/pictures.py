"""From views of geometry to training pictures: paint, light, and photograph in torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from platelight.models.networks import MIDDLE, exposure_of
from platelight.shading.brdf import cook_torrance
from platelight.shading.environment import average, sample, solid_angles
from platelight.shading.environment import directions as lattice
from platelight.shading.sampling import albedos, layer_share
from platelight.training.lights import LEVELS, ROWS, LightBank, Lighting, as_latlong, random_lighting
from platelight.training.materials import Surface, paint, unit
from platelight.training.views import BANDS, Bank, Source, Views, harmonics


class Maker(Protocol):
    """What makes pictures: :class:`Generator`, a light-stage set, or both."""

    def batch(self, count: int, targets: int = 0, held_out: bool = False) -> Batch:
        """``count`` pictures; ``targets`` adds the same views under so many other lights."""


@dataclass(frozen=True)
class Passes:
    """What RenderNet sees beside the plate, all (N, 3, H, W): inferred normal and albedo, the physical render under the target light."""

    normal: Tensor
    albedo: Tensor
    diffuse: Tensor
    specular: Tensor


@dataclass(frozen=True)
class Batch:
    """Pictures with ground truth, exposure-normalized as networks see them.

    plate (N, 3, H, W), matte (N, 1, H, W), surface, latlong (N, 3, ROWS, 2 ROWS) the plate's light;
    target (N * K, 3, H, W), target_latlong: the same views under K other lights, view by view (or None). passes: what the whole
    pipeline makes of them, where it was asked.
    """

    plate: Tensor
    matte: Tensor
    surface: Surface
    latlong: Tensor
    view: Tensor
    target: Tensor | None = None
    target_latlong: Tensor | None = None
    passes: Passes | None = None


def sh_matrix(rows: int) -> Tensor:
    """Order-2 projection (9, rows * 2 rows): coefficients = matrix @ radiance."""
    basis = harmonics(lattice(rows).reshape(-1, 3)).T
    return basis * solid_angles(rows).reshape(1, -1)


def falloff(towards: Tensor, near: Tensor, size: int) -> Tensor:
    """How the light of near lamps falls off over a square picture, (N, 1, size, size), 1 in its middle.

    By the inverse square of the distance along the lamp's direction, depth left out: cameras do not tell a lamp that is
    near from a subject that turns away, but light stages and desk lamps are near.

    Args:
        towards: (N, 3) unit. near: (N,) half the picture's side over the lamp's distance, below 0.7.
    """
    steps = (torch.arange(size, device=towards.device) + 0.5) / size * 2 - 1
    along = (
        towards[:, 0, None, None] * steps[None, None, :] - towards[:, 1, None, None] * steps[None, :, None]
    )
    return (1 - near[:, None, None] * along)[:, None].pow(-2)


class Photographer:
    """Lights painted views with environments and lamps, shadows included."""

    def __init__(self) -> None:
        self.project = sh_matrix(ROWS)
        self.bands = torch.tensor(BANDS)
        self.areas = solid_angles(ROWS).reshape(-1, 1)
        self.basis = (self.project / solid_angles(ROWS).reshape(1, -1)).T  # (texels, 9)

    def photograph(self, views: Views, surface: Surface, lighting: Lighting, soften: Tensor) -> Tensor:
        """Linear radiance (N, 3, H, W), zero outside the subject. ``soften`` (N,) in [0, 1] blurs lamp shadows."""
        n = len(views.normal)
        coefficients = torch.einsum("ncs,ks->nck", lighting.env.flatten(2), self.project)
        irradiance = torch.einsum("nck,nkhw->nchw", coefficients, views.transfer).clamp_min(0)
        # Transfer knows the smooth surface; relief changes it by the ratio of unshadowed irradiances.
        ratio = (self._sh_irradiance(coefficients, surface.normal) + 1e-3) / (
            self._sh_irradiance(coefficients, views.normal) + 1e-3
        )
        open_sky = (views.transfer[:, :1] / 0.282095).clamp(0, 1)
        mean = average(lighting.env).view(n, 3, 1, 1)
        cover = surface.mask.sum((2, 3), keepdim=True).clamp_min(1)
        around = (surface.albedo * surface.mask).sum((2, 3), keepdim=True) / cover
        diffuse = irradiance * ratio.clamp(0.3, 2.5) + (1 - open_sky) * around * mean * 0.8
        nv = (surface.normal * views.view).sum(1, keepdim=True).clamp(0.02, 1)
        mirror = unit(2 * nv * surface.normal - views.view, dim=1)
        occlusion = (nv + open_sky).pow(torch.exp2(-16 * surface.roughness.square() - 1)) - 1 + open_sky
        specular = (
            self.prefiltered(lighting.levels, mirror, surface.roughness)
            * self.split_sum(surface.f0, surface.roughness, nv)
            * occlusion.clamp(0, 1)
        )
        wrap = surface.skin * torch.tensor([0.22, 0.08, 0.04]).view(1, 3, 1, 1)
        for k in range(lighting.lamp.shape[1]):
            strength = lighting.lamp[:, k].view(n, 3, 1, 1)
            if strength.device.type == "cpu" and not bool(strength.any()):  # asking a GPU costs more
                continue
            chosen = lighting.index[:, k]
            towards = unit(views.stored[torch.arange(n), chosen], dim=1)
            to_light = towards.view(n, 3, 1, 1)
            if lighting.near is not None:
                strength = strength * falloff(towards, lighting.near[:, k], views.normal.shape[-1])
            clear = views.shadow[torch.arange(n), chosen][:, None]
            blurred = F.avg_pool2d(
                F.avg_pool2d(clear, 5, 1, 2, count_include_pad=False), 5, 1, 2, count_include_pad=False
            )
            clear = torch.lerp(clear, blurred, soften.view(n, 1, 1, 1))
            nl = (surface.normal * to_light).sum(1, keepdim=True)
            lit = ((nl + wrap) / (1 + wrap)).clamp_min(0)
            diffuse = diffuse + lit * clear * strength / math.pi
            half = unit(to_light + views.view, dim=1)
            alpha = (surface.roughness.square() + 0.004).clamp(max=1.0)
            lobe = cook_torrance(
                nl.clamp_min(0),
                nv,
                (surface.normal * half).sum(1, keepdim=True).clamp(0, 1),
                (to_light * half).sum(1, keepdim=True).clamp(0, 1),
                alpha,
                surface.f0,
            )
            specular = specular + lobe * nl.clamp_min(0) * clear * strength
            diffuse = diffuse + around * strength / math.pi * 0.12 * (1.2 - open_sky)
        # As in use and in Cycles: what the surface reflects does not reach its paint.
        under = layer_share(albedos(nv, surface.roughness)[2], surface.f0)
        return (surface.albedo * under * diffuse + specular) * surface.mask

    def _sh_irradiance(self, coefficients: Tensor, normal: Tensor) -> Tensor:
        basis = harmonics(normal, 1)
        return torch.einsum("nck,nkhw->nchw", coefficients * self.bands, basis).clamp_min(0)

    @staticmethod
    def prefiltered(levels: Tensor, mirror: Tensor, roughness: Tensor) -> Tensor:
        """Radiance along ``mirror`` (N, 3, H, W) from prefiltered levels (N, 3, L, h, 2h), linear in roughness."""
        stack = sample(levels.flatten(1, 2), mirror).unflatten(1, (3, len(LEVELS)))
        total = torch.zeros_like(stack[:, :, 0])
        edges = (0.0, *LEVELS)
        for k in range(len(LEVELS)):
            low = (roughness - edges[k]) / (edges[k + 1] - edges[k])
            weight = low.clamp(0, 1)
            if k + 1 < len(LEVELS):
                weight = weight - ((roughness - LEVELS[k]) / (LEVELS[k + 1] - LEVELS[k])).clamp(0, 1)
            if k == 0:
                weight = weight + (1 - low).clamp(0, 1)
            total = total + weight * stack[:, :, k]
        return total

    @staticmethod
    def split_sum(f0: Tensor, roughness: Tensor, nv: Tensor) -> Tensor:
        """Directional albedo of GGX with Schlick: the analytic fit of Karis 2014."""
        r = [
            -1 * roughness + 1,
            -0.0275 * roughness + 0.0425,
            -0.572 * roughness + 1.04,
            0.022 * roughness - 0.04,
        ]
        a = torch.minimum(r[0] * r[0], torch.exp2(-9.28 * nv)) * r[0] + r[1]
        return f0 * (-1.04 * a + r[2]) + (1.04 * a + r[3])


def develop(radiance: Tensor, matte: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What a camera makes of straight radiance (N, 3, H, W): exposure, focus, noise, clipping, eight bits; then normalized again.

    Nothing of the backdrop comes in by the lens, as the foreground's colors are told from it. Returns the normalized plate
    (N, 3, H, W) and the factor (N, 1, 1, 1) that light must be multiplied by.
    """
    n = len(radiance)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    gain = exposure_of(radiance, matte) * torch.exp(0.35 * torch.randn(n, 1, 1, 1, generator=generator))
    seen = radiance * gain
    soft = blurred(seen * matte) / blurred(matte).clamp_min(1e-3)
    # Cameras sharpen, and plates are seen reduced: a third is crisper than its own pixels, a quarter softer.
    crisp = (seen + uniform(n, 1, 1, 1) * (seen - soft)).clamp_min(0)
    focus = uniform(n, 1, 1, 1)
    seen = torch.where(focus < 0.25, soft, torch.where(focus < 0.6, crisp, seen))
    noise = torch.randn(seen.shape, generator=generator)
    level = torch.exp(-7 + 4.2 * uniform(n, 1, 1, 1)) * (uniform(n, 1, 1, 1) < 0.6)
    seen = (seen + noise * level * (seen.clamp_min(0) + 0.02).sqrt()).clamp_min(0)
    display = uniform(n, 1, 1, 1) < 0.6
    # A third of those of eight bits went through a camera's own curve: contrast, and a shoulder in place of a hard white.
    graded = uniform(n, 1, 1, 1) < 0.33
    contrast, knee = 0.8 + 0.45 * uniform(n, 1, 1, 1), 0.5 + 3.5 * uniform(n, 1, 1, 1)
    toned = (seen / MIDDLE).pow(contrast) * MIDDLE
    toned = toned * (1 + knee) / (toned * 1.5 + knee)
    clipped = (torch.where(graded, toned, seen) * 1.5).clamp(max=1.0)
    clipped = (torch.round(clipped.pow(1 / 2.4) * 255) / 255).pow(2.4) / 1.5
    seen = torch.where(display, clipped, seen)
    again = exposure_of(seen, matte)
    return seen * again * (matte > 0), gain * again


def blurred(image: Tensor) -> Tensor:
    """An image (N, C, H, W) through a lens that is a little out of focus."""
    kernel = torch.tensor([1.0, 2.0, 1.0]).view(1, 1, 1, 3) / 4
    rows = F.conv2d(image.flatten(0, 1)[:, None], kernel, padding=(0, 1))
    return F.conv2d(rows, kernel.transpose(2, 3), padding=(1, 0)).view_as(image)


class Generator:
    """Draws batches of training pictures from a source of views and a bank of lights, all on one device."""

    def __init__(
        self,
        source: Bank | Source,
        lights: LightBank,
        size: int,
        seed: int,
        tiles: Tensor | None = None,
        device: torch.device = torch.device("cpu"),  # noqa: B008 (a constant)
    ) -> None:
        self.source, self.size, self.device = source, size, device
        self.lights = lights.to(device)
        self.tiles = None if tiles is None else tiles.to(device)
        self.generator = torch.Generator(device).manual_seed(seed)
        with device:
            self.photographer = Photographer()

    def views(self, count: int, held_out: bool) -> Views:
        g = self.generator
        if not isinstance(self.source, Bank):
            return self.source.draw(count, self.size, g)
        held = self.source.held
        share = self.source.share * (held if held_out else ~held)
        indices = torch.multinomial(share, count, replacement=held_out, generator=g)
        return self.source.crop(indices, self.size, g)

    @torch.no_grad()
    def batch(self, count: int, targets: int = 0, held_out: bool = False) -> Batch:
        """One batch; ``targets`` adds the same views under so many other lights, as a light stage gives them."""
        with self.device:  # every tensor made below lands on it
            return self._batch(count, targets, held_out)

    def _batch(self, count: int, targets: int, held_out: bool) -> Batch:
        g = self.generator
        views = self.views(count, held_out)
        surface = paint(views.rest, views.part, views.normal, g, self.tiles)
        lighting = random_lighting(self.lights, views.stored, g)
        radiance = self.photographer.photograph(views, surface, lighting, torch.rand(count, generator=g))
        plate, factor = develop(radiance, surface.mask, g)
        latlong = as_latlong(lighting, views.stored) * factor
        if not targets:
            return Batch(plate, surface.mask, surface, latlong, views.view)
        looks, lights = [], []
        for _ in range(targets):
            # A map of the sky cannot say how near a lamp is, so those that a plate is relit by are far.
            other = replace(random_lighting(self.lights, views.stored, g), near=None)
            target = self.photographer.photograph(views, surface, other, torch.rand(count, generator=g))
            gain = exposure_of(target, surface.mask)
            looks.append(target * gain)
            lights.append(as_latlong(other, views.stored) * gain)
        look, light = (torch.stack(found, 1).flatten(0, 1) for found in (looks, lights))
        return Batch(plate, surface.mask, surface, latlong, views.view, look, light)
