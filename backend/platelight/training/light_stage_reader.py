"""A light-stage set as the trainer wants it: relit pictures and maps in torch, and batches for every stage."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from platelight.images.plate import read_light
from platelight.images.sanitize import Pixels
from platelight.models.networks import exposure_of
from platelight.protocol.errors import InputError
from platelight.shading.environment import check, rotate
from platelight.training.light_stage_lights import cell_shares, fibonacci, latlong_weights
from platelight.training.light_stage_store import Shard, Store, number_of
from platelight.training.lights import LightBank, as_latlong, random_lighting
from platelight.training.materials import Surface, unit
from platelight.training.pictures import Batch, develop

HOLD_OUT = 16
"""One subject of so many, by number, is never trained on."""
METAL, METAL_PAINT = 0.25, 0.07
"""Metals, by their mean f0, keep a share of their color as albedo, as ``materials.paint`` gives it to made pictures: with none, the
logarithm that DiffuseNet answers would have to undo every reflection."""


def weights_of(env: Tensor, lamps: int) -> Tensor:
    """Weights (N, lamps, 3) of the lamps for environments (N, 3, h, 2h) in the camera's frame.

    An environment is taken as constant over each lamp's cell; its power is kept within the texels' own area.
    """
    matrix = torch.from_numpy(latlong_weights(lamps, check(env))).to(env.dtype)
    return torch.einsum("nct,lt->nlc", env.flatten(2), matrix)


def shown_by(env: Tensor, lamps: int) -> Tensor:
    """Environments (N, 3, h, 2h) as a rig of so many lamps shows them: no narrower than its cells."""
    shares = torch.from_numpy(cell_shares(lamps, check(env))).to(env.dtype)
    return torch.einsum("nlc,lt->nct", weights_of(env, lamps), shares).clamp_min(0).view_as(env)


@dataclass(frozen=True)
class StageSubject:
    """One subject: olat (L, 3, H, W) premultiplied float16; maps straight float32 (C, H, W); view (3, H, W) unit.

    ``view`` points from the surface to the camera. ``info`` is what the shard says of its making.
    """

    olat: Tensor
    alpha: Tensor
    albedo: Tensor
    normal: Tensor
    roughness: Tensor
    f0: Tensor
    depth: Tensor
    view: Tensor
    info: dict[str, Any]

    def relight(self, env: Tensor, degrees: float | Tensor = 0.0) -> Tensor:
        """The subject under environments (N, 3, h, 2h), turned by ``degrees``: linear, premultiplied (N, 3, H, W)."""
        return self.sum(weights_of(rotate(env, degrees), len(self.olat)))

    def sum(self, weights: Tensor) -> Tensor:
        """The sum of the lamps' pictures by weights (N, L, 3): (N, 3, H, W) float32."""
        lamps, _, height, width = self.olat.shape
        pixels = self.olat.float().permute(1, 0, 2, 3).reshape(3, lamps, -1)
        relit = torch.bmm(weights.permute(2, 0, 1), pixels)  # (3, N, pixels)
        return relit.transpose(0, 1).reshape(len(weights), 3, height, width)


def view_directions(fov: float, height: int, width: int) -> Tensor:
    """Unit directions (3, H, W) from the surface to a camera of ``fov`` degrees across."""
    half = math.tan(math.radians(fov) / 2)
    x = ((torch.arange(width) + 0.5) / width * 2 - 1) * half
    y = ((torch.arange(height) + 0.5) / height * 2 - 1) * half * height / width
    return unit(
        torch.stack(
            [(-x).expand(height, width), y[:, None].expand(height, width), torch.ones(height, width)]
        ),
        0,
    )


def as_subject(shard: Shard) -> StageSubject:
    """A shard's arrays as tensors, channels first."""

    def first(name: str) -> Tensor:
        return torch.from_numpy(shard.maps[name]).permute(2, 0, 1).contiguous()

    alpha, f0 = first("alpha"), first("f0")
    metal = (f0.mean(0) > METAL).float()
    return StageSubject(
        torch.from_numpy(shard.olat).permute(0, 3, 1, 2).half().contiguous(), alpha,
        torch.maximum(first("albedo"), METAL_PAINT * metal * f0), first("normal"), first("roughness"), f0, first("depth"),
        view_directions(float(shard.info["fov"]), *alpha.shape[1:]), shard.info,
    )  # fmt: skip


