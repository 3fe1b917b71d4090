"""Maps live in files: a job's thread writes and reads them, Blender loads them when it draws or renders.

Handing arrays to Blender's images costs the main thread a copy of every map, 0.2 s each at 4K. No bpy module use.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import exr, wire
from .exr import Pixels
from .wire import InputError

log = logging.getLogger(__name__)
# Half floats are what Cycles keeps of a picture anyway; these need more.
_FLOAT = frozenset({"plate", "depth", "source_light", "result", "relit", "composite"})
_UNDO_AGE = 24 * 3600.0
# The frame's number ends the name; that of a version, as in sky_v3.exr, is none.
_DIGITS = re.compile(r"(?<!\d)(?<!^[vV])(?<![^A-Za-z0-9][vV])(\d+)(?=\.[^.]+$)")
_CLAIMS = "used_by.txt"  # the .blend files that have a folder of maps for their sequences
OnMain = Callable[[Callable[[], Any]], Any]


def directly(function: Callable[[], Any]) -> Any:
    """``on_main`` for those who are the main thread."""
    return function()


def new_folder(root: Path, uid: str) -> Path:
    """A folder that nothing else uses: earlier maps stay, so that undo finds them. Its name tells whose it is."""
    return root / "maps" / uid / f"{time.time_ns():x}-{os.getpid()}-{_machine()}"


def _machine() -> str:
    return hashlib.sha256(wire.this_machine().encode()).hexdigest()[:8]  # a name may hold what no file's may


def map_path(folder: Path, name: str, frame: int | None = None) -> Path:
    """The file of one map, of one frame where the plate is a sequence."""
    return folder / (f"{name}.exr" if frame is None else f"{name}.{frame:04d}.exr")


def frame_path(path: Path, frame: int) -> Path:
    """The file of another frame beside ``path``: its last number replaced, padded as there.

    Raises:
        InputError: the name has no number.
    """
    found = _DIGITS.search(path.name)
    if found is None:
        raise InputError(f"{path} has no frame number.", "Choose a file such as shot.1001.exr.")
    number = f"{frame:0{len(found.group(1))}d}"
    return path.with_name(path.name[: found.start()] + number + path.name[found.end() :])


def frame_number(path: Path) -> int | None:
    """The number in a file's name, or None."""
    found = _DIGITS.search(path.name)
    return int(found.group(1)) if found is not None else None


def frame_range(path: Path) -> tuple[int, int]:
    """First and last frame of the unbroken run of files that ``path`` belongs to; (0, 0) if it has no number."""
    number = frame_number(path)
    if number is None:
        return 0, 0
    first = last = number
    while first > 0 and frame_path(path, first - 1).is_file():
        first -= 1
    while frame_path(path, last + 1).is_file():
        last += 1
    return first, last


def neighbors(path: Path) -> tuple[bool, bool]:
    """Whether the frames before and after the file's own are there."""
    number = frame_number(path)
    if number is None:
        return False, False
    return number > 0 and frame_path(path, number - 1).is_file(), frame_path(path, number + 1).is_file()


class MapFile(NamedTuple):
    """A map on disk, and its thumbnail (h, w, 4), bottom row first, as displayed."""

    path: Path
    thumbnail: Pixels


Files = dict[str, MapFile]


