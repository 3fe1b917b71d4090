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

VERSION = 7
"""Rises with every change of the method that changes bytes."""


@dataclass(frozen=True)
class Kept:
    """Files named by the frame and a hash of all that they depend on, so that one found is one that fits.

    ``files`` names the files on which a frame's own maps depend, by role; ``settings`` on what else they depend.
    """

    ledger: Ledger
    files: Callable[[Frame], list[tuple[str, Path]]]
    settings: Mapping[str, Any]

    def inputs(self, frame: Frame) -> list[Input]:
        """The files on which a frame's own maps depend, as they are now; none where the frame itself is missing.

        Raises:
            InputError: one of them cannot be read.
        """
        if not frame.path.is_file():
            return []
        return self.ledger.look([pair for pair in self.files(frame) if pair[1].is_file()])

    def still(self, frame: Frame) -> tuple[Still, list[Input]] | None:
        """What neighbors need of a frame, where this run or an earlier one left it, and what that was made from."""
        try:
            inputs = self.inputs(frame)
            return Still.from_bytes(self._path(frame, inputs).read_bytes()), inputs
        except (OSError, SafetensorError, KeyError, InputError):
            return None

    def keep_still(self, frame: Frame, inputs: list[Input], still: Still) -> None:
        """Leave it for other runs."""
        _written(self._path(frame, inputs), still.to_bytes())

    def put_aside(
        self, frame: Frame, inputs: list[Input], maps: Mapping[str, npt.NDArray[Any]]
    ) -> Path | None:
        """Maps made long before their turn, out of memory: where they are. None: there is no room."""
        path = self._path(frame, inputs, ".maps")
        data = save({name: np.ascontiguousarray(plane) for name, plane in maps.items()})
        return path if _written(path, data) else None

    def shot(self, keys: Mapping[Frame, list[Input]], turns: Any) -> Shot | None:
        """Light and level of a shot, where they were found before, by key frames with these files whose cameras stood so."""
        try:
            found = load(self._shot_path(keys, turns).read_bytes())
            return Shot(np.asarray(found["light"], np.float32), np.asarray(found["reflectance"], np.float32))
        except (OSError, SafetensorError, KeyError):
            return None

    def keep_shot(self, keys: Mapping[Frame, list[Input]], turns: Any, shot: Shot) -> None:
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
        for path in self._folder.parent.glob(".light.*.part.*"):  # likewise half-written
            path.unlink(missing_ok=True)

    @property
    def _folder(self) -> Path:
        return self.ledger.folder / HIDDEN / "steady"

    def _path(self, frame: Frame, inputs: list[Input], kind: str = "") -> Path:
        return self._folder / f"{frame.stem}.{self._digest({frame: inputs})}{kind}.safetensors"

    def _shot_path(self, keys: Mapping[Frame, list[Input]], turns: Any) -> Path:
        return self.ledger.folder / HIDDEN / f"light.{self._digest(keys, turns)}.safetensors"

    def _digest(self, frames: Mapping[Frame, list[Input]], turns: Any = None) -> str:
        inputs = [
            [frame.stem, [[one.role, one.name, one.sha256] for one in here]] for frame, here in frames.items()
        ]
        said = json.dumps([VERSION, self.settings, inputs, turns], sort_keys=True, default=str)
        return hashlib.sha256(said.encode()).hexdigest()[:16]


def take_back(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Maps that were put aside, whose file goes.

    Raises:
        PlatelightError: the file is gone or damaged.
    """
    try:
        found: dict[str, npt.NDArray[Any]] = load(path.read_bytes())
        path.unlink()
    except (OSError, SafetensorError) as error:
        raise PlatelightError(f"{path} cannot be read back ({error}).", "Run the batch again.") from error
    return found


def _written(path: Path, data: bytes) -> bool:
    """Whether there was room: what is kept spares time only, so that a full disk is told by the outputs it fails."""
    try:
        write_bytes(path, data)
    except (PlatelightError, OSError) as error:
        log.info("not kept: %s", error)
        return False
    return True
