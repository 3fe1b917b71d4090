"""The five networks of the method (US 2025/0259346), each a thin meaning over the shared U-Net.

All work on *normalized* plates: the foreground times its matte, scaled so that the subject's mean luminance is
``MIDDLE``; ``encode`` compresses it for a network's eyes. Light is in the same units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from platelight.models.encoder import CHANNELS
from platelight.models.unet import UNet
from platelight.shading.environment import directions, sample

MIDDLE = 0.25
LUMINANCE = (0.2126, 0.7152, 0.0722)
LOBES = (
    1,
    8,
    32,
    128,
)  # Phong exponents of the convolved lights; the first is the cosine of diffuse reflection
GRID = 16  # rows of the queried directions
DECODED = 32  # rows of the decoded lat-long
# Added to plates before a correction multiplies them: below it, in cast shadow, a plate holds more noise than paint,
# and what the network says of the albedo counts alone.
FLOOR = 8e-3


def encode(pixels: Tensor) -> Tensor:
    """Linear radiance >= 0 -> about [-1, 1] for display-referred values, growing slowly beyond."""
    return torch.log1p(8.0 * pixels.clamp_min(0)) * (2.0 / math.log(9.0)) - 1.0


def decode(encoded: Tensor) -> Tensor:
    """The linear radiance that :func:`encode` made ``encoded`` of."""
    return torch.expm1((encoded.clamp_min(-1.0) + 1.0) * (math.log(9.0) / 2.0)) / 8.0


def luminance(pixels: Tensor) -> Tensor:
    """(N, 3, ...) linear Rec.709 -> (N, 1, ...)."""
    weights = pixels.new_tensor(LUMINANCE).view(1, 3, *[1] * (pixels.ndim - 2))
    return (pixels * weights).sum(1, keepdim=True)


def exposure_of(plate: Tensor, matte: Tensor) -> Tensor:
    """The factor (N, 1, 1, 1) that brings the subject's mean luminance to ``MIDDLE``; clipped to sane values."""
    total = (luminance(plate.clamp(0, 1e4)) * matte).sum((2, 3), keepdim=True)
    return exposure_of_sums(total, matte.sum((2, 3), keepdim=True))


def exposure_of_sums(total: Tensor, weight: Tensor) -> Tensor:
    """:func:`exposure_of` from the sums of the subject's luminance and of its matte, of one shape."""
    mean = total / weight.clamp_min(1e-6)
    return MIDDLE / mean.clamp(1e-6, 1e6)


