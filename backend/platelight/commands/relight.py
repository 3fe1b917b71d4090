"""``platelight relight``: plates, or maps made before, under a new light to ``.relit.exr``."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from platelight.commands import batch, temporal
from platelight.commands import decompose as taking_apart
from platelight.commands.camera import ShotCamera
from platelight.commands.decompose import Source
from platelight.commands.lighting import Lighting
from platelight.commands.lights import places
from platelight.commands.options import request_of
from platelight.commands.progress import Meter
from platelight.commands.records import Ledger
from platelight.commands.work import (
    Apart,
    Progress,
    Runner,
    as_files_hold,
    as_float,
    cancel_on_interrupt,
    color_settings,
    models_of,
    over_black,
    read_frame_plate,
    runner,
)
from platelight.images import Frame, expand, read_maps, read_plate, write_png, write_relit
from platelight.images.apart import decoding_apart
from platelight.images.sequence import color_space_of, numbered
from platelight.protocol.errors import Cancelled, InputError
from platelight.protocol.requests import Relight, maps_of

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Given:
    """A frame as it was read: a plate to take apart, or maps made before; its lights, by plane, and backdrop."""

    source: Source | Apart | None
    lights: dict[str, Floats]
    backdrop: Floats | None


@dataclass(frozen=True)
class Relit:
    """A frame relit: passes and result, its header, and the maps where they were made on the way."""

    planes: dict[str, Floats]
    attributes: dict[str, Any]
    apart: Apart | None


@decoding_apart()
def run(parsed: argparse.Namespace) -> int:
    """Run the command."""
    # What is wrong with colors, camera or light is told before anything long begins.
    colors = color_settings(parsed)
    frames = _frames(parsed)
    camera = ShotCamera.of(parsed, frames)
    lighting = Lighting.of(parsed, frames, camera)
    folder = Path(parsed.output)
    steadied = not parsed.maps and temporal.wanted(parsed, frames)
    with cancel_on_interrupt() as cancelled, runner(parsed, cancelled, steadied) as job:

        def compute(frame: Frame, given: Given, progress: Progress) -> Relit:
            if isinstance(given.source, Apart):
                return relight(frame, given.source, given, lighting, parsed, job, progress)
            apart = take_apart(frame, given, progress)
            return relight(frame, apart, given, lighting, parsed, job, _part(progress, 0.6, 1.0))

        def take_apart(frame: Frame, given: Given, progress: Progress) -> Apart:
            assert isinstance(given.source, Source)
            return taking_apart.decompose(frame, given.source, parsed, job, _part(progress, 0.0, 0.6), camera)

        settings = {**settings_of(parsed, frames, camera), **colors, "models": models_of(parsed, job.models)}
        ledger = Ledger(folder, "relight", settings)
        work: batch.Work[Given, Relit] = batch.Work(
            files=lambda frame: files_of(frame, lighting, parsed),
            extra=lambda frame: {
                "colorspace": color_space_of(frame, parsed.colorspace),
                **lighting.extra(frame),
            },
            read=lambda frame: read(frame, lighting, parsed),
            compute=batch.each(compute),
            write=lambda frame, relit: save(folder, frame, relit, parsed),
        )
        if steadied:
            steady = temporal.Steady(
                frames, parsed.shot, ledger, lambda frame: taking_apart.plate_files(frame, parsed),
                taking_apart.temporal_settings(settings, parsed), take_apart, lambda given: replace(given, source=None),
                None if camera is None else camera.axes, lambda frame: read_plate_only(frame, parsed),
            )  # fmt: skip

            def relit(frame: Frame, taken: temporal.Taken, display: Meter) -> batch.Made[Relit] | Exception:
                loaded, apart = taken
                given = replace(loaded.value, source=apart)
                try:
                    made = relight(frame, apart, given, lighting, parsed, job, display.begin(frame.stem))
                except Cancelled:
                    raise
                except Exception as error:  # a frame is a job: the batch decides whether to go on
                    return error
                return batch.Made(made, loaded.shape, loaded.inputs)

            def steadily(stream: batch.Stream[Given], display: Meter) -> batch.Computing[Relit]:
                for frame, taken in steady.stream(stream, display):
                    made = taken if isinstance(taken, Exception) else relit(frame, taken, display)
                    del taken
                    yield frame, made
                    del made

            work = steady.fitted(work, steadily)
        return batch.run(frames, parsed, ledger, work, cancelled)


def _part(progress: Progress, low: float, high: float) -> Progress:
    """Progress of a part of the work that begins at ``low`` and ends at ``high``."""
    return lambda fraction, stage: progress(low + (high - low) * fraction, stage)


def settings_of(parsed: argparse.Namespace, frames: list[Frame], camera: ShotCamera | None) -> dict[str, Any]:
    """What relit frames depend on beside files, models, color space and the light's animation."""
    request = msgspec.to_builtins(_request(parsed))
    own = {"relight": request, "maps": bool(parsed.maps), "light_colorspace": parsed.light_colorspace}
    if parsed.backdrop_colorspace != "auto":
        own["backdrop_colorspace"] = parsed.backdrop_colorspace
    apart = {} if parsed.maps else taking_apart.settings_of(parsed, frames, camera)
    return {**apart, "png": parsed.png, **own}


