"""The target lights of each frame: HDRIs or sequences of them, turned and exposed by keyframes, seen by its camera."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from platelight.commands.camera import ShotCamera, seen
from platelight.commands.lights import places
from platelight.commands.tracks import Track, read_tracks
from platelight.images import Frame, read_light
from platelight.images.sanitize import Pixels
from platelight.images.sequence import is_pattern, numbered
from platelight.protocol.errors import InputError
from platelight.protocol.requests import Relight, light_planes, options_of

_OPTIONS = {option.name: option for option in options_of(Relight)}


@dataclass(frozen=True)
class Lighting:
    """What ``--light``, ``--light-csv``, ``--rotate``, ``--exposure`` and ``--camera`` say together.

    The light stays in the world: with rotation 0 its center column is at -Z of a stage whose Y is up, at +Y of one whose
    Z is up. A camera that is level turns it about the vertical; one that is tilted has its picture drawn anew.

    ``sources`` are files or patterns by the names of their planes, none where lamps alone give light; ``fixed`` is what
    those hold that are the same for all frames.
    """

    sources: dict[str, str]
    colorspace: str
    rotation: float
    exposure: float
    tracks: dict[str, Track]
    fixed: dict[str, Pixels]
    camera: ShotCamera | None
    focused: bool
    """Whether the camera's focus tells the subject's distance, as ``--distance`` does not."""

    @staticmethod
    def of(parsed: argparse.Namespace, frames: Sequence[Frame], camera: ShotCamera | None) -> Lighting:
        """Read what all frames share, and check the rest, before anything long begins.

        Raises:
            InputError: a light or the CSV cannot be read, or a frame has no light or is out of range.
        """
        focused = parsed.distance == _OPTIONS["distance"].default
        if not parsed.light:
            if not getattr(parsed, "lamp", None):
                raise InputError("There is no light.", "Give --light HDRI, or a --lamp.")
            if parsed.light_csv:
                raise InputError(
                    "--light-csv moves an HDRI, and there is none.", "Give --light HDRI as well."
                )
        names = light_planes(places(parsed.light))
        sources = dict(zip(names, (one.path for one in parsed.light), strict=False))  # lamps alone: none
        space = parsed.light_colorspace
        fixed = {name: read_light(path, space) for name, path in sources.items() if not is_pattern(path)}
        tracks = read_tracks(Path(parsed.light_csv)) if parsed.light_csv else {}
        lighting = Lighting(
            sources, space, parsed.rotation, parsed.exposure, tracks, fixed, camera, focused
        )  # fmt: skip
        for frame in frames:
            lighting.moved(frame)
            for name, path in lighting.files(frame).items():
                if name not in fixed and not parsed.keep_going and not path.is_file():
                    raise InputError(f"{path}: no such file.", f"Frame {frame.number} needs a light.")
        return lighting

    def files(self, frame: Frame) -> dict[str, Path]:
        """The HDRIs of a frame by the names of their planes."""
        return {name: numbered(source, frame.number) for name, source in self.sources.items()}

    def read(self, frame: Frame) -> dict[str, Pixels]:
        """Radiance (h, 2h, 3) of a frame's lights by the names of their planes, turned where its camera is tilted."""
        lights = {
            name: self.fixed[name] if name in self.fixed else read_light(path, self.colorspace)
            for name, path in self.files(frame).items()
        }
        axes = self._axes(frame)
        if axes is None or _heading(axes) is not None:
            return lights
        return {name: seen(light, axes) for name, light in lights.items()}

    def request(self, frame: Frame) -> dict[str, float]:
        """The options of a frame that goes with the light of :meth:`read`: as :meth:`moved` has them, and the camera's."""
        values, axes = self.moved(frame), self._axes(frame)
        if self.camera is None or axes is None:
            return values
        view = self.camera.at(frame)
        distance = {"distance": view.distance} if self.focused and view.distance else {}
        return {**values, "rotation": _heading(axes) or 0.0, "fov": view.fov, **distance}

    def extra(self, frame: Frame) -> dict[str, object]:
        """What a frame's record says of its light and camera."""
        axes = self._axes(frame)
        turn = {} if axes is None else {"axes": axes.round(9).tolist()}
        return {**self.request(frame), **turn}

    def _axes(self, frame: Frame) -> npt.NDArray[np.float64] | None:
        """The camera's axes as columns (3, 3) in the frame of the light's picture; None without a camera."""
        if self.camera is None:
            return None
        angle = math.radians(self.moved(frame)["rotation"])
        turn = [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]]
        return np.array(turn) @ self.camera.at(frame).axes

    def moved(self, frame: Frame) -> dict[str, float]:
        """``rotation`` and ``exposure`` at a frame: the command's own, and what the tracks add.

        Raises:
            InputError: a track moves a picture without a number, or leads out of the option's range.
        """
        values = {"rotation": self.rotation, "exposure": self.exposure}
        if self.tracks and frame.number is None:
            raise InputError(f"{frame.path} has no frame number.", "Animate the light of a sequence only.")
        for name, track in self.tracks.items():
            values[name] += track.at(float(frame.number or 0))
        for name, value in values.items():
            low, high = _OPTIONS[name].minimum, _OPTIONS[name].maximum
            if not (low or 0) <= value <= (high or 0):
                raise InputError(
                    f"At frame {frame.number} the {name} is {value:g}, "
                    f"which is not between {low:g} and {high:g}.",
                    "Correct the keyframes.",
                )
        return values


def _heading(axes: npt.NDArray[np.float64]) -> float | None:
    """The rotation of the light, in degrees, that a level camera's axes stand for; None where it is tilted."""
    if axes[1, 1] < 1.0 - 1e-9:  # 0.003 degrees
        return None
    return math.degrees(math.atan2(axes[0, 2], axes[2, 2]))