def finish_of(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Two raw channels (N, 2, H, W) -> roughness in [0.05, 1] and f0 in [0.01, 1], both (N, 1, H, W)."""
    roughness = 0.05 + 0.95 * torch.sigmoid(raw[:, :1])
    reflectivity = torch.exp(-math.log(100.0) * torch.sigmoid(-raw[:, 1:] + 0.85))
    return roughness, reflectivity


def unit_normal(raw: Tensor) -> Tensor:
    """Raw channels (N, 3, H, W) -> unit normals; nothing at all faces the camera."""
    return F.normalize(raw + raw.new_tensor([0.0, 0.0, 1e-4]).view(1, 3, 1, 1), dim=1)


# In doubt a network answers with the mean of what it thinks possible, and the mean of tilted normals faces the camera.
# On photographs it doubts more than on its own pictures; docs/training.md has the figures by which this was chosen.
NORMAL_CONTRAST = 1.5


def stretched(normal: Tensor, contrast: float | Tensor) -> Tensor:
    """Unit normals (N, 3, H, W) with their tilt from the camera's axis made larger by a factor."""
    return F.normalize(torch.cat([normal[:, :2] * contrast, normal[:, 2:]], 1), dim=1)


class NormalNet(UNet):
    """Foreground and matte -> unit camera-space normals, and hints of the paint for the networks that follow.

    What a surface is painted with and which way it faces explain the same picture, so one decoder learns both; the
    networks that follow start from its *hints*: three channels as DiffuseNet's correction, two as SpecularNet's.
    """

    HINTS = 5

    def __init__(self) -> None:
        super().__init__(4, 3 + self.HINTS)

    def everything(self, plate: Tensor, matte: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """plate (N, 3, H, W) normalized, matte (N, 1, H, W) -> features, normal (N, 3, H, W), hints (N, 5, H, W)."""
        x = torch.cat([encode(plate * matte), matte], 1)
        features = self.encoder(x)
        raw = self.decode(x, features).float()
        return features, unit_normal(raw[:, :3]), raw[:, 3:]

    def features_and_normal(self, plate: Tensor, matte: Tensor) -> tuple[list[Tensor], Tensor]:
        """plate (N, 3, H, W) normalized, matte (N, 1, H, W) -> encoder features, normal (N, 3, H, W)."""
        return self.everything(plate, matte)[:2]

    def predict(self, plate: Tensor, matte: Tensor) -> Tensor:
        """Normals (N, 3, H, W) only."""
        return self.everything(plate, matte)[1]


class DiffuseNet(UNet):
    """Plate, normal and closed-form shading -> diffuse render; the albedo follows by division.

    Where plate and shading differ it is for paint or for a normal that is wrong, so with the correction of the one it
    answers the other anew: NormalNet had to read form without knowing the light.
    """

    HINT = slice(0, 6)  # the channels of NormalNet that mean the same

    def __init__(self) -> None:
        super().__init__(13, 6)

    def everything(
        self, plate: Tensor, matte: Tensor, normal: Tensor, shading: Tensor, brighter: Tensor
    ) -> tuple[Tensor, Tensor]:
        """-> unit normals read again (N, 3, H, W), and the logarithm of albedo over plate (N, 3, H, W) in [-4, 4].

        All (N, C, H, W); ``brighter`` is the shading's slope (``form.brighter``).
        """
        seen = torch.cat(
            [encode(plate * matte), normal * matte, encode(shading) * matte, brighter * matte, matte], 1
        )
        raw = self(seen).float()
        return unit_normal(raw[:, :3]), raw[:, 3:].clamp(-4, 4)

    def predict(
        self, plate: Tensor, matte: Tensor, normal: Tensor, shading: Tensor, brighter: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """-> (normals read again, diffuse render, albedo), all (N, 3, H, W).

        The diffuse render is what the plate would be as a purely diffuse, unshadowed surface under the inferred light:
        the shading times a corrected plate. albedo = diffuse render / shading. Written so, an error of the shading
        does not reach the albedo unless the network makes use of it.
        """
        again, correction = self.everything(plate, matte, normal, shading, brighter)
        diffuse = (plate.clamp_min(0) + FLOOR) * torch.exp(correction) * shading
        return again, diffuse, (diffuse / shading.clamp_min(1e-6)).clamp(0.0, 1.0)


class SpecularNet(UNet):
    """Plate, normal and albedo -> perceptual roughness and reflectivity f0."""

    HINT = slice(6, 8)  # the channels of NormalNet that mean the same

    def __init__(self) -> None:
        super().__init__(10, 2)

    def predict(self, plate: Tensor, matte: Tensor, normal: Tensor, albedo: Tensor) -> tuple[Tensor, Tensor]:
        """-> roughness in [0.05, 1] and f0 in [0.01, 1], both (N, 1, H, W)."""
        x = torch.cat([encode(plate * matte), normal * matte, (albedo * 2 - 1) * matte, matte], 1)
        raw: Tensor = self(x)
        return finish_of(raw.float())


class RenderNet(UNet):
    """Plate, maps and the physical render under the target light -> the final render."""

    def __init__(self) -> None:
        super().__init__(16, 3)

    def predict(
        self, plate: Tensor, matte: Tensor, normal: Tensor, albedo: Tensor, diffuse: Tensor, specular: Tensor
    ) -> Tensor:
        """Everything (N, 3, H, W); the render in target exposure normalized like a plate -> relit (N, 3, H, W)."""
        x = torch.cat(
            [encode(plate * matte), normal * matte, (albedo * 2 - 1) * matte, encode(diffuse) * matte,
             encode(specular) * matte, matte], 1)  # fmt: skip
        correction = 2.0 * torch.tanh(self(x).float() * 0.5)
        return (diffuse + specular).clamp_min(0) * torch.exp(correction)


@dataclass(frozen=True)
class Illumination:
    """IllumNet's answer: convolved lights (N, len(LOBES), 3, GRID, 2 GRID) and a lat-long HDR map (N, 3, DECODED, 2 DECODED)."""

    lobes: Tensor
    latlong: Tensor


class CrossAttention(nn.Module):
    """Queries attend to tokens, then an MLP; both residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value, self.out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )
        self.norm_q, self.norm_t, self.norm_m = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, queries: Tensor, tokens: Tensor, keep: Tensor) -> Tensor:
        """queries (N, Q, D), tokens (N, T, D), keep (N, T) True where the subject is."""

        def split(x: Tensor) -> Tensor:
            return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

        q = split(self.query(self.norm_q(queries)))
        k, v = (split(part) for part in self.key_value(self.norm_t(tokens)).chunk(2, -1))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=keep[:, None, None, :])
        queries = queries + self.out(y.transpose(1, 2).flatten(2))
        mixed: Tensor = queries + self.mlp(self.norm_m(queries))
        return mixed


class IllumNet(nn.Module):
    """Lobe directions are queries, NormalNet's bottleneck features are keys and values.

    To each token its patch's mean color, normal and coverage are appended: what a diffuse ball there would show.
    """

    WIDTH = 128

    def __init__(self) -> None:
        super().__init__()
        grid = directions(GRID).reshape(-1, 3)
        waves = torch.cat([grid * f for f in (1.0, 2.0, 4.0)], -1) * math.pi / 2
        self.register_buffer(
            "code", torch.cat([grid, torch.sin(waves), torch.cos(waves)], -1), persistent=False
        )
        self.query = nn.Sequential(nn.Linear(21, self.WIDTH), nn.GELU(), nn.Linear(self.WIDTH, self.WIDTH))
        self.coarse = nn.Linear(CHANNELS[-1], self.WIDTH)
        self.fine = nn.Linear(CHANNELS[-2], self.WIDTH)
        self.patch = nn.Linear(9, self.WIDTH)
        self.attention = nn.ModuleList(CrossAttention(self.WIDTH, 4) for _ in range(3))
        self.lobes = nn.Linear(self.WIDTH, 3 * len(LOBES))
        self.decoder = nn.ModuleList(
            [nn.Conv2d(self.WIDTH, 64, 3), nn.Conv2d(64, 48, 3), nn.Conv2d(48, 3, 3)]
        )

    def _tokens(
        self, feature: Tensor, project: nn.Linear, plate: Tensor, matte: Tensor, normal: Tensor
    ) -> tuple[Tensor, Tensor]:
        size = (feature.shape[-2], feature.shape[-1])
        cover = F.adaptive_avg_pool2d(matte, size)
        pooled = F.adaptive_avg_pool2d(torch.cat([encode(plate), normal], 1) * matte, size) / cover.clamp_min(
            1e-3
        )
        rows = (
            torch.linspace(-1, 1, size[0], device=plate.device).view(1, 1, -1, 1).expand(len(plate), 1, *size)
        )
        columns = (
            torch.linspace(-1, 1, size[1], device=plate.device).view(1, 1, 1, -1).expand(len(plate), 1, *size)
        )
        extra = torch.cat([pooled, cover, rows, columns], 1)
        tokens = project(feature.float().flatten(2).transpose(1, 2)) + self.patch(
            extra.flatten(2).transpose(1, 2)
        )
        return tokens, cover.flatten(1) > 0.05

    def predict(self, features: list[Tensor], plate: Tensor, matte: Tensor, normal: Tensor) -> Illumination:
        """features of NormalNet's encoder; plate, matte, normal (N, C, H, W) -> the light, in the plate's units."""
        coarse, keep_coarse = self._tokens(features[-1], self.coarse, plate, matte, normal)
        fine, keep_fine = self._tokens(features[-2], self.fine, plate, matte, normal)
        tokens, keep = torch.cat([coarse, fine], 1), torch.cat([keep_coarse, keep_fine], 1)
        keep = keep | ~keep.any(
            1, keepdim=True
        )  # an empty subject attends to everything rather than to nothing
        queries = self.query(self.code).expand(len(plate), -1, -1)
        for layer in self.attention:
            queries = layer(queries, tokens, keep)
        grid = (GRID, 2 * GRID)
        lobes = self.lobes(queries).transpose(1, 2).reshape(len(plate), len(LOBES), 3, *grid)
        y = queries.transpose(1, 2).reshape(len(plate), self.WIDTH, *grid)
        y = F.gelu(self.decoder[0](self._wrap(y)))
        y = F.interpolate(y, scale_factor=2.0, mode="nearest")
        y = self.decoder[2](self._wrap(F.gelu(self.decoder[1](self._wrap(y)))))
        return Illumination(torch.exp(lobes.clamp(-9, 9)), torch.exp(y.clamp(-9, 9)))

    @staticmethod
    def _wrap(x: Tensor) -> Tensor:
        """Pad a lat-long by one texel: around in longitude, repeated in latitude."""
        return F.pad(F.pad(x, (1, 1, 0, 0), mode="circular"), (0, 0, 1, 1), mode="replicate")


def diffuse_shading(light: Illumination, normal: Tensor) -> Tensor:
    """Closed-form diffuse shading (N, 3, H, W) of normals under the inferred light: irradiance / pi."""
    return sample(light.lobes[:, 0], normal)
