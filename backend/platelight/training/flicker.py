"""Flicker along flow, per frame against steadied: on shots whose truth is known (``motion``), and on clips of which it is not.

python -m platelight.training.flicker make out/motion --seeds 1 2
python -m platelight.training.flicker measure out/motion
python -m platelight.training.flicker measure out/motion --again
python -m platelight.training.flicker clip out/carphone --plates carphone_pristine.mp4 --frames 40
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from platelight.images import read_light, read_maps, write_light, write_maps
from platelight.images.exr import read_exr
from platelight.pipeline.metrics import albedo_error, angles
from platelight.pipeline.temporal import (
    FUTURE,
    PAST,
    averaged,
    key_places,
    leveled,
    shot_of,
    steadied,
    still,
    ways_from,
)
from platelight.pipeline.temporal_flow import all_calmed, both_ways
from platelight.protocol.errors import InputError
from platelight.training.motion import make, save
from platelight.training.subjects import Heads

Array = npt.NDArray[Any]


def carried(values: Array, flow: Array) -> Array:
    """``values`` (H, W, C) of the next frame at the places to which the flow leads."""
    rows, columns = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    return np.asarray(
        cv2.remap(values.astype(np.float32), columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR)
    )


def along(fields: Sequence[Array], truth: Any, turned: bool = False) -> tuple[float, float]:
    """How a field (H, W, C) moves along the true flow, where the point stays in view: mean lengths of the flicker and
    of the change.

    Flicker is what goes back and forth: half the second difference over three frames. Change is the first difference,
    drift with it; with ``turned`` the field is one of directions, and the surface's own turn is taken out of that.
    Fields are blurred by one pixel first, or a texture's fractional shift would count.
    """
    jitter: list[Array] = []
    change: list[Array] = []
    masks = [cv2.erode(mask.astype(np.uint8), np.ones((7, 7))).astype(np.float32) for mask in truth["mask"]]
    soft = [np.atleast_3d(cv2.GaussianBlur(np.asarray(field, np.float32), (0, 0), 1.0)) for field in fields]
    for k in range(len(fields) - 1):
        flow = truth["flow"][k]
        use = truth["seen"][k] & (masks[k] > 0.5) & (carried(masks[k + 1], flow) > 0.99)
        after, before = carried(soft[k + 1], flow), soft[k]
        if turned:
            body, ball = (before @ turn.T.astype(np.float32) for turn in truth["turn"][k])
            before = np.where(truth["ball"][k][..., None], ball, body)
        change.append(np.linalg.norm(after - before, axis=-1)[use])
        if k + 2 < len(fields):
            onward = flow + carried(truth["flow"][k + 1], flow)
            use &= (carried(truth["seen"][k + 1].astype(np.float32), flow) > 0.99) & (
                carried(masks[k + 2], onward) > 0.99
            )
            bend = soft[k] - 2 * after + carried(soft[k + 2], onward)
            jitter.append(np.linalg.norm(bend, axis=-1)[use] / 2)
    return float(np.concatenate(jitter).mean()), float(np.concatenate(change).mean())


def measures(folder: Path, made: Path) -> dict[str, float]:
    """Flicker and change along true flow (normals in degrees, albedo and relit frame in logarithms), mean errors, and
    pumping: how far the level of albedo, against the truth's, and the light's strength stray over the shot."""
    with np.load(folder / "truth.npz") as file:
        truth = {name: file[name] for name in file.files}
    normals, albedos, relit, off, wrong, levels, lights = [], [], [], [], [], [], []
    for k, mask in enumerate(truth["mask"]):
        maps, _ = read_maps(made / f"plate.{k + 1:04d}.maps.exr")
        normals.append(maps["normal"])
        albedos.append(np.log(maps["albedo"] + 0.01))
        off.append(float(angles(maps["normal"][mask], truth["normal"][k][mask].astype(np.float32)).mean()))
        wrong.append(
            albedo_error(maps["albedo"], truth["albedo"][k].astype(np.float32), mask.astype(np.float32)).mse
        )
        true = np.log(truth["albedo"][k][mask].astype(np.float32) + 0.01)
        levels.append(float(np.median(albedos[-1][mask] - true)))
        lights.append(float(np.log(read_light(made / f"plate.{k + 1:04d}.light.exr").mean())))
        path = made / f"plate.{k + 1:04d}.relit.exr"
        if path.is_file():
            part = read_exr(path)[0].channels
            relit.append(np.log(np.stack([part[name].astype(np.float32) for name in "RGB"], -1) + 0.02))
    turning, painted = np.degrees(along(normals, truth, turned=True)), along(albedos, truth)
    found = {
        "normal flicker (deg)": float(turning[0]), "normal change (deg)": float(turning[1]),
        "albedo flicker (log)": painted[0], "albedo change (log)": painted[1],
        "normal error (deg)": float(np.mean(off)), "albedo error (MSE)": float(np.mean(wrong)),
        "albedo level strays by (log)": float(np.std(levels)), "light strays by (log)": float(np.std(lights)),
    }  # fmt: skip
    if relit:
        found["relit flicker (log)"], found["relit change (log)"] = along(relit, truth)
    return found


def flow_of(plates: Sequence[Array], masks: Sequence[Array]) -> dict[str, list[Array]]:
    """What :func:`along` needs of a clip (F, H, W, 3), linear, whose flow nobody knows: as Farneback's method finds it.

    Not by DIS, along which maps are steadied, or its own mistakes would go unseen. A point counts as seen where forth and
    back agree to half a pixel.
    """
    grays = [
        np.clip(255 * np.sqrt(plate @ np.array([0.2126, 0.7152, 0.0722], np.float32)), 0, 255).astype(
            np.uint8
        )
        for plate in plates
    ]

    def search(first: Array, second: Array) -> Array:
        start = np.zeros((*first.shape, 2), np.float32)
        found = cv2.calcOpticalFlowFarneback(
            first, second, start, pyr_scale=0.5, levels=4, winsize=15, iterations=5, poly_n=7, poly_sigma=1.5, flags=0
        )  # fmt: skip
        return np.asarray(found, np.float32)

    flows, seen = [], []
    for one, two in pairwise(grays):
        forth, back = search(one, two), search(two, one)
        flows.append(forth)
        seen.append(np.linalg.norm(forth + carried(back, forth), axis=-1) < 0.5)
    return {"mask": list(masks), "flow": flows, "seen": seen}


def clip_measures(made: Path, flow: dict[str, list[Array]]) -> dict[str, float]:
    """Flicker and change along a clip's flow, normals in degrees (the subject's own turn is in their change), albedo in
    logarithms, and how far the light's strength strays."""
    normals, albedos, lights = [], [], []
    for path in sorted(made.glob("*.maps.exr")):
        maps, _ = read_maps(path)
        normals.append(maps["normal"])
        albedos.append(np.log(maps["albedo"] + 0.01))
        lights.append(
            float(np.log(read_light(path.with_name(path.name.replace(".maps.", ".light."))).mean()))
        )
    turning, painted = np.degrees(along(normals, flow)), along(albedos, flow)
    return {
        "normal flicker (deg)": float(turning[0]), "normal change (deg)": float(turning[1]),
        "albedo flicker (log)": painted[0], "albedo change (log)": painted[1], "light strays by (log)": float(np.std(lights)),
    }  # fmt: skip


