"""Where the networks fail on people, measured: the same heads with and without what is hard, on the light stage.

``python -m platelight.training.weak_spots OUT --data D --heads 6`` photographs heads bare, with glasses, sunglasses and a hat, without
hair, with dark and with light skin, and hands close up; lights each by an even sky and by a hard sun; takes them apart with the
shipped networks and prints a table. Photographs that ``OUT`` holds are not made again. The heads are of no training set. Needs bpy.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from platelight.pipeline import service
from platelight.pipeline.metrics import angles, best_scale
from platelight.protocol.errors import InputError
from platelight.protocol.requests import Decompose
from platelight.training.light_stage_lights import fibonacci
from platelight.training.light_stage_reader import StageSubject, as_subject
from platelight.training.light_stage_store import MAPS, Shard, Store, pack, shard_name
from platelight.training.light_stage_subjects import Casting, Family, Look
from platelight.training.worn import Worn

Array = npt.NDArray[Any]
SEED, LAMPS, SAMPLES = 90210, 96, 96
CHANGED = 0.03
"""Difference of normals or albedo from the bare head at which a pixel shows the thing itself."""
BARE = "bare head"
LOOKS: dict[str, Look] = {
    BARE: Look(Worn.NOTHING),
    "its hair": Look(Worn.NOTHING, hair=False),  # photographed bald: what differs is hair
    "glasses": Look(Worn.GLASSES),
    "sunglasses": Look(Worn.SUNGLASSES),
    "hat": Look(Worn.HAT),
    "dark skin": Look(Worn.NOTHING, tone=(0.075, 0.04, 0.028)),
    "light skin": Look(Worn.NOTHING, tone=(0.55, 0.36, 0.28)),
    "hand": Look(hand=True),
}


@dataclass(frozen=True)
class Errors:
    """Normals in degrees over all and over the thing alone (NaN: not seen); albedo relative to its mean; roughness."""

    normal: float
    thing: float
    albedo: float
    roughness: float


def lights() -> dict[str, Array]:
    """Weights (L,) of the stage's lamps: an even sky that is brighter above, and a sun from the upper left over a faint sky."""
    towards = fibonacci(LAMPS)
    way = np.array([-0.55, 0.6, 0.58])
    sun = np.zeros(LAMPS)
    sun[int((towards @ way).argmax())] = 40.0
    return {"sky": 0.5 + 0.5 * np.clip(towards[:, 1], 0, 1), "sun": sun + 0.15}


def photographed(store: Store, casting: Casting, name: str, head: int, size: int) -> StageSubject:
    """One look of one head, from the store or made now."""
    shard = shard_name(1000 * list(LOOKS).index(name) + head)
    if shard not in store.names():
        from platelight.training.light_stage_scene import photograph

        family = Family.BODY if LOOKS[name].hand else Family.HEAD
        subject = casting.draw(SEED, head, family, LOOKS[name])
        shot = photograph(subject, LAMPS, size, SAMPLES, head)
        info = {"fov": subject.fov, "subject": head, "family": str(family), "sources": list(subject.sources)}
        store.write(shard, pack(Shard(shot.olat, {key: getattr(shot, key) for key in MAPS}, info)))
    return as_subject(store.read_shard(shard))


def changed(subject: StageSubject, bare: StageSubject) -> npt.NDArray[np.bool_]:
    """Where (H, W) a look differs from the bare head."""
    maps = ((one.normal * one.alpha, one.albedo * one.alpha) for one in (subject, bare))
    return np.asarray(sum((a - b).abs().sum(0) for a, b in zip(*maps, strict=True)).numpy() > CHANGED)


def measured(subject: StageSubject, weights: Array, thing: npt.NDArray[np.bool_] | None) -> Errors:
    """Errors of the shipped networks on a subject under one light."""
    plate = subject.sum(torch.from_numpy(weights).float()[None, :, None].expand(1, -1, 3))[0]
    alpha = subject.alpha[0].numpy()
    solid = alpha > 0.9
    if not solid.any():
        raise InputError("A subject is not in the picture.", "Give another number of --heads.")
    level = 0.3 / max(float(np.percentile(plate.mean(0).numpy()[solid], 90)), 1e-9)
    planes = {"plate": plate.permute(1, 2, 0).numpy() * np.float32(level), "matte": alpha}
    maps = service.run_job(Decompose(matte="given"), planes).planes
    off = angles(maps["normal"], subject.normal.permute(1, 2, 0).numpy())
    truth = subject.albedo.permute(1, 2, 0).numpy()[solid]
    found = maps["albedo"][solid]
    here = solid & thing if thing is not None else np.zeros_like(solid)
    return Errors(
        float(off[solid].mean()),
        float(off[here].mean()) if here.sum() > 20 else float("nan"),
        float(np.abs(best_scale(found, truth) * found - truth).mean() / truth.mean()),
        float(np.abs(maps["roughness"] - subject.roughness[0].numpy())[solid].mean()),
    )


def table(rows: dict[tuple[str, str], list[Errors]]) -> str:
    """Means over heads, as Markdown."""
    lines = [
        "| what | light | pictures | normals, all | normals, of the thing | albedo, relative | roughness |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (name, light), errors in rows.items():
        seen = [e.thing for e in errors if np.isfinite(e.thing)]
        thing = f"{np.mean(seen):.1f}° in {len(seen)}" if seen else ""
        normal, albedo, rough = (
            float(np.mean([getattr(e, key) for e in errors])) for key in ("normal", "albedo", "roughness")
        )
        lines.append(
            f"| {name} | {light} | {len(errors)} | {normal:.1f}° | {thing} | {albedo:.2f} | {rough:.2f} |"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Photograph what is missing, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m platelight.training.weak_spots", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of head_ict_facekit and body_mpfb2")
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--size", type=int, default=192)
    options = parser.parse_args(argv)
    store = Store(str(options.out.absolute()))
    casting = Casting(options.data)
    rows: dict[tuple[str, str], list[Errors]] = {}
    for head in range(options.heads):
        bare = photographed(store, casting, BARE, head, options.size)
        for name, look in LOOKS.items():
            subject = photographed(store, casting, name, head, options.size)
            thing = changed(subject, bare) if look.worn and look.tone is None and name != BARE else None
            if not look.hair:
                subject = bare  # the head with its hair is measured, where its bald twin differs
            for light, weights in lights().items():
                rows.setdefault((name, light), []).append(measured(subject, weights, thing))
    print(table(rows))
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # Blender's own exit may hang
