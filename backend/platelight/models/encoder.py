"""The encoder that all U-Nets share: EfficientNet-Lite0 (Tan, Le 2019) without its last stage and head.

2.4 million parameters; features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input with 16, 24, 40, 112 and 192 channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# (expansion, kernel, stride, channels, repeats)
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
)
TAPS = (0, 2, 4, 10, 14)  # last block of each resolution
CHANNELS = (16, 24, 40, 112, 192)
STEM = 32


class _DepthwiseGradient(torch.autograd.Function):
    """A depthwise convolution whose gradients are found in float32, whatever it runs in.

    On processors those of bfloat16 go through loops of reference (oneDNN's), tens of times slower where the stride is 2.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        given = (t.to(torch.float32, memory_format=torch.channels_last) for t in (gradients[0], x, weight))
        half = weight.shape[-1] // 2
        of_x, of_weight, _ = torch.ops.aten.convolution_backward(
            *given,
            None,
            (ctx.stride,) * 2,
            (half, half),
            (1, 1),
            False,
            (0, 0),
            len(weight),
            (True, True, False),
        )
        return of_x.to(x.dtype), of_weight.to(weight.dtype), None


class Depthwise(nn.Conv2d):
    """One square kernel a channel, without bias."""

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu") or not torch.is_grad_enabled():
            return super().forward(x)
        half = torch.get_autocast_dtype("cpu")
        given = (x.to(half), self.weight.to(half), self.stride[0])
        answer: Tensor = _DepthwiseGradient.apply(*given)  # type: ignore[no-untyped-call]
        return answer


class Block(nn.Module):
    """Inverted residual: expand, depthwise, project."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [
                nn.Conv2d(inputs, hidden, 1, bias=False),
                nn.BatchNorm2d(hidden, eps=1e-3),
                nn.ReLU6(True),
            ]
        layers += [
            Depthwise(hidden, kernel, stride),
            nn.BatchNorm2d(hidden, eps=1e-3),
            nn.ReLU6(True),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-3),
        ]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class Encoder(nn.Module):
    """(N, C, H, W) with H and W multiples of 32 -> five feature maps, finest first."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(inputs, STEM, 3, 2, 1, bias=False), nn.BatchNorm2d(STEM, eps=1e-3), nn.ReLU6(True)
        )
        blocks: list[Block] = []
        channels = STEM
        for expansion, kernel, stride, outputs, repeats in STAGES:
            for index in range(repeats):
                blocks.append(Block(channels, outputs, expansion, kernel, stride if index == 0 else 1))
                channels = outputs
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        x = self.stem(x)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in TAPS:
                features.append(x)
        return features


def widen_stem(weight: Tensor, inputs: int) -> Tensor:
    """Repeat the first layer's RGB weights (out, 3, k, k) for wider inputs, keeping the sum of the response.

    Channels beyond a multiple of three (the matte) start at zero. This is the patent application's way of starting
    the later networks from the pretrained one (US 2025/0259346).
    """
    groups = inputs // 3
    wide = weight.repeat(1, groups, 1, 1) / groups
    return torch.cat([wide, torch.zeros(weight.shape[0], inputs - 3 * groups, *weight.shape[2:])], 1)
