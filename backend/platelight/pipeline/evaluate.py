"""Measure the pipeline on suites of real photographs with ground truth.

A suite is a folder with ``suite.json``: ``{"name", "note", "cases": [case, …]}``. A case has ``id`` and paths
relative to the suite: ``plate`` (linear EXR), ``matte`` (PNG), and optionally ``normal``, ``albedo``, ``roughness``,
``f0``, ``light`` (the plate's own, lat-long) and ``relit``, a list of ``{light, image}``.

The measures are those of :mod:`.metrics`; each stands beside what no network at all would reach: the flat normal,
the plate or one color as albedo, the mean of the other cases' lights, the plate as the relit picture.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from platelight.images import read_light, read_matte, read_plate
from platelight.images.exr import read_exr
from platelight.pipeline.metrics import albedo_error, finish_error, light_error, normal_error, relit_error
from platelight.protocol.errors import InputError
from platelight.protocol.requests import Decompose, Relight

log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.float32]
Maps = Mapping[str, Pixels]
Decomposer = Callable[[Pixels, Pixels], Maps]
"""(plate (H, W, 3), matte (H, W)) to the maps of ``decompose``; albedo and normal are what is measured."""
Relighter = Callable[[Maps, Pixels], Maps]
"""(maps, light (h, 2h, 3)) to ``relit`` (H, W, 4) premultiplied and ``pbr`` (H, W, 3)."""


class RelitTruth(msgspec.Struct, frozen=True):
    """The same view photographed under another light."""

    light: str
    image: str


class Case(msgspec.Struct, frozen=True):
    """One photograph and what is known of it; paths are relative to the suite."""

    id: str
    plate: str
    matte: str
    normal: str | None = None
    albedo: str | None = None
    roughness: str | None = None
    f0: str | None = None
    light: str | None = None
    relit: tuple[RelitTruth, ...] = ()


class Suite(msgspec.Struct, frozen=True):
    """The content of ``suite.json``."""

    name: str
    cases: tuple[Case, ...]
    note: str = ""


@dataclass(frozen=True)
class CaseReport:
    """Measures of one case by name (``normal_mean``, ``albedo_psnr``, …); see ``MEASURES``."""

    id: str
    measures: dict[str, float]


@dataclass(frozen=True)
class SuiteReport:
    """Measures of each case of a suite, and their means over the cases that have them."""

    name: str
    cases: list[CaseReport]
    mean: dict[str, float] = field(default_factory=dict)


MEASURES = {
    "normal_mean": "normal ° mean",
    "normal_median": "° median",
    "normal_under_11": "< 11.25°",
    "normal_under_22": "< 22.5°",
    "normal_under_30": "< 30°",
    "normal_flat": "flat °",
    "albedo_mse": "albedo si-MSE",
    "albedo_psnr": "albedo dB",
    "albedo_plate_mse": "plate si-MSE",
    "albedo_plate": "plate dB",
    "albedo_constant_mse": "constant si-MSE",
    "albedo_constant": "constant dB",
    "roughness_mae": "roughness",
    "roughness_constant": "0.5",
    "f0_mae": "√f0",
    "light_ball": "light: ball",
    "light_mean": "mean light",
    "relit_psnr": "relit dB",
    "relit_ssim": "SSIM",
    "pbr_psnr": "PBR dB",
    "pbr_ssim": "PBR SSIM",
    "relit_plate": "plate dB",
    "relit_plate_ssim": "plate SSIM",
}
"""Names of the measures, and how tables head them."""


def load_suite(path: str | os.PathLike[str]) -> tuple[Path, Suite]:
    """Read a suite's description: its folder and content. Raises InputError."""
    folder = Path(path)
    file = folder if folder.name == "suite.json" else folder / "suite.json"
    try:
        suite = msgspec.json.decode(file.read_bytes(), type=Suite)
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} holds no suite.json.", "Give the folder of an evaluation suite."
        ) from error
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise InputError(f"{file} is not a suite description: {error}.", "See docs/training.md.") from error
    return file.parent, suite


