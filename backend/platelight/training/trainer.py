"""Runs a stage: pictures made in a process of their own, resumable checkpoints, averaged weights, a log to plot."""

from __future__ import annotations

import csv
import json
import logging
import os
import queue
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file, save
from torch import Tensor, nn

from platelight.images.atomic import write_bytes
from platelight.models import registry
from platelight.protocol.errors import InputError, PlatelightError
from platelight.training.decals import ornaments, textures
from platelight.training.lights import load_bank
from platelight.training.pictures import Bank, Batch, Generator
from platelight.training.stages import STAGES, cosine_rate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainConfig:
    """One run. It ends after ``minutes`` of training or ``steps`` steps, whichever its schedule counts.

    ``further`` starts from the network's own published weights instead of from its stage's usual start.
    """

    stage: str
    run: Path
    bank: Path
    lights: Path
    weights: Path
    minutes: float = 0.0
    steps: int = 0
    batch: int = 16
    size: int = 128
    rate: float = 1e-3
    decay: float = 1e-4
    average: float = 0.998
    seed: int = 1
    threads: int = 1
    pool: int = 64
    textures: Path | None = None
    further: bool = False
    publish: Path | None = None


def _produce(config: TrainConfig, seed: int, two_lights: bool, out: mp.Queue[Batch], stop: Event) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # faint light far down its lobes costs a tenth of the time otherwise
    tiles = ornaments(256, seed=11)
    photographed = textures(config.textures)
    if photographed is not None:
        tiles = torch.cat([tiles, photographed])
    generator = Generator(Bank(config.bank), load_bank(config.lights), config.size, seed, tiles=tiles)
    parent = os.getppid()

    def wanted() -> bool:
        return not stop.is_set() and os.getppid() == parent  # a killed trainer leaves no orphan behind

    with torch.no_grad():
        while wanted():
            made = generator.batch(config.batch, two_lights)
            while wanted():
                try:
                    out.put(made, timeout=1.0)
                    break
                except queue.Full:
                    continue


class Supply:
    """Batches from a producer process; where it lags, one from a pool of recent ones is used again."""

    def __init__(self, config: TrainConfig, seed: int, two_lights: bool) -> None:
        context = mp.get_context("spawn")
        self.queue: mp.Queue[Batch] = context.Queue(maxsize=4)
        self.stop = context.Event()
        self.process = context.Process(
            target=_produce, args=(config, seed, two_lights, self.queue, self.stop), daemon=True
        )
        self.process.start()
        self.pool: list[Batch] = []
        self.size, self.fresh = config.pool, 0
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
                    return self.pool[int(torch.randint(len(self.pool), (1,), generator=self.random))]
        self.fresh += 1
        if len(self.pool) < self.size:
            self.pool.append(batch)
        else:
            self.pool[int(torch.randint(self.size, (1,), generator=self.random))] = batch
        return batch

    def close(self) -> None:
        """Stop the producer, bounded."""
        self.stop.set()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()


class Checkpoint:
    """Network, average, optimizer and counters in one safetensors file and one JSON beside it."""

    def __init__(self, folder: Path) -> None:
        self.tensors, self.state = folder / "checkpoint.safetensors", folder / "state.json"

    def save(
        self,
        network: nn.Module,
        average: dict[str, Tensor],
        optimizer: torch.optim.Optimizer,
        state: dict[str, object],
    ) -> None:
        tensors = {f"net.{k}": v for k, v in network.state_dict().items()} | {
            f"avg.{k}": v for k, v in average.items()
        }
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"opt.{index}.{k}": torch.as_tensor(v) for k, v in values.items()}
        write_bytes(self.tensors, save({k: v.contiguous().clone() for k, v in tensors.items()}))
        write_bytes(self.state, json.dumps(state).encode())

    def load(
        self, network: nn.Module, average: dict[str, Tensor], optimizer: torch.optim.Optimizer
    ) -> dict[str, float]:
        """Restore everything; an empty dict where there is nothing to restore."""
        if not (self.tensors.is_file() and self.state.is_file()):
            return {}
        tensors = load_file(self.tensors)
        network.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
        average.update({k[4:]: v for k, v in tensors.items() if k.startswith("avg.")})
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("opt."):
                _, index, name = key.split(".")
                slots.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
        state: dict[str, float] = json.loads(self.state.read_text())
        return state