def thumbnail(name: str, plane: Pixels) -> Pixels:
    """A picture of a map, at most 128 pixels wide and high: Blender's own previews would load the whole file."""
    step = max(1, -(-max(plane.shape[:2]) // 128))
    small = np.nan_to_num(cut(plane[::step, ::step], 3)[::-1], posinf=0.0, neginf=0.0)
    if name == "normal":
        small = small * 0.5 + 0.5
    elif name == "depth":
        low, high = np.percentile(small, (2, 98))
        small = 1.0 - (small - low) / max(float(high - low), 1e-6)
    elif name == "cavity":
        small = small * 0.5  # mid-gray is neutral
    elif name == "reflectivity":
        small = small / 0.16  # most things reflect 0.04, which would be black
    elif name not in {"roughness", "matte_map"}:
        small = np.clip(small, 0.0, 1.0)
        small = np.where(small <= 0.0031308, 12.92 * small, 1.055 * small ** (1 / 2.4) - 0.055)
    out = np.ones((*small.shape[:2], 4), np.float32)
    out[..., :3] = np.clip(small, 0.0, 1.0)
    return out


def write_maps(folder: Path, planes: Mapping[str, Pixels], frame: int | None = None) -> Files:
    """Write planes by the names of their maps, uncompressed, and return their files; in a job's thread.

    Raises:
        InputError: the folder cannot be written.
    """
    written: Files = {}
    for name, plane in planes.items():
        path = map_path(folder, name, frame)
        exr.write(path, {"": plane}, half=name not in _FLOAT, compress=False)
        written[name] = MapFile(path, thumbnail(name, plane))
    return written


def cut(pixels: Pixels, channels: int) -> Pixels:
    """(H, W) for one channel, else (H, W, channels), contiguous."""
    if pixels.ndim == 2:
        return pixels if channels == 1 else np.repeat(pixels[..., None], channels, axis=2)
    if channels == 4 and pixels.shape[2] == 3:
        pixels = np.concatenate([pixels, np.ones_like(pixels[..., :1])], axis=2)
    return np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels[..., :channels])


def paint(albedo: Pixels, cavity: Pixels | None) -> Pixels:
    """What light falls on, (H, W, 3): albedo (H, W, 3) times cavity (H, W), at most 1; plates of earlier versions have no cavity."""
    return albedo if cavity is None else np.clip(albedo * cavity[..., None], 0.0, 1.0)


@dataclass(frozen=True)
class Source:
    """Where the pixels of a map are, found on the main thread and read in another.

    One of: ``path``, a file of ours; ``data``, its content packed in the .blend; ``load``, which reads a picture, on
    the main thread if ``loads_on_main``; or ``shape`` and ``fetch``, which fills a flat float32 array of (H, W, 4),
    bottom row first, on the main thread. ``matrix`` (3, 3) then takes its colors to linear Rec.709.
    """

    name: str
    path: Path | None = None
    data: bytes | None = None
    load: Callable[[], Pixels] | None = None
    loads_on_main: bool = False
    shape: tuple[int, int] = (0, 0)
    fetch: Callable[[Pixels], None] | None = None
    matrix: Pixels | None = None

    def read(self, channels: int, on_main: OnMain = directly, *, widen: bool = True) -> Pixels:
        """The pixels, row 0 at the top; (H, W) for one channel, else (H, W, channels).

        Floats, or without ``widen`` halves where the file holds no more: the backend takes both.

        Raises:
            InputError: the file is gone or damaged.
        """
        if self.load is not None:
            return cut(on_main(self.load) if self.loads_on_main else self.load(), channels)
        if self.fetch is not None:
            # Written here, so that the main thread need not wait for the memory; np.zeros might hold Python's lock.
            fetch, flat = self.fetch, np.full(self.shape[0] * self.shape[1] * 4, 1.0, np.float32)
            on_main(lambda: fetch(flat))
            pixels = flat.reshape(*self.shape, 4)
            if self.matrix is not None:
                pixels[..., :3] = pixels[..., :3] @ self.matrix
            return cut(pixels[::-1], channels)
        try:
            data = self.data if self.data is not None else Path(self.path or "").read_bytes()
        except OSError as error:
            raise InputError(f"{self.path} cannot be read.", "Analyze the plate again.") from error
        return cut(exr.parse(data, self.path or self.name, widen=widen).layers[""], channels)


def claim(folder: Path, blend: Path) -> None:
    """Note in a folder of maps that a .blend has it for its sequence: it stays while that file exists."""
    note = folder / _CLAIMS
    try:
        said = _claims(folder)
        if folder.is_dir() and blend not in said:
            note.write_text("".join(f"{each}\n" for each in (*said, blend)), encoding="utf-8")
    except OSError as error:  # no reason not to save
        log.warning("%s cannot be written: %s", note, error)


def _claims(folder: Path) -> list[Path]:
    note = folder / _CLAIMS
    return [Path(line) for line in note.read_text("utf-8", "replace").splitlines()] if note.is_file() else []


def _entries(root: Path) -> list[tuple[float, int, Path]]:
    """What may be deleted: folders of maps that no .blend has claimed, and downloaded HDRIs, as (time of last change, bytes,
    path), the oldest first."""
    found = []
    for entry in (*(root / "maps").glob("*/*"), *(root / "polyhaven" / "hdris").glob("*")):
        if any(blend.is_file() for blend in _claims(entry)):
            continue
        files = [path for path in entry.rglob("*") if path.is_file()] if entry.is_dir() else [entry]
        stats = [path.stat() for path in files]
        newest = max((each.st_mtime for each in stats), default=0.0)
        found.append((newest, sum(each.st_size for each in stats), entry))
    return sorted(found)


def _is_anothers(folder: Path, changed: float) -> bool:
    """Whether another Blender that runs has made these maps; one on another machine may run for a day after that."""
    _, pid, machine = (*folder.name.split("-"), "", "")[:3]
    if not (machine and pid.isdecimal() and folder.is_dir()):
        return False
    if machine != _machine():
        return changed > time.time() - _UNDO_AGE
    return int(pid) != os.getpid() and wire.lives(int(pid))


def used_bytes(root: Path) -> int:
    """Size of all kept maps and downloads that may be deleted."""
    return sum(size for _, size, _ in _entries(root))


def clear(root: Path, keep: set[Path]) -> int:
    """Remove kept maps and downloads but what is in ``keep`` (folders of maps, HDRI files) and the maps of other Blenders that
    run; returns the freed bytes."""
    return trim(root, keep, 0, age=0.0)


def trim(root: Path, keep: set[Path], quota: int, age: float = _UNDO_AGE) -> int:
    """Remove kept maps and downloads, the oldest first, until at most ``quota`` bytes are left; returns the freed bytes.

    Args:
        keep: folders of maps and HDRI files that stay.
        age: seconds since the last change within which nothing is removed: undo may need it.
    """
    entries = _entries(root)
    left, freed, limit = sum(size for _, size, _ in entries), 0, time.time() - age
    for changed, size, entry in entries:
        if left - freed <= quota and quota:
            break
        owner = entry.with_suffix("") if entry.suffix == ".sha256" else entry  # a sum stays with its HDRI
        if owner in keep or changed > limit or _is_anothers(entry, changed):
            continue
        shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)
        freed += size
    return freed