def find_suites(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The folders among ``paths`` that hold a suite, so that ``suites/*`` may also match a README.

    Raises:
        InputError: none does.
    """
    given = [Path(path) for path in paths]
    found = [path for path in given if (path / "suite.json").is_file() or path.name == "suite.json"]
    for path in given:
        if path not in found:
            log.info("%s is not a suite", path)
    if not found:
        raise InputError(
            f"{given[0] if given else 'Nothing'} holds no suite.json.",
            "Give the folder of an evaluation suite.",
        )
    return found


def evaluate(
    path: str | os.PathLike[str],
    decomposer: Decomposer | None = None,
    relighter: Relighter | None = None,
    limit: int | None = None,
    progress: Callable[[float, str], None] = lambda fraction, stage: None,
    seen: Callable[[str, Mapping[str, Pixels]], None] = lambda case, pictures: None,
) -> SuiteReport:
    """Measure one suite.

    Args:
        path: the suite's folder.
        decomposer: what takes plates apart; the pipeline itself by default.
        relighter: what relights; the pipeline itself by default.
        limit: measure only the first cases.
        progress: called with the fraction done and the case's id.
        seen: called after each case with its pictures, for sheets: plate, matte, normal, true_normal, albedo,
            true_albedo, relit, pbr, true_relit (the last light's), where there are.

    Raises:
        InputError: the suite or a file of it cannot be read.
    """
    folder, suite = load_suite(path)
    cases = suite.cases[:limit] if limit else suite.cases
    if not cases:
        raise InputError(f"{folder} has no cases.", "Give another suite.")
    lights = _balanced_lights(folder, cases)
    reports = []
    for number, case in enumerate(cases):
        progress(number / len(cases), case.id)
        measures, pictures = _measure(
            folder, case, decomposer or pipeline_decompose, relighter or pipeline_relight
        )
        if case.light and len(lights) > 1:
            others = [light for key, light in lights.items() if key != case.id]
            measures["light_mean"] = light_error(np.mean(others, axis=0), lights[case.id])
        seen(case.id, pictures)
        reports.append(CaseReport(case.id, measures))
    progress(1.0, "done")
    return SuiteReport(suite.name, reports, _means(reports))


def pipeline_decompose(plate: Pixels, matte: Pixels, faces: Literal["off", "on"] = "on") -> Maps:
    """The real thing, with the suite's matte."""
    from platelight.pipeline.service import run_job

    return run_job(Decompose(matte="given", faces=faces), {"plate": plate, "matte": matte}).planes


def pipeline_relight(maps: Maps, light: Pixels, shadows: Literal["off", "on"] = "off") -> Maps:
    """The real thing, over nothing."""
    from platelight.pipeline.service import run_job

    planes = {name: plane for name, plane in maps.items() if name != "light"}
    return run_job(Relight(backdrop="none", shadows=shadows), {**planes, "light": light}).planes


def as_json(reports: Iterable[SuiteReport]) -> bytes:
    """The reports as JSON, with a line for what the figures mean; NaN becomes null."""
    content = {"measures": "platelight.pipeline.metrics", "suites": [asdict(report) for report in reports]}
    return msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n"


def _measure(
    folder: Path, case: Case, decomposer: Decomposer, relighter: Relighter
) -> tuple[dict[str, float], dict[str, Pixels]]:
    plate = read_plate(folder / case.plate).pixels
    size = plate.shape[:2]
    matte = read_matte(folder / case.matte, (size[0], size[1]))
    if not (matte > 0.5).any():
        raise InputError(f"{folder / case.matte} is nowhere above one half.", "Mend the suite's matte.")
    maps = decomposer(plate, matte)
    out: dict[str, float] = {}
    pictures: dict[str, Pixels] = {"plate": plate, "matte": matte, "normal": maps["normal"]}
    pictures["albedo"] = maps["albedo"]
    if case.normal:
        truth = read_normal(folder / case.normal, size)
        error = normal_error(maps["normal"], truth, matte)
        out |= {f"normal_{name}": value for name, value in asdict(error).items()}
        flat = np.broadcast_to(np.array([0.0, 0.0, 1.0], dtype=np.float32), truth.shape)
        out["normal_flat"] = normal_error(flat, truth, matte).mean
        pictures["true_normal"] = truth
    if case.albedo:
        truth = _read_like(folder / case.albedo, size)
        albedo = albedo_error(maps["albedo"], truth, matte)
        # One color is told by the truth itself: the best that anything without a picture could do.
        constant = np.broadcast_to(truth[matte > 0.5].mean(axis=0), truth.shape)
        marks = albedo_error(plate, truth, matte), albedo_error(constant, truth, matte)
        out |= {"albedo_mse": albedo.mse, "albedo_psnr": albedo.psnr}
        out |= {"albedo_plate_mse": marks[0].mse, "albedo_plate": marks[0].psnr}
        out |= {"albedo_constant_mse": marks[1].mse, "albedo_constant": marks[1].psnr}
        pictures["true_albedo"] = truth
    if case.roughness:
        truth = _read_like(folder / case.roughness, size)[..., 0]
        out["roughness_mae"] = finish_error(maps["roughness"], truth, matte)
        out["roughness_constant"] = finish_error(np.full_like(truth, 0.5), truth, matte)
    if case.f0:
        truth = _read_like(folder / case.f0, size)[..., 0]
        out["f0_mae"] = finish_error(np.sqrt(maps["reflectivity"]), np.sqrt(truth), matte)
    if case.light:
        out["light_ball"] = light_error(maps["light"], read_light(folder / case.light))
    rows = []
    for relit in case.relit:
        truth = _read_like(folder / relit.image, size)
        row: dict[str, float] = {}
        result = relighter(maps, read_light(folder / relit.light))
        front = result["relit"][..., :3] / np.maximum(matte, 1e-3)[..., None]
        candidates = (("relit", "relit_psnr", front), ("pbr", "pbr_psnr", result["pbr"]))
        for name, decibels, picture in (*candidates, ("relit_plate", "relit_plate", plate)):
            found = relit_error(picture, truth, matte)
            row |= {decibels: found.psnr, f"{name}_ssim": found.ssim}
        rows.append(row)
        pictures |= {"relit": front, "pbr": result["pbr"], "true_relit": truth}
    out |= {name: float(np.mean([row[name] for row in rows])) for name in (rows[0] if rows else {})}
    return out, pictures


def _means(reports: list[CaseReport]) -> dict[str, float]:
    means = {}
    for name in MEASURES:
        values = [report.measures[name] for report in reports if name in report.measures]
        values = [value for value in values if not math.isnan(value)]
        if values:
            means[name] = float(np.mean(values))
    return means


def _balanced_lights(folder: Path, cases: tuple[Case, ...]) -> dict[str, Pixels]:
    """The true lights of cases by id, small and each of mean 1, so that their mean is nobody's in particular."""
    found = {}
    for case in cases:
        if case.light:
            light = cv2.resize(read_light(folder / case.light), (64, 32), interpolation=cv2.INTER_AREA)
            found[case.id] = np.asarray(light / max(float(light.mean()), 1e-12), np.float32)
    return found


def _read_like(path: Path, size: tuple[int, ...]) -> Pixels:
    pixels = read_plate(path).pixels
    if pixels.shape[:2] != size:
        raise InputError(f"{path} has another size than its plate.", "Mend the suite.")
    return pixels


def read_normal(path: Path, size: tuple[int, ...]) -> Pixels:
    """A signed picture, which must not be sanitized as light would be."""
    channels: dict[str, npt.NDArray[Any]] = read_exr(path)[0].channels
    for names in (("R", "G", "B"), ("X", "Y", "Z"), ("normal.X", "normal.Y", "normal.Z")):
        if all(name in channels for name in names):
            stack = np.stack([channels[name] for name in names], axis=-1)
            normal: Pixels = np.nan_to_num(stack.astype(np.float32))
            if normal.shape[:2] != size:
                raise InputError(f"{path} has another size than its plate.", "Mend the suite.")
            return normal
    raise InputError(f"{path} holds no normals.", "Store them as R, G, B or X, Y, Z.")
