"""One U-Net family for normals, diffuse render, specular parameters and the final render."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from platelight.models.encoder import CHANNELS, Encoder

WIDTHS = (128, 80, 48, 32)
FINE = 24


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def modulated(y: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """The features times a gain plus an offset, reckoned in the gain's precision and kept in their own."""
    return (y * gain + offset).to(y.dtype)


class UNet(nn.Module):
    """Encoder and a light decoder with skips down to the input's own resolution.

    Args:
        inputs: channels in, RGB-like groups of three first, then the matte.
        outputs: channels out, linear (each network's own module gives them their meaning).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.encoder = Encoder(inputs)
        skips = CHANNELS[-2::-1]
        widths = (CHANNELS[-1], *WIDTHS)
        self.up = nn.ModuleList(_conv(widths[i] + skips[i], widths[i + 1]) for i in range(len(WIDTHS)))
        self.fine = nn.Sequential(_conv(WIDTHS[-1] + inputs, FINE), _conv(FINE, FINE))
        self.head = nn.Conv2d(FINE, outputs, 1)
        self.film = nn.Linear(CHANNELS[-1], 2 * (sum(WIDTHS) + FINE))
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def modulation(self, deepest: Tensor, matte: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Gain and offset (N, C, 1, 1) of each decoder stage, from the deepest features averaged over the subject.

        What a brightness means depends on the light, which only the whole picture tells: with a gain from there, fine
        features are read by its light (feature-wise linear modulation, Perez et al. 2018).
        """
        cover = F.adaptive_avg_pool2d(matte, (deepest.shape[-2], deepest.shape[-1])).clamp_min(1e-4)
        # In float32, as the last layer: a gain near 1 has steps of 0.8 % in bfloat16, and the whole picture jumps by them.
        with torch.autocast(deepest.device.type, enabled=False):
            pooled = (deepest.float() * cover.float()).sum((2, 3)) / cover.float().sum((2, 3))
            gain, offset = self.film(pooled)[:, :, None, None].chunk(2, 1)
        sizes = [*WIDTHS, FINE]
        return list(zip((1 + gain).split(sizes, 1), offset.split(sizes, 1), strict=True))

    def decode(self, x: Tensor, features: list[Tensor]) -> Tensor:
        """Decode the encoder's features (finest first) of input ``x``, whose last channel is the matte."""
        y = features[-1]
        modulation = self.modulation(y, x[:, -1:])
        for stage, skip, (gain, offset) in zip(self.up, features[-2::-1], modulation[:-1], strict=True):
            y = F.interpolate(y, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            y = modulated(stage(torch.cat([y, skip], 1)), gain, offset)
        y = F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=False)
        # In another type or layout all that it is joined with would be copied as well.
        x = x.to(y.dtype, memory_format=torch.channels_last)
        y = self.fine[1](modulated(self.fine[0](torch.cat([y, x], 1)), *modulation[-1]))
        # Eight bits of bfloat16 are too few for what a picture is multiplied by: levels would jump by 0.8 %.
        with torch.autocast(y.device.type, enabled=False):
            out: Tensor = self.head(y.float())
        return out

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W), H and W multiples of 32 -> (N, outputs, H, W)."""
        return self.decode(x, self.encoder(x))
