"""The method's choices against their alternatives, each trained alike: same seed, steps, batch, pictures and start.

``python -m platelight.training.ablations OUT --bank B --lights L --steps 600 --suite S`` trains what ``OUT/ablations.json`` does not
hold yet, measures each on held-out made pictures and on the photographs of evaluation suites, which are never trained on, and
prints a table.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import torch
from safetensors.torch import load_file
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn
from torch.nn import functional as F

from platelight.images import read_light, read_matte, read_plate
from platelight.images.atomic import write_bytes
from platelight.models import registry
from platelight.models.networks import CrossAttention, DiffuseNet, IllumNet, exposure_of
from platelight.pipeline.evaluate import Case, load_suite, read_normal
from platelight.training import trainer
from platelight.training.lights import ROWS
from platelight.training.materials import Surface
from platelight.training.pictures import Batch, Maker
from platelight.training.render_stage import RenderStage
from platelight.training.stages import DiffuseStage, IllumStage, Stage
from platelight.training.start import Start
from platelight.training.supply import Ingredients, make_maker
from platelight.training.trainer import KINDS, TrainConfig, train

log = logging.getLogger(__name__)
HELD_OUT = 12  # batches


class DivisionStage(DiffuseStage):
    """DiffuseNet as it is, but without NormalNet's hint of the albedo, which its alternative could not use."""

    def start(self, weights: Path, start: Start = Start.USUAL) -> str:
        """As ever; the first answer is the plate itself."""
        origin = super().start(weights, start)
        assert isinstance(self.network, DiffuseNet)
        for parameter in self.network.head.parameters():
            parameter.data[3:] = 0
        return origin


class DirectStage(DivisionStage):
    """The logarithm of the albedo is answered itself, not that of albedo over plate."""

    GRAY = -1.2  # its first answer: 0.3 everywhere

    def paint_error(self, answer: Tensor, batch: Batch) -> Tensor:
        """Logarithm of the answered albedo over the true one."""
        return (answer + self.GRAY).clamp(-5, 0.5) - torch.log(batch.surface.albedo + 0.02)


