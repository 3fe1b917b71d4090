"""The target light of each frame: one HDRI or a sequence of them, turned and exposed by keyframes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from platelight.commands.tracks import Track, read_tracks
from platelight.images import Frame, read_light
from platelight.images.sanitize import Pixels
from platelight.images.sequence import is_pattern, numbered
from platelight.protocol.errors import InputError
from platelight.protocol.requests import Relight, options_of


@dataclass(frozen=True)
class Lighting:
    """What ``--light``, ``--light-csv``, ``--rotate`` and ``--exposure`` say together."""

    source: str | None
    colorspace: str
    rotation: float
    exposure: float
    tracks: dict[str, Track]
    fixed: Pixels | None

    @staticmethod
    def of(parsed: argparse.Namespace, frames: Sequence[Frame]) -> Lighting:
        """Read what all frames share, and check the rest, before anything long begins.

        Raises:
            InputError: the light or the CSV cannot be read, or a frame has no light or is out of range.
        """
        if parsed.light is None:
            if not getattr(parsed, "lamp", None):
                raise InputError("There is no light.", "Give --light HDRI, or a --lamp.")
            if parsed.light_csv:
                raise InputError(
                    "--light-csv moves an HDRI, and there is none.", "Give --light HDRI as well."
                )
            return Lighting(None, parsed.light_colorspace, parsed.rotation, parsed.exposure, {}, None)
        fixed = None if is_pattern(parsed.light) else read_light(parsed.light, parsed.light_colorspace)
        tracks = read_tracks(Path(parsed.light_csv)) if parsed.light_csv else {}
        lighting = Lighting(
            parsed.light, parsed.light_colorspace, parsed.rotation, parsed.exposure, tracks, fixed
        )  # fmt: skip
        for frame in frames:
            lighting.moved(frame)
            path = lighting.file(frame)
            if fixed is None and not parsed.keep_going and path is not None and not path.is_file():
                raise InputError(f"{path}: no such file.", f"Frame {frame.number} needs a light.")
        return lighting

    def file(self, frame: Frame) -> Path | None:
        """The HDRI of a frame; None where lamps alone give light."""
        return None if self.source is None else numbered(self.source, frame.number)

    def read(self, frame: Frame) -> Pixels | None:
        """Radiance (h, 2h, 3) of a frame, not yet turned; None where lamps alone give light."""
        path = self.file(frame)
        return self.fixed if self.fixed is not None or path is None else read_light(path, self.colorspace)

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
        for option in options_of(Relight):
            low, high = option.minimum, option.maximum
            if option.name in values and not (low or 0) <= values[option.name] <= (high or 0):
                raise InputError(
                    f"At frame {frame.number} the {option.name} is {values[option.name]:g}, "
                    f"which is not between {low:g} and {high:g}.",
                    "Correct the keyframes.",
                )
        return values