def train(config: TrainConfig) -> Path:
    """Run or resume one stage; returns the published weights file."""
    if config.minutes <= 0 and config.steps <= 0:
        raise InputError("A run needs an end.", "Give --minutes or --steps.")
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    config.run.mkdir(parents=True, exist_ok=True)
    stage = STAGES[config.stage](config.weights)
    if config.further:
        origin = f"published {registry.describe(config.stage, config.weights).sha256[:12]}"
        stage.network.load_state_dict(registry.load(config.stage, folder=config.weights).state_dict())
    else:
        origin = stage.start(config.weights)
    stage.network.requires_grad_(True)
    network = registry.channels_last(stage.network).train()
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.decay}, {"params": plain, "weight_decay": 0.0}],
        config.rate,
    )
    average = {k: v.clone() for k, v in network.state_dict().items()}
    checkpoint = Checkpoint(config.run)
    state = checkpoint.load(network, average, optimizer)
    step, spent = int(state.get("step", 0)), float(state.get("seconds", 0.0))
    supply = Supply(config, config.seed * 7919 + step, stage.two_lights)
    started, saved, sums, count = time.monotonic(), time.monotonic(), dict[str, float](), 0

    def elapsed() -> float:
        return spent + time.monotonic() - started

    def fraction() -> float:
        return max(
            step / config.steps if config.steps else 0.0,
            elapsed() / 60 / config.minutes if config.minutes else 0.0,
        )

    def counters() -> dict[str, object]:
        return {
            "step": step,
            "seconds": elapsed(),
            "pictures": step * config.batch,
            "fresh": float(state.get("fresh", 0)) + supply.fresh * config.batch,
            "origin": origin,
        }

    try:
        first = supply.next()
        started = time.monotonic()  # making the first pictures is not training time
        while fraction() < 1.0:
            batch, first = first, supply.next()
            for group in optimizer.param_groups:
                group["lr"] = config.rate * cosine_rate(fraction())
            loss, metrics = stage.loss(batch)
            optimizer.zero_grad(set_to_none=True)
            if not torch.isfinite(loss):
                log.warning("step %d: loss is not finite, batch skipped", step)
                continue
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            stage.after_step()
            step += 1
            keep = min(config.average, (1 + step) / (10 + step))
            with torch.no_grad():
                for key, value in network.state_dict().items():
                    if value.is_floating_point():
                        average[key].lerp_(value, 1 - keep)
                    else:
                        average[key].copy_(value)
            count += 1
            for key, metric in {"loss": float(loss.detach()), **metrics}.items():
                sums[key] = sums.get(key, 0.0) + metric
            if count == 100:
                row = {
                    "step": step,
                    "minutes": round(elapsed() / 60, 2),
                    **{k: round(v / count, 5) for k, v in sums.items()},
                }
                _append(config.run / "log.csv", row)
                log.info(
                    "%s %s fresh %.2f",
                    config.stage,
                    row,
                    supply.fresh / max(step - int(state.get("step", 0)), 1),
                )
                sums, count = {}, 0
            if time.monotonic() - saved > 120:
                checkpoint.save(network, average, optimizer, counters())
                saved = time.monotonic()
        checkpoint.save(network, average, optimizer, counters())
    finally:
        supply.close()
    network.load_state_dict(average)
    notes = {
        "stage": config.stage,
        **counters(),
        "seed": config.seed,
        "size": config.size,
        "batch": config.batch,
    }
    described = {
        k: str(v) for k, v in asdict(config).items() if k in ("minutes", "steps", "rate", "decay", "average")
    }
    return registry.publish(config.stage, network, config.publish or config.weights, {**notes, **described})


def _append(path: Path, row: Mapping[str, object]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