def files_of(frame: Frame, lighting: Lighting, parsed: argparse.Namespace) -> list[tuple[str, Path]]:
    """The files that a relit frame depends on, by role."""
    found = list(lighting.files(frame).items())
    if parsed.maps:
        found.append(("maps", _maps_file(frame, parsed)))
        found += [("plate", frame.path)] if parsed.plates else []
    else:
        found += taking_apart.plate_files(frame, parsed)
    if _backdrop_mode(parsed) == "given":
        found.append(("backdrop", numbered(parsed.backdrop, frame.number)))
    return found


def read(frame: Frame, lighting: Lighting, parsed: argparse.Namespace) -> tuple[Given, tuple[int, int]]:
    """Read all that a frame needs; and its (height, width)."""
    source: Source | Apart
    if parsed.maps:
        source = _from_maps(frame, parsed)
        height, width = source.maps["matte"].shape
    else:
        source, (height, width) = taking_apart.read(frame, parsed)
    backdrop = None
    if _backdrop_mode(parsed) == "given":
        behind = read_plate(numbered(parsed.backdrop, frame.number), parsed.backdrop_colorspace)
        backdrop = _covering(over_black(behind).pixels, height, width)
    return Given(source, lighting.read(frame), backdrop), (height, width)


def read_plate_only(frame: Frame, parsed: argparse.Namespace) -> tuple[Given, tuple[int, int]]:
    """Read what taking a frame apart needs: one that others need may have no light or backdrop."""
    source, shape = taking_apart.read(frame, parsed)
    return Given(source, {}, None), shape


def _covering(picture: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
    """The middle of a picture (h, w, 3) that covers a frame (height, width, 3) of another shape, at its size."""
    rows, columns = picture.shape[:2]
    high, wide = min(rows, round(columns * height / width)), min(columns, round(rows * width / height))
    if 0.98 < (columns * height) / (rows * width) < 1.02:  # the same shape but for rounding
        high, wide = rows, columns
    top, left = (rows - max(high, 1)) // 2, (columns - max(wide, 1)) // 2
    shown = picture[top : top + max(high, 1), left : left + max(wide, 1)]
    way = cv2.INTER_AREA if shown.shape[0] > height or shown.shape[1] > width else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(shown, (width, height), interpolation=way), dtype=np.float32)


def _request(parsed: argparse.Namespace, **moved: float) -> Relight:
    mode = _backdrop_mode(parsed)
    lamps, taken = tuple(parsed.lamp), places(parsed.light)
    return request_of(Relight, parsed, backdrop=mode, lamps=lamps, places=taken, **moved)


