"""A command's frames cut into chunks, each a command line of its own whose bytes do not depend on the cut."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from platelight.images import Frame, expand
from platelight.protocol.errors import InputError


@dataclass(frozen=True)
class Chunk:
    """Plates, ``--frames`` and ``--shot`` of one piece of work, and how many frames that is."""

    plates: tuple[str, ...]
    frames: str | None
    shot: str | None
    count: int

    def fitted(self, parsed: argparse.Namespace) -> argparse.Namespace:
        """The whole command's options, for this chunk."""
        return argparse.Namespace(
            **{**vars(parsed), "plates": list(self.plates), "frames": self.frames, "shot": self.shot}
        )


def chunks(parsed: argparse.Namespace, size: int) -> list[Chunk]:
    """Cut what a decompose or relight command asks for; frames in their order, each once.

    Raises:
        InputError: as :func:`platelight.images.expand`.
    """
    if not parsed.plates:
        raise InputError(
            "Ray cuts plates into chunks, and none is named.", "Name them, beside --maps FOLDER too."
        )
    frames = expand(parsed.plates, parsed.frames, strict=not parsed.keep_going)
    found = []
    for name in dict.fromkeys(frame.shot for frame in frames):
        own = [frame for frame in frames if frame.shot == name]
        whole = parsed.shot or parsed.frames or ranges([frame.number or 0 for frame in own])
        for k in range(0, len(own), size):
            part = own[k : k + size]
            found.append(_shot_chunk(name, part, whole) if name else _stills_chunk(part))
    return found


def _shot_chunk(name: str, part: Sequence[Frame], whole: str) -> Chunk:
    return Chunk((name,), ranges([frame.number or 0 for frame in part]), whole, len(part))


def _stills_chunk(part: Sequence[Frame]) -> Chunk:
    return Chunk(tuple(str(frame.path) for frame in part), None, None, len(part))


def ranges(numbers: Sequence[int]) -> str:
    """``1-5,8,10-12`` of ascending numbers, as ``--frames`` reads it."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
