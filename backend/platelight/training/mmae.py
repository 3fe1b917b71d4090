"""Multi-masked autoencoder: fill in what dynamic masks hide, on generated pictures and on unlabeled photographs.

What it learns starts the four U-Nets (``start.begin``). Its three losses are those of the method: reconstruction,
perceptual and adversarial; the shares and weights here are this project's own choice, since none are published.
"""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from platelight.images.color import srgb_to_linear
from platelight.models.networks import encode, exposure_of
from platelight.models.precision import half_precision
from platelight.models.unet import UNet
from platelight.protocol.errors import InputError
from platelight.training.losses import PatchDiscriminator, Perceptual, gradients, masked_mean
from platelight.training.masks import dynamic_masks
from platelight.training.pictures import Batch
from platelight.training.stages import Metrics, Stage
from platelight.training.start import Start, begin

log = logging.getLogger(__name__)
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
KEPT = 4000  # photographs held in memory, small


class Photos:
    """Unlabeled photographs, cut at random and normalized like plates.

    Raises:
        InputError: the folder holds none, or holds an evaluation suite, which must never be trained on.
    """

    def __init__(self, folder: Path, size: int, seed: int) -> None:
        for around in (folder, *folder.resolve().parents):
            if (around / "suite.json").is_file():
                raise InputError(f"{folder} belongs to an evaluation suite.", "Give other photographs.")
        if next(folder.rglob("suite.json"), None) is not None:
            raise InputError(f"{folder} holds an evaluation suite.", "Give a folder without suites.")
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        self.size = size
        self.random = np.random.default_rng(seed)
        self.held: list[npt.NDArray[np.uint8]] = []
        for path in paths[:KEPT]:
            pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
            if pixels is None or min(pixels.shape[:2]) < size // 2:
                log.warning("%s is not a readable photograph of some size; left out", path)
                continue
            scale = max(2.5 * size / min(pixels.shape[:2]), 1e-3)
            if scale < 1:
                pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            self.held.append(np.ascontiguousarray(pixels[..., ::-1]))
        if not self.held:
            raise InputError(f"{folder} holds no photographs.", "Give a folder of JPEG or PNG files.")

    def draw(self, count: int, device: torch.device) -> Tensor:
        """(count, 3, size, size) linear, mean luminance as a plate's."""
        made = []
        for index in self.random.integers(len(self.held), size=count):
            photo = self.held[index]
            side = int(min(photo.shape[:2]) * self.random.uniform(0.4, 1.0))
            top, left = (int(self.random.integers(extent - side + 1)) for extent in photo.shape[:2])
            cut = cv2.resize(photo[top : top + side, left : left + side], (self.size, self.size),
                             interpolation=cv2.INTER_AREA)  # fmt: skip
            made.append(cut[:, ::-1] if self.random.random() < 0.5 else cut)
        pixels = srgb_to_linear(np.stack(made).astype(np.float32) / 255)
        linear = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)
        return linear * exposure_of(linear, torch.ones_like(linear[:, :1]))


class MmaeStage(Stage):
    """The U-Net that all start from: encoded picture times mask, and mask, in; encoded picture out."""

    name = "mmae"
    WEIGHTS = (1.0, 0.1, 0.02)  # reconstruction, perceptual, adversarial

    def __init__(self, weights: Path, pack: Path | None = None) -> None:
        self.frozen, self.pack = None, pack
        self.network = UNet(4, 3)
        self.perceptual = Perceptual(pack)
        self.critic = PatchDiscriminator()
        self.critic_optimizer = torch.optim.AdamW(self.critic.parameters(), 2e-4, betas=(0.5, 0.99))
        self.modules_beside = {"critic": self.critic}
        self.photos: Photos | None = None
        self.random: torch.Generator | None = None
        self.last: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    def start(self, weights: Path, start: Start = Start.USUAL) -> str:
        if start is Start.MMAE:
            raise InputError(
                "MMAE cannot start from itself.", "Give --start imagenet or random, or --further."
            )
        assert isinstance(self.network, UNet)
        return begin(self.network, Start.IMAGENET if start is Start.USUAL else start, weights, self.pack)

    def pictures(self, batch: Batch) -> Tensor:
        """Encoded pictures (N, 3, H, W): generated ones, half of them exchanged for photographs if there are any."""
        plate = batch.plate
        if self.photos is not None:
            half = len(plate) // 2
            plate = torch.cat([self.photos.draw(half, plate.device), plate[half:]])
        return encode(plate)

    def fill(self, picture: Tensor, mask: Tensor) -> Tensor:
        """The network's guess (N, 3, H, W) of a picture of which it sees where mask (N, 1, H, W) is 1."""
        with half_precision(picture.device):
            guess: Tensor = self.network(torch.cat([picture * mask, mask], 1))
        return guess.float()

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        picture = self.pictures(batch)
        if self.random is None or self.random.device.type != picture.device.type:
            self.random = torch.Generator(picture.device).manual_seed(torch.initial_seed())
        mask, _ = dynamic_masks(picture, self.random)
        guess = self.fill(picture, mask)
        error = (guess - picture).abs()
        hidden, seen = masked_mean(error, 1 - mask), masked_mean(error, mask)
        filled = torch.lerp(guess, picture, mask)
        some = slice(0, max(1, len(picture) // 4))
        with half_precision(picture.device):
            perceptual = self.perceptual(
                (filled[some] * 0.5 + 0.5).clamp(0, 1.5), (picture[some] * 0.5 + 0.5).clamp(0, 1.5)
            )
        given = picture * mask
        adversarial = F.softplus(-self.critic(filled, given, mask)).mean()
        self.last = (filled.detach(), picture, given, mask)
        reconstruction = hidden + 0.2 * seen + 0.3 * gradients(guess - picture, torch.ones_like(mask))
        w = self.WEIGHTS
        total = w[0] * reconstruction + w[1] * perceptual + w[2] * adversarial
        return total, {
            "hidden": hidden.detach(),
            "perceptual": perceptual.detach(),
            "adversarial": adversarial.detach(),
        }

    def after_step(self) -> None:
        if self.last is None:
            return
        filled, picture, given, mask = self.last
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss = (
            F.softplus(-self.critic(picture, given, mask)).mean()
            + F.softplus(self.critic(filled, given, mask)).mean()
        )
        loss.backward()
        self.critic_optimizer.step()