def clip(
    folder: Path, plates: str, frames: int, options: list[str], again: bool
) -> dict[str, dict[str, float]]:
    """Take the first ``frames`` frames of a clip apart both ways and measure, as :func:`measure` does a shot."""
    _take_apart(folder, [plates, "--frames", f"1-{frames}", *options], again)
    maps = [read_maps(path)[0] for path in sorted((folder / "off").glob("*.maps.exr"))]
    if len(maps) < 3:
        raise InputError(
            f"{plates} gives {len(maps)} frames.", "Flicker needs three at least: raise --frames."
        )
    flow = flow_of([one["plate"] for one in maps], [one["matte"] > 0.5 for one in maps])
    return {temporal: clip_measures(folder / temporal, flow) for temporal in ("off", "on")}


def measure(folder: Path, options: list[str], again: bool) -> dict[str, dict[str, float]]:
    """Take the shot apart frame by frame and steadily through the command itself; returns both measures.

    With ``again`` the frame-by-frame maps that are there are steadied, without taking the plates apart a second time:
    the same functions on maps as their files hold them.
    """
    line = [str(folder / "plate.####.exr"), "--matte", str(folder / "matte.####.png"), *options]
    _take_apart(folder, line, again)
    return {temporal: measures(folder, folder / temporal) for temporal in ("off", "on")}