def _backdrop_mode(parsed: argparse.Namespace) -> str:
    return parsed.backdrop if parsed.backdrop in ("plate", "light", "none") else "given"


def _frames(parsed: argparse.Namespace) -> list[Frame]:
    strict = not parsed.keep_going
    if parsed.plates:
        frames = expand(parsed.plates, parsed.frames, strict)
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
        return expand(found, parsed.frames)
    return expand([parsed.maps], parsed.frames, strict)


def _maps_file(frame: Frame, parsed: argparse.Namespace) -> Path:
    path = Path(parsed.maps) if parsed.plates else frame.path
    return path / f"{frame.stem}.maps.exr" if path.is_dir() else path


def _from_maps(frame: Frame, parsed: argparse.Namespace) -> Apart:
    """Maps made before; the foreground, which the file does not hold, is estimated again from plate and matte."""
    from platelight.pipeline.matting import estimate_foreground

    path = _maps_file(frame, parsed)
    planes, attributes = read_maps(path)
    maps: dict[str, Floats] = dict(planes)
    if parsed.plates:
        plate = read_frame_plate(frame, parsed)
        if parsed.matte == "auto":
            plate = over_black(plate)
        if plate.pixels.shape != planes["plate"].shape:
            raise InputError(f"{path} has another size than {frame}.", "Give the maps of this plate.")
        maps["plate"] = plate.pixels
    maps["foreground"] = estimate_foreground(maps["plate"], maps["matte"])
    return Apart(maps, attributes)


def relight(
    frame: Frame, apart: Apart, given: Given, lighting: Lighting, parsed: argparse.Namespace, job: Runner,
    progress: Progress,
) -> Relit:  # fmt: skip
    """Put one frame's maps under its light."""
    mode = _backdrop_mode(parsed)
    request = _request(parsed, **lighting.request(frame))
    read = {*maps_of(request), *({"plate"} if mode == "plate" else ())}
    planes: dict[str, Floats] = {name: plane for name, plane in apart.maps.items() if name in read}
    planes.update(given.lights)
    if "light" in apart.maps:
        planes["source_light"] = apart.maps["light"]
    if given.backdrop is not None:
        planes["backdrop"] = given.backdrop
    outcome = job(request, dict(planes), progress)
    settings = msgspec.to_builtins(request)
    settings.pop("kind")
    names = [path.name for path in lighting.files(frame).values()]
    attributes = dict(apart.attributes)
    attributes["platelight:relight"] = json.dumps(
        {**settings, "light": names if len(names) > 1 else next(iter(names), None)}
    )
    if outcome.meta.get("models"):
        attributes["platelight:models"] = json.dumps(outcome.meta["models"], sort_keys=True, default=str)
    made = None if parsed.maps else taking_apart.to_write(apart, parsed)
    if parsed.png or parsed.output_colorspace != "linear":  # reckoned with once more before they are written
        return Relit(as_float(outcome.planes, taking_apart.bounded(parsed, frame)), attributes, made)
    return Relit(as_files_hold(outcome.planes), attributes, made)


def save(folder: Path, frame: Frame, relit: Relit, parsed: argparse.Namespace) -> list[Path]:
    """Write the maps where they were made, ``.relit.exr``, and PNGs where asked; returns the files."""
    made = [] if relit.apart is None else taking_apart.save(folder, frame, relit.apart, parsed.png)
    stem = frame.stem.removesuffix(".maps")
    made.append(folder / f"{stem}.relit.exr")
    write_relit(made[-1], relit.planes, relit.attributes, parsed.output_colorspace)
    if parsed.png:
        made.append(folder / f"{stem}.relit.png")
        image = relit.planes["relit"]
        alpha = np.clip(image[..., 3], 0.0, 1.0)
        seen = alpha if (alpha < 1.0).any() else None
        write_png(made[-1], image[..., :3], alpha=seen, premultiplied=True)
    return made
