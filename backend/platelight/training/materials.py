"""Paint, relief and finish for the subjects' parts, made from noise on their rest coordinates, in torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from platelight.training.parts import Part

PARTS = len(Part)
STEEPEST = 1.5  # slope of relief
# Landmarks of ICT-FaceKit's neutral head, in its units: where brows and lips are painted.
BROWS = (
    (-5.2, 5.6, 8.6), (-4.2, 6.1, 9.7), (-3.0, 6.2, 10.4), (-1.9, 5.8, 10.8),
    (1.9, 5.8, 10.8), (3.0, 6.2, 10.4), (4.2, 6.1, 9.7), (5.2, 5.6, 8.6),
)  # fmt: skip
LIPS = (0.0, -3.1, 10.9)
EYE = (3.156, 3.613, 9.6)  # where the left eye looks out; the right one mirrors it


def unit(vectors: Tensor, dim: int = 1) -> Tensor:
    """Vectors of length one along ``dim``; several times faster on a CPU than ``functional.normalize``."""
    return vectors * torch.rsqrt(vectors.square().sum(dim, keepdim=True).clamp_min(1e-12))


@dataclass(frozen=True)
class Surface:
    """A batch of painted views: albedo (N, 3, H, W), roughness, f0, mask, skin (N, 1, H, W), normal (N, 3, H, W)."""

    albedo: Tensor
    roughness: Tensor
    f0: Tensor
    normal: Tensor
    mask: Tensor
    skin: Tensor


class Noise:
    """Random plane-wave noise over rest coordinates; draws come from the given generator."""

    def __init__(self, generator: torch.Generator, waves: int = 10) -> None:
        self.generator, self.waves = generator, waves

    def __call__(self, rest: Tensor, frequency: Tensor) -> Tensor:
        """rest (N, 3, H, W), frequency (N,) in cycles-ish per unit -> noise (N, 1, H, W) of about unit variance."""
        n = len(rest)
        k = torch.randn(n, self.waves, 3, generator=self.generator)
        k = k / k.norm(dim=2, keepdim=True) * frequency[:, None, None]
        k = k * (0.5 + torch.rand(n, self.waves, 1, generator=self.generator))
        phase = torch.rand(n, self.waves, 1, generator=self.generator) * 2 * math.pi
        value = torch.sin(torch.baddbmm(phase, k, rest.flatten(2))).sum(1, keepdim=True) * math.sqrt(
            2 / self.waves
        )
        return value.view(n, 1, *rest.shape[-2:])


def _skin_tone(n: int, generator: torch.Generator) -> Tensor:
    """Linear albedo (N, 3) over all human tones: melanin darkens and browns, hemoglobin reddens.

    A two-pigment absorption fit in the manner of Jimenez et al. 2010; exponents per channel chosen so that the
    extremes match published skin reflectance (about 0.65/0.45/0.35 and 0.06/0.035/0.025).
    """
    melanin = torch.rand(n, 1, generator=generator) ** 0.8
    blood = torch.rand(n, 1, generator=generator)
    tone = torch.exp(-melanin * torch.tensor([2.1, 2.45, 2.65])) * torch.tensor([0.66, 0.48, 0.37])
    return tone * torch.exp(-blood * torch.tensor([0.0, 0.30, 0.22]))


def _colors(n: int, count: int, generator: torch.Generator) -> Tensor:
    """Random albedos (N, count, 3): log-uniform value, any saturation; muted paint alone teaches that all is gray."""
    value = torch.exp(torch.empty(n, count, 1).uniform_(math.log(0.03), math.log(0.9), generator=generator))
    hue = torch.rand(n, count, 1, generator=generator) * 2 * math.pi
    saturation = torch.rand(n, count, 1, generator=generator)
    wheel = torch.cos(hue - torch.tensor([0.0, 2.0944, 4.1888]))
    # A third is near white: paper, porcelain, plaster, fur, linen.
    pale = torch.rand(n, count, 1, generator=generator) < 0.33
    value = torch.where(pale, 0.55 + 0.37 * torch.rand(n, count, 1, generator=generator), value)
    saturation = torch.where(pale, 0.5 * saturation, saturation)
    return (value * (1 - saturation * (0.5 - 0.5 * wheel))).clamp(0.01, 0.92)


def printed(rest: Tensor, tiles: Tensor, generator: torch.Generator) -> Tensor:
    """Project one random tile (K, 4, S, S) on each view: color and coverage (N, 4, H, W) by rest coordinates."""
    n = len(rest)
    chosen = tiles[torch.randint(len(tiles), (n,), generator=generator)]
    axes = torch.randn(n, 2, 3, generator=generator)
    first = axes[:, 0] / axes[:, 0].norm(dim=1, keepdim=True)
    second = axes[:, 1] - (axes[:, 1] * first).sum(1, keepdim=True) * first
    second = second / second.norm(dim=1, keepdim=True)
    pitch = torch.exp(torch.empty(n, 1, 1, 1).uniform_(math.log(0.5), math.log(1.8), generator=generator))
    where = torch.einsum("nkc,nchw->nhwk", torch.stack([first, second], 1), rest) * pitch
    where = where + torch.rand(n, 1, 1, 2, generator=generator)
    return F.grid_sample(chosen, where, padding_mode="reflection", align_corners=False)


def paint(
    rest: Tensor, part: Tensor, normal: Tensor, generator: torch.Generator, tiles: Tensor | None = None
) -> Surface:
    """Dress views: rest (N, 3, H, W), part (N, H, W) long, normal (N, 3, H, W) -> a ``Surface``.

    ``tiles`` (K, 4, S, S) are printed on some of the things that are not skin or hair.
    """
    n, _, height, width = rest.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(*shape).uniform_(low, high, generator=generator)

    def per_part(table: Tensor) -> Tensor:
        """(N, PARTS, C) -> (N, C, H, W) by each pixel's part."""
        picked = table.gather(1, part.reshape(n, -1, 1).expand(-1, -1, table.shape[2]))
        return picked.transpose(1, 2).reshape(n, -1, height, width)

    noise = Noise(generator)
    head = ((part == int(Part.SKIN)).flatten(1).any(1)).float()
    scale = 1.0 / (1.0 + 12.0 * head)  # a head's rest coordinates span about 25 units, an object's about 2

    def frequency(low: float, high: float) -> Tensor:
        return torch.exp(uniform(math.log(low), math.log(high), n)) * scale

    soft, blotch = noise(rest, frequency(1.0, 5.0)), noise(rest, frequency(2.0, 14.0))
    grain = noise(rest, frequency(12.0, 60.0))
    axis = unit(torch.randn(n, 3, generator=generator), dim=1)
    stripe = torch.sin(
        (rest * axis[:, :, None, None]).sum(1, keepdim=True) * frequency(4, 25)[:, None, None, None]
        + soft * uniform(0, 1.5, n, 1, 1, 1)
    )
    # base, second and third color of every part
    palette = _colors(n, PARTS * 3, generator).view(n, PARTS, 9)
    plain = uniform(0, 1, n, PARTS, 1) < 0.6  # many things have one color
    tone = _skin_tone(n, generator)
    hair = _colors(n, 1, generator)[:, 0] * 0.25
    gray = hair.mean(1, keepdim=True)
    natural = gray * torch.tensor([1.35, 0.95, 0.65])
    hair = torch.where(uniform(0, 1, n, 1) < 0.85, natural, hair).clamp(0.008, 0.6)
    fixed = {
        Part.SKIN: tone, Part.HAIR: hair, Part.TEETH: torch.tensor([0.62, 0.55, 0.44]).expand(n, 3),
        Part.GUMS: torch.tensor([0.30, 0.10, 0.09]).expand(n, 3), Part.SCLERA: torch.tensor([0.62, 0.57, 0.53]).expand(n, 3),
        Part.IRIS: _colors(n, 1, generator)[:, 0] * 0.25,
    }  # fmt: skip
    for which, color in fixed.items():
        palette[:, int(which), :3] = color
        plain[:, int(which)] = True
    first, second, third = per_part(palette).chunk(3, 1)
    flags = per_part(torch.cat([plain.float(), uniform(0, 1, n, PARTS, 2), uniform(-1, 1, n, PARTS, 2)], 2))
    sharp = 3.0 + 60.0 * flags[:, 1:2]
    mask_two = torch.sigmoid((blotch - 1.2 * flags[:, 3:4]) * sharp)
    mask_three = torch.sigmoid((stripe - 0.8) * sharp) * (flags[:, 2:3] > 0.6)
    patterned = torch.lerp(torch.lerp(first, second, mask_two), third, mask_three)
    albedo = torch.where(flags[:, :1] > 0.5, first, patterned)
    mottle = per_part(torch.cat([uniform(0, 0.18, n, PARTS, 1), uniform(0, 0.15, n, PARTS, 1)], 2))
    albedo = albedo * torch.exp(mottle[:, :1] * soft + mottle[:, 1:] * grain)
    if tiles is not None:
        ink = printed(rest, tiles, generator)
        on = (part >= int(Part.OBJECT_A)) | (part == int(Part.CLOTH))
        cover = ink[:, 3:] * on[:, None] * (uniform(0, 1, n, 1, 1, 1) < 0.4)
        albedo = torch.lerp(albedo, ink[:, :3].clamp(0.01, 0.92), cover)
    skin = (part == int(Part.SKIN)).float()[:, None]
    hairy = (part == int(Part.HAIR)).float()[:, None]
    if generator is None or generator.device.type != "cpu" or bool(head.any()):  # asking a GPU costs more
        albedo = _face_paint(albedo, rest, skin, hair, noise, scale, generator)
        albedo = _eyes(albedo, rest, part, generator)
        strand = rest * torch.tensor([3.0, 1.0, 3.0]).view(1, 3, 1, 1)
        albedo = albedo * torch.exp(hairy * 0.45 * noise(strand, torch.full((n,), 2.0)))
    # finish
    metal = (uniform(0, 1, n, PARTS, 1) < 0.10).float()
    glossy = uniform(0.08, 1.0, n, PARTS, 1) ** 0.8
    f0 = torch.exp(uniform(math.log(0.02), math.log(0.08), n, PARTS, 1))
    f0 = torch.where(uniform(0, 1, n, PARTS, 1) < 0.4, torch.full_like(f0, 0.04), f0)
    f0 = torch.lerp(f0, uniform(0.35, 0.95, n, PARTS, 1), metal)
    # Hair is a smooth shell here: what is seen of its strands, which face all ways, is wider than their own gloss.
    for which, (low, high) in {Part.SKIN: (0.3, 0.65), Part.HAIR: (0.55, 0.9), Part.TEETH: (0.1, 0.3), Part.GUMS: (0.15, 0.4),
                               Part.SCLERA: (0.05, 0.12), Part.IRIS: (0.05, 0.12), Part.CLOTH: (0.5, 1.0)}.items():  # fmt: skip
        glossy[:, int(which), 0] = uniform(low, high, n)
        f0[:, int(which), 0] = 0.028 if which is Part.SKIN else 0.04
        metal[:, int(which)] = 0.0
    finish = per_part(torch.cat([glossy, f0, metal], 2))
    roughness = (finish[:, :1] * torch.exp(0.12 * soft + 0.08 * blotch)).clamp(0.05, 1.0)
    albedo = (albedo * (1 - 0.93 * finish[:, 2:3])).clamp(0.004, 0.95)
    mask = (part > 0).float()[:, None]
    bumped = _relief(normal, rest, part, soft, grain, noise, frequency, generator)
    return Surface(
        albedo * mask,
        torch.lerp(torch.ones_like(roughness), roughness, mask),
        finish[:, 1:2] * mask,
        bumped,
        mask,
        skin,
    )