class Pooling(CrossAttention):
    """In place of attention: each query gets the mean of all that is kept."""

    def forward(self, queries: Tensor, tokens: Tensor, keep: Tensor) -> Tensor:
        """As :class:`CrossAttention`."""
        value = self.key_value(self.norm_t(tokens)).chunk(2, -1)[1]
        weight = keep[..., None].to(value.dtype)
        mean = (value * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        queries = queries + self.out(mean).expand_as(queries)
        mixed: Tensor = queries + self.mlp(self.norm_m(queries))
        return mixed


class PooledIllumNet(IllumNet):
    """IllumNet whose queries all see the same."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleList(Pooling(self.WIDTH, 4) for _ in range(3))


class PooledStage(IllumStage):
    """IllumNet by pooling."""

    def __init__(self, weights: Path, pack: Path | None = None) -> None:
        super().__init__(weights, pack)
        self.network = PooledIllumNet()


class PlainRenderStage(RenderStage):
    """RenderNet without the specular loss."""

    WEIGHTS = (1.0, 0.2, 0.02, 0.0)


VARIANTS: dict[str, type[Stage]] = {
    "albedo_division": DivisionStage, "albedo_direct": DirectStage,
    "illum_pooled": PooledStage, "render_plain": PlainRenderStage,
}  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One run. ``staged``: the light-stage set's share of its pictures; ``known``: what photographs tell of its measures."""

    question: str
    name: str
    stage: str
    measures: tuple[str, ...]
    known: tuple[str, ...] = ()
    start: Start = Start.USUAL
    staged: float = 0.0

    @property
    def key(self) -> str:
        """Names the run's folder; trials of the same run share it."""
        return "-".join([self.stage, self.start, str(round(100 * self.staged))])


DEGREES, PAINT = ("degrees",), ("shape",)
TRIALS = (
    Trial("encoder", "ImageNet", "normal", DEGREES, DEGREES, Start.IMAGENET),
    Trial("encoder", "MMAE", "normal", DEGREES, DEGREES, Start.MMAE),
    Trial("encoder", "random", "normal", DEGREES, DEGREES, Start.RANDOM),
    Trial("pictures", "made", "normal", DEGREES, DEGREES, Start.IMAGENET),
    Trial("pictures", "light stage", "normal", DEGREES, DEGREES, Start.IMAGENET, 1.0),
    Trial("pictures", "both", "normal", DEGREES, DEGREES, Start.IMAGENET, 0.5),
    Trial("albedo", "by division", "albedo_division", PAINT, PAINT),
    Trial("albedo", "direct", "albedo_direct", PAINT, PAINT),
    Trial("light", "attention", "illum", ("lobe", "seen", "map")),
    Trial("light", "pooling", "illum_pooled", ("lobe", "seen", "map")),
    Trial("specular loss", "on", "render", ("relit", "highlight"), ("relit", "highlight")),
    Trial("specular loss", "off", "render_plain", ("relit", "highlight"), ("relit", "highlight")),
)


class Result(msgspec.Struct, frozen=True):
    """Measures of a run by name, on held-out made pictures, and on photographs by suite."""

    held_out: dict[str, float]
    photographs: dict[str, dict[str, float]]
    minutes: float


@torch.no_grad()
def measured(stage: Stage, batches: list[Batch]) -> dict[str, float]:
    """Means over batches of what a stage tells of itself."""
    stage.network.eval()
    rows = [stage.loss(batch)[1] for batch in batches]
    return {key: round(float(np.mean([float(row[key]) for row in rows])), 4) for key in rows[0]}


def known_everywhere(normal: Any) -> Any:
    """Normals (H, W, 3) with the nearest known one where there is none."""
    unknown = np.abs(normal).sum(-1) == 0
    nearest = distance_transform_edt(unknown, return_distances=False, return_indices=True)
    return normal[tuple(nearest)]


def as_batch(folder: Path, case: Case, size: int) -> Batch:
    """A suite's photograph as trainers see pictures, (1, C, size, size); of what it does not tell there are zeros."""

    def read(path: str | None) -> Any:
        return None if path is None else read_plate(folder / path).pixels

    plate = read(case.plate)
    matte = read_matte(folder / case.matte, plate.shape[:2])
    ys, xs = np.nonzero(matte > 0.5)
    side = round(1.08 * (1 + max(np.ptp(ys), np.ptp(xs))))
    corner = [round(float(v.min() + v.max() + 1 - side) / 2) for v in (ys, xs)]

    def cut(image: Any, channels: int = 3) -> Tensor:
        """The square about the subject, black beyond the picture."""
        out = np.zeros((side, side, channels), np.float32)
        if image is not None:
            shape = np.array(image.shape[:2])
            low = np.maximum(corner, 0)
            high = np.minimum(np.array(corner) + side, shape)
            at = low - corner
            shown = image[low[0] : high[0], low[1] : high[1]].reshape(*(high - low), channels)
            out[at[0] : at[0] + shown.shape[0], at[1] : at[1] + shown.shape[1]] = shown
        small = cv2.resize(out, (size, size), interpolation=cv2.INTER_AREA).reshape(size, size, channels)
        return torch.from_numpy(small).permute(2, 0, 1)[None]

    cover = cut(matte, 1).clamp(0, 1)
    normal = cut(
        known_everywhere(read_normal(folder / case.normal, plate.shape[:2])) if case.normal else None
    )
    albedo = cut(read(case.albedo))
    one = torch.ones_like(cover)
    surface = Surface(albedo, one * 0.5, one * 0.04, F.normalize(normal, dim=1), cover, one * 0)
    pixels = cut(plate).clamp_min(0)
    view = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, size, size)
    dark = torch.zeros(1, 3, ROWS, 2 * ROWS)
    batch = Batch(pixels * exposure_of(pixels, cover), cover, surface, dark, view)
    if not case.relit:
        return batch
    target = cut(read(case.relit[0].image)).clamp_min(0)
    light = cv2.resize(
        read_light(folder / case.relit[0].light), (2 * ROWS, ROWS), interpolation=cv2.INTER_AREA
    )
    sky = torch.from_numpy(np.ascontiguousarray(light, np.float32)).permute(2, 0, 1)[None]
    return Batch(batch.plate, cover, surface, dark, view, target * exposure_of(target, cover), sky)


