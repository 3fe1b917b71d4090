"""Batches for a trainer: from a process beside it, or made on its own GPU."""

from __future__ import annotations

import os
import queue
from dataclasses import dataclass, fields, is_dataclass, replace
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file

from platelight.protocol.errors import InputError, PlatelightError
from platelight.training.decals import ornaments, textures
from platelight.training.enlarged import Enlarged
from platelight.training.lights import load_bank
from platelight.training.pictures import Batch, Generator, Maker
from platelight.training.start import load_mmae
from platelight.training.views import Bank, Source

if TYPE_CHECKING:
    from platelight.training.light_stage_reader import StageReader

T = TypeVar("T")
ENLARGED = 0.25
"""Share of a set's pictures that the autoencoder fills in, where there is one."""


@dataclass(frozen=True)
class Ingredients:
    """What pictures are made of.

    ``bank``: shards of ``train geometry``, or None for shapes made on the fly; ``lights``: folder of HDRIs or a pack;
    ``textures``: color maps to print; ``pack``: folder of ``train pack`` (heads, pretrained weights, lights, tiles).
    ``reuse``: how many pictures are made of a view that was shaped on the fly. ``stage_set``: a light-stage set's folder or
    URL, of which ``stage_share`` of all pictures come; ``enlarge``: folder of a published autoencoder, which fills in parts of a
    quarter of those.
    """

    lights: Path
    bank: Path | None = None
    textures: Path | None = None
    pack: Path | None = None
    reuse: int = 4
    stage_set: str | None = None
    stage_share: float = 0.3
    enlarge: Path | None = None

    def stage(self) -> StageReader | None:
        """The light-stage set, if there is to be one. Raises InputError where there is none, or its share is none."""
        if self.stage_set is None:
            if self.enlarge is not None:
                raise InputError("There is no light-stage set to enlarge.", "Give --stage-set, too.")
            return None
        if not 0 < self.stage_share <= 1:
            raise InputError(
                f"A share of {self.stage_share} is none.", "Give --stage-share above 0, at most 1."
            )
        from platelight.training.light_stage_reader import StageReader

        return StageReader(self.stage_set)


def pick_device(name: str) -> torch.device:
    """``cpu``, ``cuda`` or ``auto``.

    Raises:
        InputError: a GPU is asked for and torch finds none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("torch finds no CUDA device.", "Give --device cpu, or install torch for CUDA.")
    return torch.device(name)


def to_device(value: T, device: torch.device) -> T:
    """A dataclass of tensors (and of such dataclasses) on another device."""
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: to_device(getattr(value, f.name), device) for f in fields(value)})
    return value


def make_generator(made_of: Ingredients, size: int, seed: int, device: torch.device) -> Generator:
    """A generator over the bank, or over shapes made on the device where there is none."""
    tiles = ornaments(256, seed=11)
    packed = made_of.pack / "tiles.safetensors" if made_of.pack else None
    photographed = textures(made_of.textures)
    if photographed is None and packed is not None and packed.is_file():
        photographed = load_file(packed)["tiles"].float()
    if photographed is not None:
        tiles = torch.cat([tiles, photographed])
    source: Bank | Source
    if made_of.bank is not None:
        source = Bank(made_of.bank)
    else:
        from platelight.training.fast import make_source

        source = make_source(made_of.pack, device, made_of.reuse)
    on = torch.device("cpu") if isinstance(source, Bank) else device  # shards are cut on the CPU
    return Generator(source, load_bank(made_of.lights), size, seed, tiles=tiles, device=on)


def joined(first: T, second: T) -> T:
    """Two dataclasses of tensors (and of such dataclasses) as one, along the first axis; what either lacks is left out."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return torch.cat([first, second])  # type: ignore[return-value]
    if is_dataclass(first) and not isinstance(first, type):
        both = {f.name: joined(getattr(first, f.name), getattr(second, f.name)) for f in fields(first)}
        return replace(first, **both)
    return None  # type: ignore[return-value]


