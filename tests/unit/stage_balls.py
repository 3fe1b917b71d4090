"""Light-stage sets of Lambertian balls, lit exactly, for the tests."""

from __future__ import annotations

import math

import numpy as np
import torch
from platelight.training.light_stage_lights import rig
from platelight.training.light_stage_store import Shard, Store, pack, shard_name
from platelight.training.lights import LightBank

LAMPS, SIZE = 64, 24


def ball(seed: int = 0, size: int = SIZE, lamps: int = LAMPS) -> Shard:
    """A Lambertian ball, lit exactly: the picture under cell i is albedo / π times cosine times solid angle."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    px, py = (x + 0.5) / size * 2.2 - 1.1, 1.1 - (y + 0.5) / size * 2.2
    inside = px**2 + py**2 < 1
    normal = np.stack([px, py, np.sqrt(np.clip(1 - px**2 - py**2, 0, 1))], -1) * inside[..., None]
    albedo = rng.uniform(0.1, 0.8, 3) * np.ones((size, size, 3)) * inside[..., None]
    tiles = rig(lamps)
    cosine = np.clip(np.einsum("hwc,lc->lhw", normal, tiles.directions), 0, None)
    olat = cosine[..., None] * tiles.solid_angles[:, None, None, None] * albedo / math.pi
    one = inside[..., None].astype(np.float32)
    maps = {
        "alpha": one,
        "albedo": albedo,
        "normal": normal,
        "roughness": 0.5 * one,
        "f0": 0.04 * albedo,
        "depth": 3 * one,
    }
    info = {"fov": 30.0, "subject": seed, "family": "ball", "sources": ["test"]}
    return Shard(olat.astype(np.float32), {k: v.astype(np.float32) for k, v in maps.items()}, info)


def fill(store: Store, count: int) -> None:
    store.write_manifest({"lamps": LAMPS, "size": SIZE, "seed": 1})
    for index in range(count):
        store.write(shard_name(index), pack(ball(index)))
    store.write_index([shard_name(i) for i in range(count)])


def lights() -> LightBank:
    sky = torch.rand(3, 3, 32, 64, generator=torch.Generator().manual_seed(0)) + 0.2
    return LightBank(
        sky, sky[:, :, None].repeat(1, 1, 5, 1, 1), torch.ones(3, 3), torch.tensor([[0.0, 1.0, 0.0]] * 3)
    )