def _take_apart(folder: Path, line: list[str], again: bool) -> None:
    from platelight import cli

    for temporal in ("off", "on"):
        made = folder / temporal
        if again and temporal == "on":
            steady(folder / "off", made)
        elif not again and cli.main(["decompose", *line, "-o", str(made), "--temporal", temporal]) != 0:
            raise SystemExit(1)


def steady(source: Path, target: Path) -> None:
    """Steady maps made frame by frame, all in memory: for measuring."""
    paths = sorted(source.glob("*.maps.exr"))
    shot = []
    for path in paths:
        maps, _ = read_maps(path)
        light = read_light(path.with_name(path.name.replace(".maps.", ".light.")))
        shot.append({**maps, "foreground": maps["plate"] * (maps["matte"][..., None] > 0), "light": light})
    raw = [still(maps) for maps in shot]
    common = shot_of([raw[k] for k in key_places(len(raw))])
    stills = [leveled(one, common) for one in raw]
    views = [one.view for one in stills]
    steps = all_calmed(views, [both_ways(a, b) for a, b in pairwise(views)])
    for k, path in enumerate(paths):
        ahead = ways_from([forth for forth, _ in steps[k : k + FUTURE]])
        behind = ways_from([back for _, back in reversed(steps[max(0, k - PAST) : k])])
        around = [(d, stills[k + d], way) for d, way in enumerate(ahead, 1)]
        around += [(-d, stills[k - d], way) for d, way in enumerate(behind, 1)]
        maps = steadied(shot[k], stills[k], averaged(stills[k], around), common.light)
        write_maps(target / path.name, maps, {})
        write_light(target / path.name.replace(".maps.", ".light."), common.light, {})


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the module's command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("make", "measure", "clip"))
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--again", action="store_true", help="measure, clip: steady the frame-by-frame maps that are there"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--plates", metavar="PLATE", help="clip: a movie or shot.####.exr")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument(
        "--heads", type=Path, metavar="DIR", help="ICT-FaceKit's data: every third shot is a head"
    )
    parsed, options = parser.parse_known_args(argv)
    if parsed.what == "make":
        heads = Heads(parsed.heads) if parsed.heads else None
        for seed in parsed.seeds:
            save(
                make(seed, parsed.frames, parsed.size, heads if seed % 3 == 0 else None),
                parsed.folder / f"shot{seed}",
            )
        return 0
    if parsed.what == "clip":
        if not parsed.plates:
            parser.error("clip needs --plates")
        _tell(parsed.folder, clip(parsed.folder, parsed.plates, parsed.frames, options, parsed.again))
        return 0
    for folder in sorted(parsed.folder.glob("shot*")):
        _tell(folder, measure(folder, options, parsed.again))
    return 0


def _tell(folder: Path, found: dict[str, dict[str, float]]) -> None:
    """Print both measures and their ratios."""
    ratios = {name: found["off"][name] / max(found["on"][name], 1e-9) for name in found["off"]}
    said = {"shot": folder.name, **found, "off / on": ratios}
    print(json.dumps(said, indent=1), file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
