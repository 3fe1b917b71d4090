"""Endless views on any device, without Blender, Embree or shards: distance fields and rasterized heads, and a pool."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from platelight.training import families
from platelight.training.families import Draw
from platelight.training.fields import Composition
from platelight.training.heads import Model, photograph_heads
from platelight.training.raymarch import euler, trace
from platelight.training.views import Source, Views, deformed, leaning, mirrored

Family = Callable[[int, torch.Generator], Composition]
SHARES: dict[str, float] = {
    "heads": 0.27, "creature": 0.24, "blobs": 0.09, "primitives": 0.16, "vessel": 0.08, "sheets": 0.16,
}  # fmt: skip


def turns(name: str, count: int, generator: torch.Generator) -> Tensor:
    """Rotations (N, 3, 3) from a family's own space to the camera's: upright things stay nearly so."""
    d = Draw(count, generator)
    if name == "creature":
        return euler(d.uniform(-180, 180), d.normal() * 16 + 8, d.normal() * 12)
    if name == "vessel":
        return euler(d.uniform(-180, 180), d.uniform(-15, 60), d.normal() * 12)
    if name == "sheets":  # a sheet seen edge-on teaches nothing
        return euler(d.normal() * 32, d.normal() * 28, d.normal() * 30)
    return d.rotation()


class Shapes:
    """Draws views in groups; what is in a group shares its make-up but no size, place or relief."""

    def __init__(self, model: Model | None, group: int, shares: dict[str, float] = SHARES) -> None:
        self.model, self.group = model, group
        held = {k: v for k, v in shares.items() if v > 0 and (k != "heads" or model is not None)}
        self.names, self.shares = list(held), torch.tensor(list(held.values()), device="cpu")
        self.random = torch.Generator()

    def draw(self, count: int, size: int, generator: torch.Generator) -> Views:
        """``count`` views on the generator's device. Which families they are of follows from the generator too."""
        self.random.manual_seed(int(torch.randint(1 << 31, (), generator=generator, device=generator.device)))
        groups = math.ceil(count / self.group)
        picks = torch.multinomial(self.shares, groups, replacement=True, generator=self.random).tolist()
        made, left = [], count
        for index in picks:
            made.append(self.view(self.names[index], min(self.group, left), size, generator))
            left -= self.group
        return join(made)

    def view(self, name: str, count: int, size: int, generator: torch.Generator) -> Views:
        """Views of one family."""
        if name == "heads":
            assert self.model is not None
            return photograph_heads(self.model, count, size, generator)
        make: Family = getattr(families, name)
        return trace(make(count, generator), turns(name, count, generator), size, generator)


def join(views: list[Views]) -> Views:
    """Concatenate views."""
    return Views(*(torch.cat([getattr(v, name) for v in views]) for name in Views.__dataclass_fields__))


class Pool:
    """Keeps views and gives each ``reuse`` times on average, half of them mirrored, all of them leaning; paint and light differ each time.

    Shaping a view costs more than to paint and light it: this is what keeps a trainer fed. New views come ``chunk`` at
    a time, since a GPU shapes many as quickly as few.
    """

    def __init__(self, source: Source, capacity: int, reuse: int, chunk: int = 1) -> None:
        self.source, self.capacity, self.reuse, self.chunk = source, capacity, max(reuse, 1), chunk
        self.held: Views | None = None
        self.filled, self.place, self.owed = 0, 0, 0.0

    def draw(self, count: int, size: int, generator: torch.Generator) -> Views:
        """Views from the pool, after some new ones took the place of the oldest."""
        self.owed += count / self.reuse
        missing = min(count, self.capacity) - self.filled
        chunks = max(int(self.owed // self.chunk), math.ceil(missing / self.chunk))
        fresh = min(chunks * self.chunk, self.capacity)
        self.owed = max(self.owed - fresh, 0.0)
        if fresh > 0:
            self._take(self.source.draw(fresh, size, generator))
        assert self.held is not None
        device = generator.device
        index = torch.randint(self.filled, (count,), generator=generator, device=device)
        flip = torch.rand(count, generator=generator, device=device) < 0.5
        drawn = Views(*(getattr(self.held, k)[index] for k in Views.__dataclass_fields__))
        return mirrored(deformed(drawn, leaning(drawn.part, generator)), flip)

    def _take(self, made: Views) -> None:
        count = len(made.part)
        if self.held is None or self.held.part.shape[-1] != made.part.shape[-1]:
            self.filled = self.place = 0
            self.held = Views(
                *(
                    torch.zeros(self.capacity, *getattr(made, k).shape[1:], dtype=getattr(made, k).dtype,
                                device=made.part.device)
                    for k in Views.__dataclass_fields__
                )
            )  # fmt: skip
        where = (torch.arange(count, device=made.part.device) + self.place) % self.capacity
        for name in Views.__dataclass_fields__:
            getattr(self.held, name)[where] = getattr(made, name)
        self.place = (self.place + count) % self.capacity
        self.filled = min(self.filled + count, self.capacity)


def make_source(pack: Path | None, device: torch.device, reuse: int) -> Pool:
    """The generator's views for a device: heads too where the pack holds their model."""
    heads = pack / "heads.safetensors" if pack else None
    model = Model.load(heads, device) if heads is not None and heads.is_file() else None
    group, capacity = (128, 4096) if device.type != "cpu" else (4, 96)
    return Pool(Shapes(model, group), capacity, reuse, group)
