"""What is lost where: relit pictures with the truth in place of one map after the other, and of NormalNet's answer.

``python -m platelight.training.ceilings SUITE...`` prints for each suite what the whole pipeline reaches, what it would with true
normals, albedo or finish in the maps that it relights, and with true normals in place of NormalNet's answer before anything
else is read: all of them, their detail alone, or their broad form alone. What true maps do not reach no network will.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from platelight.images.plate import read_plate
from platelight.models.form import blurred
from platelight.pipeline import decompose
from platelight.pipeline.evaluate import evaluate, find_suites, load_suite, pipeline_decompose, read_normal
from platelight.pipeline.networks import predict_normal
from platelight.pipeline.resample import Window, resize, subject_window

Pixels = npt.NDArray[np.float32]
Truth = dict[str, Pixels]

IN_MAPS = (("normal",), ("albedo",), ("normal", "albedo"), ("normal", "albedo", "roughness", "reflectivity"))
DETAIL = 0.025  # of the root of the subject's area: sigma that parts detail from form
MEASURES = ("normal_mean", "albedo_psnr", "relit_psnr", "relit_ssim", "pbr_psnr", "pbr_ssim")


def truths(folder: Path) -> dict[int, Truth]:
    """The true maps of a suite's cases that are there, by the plate's digest."""
    at, suite = load_suite(folder)
    found = {}
    for case in suite.cases:
        plate = read_plate(at / case.plate).pixels
        true: Truth = {}
        if case.normal:
            true["normal"] = read_normal(at / case.normal, plate.shape[:2])
        files = {"albedo": case.albedo, "roughness": case.roughness, "reflectivity": case.f0}
        for name, file in files.items():
            if file:
                pixels = read_plate(at / file).pixels
                true[name] = pixels if name == "albedo" else np.ascontiguousarray(pixels[..., 0])
        found[hash(plate.tobytes())] = true
    return found


def with_truth(true: Truth, maps: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Maps with the truth in place of those named, where it is known."""
    out = dict(maps)
    for name in names:
        if name in true:
            known = np.linalg.norm(true["normal"], axis=-1, keepdims=True) > 0.5 if name == "normal" else True
            out[name] = np.where(known, true[name], maps[name].reshape(true[name].shape)).astype(np.float32)
    return out


def told(true: Pixels, window: Window, part: str) -> Callable[[Tensor], Tensor]:
    """What takes the answer of NormalNet (1, 3, h, w) to the truth: ``all`` of it, its ``detail`` or its ``form``."""

    def change(answer: Tensor) -> Tensor:
        given = window.cut(torch.from_numpy(true).permute(2, 0, 1)[None])
        given = resize(given, (answer.shape[-2], answer.shape[-1]))
        known = (given.norm(dim=1, keepdim=True) > 0.5).float()
        off = (F.normalize(given, dim=1) - answer) * known
        broad = blurred(off, known, DETAIL * float(known.sum()) ** 0.5)[0] * known
        return F.normalize(answer + {"all": off, "detail": off - broad, "form": broad}[part], dim=1)

    return change


def rows(folder: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """What is true, and the suite's means."""
    known = truths(folder)

    def replaced(names: tuple[str, ...]) -> Callable[[Pixels, Pixels], dict[str, Any]]:
        return lambda plate, matte: with_truth(
            known[hash(plate.tobytes())], dict(pipeline_decompose(plate, matte)), names
        )

    def fed(part: str) -> Callable[[Pixels, Pixels], dict[str, Any]]:
        def run(plate: Pixels, matte: Pixels) -> dict[str, Any]:
            true = known[hash(plate.tobytes())]
            window = subject_window(torch.from_numpy(np.ascontiguousarray(matte))[None, None])
            change = told(true["normal"], window, part)
            with patch.object(decompose, "predict_normal", lambda *given: change(predict_normal(*given))):
                return dict(pipeline_decompose(plate, matte))

        return run

    yield "nothing", evaluate(folder, replaced(())).mean
    there = set().union(*known.values())
    for names in IN_MAPS:
        if set(names) <= there:
            yield "maps: " + ", ".join(names), evaluate(folder, replaced(names)).mean
    if all("normal" in true for true in known.values()):
        for part in ("all", "detail", "form"):
            yield f"NormalNet's answer: {part}", evaluate(folder, fed(part)).mean


def main(argv: list[str] | None = None) -> None:
    """Print a table per suite."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("suites", nargs="+", type=Path)
    for folder in find_suites(options.parse_args(argv).suites):
        print(f"{folder.name}: {', '.join(MEASURES)}")
        for name, mean in rows(folder):
            print(
                f"  {name}: " + ", ".join(f"{mean[key]:.3f}" if key in mean else "-" for key in MEASURES),
                flush=True,
            )


if __name__ == "__main__":
    main()
