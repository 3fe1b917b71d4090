"""What PLATE means on a command line: pictures, ``shot.####.exr``, ``shot.%04d.exr``, movies."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from platelight.protocol.errors import InputError

MOVIES = frozenset({".mov", ".mp4", ".m4v", ".mkv", ".avi", ".mxf", ".webm"})
_PATTERN = re.compile(r"#+|%0?(\d*)d")
_RANGE = re.compile(r"^(-?\d+)(?:-(-?\d+)(?:x(\d+))?)?$")


@dataclass(frozen=True)
class Frame:
    """One picture to work on: its file, its number within a sequence (None for a lone picture), and the stem
    that names its outputs."""

    path: Path
    number: int | None = None

    @property
    def stem(self) -> str:
        """The file's name without its suffix."""
        return self.path.stem


def parse_frames(text: str) -> list[int]:
    """Numbers of ``1001-1100``, ``1001-1100x2``, ``1001,1005,1010-1012``, in order.

    Raises:
        InputError: the text says something else.
    """
    numbers: list[int] = []
    for piece in text.split(","):
        match = _RANGE.match(piece.strip())
        first = int(match[1]) if match else 0
        last = int(match[2]) if match and match[2] else first
        step = int(match[3]) if match and match[3] else 1
        if match is None or last < first or step < 1 or last - first > 1_000_000:
            raise InputError(
                f"--frames {text!r} is not a frame range.", "Write for instance 1001-1100 or 1001-1100x2."
            )
        numbers.extend(range(first, last + 1, step))
    return list(dict.fromkeys(numbers))


def expand(arguments: Iterable[str], frames: str | None = None) -> list[Frame]:
    """Turn PLATE arguments into frames, sequences in order of their numbers.

    Args:
        arguments: picture files, or patterns with one run of ``#`` or a ``%04d``.
        frames: range for the patterns; without it, every file that matches is taken.

    Raises:
        InputError: a file or frame does not exist, a pattern matches nothing, an argument is a folder or a
            movie, or two pictures would write the same outputs.
    """
    numbers = parse_frames(frames) if frames else None
    found: list[Frame] = []
    for argument in arguments:
        if _PATTERN.search(Path(argument).name) and not Path(argument).is_file():
            found.extend(_sequence(argument, numbers))
        else:
            found.append(_single(argument))
    stems: dict[str, Path] = {}
    for frame in found:
        other = stems.setdefault(frame.stem, frame.path)
        if other != frame.path:
            raise InputError(
                f"{other} and {frame.path} would both write {frame.stem}.maps.exr.",
                "Run them into two folders.",
            )
    return found


def _single(argument: str) -> Frame:
    path = Path(argument)
    if not path.exists():
        raise InputError(f"{argument}: no such file.", "Check the path.")
    if path.is_dir():
        raise InputError(f"{argument} is a folder.", "Name the pictures in it, for instance shot.####.exr.")
    if path.suffix.lower() in MOVIES:
        raise InputError(
            f"{argument} is a movie, which this installation cannot decode.",
            f"Convert it to pictures: ffmpeg -i {path.name} {path.stem}.%04d.png",
        )
    return Frame(path)


def _sequence(pattern: str, numbers: list[int] | None) -> list[Frame]:
    folder, name = Path(pattern).parent, Path(pattern).name
    marks = list(_PATTERN.finditer(name))
    if len(marks) != 1:
        raise InputError(f"{pattern} has more than one frame number.", "Leave one run of # or one %04d.")
    mark = marks[0]
    width = len(mark[0]) if mark[0].startswith("#") else int(mark[1] or 1)
    head, tail = name[: mark.start()], name[mark.end() :]
    if numbers is not None:
        listed = [Frame(folder / f"{head}{number:0{width}d}{tail}", number) for number in numbers]
        missing = [frame for frame in listed if not frame.path.is_file()]
        if missing:
            more = f" ({len(missing)} frames are missing)" if len(missing) > 1 else ""
            raise InputError(f"{missing[0].path}: no such file{more}.", "Check --frames.")
        return listed
    number_of = re.compile(re.escape(head) + r"(-?\d{" + str(width) + r",})" + re.escape(tail) + "$")
    matches = [
        Frame(path, int(match[1]))
        for path in map(Path, glob.glob(str(folder / f"{glob.escape(head)}*{glob.escape(tail)}")))
        if (match := number_of.match(path.name))
    ]
    if not matches:
        raise InputError(f"{pattern} matches no file.", "Check the path and the number of #.")
    return sorted(matches, key=lambda frame: (frame.number or 0, frame.path.name))