class Mixed:
    """Batches of which a share was photographed on the light stage in Cycles, and the rest is made.

    Made pictures are endless, but their light does not scatter in skin nor bounce between folds; the set's does.
    """

    def __init__(self, made: Maker, staged: Maker, share: float, device: torch.device) -> None:
        self.made, self.staged, self.share, self.device = made, staged, share, device

    def batch(self, count: int, targets: int = 0, held_out: bool = False) -> Batch:
        """``count`` pictures, the set's last."""
        photographed = min(count - 1, max(1, round(count * self.share)))
        if photographed < 1:
            return self.made.batch(count, targets, held_out)
        made = self.made.batch(count - photographed, targets, held_out)
        return joined(made, to_device(self.staged.batch(photographed, targets, held_out), self.device))


def make_maker(made_of: Ingredients, size: int, seed: int, device: torch.device) -> Maker:
    """What makes a trainer's pictures: generated ones, a light-stage set's, or both.

    Raises:
        InputError: there is no such set.
    """
    reader = made_of.stage()
    if reader is None:
        return make_generator(made_of, size, seed, device)
    from platelight.training.light_stage_reader import StageGenerator

    share = made_of.stage_share
    staged: Maker = StageGenerator(reader, load_bank(made_of.lights), size, seed)
    if made_of.enlarge is not None:
        staged = Enlarged(staged, load_mmae(made_of.enlarge), ENLARGED, seed)
    return staged if share == 1 else Mixed(make_generator(made_of, size, seed, device), staged, share, device)


class Supply(Protocol):
    """Gives batches; ``fresh`` counts those that were new."""

    fresh: int

    def next(self) -> Batch: ...

    def close(self) -> None: ...


class DirectSupply:
    """Batches made on the trainer's own device when they are asked for."""

    def __init__(self, generator: Maker, batch: int, targets: int, device: torch.device) -> None:
        self.generator, self.batch, self.targets, self.device = generator, batch, targets, device
        self.fresh = 0

    def next(self) -> Batch:
        self.fresh += 1
        return to_device(self.generator.batch(self.batch, self.targets), self.device)

    def close(self) -> None:
        """Nothing to stop."""


def _produce(
    made_of: Ingredients,
    size: int,
    batch: int,
    seed: int,
    targets: int,
    out: mp.Queue[Batch],
    stop: Event,
) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # faint light far down its lobes costs a tenth of the time otherwise
    generator = make_maker(made_of, size, seed, torch.device("cpu"))
    parent = os.getppid()

    def wanted() -> bool:
        return not stop.is_set() and os.getppid() == parent  # a killed trainer leaves no orphan behind

    while wanted():
        made = generator.batch(batch, targets)
        while wanted():
            try:
                out.put(made, timeout=1.0)
                break
            except queue.Full:
                continue


class ProcessSupply:
    """Batches from a producer process; where it lags, one from a pool of recent ones is used again."""

    def __init__(
        self,
        made_of: Ingredients,
        size: int,
        batch: int,
        seed: int,
        targets: int,
        pool: int,
        device: torch.device,
    ) -> None:
        context = mp.get_context("spawn")
        self.queue: mp.Queue[Batch] = context.Queue(maxsize=4)
        self.stop = context.Event()
        self.process = context.Process(
            target=_produce,
            args=(made_of, size, batch, seed, targets, self.queue, self.stop),
            daemon=True,
        )
        self.process.start()
        self.pool: list[Batch] = []
        self.size, self.fresh, self.device = pool, 0, device
        self.random = torch.Generator().manual_seed(seed)

    def next(self) -> Batch:
        """A fresh batch if there is one, else one of the pool."""
        enough = len(self.pool) >= min(4, self.size)
        while True:
            try:
                batch: Batch = self.queue.get_nowait() if enough else self.queue.get(timeout=2.0)
                break
            except queue.Empty:
                if not self.process.is_alive():
                    raise PlatelightError(
                        "The picture generator stopped.", "Its reason stands above; the run can be resumed."
                    ) from None
                if enough:
                    return self._moved(
                        self.pool[
                            int(torch.randint(len(self.pool), (1,), generator=self.random, device="cpu"))
                        ]
                    )
        self.fresh += 1
        if len(self.pool) < self.size:
            self.pool.append(batch)
        else:
            self.pool[int(torch.randint(self.size, (1,), generator=self.random, device="cpu"))] = batch
        return self._moved(batch)

    def _moved(self, batch: Batch) -> Batch:
        return batch if self.device.type == "cpu" else to_device(batch, self.device)

    def close(self) -> None:
        """Stop the producer, bounded."""
        self.stop.set()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