def _eyes(albedo: Tensor, rest: Tensor, part: Tensor, generator: torch.Generator) -> Tensor:
    """Iris and pupil, painted on the sclera's shell: ICT-FaceKit's own iris lies behind it and is never seen."""
    n = len(rest)

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.empty(n, channels, 1, 1).uniform_(low, high, generator=generator).to(rest)

    shell = (part == int(Part.SCLERA))[:, None]
    middle = rest.new_tensor(EYE).view(1, 3, 1, 1)
    away = torch.cat([rest[:, :1].abs() - middle[:, :1], rest[:, 1:2] - middle[:, 1:2]], 1)
    distance = away.square().sum(1, keepdim=True).sqrt()
    brown = rest.new_tensor((0.12, 0.06, 0.03)).view(1, 3, 1, 1)
    iris = torch.lerp(brown, uniform(0.05, 0.35, 3), uniform(0, 1) ** 2)
    wide = uniform(0.64, 0.76)

    def disc(radius: Tensor, soft: float) -> Tensor:
        return torch.sigmoid((radius - distance) / soft) * (rest[:, 2:] > 0) * shell

    albedo = torch.lerp(albedo, 0.4 * iris, disc(wide, 0.03))  # the limbal ring
    albedo = torch.lerp(albedo, iris, disc(0.85 * wide, 0.06))
    return torch.lerp(albedo, torch.full_like(albedo, 0.005), disc(uniform(0.2, 0.38), 0.04))


