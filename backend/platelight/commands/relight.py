"""``platelight relight``: plates, or maps made before, under a new light to ``.relit.exr``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from platelight.commands import decompose as taking_apart
from platelight.commands.options import request_of
from platelight.commands.work import (
    Progress,
    Runner,
    as_float,
    cancel_on_interrupt,
    each_frame,
    runner,
)
from platelight.images import Frame, Plate, expand, read_light, read_maps, read_plate, write_png, write_relit
from platelight.protocol.errors import InputError
from platelight.protocol.requests import Relight

Floats = npt.NDArray[np.float32]


def run(parsed: argparse.Namespace) -> int:
    """Run the command."""
    frames = _frames(parsed)
    light = read_light(parsed.light)  # a wrong light is told before anything long begins
    folder = Path(parsed.output)
    with cancel_on_interrupt() as cancelled, runner(parsed, cancelled) as job:

        def work(frame: Frame, progress: Progress) -> list[Path]:
            if parsed.maps:
                plate, maps, attributes = _from_maps(frame, parsed)
                made: list[Path] = []
            else:
                plate, maps, attributes = taking_apart.decompose(
                    frame, parsed, job, lambda fraction, stage: progress(0.6 * fraction, stage)
                )
                made = taking_apart.save(folder, frame, plate, maps, attributes, parsed.png)
            start = 0.0 if parsed.maps else 0.6
            relit = _relight(
                maps, light, attributes, parsed, job,
                lambda fraction, stage: progress(start + (1.0 - start) * fraction, stage),
            )  # fmt: skip
            return made + _save(folder, _stem(frame), relit, attributes, parsed.png)

        each_frame(frames, work, cancelled)
    return 0


def _frames(parsed: argparse.Namespace) -> list[Frame]:
    if parsed.plates:
        frames = expand(parsed.plates, parsed.frames)
        if parsed.maps and len(frames) > 1 and not Path(parsed.maps).is_dir():
            raise InputError(
                f"{parsed.maps} is one file, but there are {len(frames)} plates.",
                "Give the folder that holds their .maps.exr.",
            )
        return frames
    if not parsed.maps:
        raise InputError("There is nothing to relight.", "Give a PLATE, or --maps FILE.")
    if Path(parsed.maps).is_dir():
        found = sorted(
            str(path) for path in Path(parsed.maps).glob("*.maps.exr") if not path.name.startswith(".")
        )
        if not found:
            raise InputError(f"{parsed.maps} holds no .maps.exr.", "Make them by 'platelight decompose'.")
        return expand(found)
    return expand([parsed.maps], parsed.frames)


def _from_maps(frame: Frame, parsed: argparse.Namespace) -> tuple[Plate, dict[str, Floats], dict[str, Any]]:
    """Maps made before; the foreground, which the file does not hold, is estimated again from plate and matte."""
    from platelight.pipeline.matting import estimate_foreground

    path = Path(parsed.maps) if parsed.plates else frame.path
    if path.is_dir():
        path = path / f"{frame.stem}.maps.exr"
    planes, attributes = read_maps(path)
    maps: dict[str, Floats] = dict(planes)
    plate = Plate(planes["plate"], attributes=attributes)
    if parsed.plates:
        plate = read_plate(frame.path, parsed.colorspace)
        if plate.pixels.shape != planes["plate"].shape:
            raise InputError(f"{path} has another size than {frame.path}.", "Give the maps of this plate.")
        maps["plate"] = plate.pixels
    maps["foreground"] = estimate_foreground(maps["plate"], maps["matte"])
    return plate, maps, attributes


def _relight(
    maps: dict[str, Floats],
    light: Floats,
    attributes: dict[str, Any],
    parsed: argparse.Namespace,
    job: Runner,
    progress: Progress,
) -> dict[str, Floats]:
    size = maps["matte"].shape
    mode = parsed.backdrop if parsed.backdrop in ("plate", "light", "none") else "given"
    dropped = {"light"} if mode == "plate" else {"light", "plate"}
    planes: dict[str, Floats] = {name: plane for name, plane in maps.items() if name not in dropped}
    planes["light"] = light
    if "light" in maps:
        planes["source_light"] = maps["light"]
    if mode == "given":
        behind = read_plate(parsed.backdrop).pixels
        smaller = behind.shape[0] > size[0]
        way = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        planes["backdrop"] = np.asarray(cv2.resize(behind, size[::-1], interpolation=way), dtype=np.float32)
    request = request_of(Relight, parsed, backdrop=mode)
    outcome = job(request, dict(planes), progress)
    settings = {name: getattr(request, name) for name in request.__struct_fields__}
    attributes["platelight:relight"] = json.dumps({**settings, "light": Path(parsed.light).name})
    if outcome.meta.get("models"):
        attributes["platelight:models"] = json.dumps(outcome.meta["models"], sort_keys=True, default=str)
    return as_float(outcome.planes)


def _stem(frame: Frame) -> str:
    return frame.stem.removesuffix(".maps")


def _save(
    folder: Path, stem: str, planes: dict[str, Floats], attributes: dict[str, Any], png: bool
) -> list[Path]:
    made = [folder / f"{stem}.relit.exr"]
    write_relit(made[0], planes, attributes)
    if png:
        made.append(folder / f"{stem}.relit.png")
        relit = planes["relit"]
        alpha = np.clip(relit[..., 3], 0.0, 1.0)
        color = relit[..., :3] / np.maximum(alpha, 1e-4)[..., None]
        write_png(made[-1], color, alpha=alpha if (alpha < 1.0).any() else None)
    return made
