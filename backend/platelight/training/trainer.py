"""Runs a stage on any device: resumable checkpoints, averaged weights, a log to plot, a clean end when asked to stop."""

from __future__ import annotations

import csv
import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn

from platelight.models import registry
from platelight.protocol.errors import InputError
from platelight.training.checkpoint import Checkpoint
from platelight.training.mmae import MmaeStage, Photos
from platelight.training.render_stage import RenderStage
from platelight.training.stages import (
    DiffuseStage,
    IllumStage,
    NormalStage,
    SpecularStage,
    Stage,
    cosine_rate,
)
from platelight.training.start import Start
from platelight.training.supply import (
    DirectSupply,
    Ingredients,
    ProcessSupply,
    Supply,
    make_maker,
    pick_device,
)

log = logging.getLogger(__name__)


# Of a run warms up; a network that is trained already loses less to Adam's first steps.
WARM, AGAIN = 0.02, 0.1
KINDS: dict[str, type[Stage]] = {
    stage.name: stage
    for stage in (NormalStage, IllumStage, DiffuseStage, SpecularStage, RenderStage, MmaeStage)
}


@dataclass(frozen=True)
class TrainConfig:
    """One run. It ends after ``minutes`` of training or ``steps`` steps, whichever its schedule counts.

    ``leg`` ends this call after so many minutes, for the next call to go on; ``further`` starts from the network's own
    published weights, otherwise ``start`` says from what. ``log`` is a table shared by several runs (see ``append``);
    by default a run has its own. ``encoder_rate`` is the encoder's share of the rate: with 0 it stays as it is, its batch statistics
    too, for made pictures bend what it knows of photographs (Kumar et al. 2022). ``split`` writes
    checkpoints in parts (see ``Checkpoint``).
    """

    stage: str
    run: Path
    bank: Path | None
    lights: Path
    weights: Path
    minutes: float = 0.0
    steps: int = 0
    batch: int = 16
    size: int = 128
    rate: float = 1e-3
    encoder_rate: float = 1.0
    decay: float = 1e-4
    average: float = 0.998
    seed: int = 1
    threads: int = 1
    pool: int = 64
    textures: Path | None = None
    further: bool = False
    publish: Path | None = None
    device: str = "cpu"
    leg: float = 0.0
    compile: bool = False
    split: bool = False
    start: Start = Start.USUAL
    pack: Path | None = None
    photos: Path | None = None
    reuse: int = 4
    log: Path | None = None
    stage_set: str | None = None
    stage_share: float = 0.3
    enlarge: Path | None = None
    refiner_set: Path | None = None


@contextmanager
def until_terminated() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, so that a run can save itself; the old handler is put back."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread may listen
        return

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()

    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def _prepare(config: TrainConfig, device: torch.device) -> tuple[Stage, str]:
    """The stage with its network on the device, and what that started from."""
    with device:
        stage = KINDS[config.stage](config.weights, config.pack)
        if config.further:
            file = registry.describe(config.stage, config.weights)
            stage.network.load_state_dict(registry.load(config.stage, folder=config.weights).state_dict())
            origin = f"published {file.sha256[:12]}"
        else:
            origin = stage.start(config.weights, config.start)
    if isinstance(stage, MmaeStage) and config.photos is not None:
        stage.photos = Photos(config.photos, config.size, config.seed)
    stage.network.requires_grad_(True)
    stage.network = registry.channels_last(stage.network).train()
    if config.encoder_rate == 0 and isinstance(encoder := getattr(stage.network, "encoder", None), nn.Module):
        encoder.requires_grad_(False).eval()
    if config.compile:
        for module in (stage.network, *(stage.frozen.networks.values() if stage.frozen else ())):
            if isinstance(encoder := getattr(module, "encoder", None), nn.Module):
                encoder.compile()  # in place: names of parameters stay
    return stage, origin


def _groups(network: nn.Module, config: TrainConfig) -> list[dict[str, object]]:
    """Parameters by weight decay, which vectors have none of, and by their share of the rate."""
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {(True, 1.0): [], (False, 1.0): []}
    for name, parameter in network.named_parameters():
        share = config.encoder_rate if name.startswith("encoder.") else 1.0
        groups.setdefault((parameter.ndim > 1, share), []).append(parameter)
    return [
        {"params": some, "weight_decay": config.decay if matrices else 0.0, "share": share}
        for (matrices, share), some in groups.items()
        if some
    ]


def _supply(config: TrainConfig, seed: int, targets: int, device: torch.device) -> Supply:
    if config.refiner_set is not None:
        if config.stage != RenderStage.name:
            raise InputError(f"A refiner set does not train {config.stage}.", "Leave --refiner-set out.")
        # Not above: a bare GPU machine lacks what the pipeline needs.
        from platelight.training.refiner_set import RefinerSet

        return DirectSupply(RefinerSet(config.refiner_set, seed), config.batch, targets, device)
    made_of = Ingredients(
        config.lights, config.bank, config.textures, config.pack, config.reuse, config.stage_set,
        config.stage_share, config.enlarge,
    )  # fmt: skip
    made_of.stage()  # what is wrong with it is better told here than by the producer
    if device.type != "cpu" and config.bank is None:
        generator = make_maker(made_of, config.size, seed, device)
        return DirectSupply(generator, config.batch, targets, device)
    return ProcessSupply(made_of, config.size, config.batch, seed, targets, config.pool, device)