def _face_paint(
    albedo: Tensor,
    rest: Tensor,
    skin: Tensor,
    hair: Tensor,
    noise: Noise,
    scale: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Lips, brows, blush, stubble and freckles on the skin of heads."""
    n = len(rest)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(n, 1, 1, 1).uniform_(low, high, generator=generator)

    lips = rest - torch.tensor(LIPS).view(1, 3, 1, 1)
    lips = (lips / torch.tensor([2.7, 0.95, 2.0]).view(1, 3, 1, 1)).square().sum(1, keepdim=True)
    lips = torch.sigmoid((1 - lips) * 6) * skin * uniform(0.2, 1.0)
    albedo = albedo * torch.lerp(torch.ones(3), torch.tensor([0.85, 0.52, 0.55]), 1.0).view(1, 3, 1, 1).pow(
        lips
    )
    brow = torch.stack(
        [(rest - torch.tensor(p).view(1, 3, 1, 1)).square().sum(1, keepdim=True) for p in BROWS]
    ).amin(0)
    brow = (
        torch.sigmoid((0.55 - brow) * 8)
        * skin
        * uniform(0.0, 1.0)
        * (0.75 + 0.25 * noise(rest, 8.0 * scale * 5))
    )
    albedo = torch.lerp(albedo, hair.view(n, 3, 1, 1).expand_as(albedo), brow.clamp(0, 1))
    jaw = torch.sigmoid((-2.0 - rest[:, 1:2]) * 1.5) * torch.sigmoid((rest[:, 2:3] - 2.0) * 1.5) * skin
    jaw = jaw * torch.sigmoid((rest[:, 1:2] + 10.0) * 1.5)  # bodies have skin below it
    stubble = jaw * (uniform(0, 1) < 0.3) * uniform(0.1, 0.8) * (0.8 + 0.2 * noise(rest, 30.0 * scale * 5))
    albedo = torch.lerp(albedo, hair.view(n, 3, 1, 1).expand_as(albedo), stubble.clamp(0, 0.9))
    freckle = torch.sigmoid((noise(rest, 20.0 * scale * 5) - 2.0) * 8) * skin * (uniform(0, 1) < 0.2)
    return albedo * torch.tensor([0.75, 0.6, 0.5]).view(1, 3, 1, 1).pow(freckle)


def _relief(
    normal: Tensor,
    rest: Tensor,
    part: Tensor,
    soft: Tensor,
    grain: Tensor,
    noise: Noise,
    frequency: Callable[[float, float], Tensor],
    generator: torch.Generator,
) -> Tensor:
    """Bend normals by the image gradient of a height made from noise: pores, weave, engraving, rough stone.

    Photographed things have more fine relief than smooth meshes (``octaves`` measures it), so half of all pictures get some, of a
    slope of up to 0.5 in the mean square, however large they are seen. The gradient is taken across the image, and what of it
    lies in the surface bends the normal: so relief foreshortens towards the rim as real relief does.
    """
    n = len(normal)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(n, 1, 1, 1).uniform_(low, high, generator=generator)

    fine = noise(rest, frequency(6.0, 40.0))
    ridged = 1 - 1.5 * fine.abs()
    carve = torch.sigmoid((noise(rest, frequency(2.0, 10.0)) - 0.3) * 12)
    choice = uniform(0, 1)
    pitch = frequency(3.0, 12.0)
    rough = sum(noise(rest, pitch * 2**octave) / 1.6**octave for octave in range(4))
    height = torch.where(
        choice < 0.3, fine, torch.where(choice < 0.5, ridged, torch.where(choice < 0.7, carve * 2, rough))
    )
    height = height + 0.3 * grain
    amount = torch.where(uniform(0, 1) < 0.5, torch.zeros(n, 1, 1, 1), uniform(0, 0.5) * uniform(0, 1))
    skin = ((part == int(Part.SKIN)) | (part >= int(Part.TEETH)) & (part <= int(Part.IRIS))).float()[:, None]
    amount = amount * (1 - 0.6 * skin)
    height = F.pad(height, (1, 1, 1, 1), mode="replicate")
    gx = (height[..., 1:-1, 2:] - height[..., 1:-1, :-2]).clamp(-2, 2)
    gy = (height[..., 2:, 1:-1] - height[..., :-2, 1:-1]).clamp(-2, 2)
    inside = (F.max_pool2d((part == 0).float()[:, None], 3, 1, 1) < 0.5).float()
    slope = torch.cat([gx, -gy], 1) * inside  # up is against the rows
    count = inside.sum((1, 2, 3), keepdim=True).clamp_min(1.0)
    steep = (slope.square().sum((1, 2, 3), keepdim=True) / count).sqrt().clamp_min(1e-4)
    slope = slope / steep * amount
    slope = slope * (STEEPEST / slope.square().sum(1, keepdim=True).sqrt().clamp_min(STEEPEST))
    across = (normal[:, :2] * slope).sum(1, keepdim=True)
    bend = torch.cat([normal[:, :2] * across - slope, normal[:, 2:] * across], 1)
    return unit(normal + bend, dim=1)
