"""A light-stage set enlarged by the autoencoder's pictures: parts of its photographs are hidden and filled in anew.

US 2025/0259346 trains on what the multi-masked autoencoder reconstructs as well as on what was photographed: subjects are few, and
each reconstruction is one more picture of the same normals and paint, with other detail in other places.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from platelight.models.networks import decode, encode
from platelight.models.unet import UNet
from platelight.training.masks import dynamic_masks
from platelight.training.pictures import Batch, Maker

HIDDEN = (0.05, 0.3)
"""Shares of a picture that are hidden: less than in pretraining, for the maps that come with it must stay true."""


class Enlarged:
    """Batches of another maker, a share of whose plates is filled in by the autoencoder where masks hide them.

    The maps stay as they are; so do held-out pictures and what lies outside the matte.
    """

    def __init__(self, maker: Maker, autoencoder: UNet, share: float, seed: int) -> None:
        self.maker, self.network, self.share = maker, autoencoder.eval().requires_grad_(False), share
        self.seed = seed
        self.generator: torch.Generator | None = None

    def batch(self, count: int, targets: int = 0, held_out: bool = False) -> Batch:
        """As the maker's own."""
        batch = self.maker.batch(count, targets, held_out)
        if held_out:
            return batch
        device = batch.plate.device
        if self.generator is None:
            self.generator = torch.Generator(device).manual_seed(self.seed)
            self.network.to(device)
        chosen = torch.rand(count, generator=self.generator, device=device) < self.share
        if not chosen.any():
            return batch
        plate = batch.plate.clone()
        plate[chosen] = self.filled(batch.plate[chosen], batch.matte[chosen])
        return replace(batch, plate=plate)

    @torch.no_grad()
    def filled(self, plate: Tensor, matte: Tensor) -> Tensor:
        """Plates (N, 3, S, S), linear, with what masks hide of the subject filled in."""
        assert self.generator is not None
        picture = encode(plate)
        mask, _ = dynamic_masks(picture, self.generator, *HIDDEN)
        guess = self.network(torch.cat([picture * mask, mask], 1)).float()
        return torch.lerp(decode(guess), plate, torch.maximum(mask, 1 - matte))