def train(config: TrainConfig) -> Path | None:
    """Run or resume one stage; returns the published weights file, or None where the run was stopped before its end.

    Raises:
        InputError: the run has no end, or something that it needs is missing.
    """
    if config.minutes <= 0 and config.steps <= 0:
        raise InputError("A run needs an end.", "Give --minutes or --steps.")
    device = pick_device(config.device)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    config.run.mkdir(parents=True, exist_ok=True)
    with until_terminated() as asked:
        return _train(config, device, asked)


def _train(config: TrainConfig, device: torch.device, asked: threading.Event) -> Path | None:
    called = time.monotonic()
    stage, origin = _prepare(config, device)
    network = stage.network
    optimizer = torch.optim.AdamW(_groups(network, config), config.rate)
    average = {k: v.detach().clone() for k, v in network.state_dict().items()}
    checkpoint = Checkpoint(config.run, config.split)
    state = checkpoint.load(network, average, optimizer, stage.modules_beside)
    step, spent = int(state.get("step", 0)), float(state.get("seconds", 0.0))
    origin = str(state.get("origin", origin))
    supply = _supply(config, config.seed * 7919 + step, stage.targets, device)
    started, saved, count = time.monotonic(), time.monotonic(), 0
    sums: dict[str, Tensor] = {}

    def elapsed() -> float:
        return spent + time.monotonic() - started

    def fraction() -> float:
        return max(
            step / config.steps if config.steps else 0.0,
            elapsed() / 60 / config.minutes if config.minutes else 0.0,
        )

    def leg_over() -> bool:
        return asked.is_set() or bool(config.leg and time.monotonic() - called > 60 * config.leg)

    def counters() -> dict[str, object]:
        return {
            "step": step,
            "seconds": elapsed(),
            "pictures": step * config.batch,
            "fresh": float(state.get("fresh", 0)) + supply.fresh * config.batch,
            "origin": origin,
        }

    def keep() -> None:
        checkpoint.save(network, average, optimizer, counters(), stage.modules_beside)

    try:
        first = supply.next()
        started = time.monotonic()  # making the first pictures is not training time
        while fraction() < 1.0 and not leg_over():
            batch, first = first, supply.next()
            for group in optimizer.param_groups:
                group["lr"] = (
                    group["share"] * config.rate * cosine_rate(fraction(), AGAIN if config.further else WARM)
                )
            with device:
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
            weight = min(config.average, (1 + step) / (10 + step))
            with torch.no_grad():
                for key, value in network.state_dict().items():
                    if value.is_floating_point():
                        average[key].lerp_(value, 1 - weight)
                    else:
                        average[key].copy_(value)
            count += 1
            for key, metric in {"loss": loss.detach(), **metrics}.items():
                sums[key] = sums[key] + metric if key in sums else metric
            if count == 100:
                row = {
                    "step": step,
                    "minutes": round(elapsed() / 60, 2),
                    **{k: round(float(v) / count, 5) for k, v in sums.items()},
                }
                append(config, row)
                log.info(
                    "%s %s fresh %.2f",
                    config.stage,
                    row,
                    supply.fresh / max(step - int(state.get("step", 0)), 1),
                )
                sums, count = {}, 0
            if time.monotonic() - saved > 120:
                keep()
                saved = time.monotonic()
        keep()
    finally:
        supply.close()
    if fraction() < 1.0:
        log.info("%s stopped at step %d; the same command goes on from there", config.stage, step)
        return None
    network.load_state_dict(average)
    notes = {
        "stage": config.stage,
        **counters(),
        "seed": config.seed,
        "size": config.size,
        "batch": config.batch,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "views": _views(config),
    }
    if config.stage_set is not None:
        notes["light_stage_share"] = config.stage_share
        notes["enlarged"] = config.enlarge is not None
    described = {
        k: str(v) for k, v in asdict(config).items() if k in ("minutes", "steps", "rate", "decay", "average")
    }
    return registry.publish(config.stage, network, config.publish or config.weights, {**notes, **described})


def _views(config: TrainConfig) -> str:
    if config.refiner_set is not None:
        return "refiner set"
    return "bank" if config.bank is not None else "fast generator"


def append(config: TrainConfig, row: Mapping[str, float]) -> None:
    """Add a row to the run's own table, or one line a measure (stage, step, minutes, measure, value) to a shared one."""
    if config.log is None:
        _append(config.run / "log.csv", row)
        return
    for key, value in row.items():
        if key not in ("step", "minutes"):
            _append(
                config.log,
                {"stage": config.stage, "step": row["step"], "minutes": row["minutes"], "measure": key,
                 "value": value},
            )  # fmt: skip


def _append(path: Path, row: Mapping[str, object]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