class StageReader:
    """The subjects of a set, wherever its store is.

    Raises:
        InputError: there is no set, or it holds no subject.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self.store = Store(url, **options)
        manifest = self.store.manifest()
        if manifest is None:
            raise InputError(
                f"{url} holds no light-stage set.", "Make one: platelight train light-stage --out."
            )
        self.manifest = manifest
        self.names = self.store.names()
        if not self.names:
            raise InputError(
                f"{url} holds no subject yet.", "Run platelight train light-stage until one is done."
            )

    def __len__(self) -> int:
        return len(self.names)

    def subject(self, index: int) -> StageSubject:
        """The subject at place ``index`` of ``names``."""
        return as_subject(self.store.read_shard(self.names[index]))


def each_lit(
    description: str | None, argv: list[str] | None
) -> Iterator[tuple[str, Path, StageSubject, Pixels, float]]:
    """For commands that measure against a set, ``URL HDRI...``: each subject under each HDRI.

    Yields:
        The subject's name, the HDRI's path, the subject, the HDRI (h, 2h, 3), and how far to turn it in degrees.
    """
    options = argparse.ArgumentParser(description=description)
    options.add_argument("url")
    options.add_argument("hdri", type=Path, nargs="+")
    chosen = options.parse_args(argv)
    reader = StageReader(chosen.url)
    for index, name in enumerate(reader.names):
        subject = reader.subject(index)
        for turn, path in enumerate(chosen.hdri):
            light = np.asarray(read_light(path), np.float32)
            yield name, path, subject, light, 137.0 * (index + turn)


class StageGenerator:
    """Batches like ``pictures.Generator``'s from a light-stage set: the same call, true transport instead of a model.

    A few subjects are kept unpacked and exchanged one a batch, so that a slow store does not starve the trainer.
    """

    def __init__(self, reader: StageReader, lights: LightBank, size: int, seed: int, keep: int = 24) -> None:
        self.reader, self.lights, self.size, self.keep = reader, lights, size, keep
        self.generator = torch.Generator().manual_seed(seed)
        # By number, so that a set that grows never trains on what was held out.
        places: tuple[list[int], list[int]] = ([], [])
        for place, name in enumerate(reader.names):
            places[number_of(name) % HOLD_OUT == HOLD_OUT - 1].append(place)
        self.places = places  # of those to train on, of those held out
        self.lamps = torch.from_numpy(fibonacci(int(reader.manifest["lamps"]))).float()
        self.pools: dict[bool, list[StageSubject]] = {False: [], True: []}

    def batch(self, count: int, targets: int = 0, held_out: bool = False) -> Batch:
        """One batch; ``targets`` adds the same views under so many other lights."""
        g = self.generator
        pool = self._refreshed(held_out)
        chosen = [pool[i] for i in torch.randint(len(pool), (count,), generator=g).tolist()]
        boxes = [self._box(subject) for subject in chosen]
        stored = torch.stack(
            [self.lamps[torch.randperm(len(self.lamps), generator=g)[:8]] for _ in range(count)]
        )
        drawn = [as_latlong(random_lighting(self.lights, stored, g), stored) for _ in range(1 + targets)]
        environments = torch.stack(drawn, 1)  # (N, 1 + targets, 3, h, 2h)
        rows = [self._photograph(s, b, e) for s, b, e in zip(chosen, boxes, environments, strict=True)]
        environments = shown_by(environments.flatten(0, 1), len(self.lamps)).unflatten(0, (count, -1))
        relit, mask, albedo, normal, roughness, f0, view = (
            torch.stack(fields) for fields in zip(*rows, strict=True)
        )
        flip = torch.rand(count, generator=g) < 0.5
        if flip.any():
            tensors = (relit, mask, albedo, normal, roughness, f0, view, environments)
            for tensor in tensors:
                tensor[flip] = tensor[flip].flip(-1)
            normal[flip, 0] *= -1
            view[flip, 0] *= -1
        surface = Surface(albedo, roughness, f0, normal, mask, torch.zeros_like(mask))
        plate, factor = develop(relit[:, 0], mask, g)
        light = environments[:, 0] * factor
        if not targets:
            return Batch(plate, mask, surface, light, view)
        look = relit[:, 1:].flatten(0, 1)
        gain = exposure_of(look, mask.repeat_interleave(targets, 0))
        away = environments[:, 1:].flatten(0, 1) * gain
        return Batch(plate, mask, surface, light, view, look * gain, away)

    def _refreshed(self, held_out: bool) -> list[StageSubject]:
        pool, places = self.pools[held_out], self.places[held_out]
        if not places:
            raise InputError(
                f"{self.reader.store.url} is too small to hold subjects out.", f"Make {HOLD_OUT} or more."
            )
        if not pool:
            # Not the first ones: a set may begin with heads and end with objects.
            order = torch.randperm(len(places), generator=self.generator)[: self.keep].tolist()
            pool.extend(self.reader.subject(places[i]) for i in order)
        elif len(places) > self.keep:
            drawn = places[int(torch.randint(len(places), (), generator=self.generator))]
            pool[int(torch.randint(len(pool), (), generator=self.generator))] = self.reader.subject(drawn)
        return pool

    def _box(self, subject: StageSubject) -> tuple[int, int, int]:
        """Top, left and side of a crop: mostly about the whole subject, as a plate's crop about its matte is."""

        def chance() -> float:
            return float(torch.rand((), generator=self.generator))

        full = subject.alpha.shape[-1]
        ys, xs = torch.nonzero(subject.alpha[0] > 0.5, as_tuple=True)
        if len(ys) == 0 or chance() < 0.35:
            side = int(full * (0.5 + 0.5 * chance()))
            return int((full - side) * chance()), int((full - side) * chance()), side
        low, high = torch.stack([ys.min(), xs.min()]), torch.stack([ys.max(), xs.max()])
        side = int(min(full, max(full / 4, float((high - low).max()) * (1.02 + 0.25 * chance()))))
        middle = (low + high) / 2
        top, left = (int(min(max(float(m) - side / 2, 0), full - side)) for m in middle)
        return top, left, side

    def _photograph(
        self, s: StageSubject, box: tuple[int, int, int], environments: Tensor
    ) -> tuple[Tensor, ...]:
        """Cut, resize and light one subject: radiance (K, 3, S, S), mask, albedo, normal, roughness, f0, view."""
        top, left, side = box

        def cut(image: Tensor) -> Tensor:
            image = image[..., top : top + side, left : left + side]
            image = image if image.ndim == 4 else image[None]
            return F.interpolate(
                image,
                size=(self.size, self.size),
                mode="bilinear",
                align_corners=False,
                antialias=side > self.size,
            )

        alpha = cut(s.alpha).clamp(0, 1)
        over = 1 / alpha.clamp_min(
            1e-3
        )  # maps are straight: averaged where the subject is, not with the empty side
        seen = (alpha > 1e-3).float()

        def straight(image: Tensor) -> Tensor:
            return (cut(image * s.alpha) * over * seen)[0]

        # Beside a strong lamp others may have a slightly negative weight.
        relit = cut(s.sum(weights_of(environments, len(s.olat)))).clamp_min(0) * over * seen
        mask = alpha[0]
        roughness = torch.where(seen[0] > 0, straight(s.roughness).clamp(0.02, 1), 1.0)
        f0 = straight(s.f0).mean(0, keepdim=True)
        return (
            relit, mask, straight(s.albedo).clamp(0, 1), unit(straight(s.normal), 0) * seen[0], roughness, f0,
            unit(cut(s.view)[0], 0),
        )  # fmt: skip