def photographs(
    stage: Stage, suites: list[Path], size: int, known: tuple[str, ...]
) -> dict[str, dict[str, float]]:
    """What photographs tell of a stage, by suite; a suite that does not hold the truth of a measure is left out."""
    found = {}
    for path in suites:
        folder, suite = load_suite(path)
        told = {"degrees": "normal", "shape": "albedo", "relit": "relit", "highlight": "relit"}
        kept = [name for name in known if all(getattr(case, told[name]) for case in suite.cases)]
        if kept:
            means = measured(stage, [as_batch(folder, case, size) for case in suite.cases])
            found[suite.name] = {name: means[name] for name in kept}
    return found


def run(trial: Trial, options: argparse.Namespace, maker: Maker) -> Result:
    """Train and measure one trial."""
    folder = options.out / trial.key
    weights = options.weights
    if trial.start is Start.MMAE:
        weights = options.out / "mmae"
        if not (weights / "mmae.safetensors").is_file():
            train(_config("mmae", options, options.out / "mmae", weights, weights))
    config = _config(
        trial.stage, options, folder, weights, folder, start=trial.start,
        stage_set=options.stage_set if trial.staged else None, stage_share=trial.staged or 1.0,
    )  # fmt: skip
    path = train(config)
    assert path is not None
    notes = registry.describe(trial.stage, folder).notes
    torch.manual_seed(options.seed)
    stage = KINDS[trial.stage](weights)
    state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
    stage.network.load_state_dict(state)
    batches = [maker.batch(16, stage.targets, held_out=True) for _ in range(HELD_OUT)]
    held_out = measured(stage, batches)
    seen = photographs(stage, options.suite, options.size, trial.known)
    minutes = round(float(notes["seconds"]) / 60, 1)
    return Result({name: held_out[name] for name in trial.measures}, seen, minutes)


def _config(
    stage: str, options: argparse.Namespace, folder: Path, weights: Path, publish: Path, **more: Any
) -> TrainConfig:
    return TrainConfig(
        stage, folder, options.bank, options.lights, weights, steps=options.steps, size=options.size,
        seed=options.seed, rate=options.rate, textures=options.textures, publish=publish, **more,
    )  # fmt: skip


def table(results: Mapping[str, Result]) -> str:
    """The trials that there are results of, as Markdown."""
    lines = [
        "| question | choice | minutes | held-out made pictures | photographs |",
        "| --- | --- | --- | --- | --- |",
    ]
    for trial in TRIALS:
        if trial.key in results:
            result = results[trial.key]
            made = ", ".join(f"{name} {value:.3f}" for name, value in result.held_out.items())
            real = "; ".join(
                f"`{suite}` " + ", ".join(f"{name} {value:.3f}" for name, value in values.items())
                for suite, values in result.photographs.items()
            )
            lines.append(f"| {trial.question} | {trial.name} | {result.minutes:.1f} | {made} | {real} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run what is asked for and not known yet."""
    parser = argparse.ArgumentParser(prog="python -m platelight.training.ablations", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--lights", type=Path, required=True)
    parser.add_argument("--textures", type=Path)
    parser.add_argument("--stage-set", help="a light-stage set; without it what asks for one is left out")
    parser.add_argument("--suite", type=Path, nargs="*", default=[], help="evaluation suites, to measure on")
    parser.add_argument("--weights", type=Path, default=registry.SHIPPED, help="the networks that go before")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--only", nargs="*", choices=sorted({t.question for t in TRIALS}), help="these questions"
    )
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_flush_denormal(True)
    trainer.KINDS.update(VARIANTS)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "ablations.json"
    results = msgspec.json.decode(file.read_bytes(), type=dict[str, Result]) if file.is_file() else {}
    made_of = Ingredients(options.lights, options.bank, options.textures)
    for trial in TRIALS:
        asked = not options.only or trial.question in options.only
        if not asked or trial.key in results or (trial.staged and not options.stage_set):
            continue
        maker = make_maker(
            made_of, options.size, 1000 + options.seed, torch.device("cpu")
        )  # the same for all
        results[trial.key] = run(trial, options, maker)
        write_bytes(file, msgspec.json.format(msgspec.json.encode(results), indent=1))
        log.info("%s, %s: %s", trial.question, trial.name, results[trial.key])
    print(table(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
