"""``platelight train ladder``: all stages in order within a given time, whole again after any interruption.

Under ``out``: ``weights/`` (published networks), ``log.csv`` (all curves) and, for the stage in progress alone,
``STAGE/`` with its checkpoint. The same command goes on where the last call ended.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from platelight.models import registry
from platelight.protocol.errors import InputError
from platelight.training.checkpoint import Checkpoint
from platelight.training.start import Start
from platelight.training.trainer import TrainConfig, train

log = logging.getLogger(__name__)
# What share of the time each stage has, and its learning rate at batch 16.
SHARES: dict[str, float] = {"normal": 0.46, "illum": 0.10, "diffuse": 0.22, "specular": 0.08, "render": 0.14}
RATES: dict[str, float] = {
    "mmae": 1e-3, "normal": 2e-3, "illum": 5e-4, "diffuse": 1e-3, "specular": 8e-4, "render": 8e-4,
}  # fmt: skip
PRETRAINING = 0.25  # the share of MMAE, where the networks start from it
LEAST = 0.05  # minutes: what is left is given back rather than started with
ENOUGH = 0.4  # of a stage's planned time: with less left, a later call trains it rather than this one badly


@dataclass(frozen=True)
class LadderConfig:
    """One call of the ladder. ``minutes``: how long this call may take, in all; ``of``: the whole ladder's training
    time over all calls (by default this call's); ``common``: what every stage's run shares."""

    out: Path
    minutes: float
    common: TrainConfig
    of: float = 0.0
    start: Start = Start.USUAL


def plan(start: Start) -> dict[str, float]:
    """Stages in order, each with its share of the time; they sum to one."""
    if start is not Start.MMAE:
        return dict(SHARES)
    return {"mmae": PRETRAINING, **{k: v * (1 - PRETRAINING) for k, v in SHARES.items()}}


def rate_for(stage: str, batch: int) -> float:
    """Learning rate: by the square root of the batch, as Adam's noise asks, but no more than four times."""
    return RATES[stage] * min(math.sqrt(batch / 16), 4.0)


def allot(shares: Mapping[str, float], done: Mapping[str, float], stage: str, total: float) -> float:
    """Minutes of the whole run of ``stage``: its part of what the stages before it left, by its share.

    ``done``: minutes that finished stages took.
    """
    left = total - sum(done.values())
    ahead = sum(share for name, share in shares.items() if name not in done)
    return max(left * shares[stage] / ahead, LEAST)


def finished(weights: Path, stage: str) -> float | None:
    """Minutes that a published stage took, or None where it is not published yet."""
    if not (weights / f"{stage}.safetensors").is_file():
        return None
    return float(registry.describe(stage, weights).notes.get("seconds", 0)) / 60


def ladder(config: LadderConfig, run: Callable[[TrainConfig], Path | None] = train) -> list[str]:
    """Run stages until all are published or the time is over; names of those published so far.

    Raises:
        InputError: no time is given.
    """
    if config.minutes <= 0:
        raise InputError("The ladder needs a time.", "Give --minutes.")
    began = time.monotonic()
    weights = config.out / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    shares = plan(config.start)
    total = config.of or config.minutes
    done: dict[str, float] = {}
    for stage in shares:
        took = finished(weights, stage)
        if took is not None:
            done[stage] = took
            continue
        spent = (time.monotonic() - began) / 60
        folder = config.out / stage
        before = float(Checkpoint(folder).counters().get("seconds", 0)) / 60
        # Loading and the first pictures take time that is no training: the last call's end holds in any case.
        minutes = allot(shares, done, stage, total)
        if not config.of:
            ahead = sum(share for name, share in shares.items() if name not in done)
            minutes = before + max((config.minutes - spent) * shares[stage] / ahead - 0.05, LEAST)
            if minutes - before < ENOUGH * shares[stage] * config.minutes and minutes > before:
                log.info("%s: too little of this call is left for it; the next call goes on", stage)
                break
        leg = config.minutes - spent
        if leg <= LEAST:
            break
        log.info(
            "%s: until %.1f minutes, %.1f of them done; %.1f left in this call", stage, minutes, before, leg
        )
        path = run(
            replace(
                config.common,
                stage=stage,
                run=folder,
                weights=weights,
                minutes=minutes,
                leg=leg,
                rate=rate_for(stage, config.common.batch),
                start=config.start,
                log=config.out / "log.csv",
            )
        )
        if path is None:
            break
        done[stage] = finished(weights, stage) or 0.0
        shutil.rmtree(folder, ignore_errors=True)  # published: its checkpoint is not needed any more
    return list(done)
