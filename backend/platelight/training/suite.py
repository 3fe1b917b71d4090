"""Pictures that were never trained on, written as a suite, so that ``platelight evaluate`` measures every map on them.

Photographs with ground truth have normals, seldom albedo, never roughness or light; made ones have all.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from platelight.images import write_png_values
from platelight.images.exr import write_exr
from platelight.pipeline.evaluate import Case, RelitTruth, Suite
from platelight.protocol.errors import InputError
from platelight.training.pictures import Batch, Maker


def write_suite(maker: Maker, out: Path, count: int, note: str) -> Path:
    """Write ``count`` held-out pictures with normal, albedo, roughness, f0, light and one relit picture each.

    Args:
        maker: what makes pictures of its held-out subjects.
        out: the suite's folder; it must not exist, and appears when it is complete.
        note: what the suite says of its making.

    Raises:
        InputError: the folder exists.
    """
    if out.exists():
        raise InputError(f"{out} exists.", "Give a new folder.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        folder = Path(scratch) / "suite"
        cases = tuple(_write(maker.batch(1, 1, True), folder, number) for number in range(count))
        suite = Suite(out.name, cases, note)
        (folder / "suite.json").write_bytes(msgspec.json.format(msgspec.json.encode(suite), indent=1))
        shutil.move(folder, out)
    return out


def _write(batch: Batch, folder: Path, number: int) -> Case:
    name = f"picture_{number:03d}"
    (folder / name).mkdir(parents=True)
    assert batch.target is not None
    assert batch.target_latlong is not None
    surface, known = batch.surface, batch.matte > 0.5
    planes: dict[str, Tensor] = {
        "plate": batch.plate * batch.matte,  # before a black backdrop
        "normal": surface.normal * known,
        "albedo": surface.albedo,
        "roughness": surface.roughness.expand(-1, 3, -1, -1),
        "f0": surface.f0.expand(-1, 3, -1, -1),
        "light": batch.latlong,
        "target": batch.target,
        "target_light": batch.target_latlong,
    }
    for leaf, plane in planes.items():
        pixels = plane[0].permute(1, 2, 0).float().cpu().numpy()
        channels: dict[str, Any] = {letter: pixels[..., k].copy() for k, letter in enumerate("RGB")}
        write_exr(folder / name / f"{leaf}.exr", channels, {})
    write_png_values(folder / name / "matte.png", batch.matte[0, 0].cpu().numpy())
    at = f"{name}/"
    return Case(
        name, at + "plate.exr", at + "matte.png", at + "normal.exr", at + "albedo.exr", at + "roughness.exr", at + "f0.exr",
        at + "light.exr", (RelitTruth(at + "target_light.exr", at + "target.exr"),),
    )  # fmt: skip
