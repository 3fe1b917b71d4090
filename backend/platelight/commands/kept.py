"""What a steadied batch keeps in ``.platelight`` between its frames and its runs: stills, maps put aside, light and level."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from platelight.commands.records import HIDDEN, Input, Ledger
from platelight.images import Frame
from platelight.images.atomic import write_bytes
from platelight.pipeline.temporal import Shot, Still
from platelight.protocol.errors import InputError, PlatelightError

log = logging.getLogger(__name__)

VERSION = 6
"""Rises with every change of the method that changes bytes."""


@dataclass(frozen=True)
class Kept:
    """Files named by the frame and a hash of all that they depend on, so that one found is one that fits.

    ``files`` names the files on which a frame's own maps depend, by role; ``settings`` on what else they depend.
    """

    ledger: Ledger
    files: Callable[[Frame], list[tuple[str, Path]]]
    settings: Mapping[str, Any]

    def still(self, frame: Frame) -> Still | None:
        """What neighbors need of a frame, where this run or an earlier one left it."""
        try:
            return Still.from_bytes(self._path(frame).read_bytes())
        except (OSError, SafetensorError, KeyError, InputError):
            return None

    def keep_still(self, frame: Frame, still: Still) -> None:
        """Leave it for other runs."""
        _written(self._path(frame), still.to_bytes())

    def put_aside(self, frame: Frame, maps: Mapping[str, npt.NDArray[Any]]) -> bool:
        """Maps made long before their turn, out of memory. False: there is no room."""
        data = save({name: np.ascontiguousarray(plane) for name, plane in maps.items()})
        return _written(self._path(frame, ".maps"), data)

    def take_back(self, frame: Frame) -> dict[str, npt.NDArray[Any]]:
        """Maps that were put aside, whose file goes."""
        path = self._path(frame, ".maps")
        found: dict[str, npt.NDArray[Any]] = load(path.read_bytes())
        path.unlink()
        return found

    def shot(self, keys: list[Frame], turns: Any) -> Shot | None:
        """Light and level of a shot, where they were found before, by key frames whose cameras stood so."""
        try:
            found = load(self._shot_path(keys, turns).read_bytes())
            return Shot(np.asarray(found["light"], np.float32), np.asarray(found["reflectance"], np.float32))
        except (OSError, SafetensorError, KeyError):
            return None

    def keep_shot(self, keys: list[Frame], turns: Any, shot: Shot) -> None:
        """Leave them for other runs."""
        _written(self._shot_path(keys, turns), save({"light": shot.light, "reflectance": shot.reflectance}))

    def clear(self, frames: list[Frame], near: list[Frame]) -> None:
        """Remove what was kept of a batch's frames, by whatever run, and the stills of frames near them; the shot's light stays.

        Maps that are put aside are left to the batch whose frame it is, which may be at work at this moment.
        """
        own, others = {frame.stem for frame in frames}, {frame.stem for frame in near}
        for path in self._folder.glob("*.safetensors"):
            name = path.name.removesuffix(".safetensors")
            if name.startswith("."):  # half-written by a killed run
                name = name[1:].removesuffix(".part").rpartition(".")[0]
            stem = name.removesuffix(".maps").rpartition(".")[0]
            if stem in own or (stem in others and not name.endswith(".maps")):
                path.unlink(missing_ok=True)

    @property
    def _folder(self) -> Path:
        return self.ledger.folder / HIDDEN / "steady"

    def _path(self, frame: Frame, kind: str = "") -> Path:
        return self._folder / f"{frame.stem}.{self._digest([frame])}{kind}.safetensors"

    def _shot_path(self, keys: list[Frame], turns: Any) -> Path:
        return self.ledger.folder / HIDDEN / f"light.{self._digest(keys, turns)}.safetensors"

    def _digest(self, frames: list[Frame], turns: Any = None) -> str:
        inputs: list[list[Any]] = []
        for frame in frames:
            here: list[Input] = self.ledger.look([pair for pair in self.files(frame) if pair[1].is_file()])
            inputs.append([frame.stem, [[one.role, one.name, one.sha256] for one in here]])
        said = json.dumps([VERSION, self.settings, inputs, turns], sort_keys=True, default=str)
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def _written(path: Path, data: bytes) -> bool:
    """Whether there was room: what is kept spares time only, so that a full disk is told by the outputs it fails."""
    try:
        write_bytes(path, data)
    except (PlatelightError, OSError) as error:
        log.info("not kept: %s", error)
        return False
    return True
