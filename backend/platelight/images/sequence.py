"""What PLATE means on a command line: pictures, ``shot.####.exr``, ``shot.%04d.exr``, movies."""

from __future__ import annotations

import glob
import itertools
import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from platelight.protocol.errors import InputError

log = logging.getLogger(__name__)

MOVIES = frozenset({".mov", ".mp4", ".m4v", ".mkv", ".avi", ".mxf", ".webm"})
_PATTERN = re.compile(r"#+|%0?(\d*)d")
_RANGE = re.compile(r"^(-?\d+)(?:-(-?\d+)(?:[x:](\d+))?)?$")


@dataclass(frozen=True)
class Frame:
    """One picture to work on.

    ``path`` is its file; ``number`` its number within a sequence or a movie (which counts from 1), None for a
    lone picture; ``shot`` the argument that it came from, the same for all frames of a sequence, empty for a
    lone picture.
    """

    path: Path
    number: int | None = None
    shot: str = ""

    @property
    def is_movie(self) -> bool:
        """Whether ``path`` holds other frames too."""
        return self.number is not None and self.path.suffix.lower() in MOVIES

    @property
    def stem(self) -> str:
        """What names the outputs: the file's name without its suffix, with the number for a movie's frame."""
        return f"{self.path.stem}.{self.number:04d}" if self.is_movie else self.path.stem

    def __str__(self) -> str:
        return f"{self.path} frame {self.number}" if self.is_movie else str(self.path)


def parse_frames(text: str) -> list[int]:
    """Numbers of ``1001-1100``, ``1001-1100x2`` (or ``:2``, as OpenJD writes it), ``1001,1005,1010-1012``, ascending.

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
                f"{text!r} is not a frame range.", "Write for instance 1001-1100 or 1001-1100x2."
            )
        numbers.extend(range(first, last + 1, step))
    return sorted(set(numbers))


def is_pattern(argument: str) -> bool:
    """Whether an argument stands for many files: a run of ``#`` or a ``%04d`` in the name of no real file."""
    return bool(_PATTERN.search(Path(argument).name)) and not Path(argument).is_file()


def numbered(pattern: str, number: int | None) -> Path:
    """The file of a pattern for one frame; what is no pattern stands for itself.

    Raises:
        InputError: the pattern has two numbers, or there is no number to put in.
    """
    if not is_pattern(pattern):
        return Path(pattern)
    if number is None:
        raise InputError(f"{pattern} is a sequence, but the plate has no frame number.", "Name one file.")
    head, width, tail = _parts(pattern)
    return Path(pattern).parent / f"{head}{number:0{width}d}{tail}"


def expand(arguments: Iterable[str], frames: str | None = None, strict: bool = True) -> list[Frame]:
    """Turn PLATE arguments into frames, sequences in order of their numbers.

    Args:
        arguments: picture files, movies, or patterns with one run of ``#`` or a ``%04d``.
        frames: range for patterns and movies; without it, every frame that is there is taken, and a gap is told.
        strict: refuse a range of which a file is missing; otherwise its frame is listed all the same.

    Raises:
        InputError: a file or frame does not exist, a pattern matches nothing, an argument is a folder, or two
            pictures would write the same outputs.
    """
    numbers = parse_frames(frames) if frames else None
    arguments = list(arguments)
    found: list[Frame] = []
    for argument in arguments:
        if is_pattern(argument):
            found.extend(_sequence(argument, numbers, strict))
        elif Path(argument).suffix.lower() in MOVIES and Path(argument).is_file():
            found.extend(_movie(argument, numbers, strict))
        else:
            found.append(_single(argument))
    if numbers is not None and found and not any(frame.shot for frame in found):
        raise InputError(
            f"{found[0]} is one picture, which --frames says nothing of.",
            "Name a sequence, as shot.####.exr.",
        )
    stems: dict[str, Path] = {}
    for frame in found:
        other = stems.setdefault(frame.stem, frame.path)
        if other != frame.path:
            raise InputError(
                f"{other} and {frame.path} would both write {frame.stem}.maps.exr.",
                "Run them into two folders.",
            )
    return found


def whole_shots(frames: Sequence[Frame], whole: str | None) -> dict[str, list[Frame]]:
    """All frames of the shots that ``frames`` are of, there or not, by the range of ``--shot``; without it ``frames``.

    Raises:
        InputError: a frame is outside of the range.
    """
    found: dict[str, list[Frame]] = {}
    for name in dict.fromkeys(frame.shot for frame in frames if frame.shot):
        own = [frame for frame in frames if frame.shot == name]
        found[name] = shot = expand([name], whole, strict=False) if whole else own
        known = set(shot)
        if missing := [frame for frame in own if frame not in known]:
            raise InputError(
                f"Frame {missing[0].number} of {name} is not in --shot {whole}.", "Widen --shot."
            )
        here = sum(frame.path.is_file() for frame in shot) if whole else len(shot)
        if here < len(shot) and 2 * here <= len(shot) + 1:
            log.warning(
                "%s: only %d of the %d frames of --shot %s are there, and those without a neighbor are not steadied. "
                "Give a shot on twos as 1001-1100x2.",
                name, here, len(shot), whole,
            )  # fmt: skip
    return found


def color_space_of(frame: Frame, chosen: Sequence[str] | None) -> str:
    """The color space that ``--colorspace`` gives a frame: of ``NAME`` and ``GLOB=NAME``, the last that fits."""
    space = "auto"
    for choice in chosen or ():
        pattern, equals, name = choice.rpartition("=")
        if not equals or fnmatch(frame.path.name, pattern) or pattern in (frame.shot, str(frame.path)):
            space = name
    return space


def _single(argument: str) -> Frame:
    path = Path(argument)
    if not path.exists():
        raise InputError(f"{argument}: no such file.", "Check the path.")
    if path.is_dir():
        raise InputError(f"{argument} is a folder.", "Name the pictures in it, for instance shot.####.exr.")
    return Frame(path)


def _movie(argument: str, numbers: list[int] | None, strict: bool) -> list[Frame]:
    from platelight.images.movie import count

    path = Path(argument)
    last = count(path)
    listed = range(1, last + 1) if numbers is None else numbers
    outside = [number for number in listed if not 1 <= number <= last]
    if outside and strict:
        more = f" ({len(outside)} frames are missing)" if len(outside) > 1 else ""
        raise InputError(
            f"{argument} has no frame {outside[0]}{more}: it has the frames 1 to {last}.", "Check --frames."
        )
    return [Frame(path, number, argument) for number in listed]


def _parts(pattern: str) -> tuple[str, int, str]:
    """What stands before the number, its least width, and what stands behind it."""
    name = Path(pattern).name
    marks = list(_PATTERN.finditer(name))
    if len(marks) != 1:
        raise InputError(f"{pattern} has more than one frame number.", "Leave one run of # or one %04d.")
    mark = marks[0]
    width = len(mark[0]) if mark[0].startswith("#") else int(mark[1] or 1)
    return name[: mark.start()], width, name[mark.end() :]


def _sequence(pattern: str, numbers: list[int] | None, strict: bool) -> list[Frame]:
    folder = Path(pattern).parent
    head, width, tail = _parts(pattern)
    if numbers is not None:
        listed = [Frame(folder / f"{head}{number:0{width}d}{tail}", number, pattern) for number in numbers]
        missing = [frame for frame in listed if not frame.path.is_file()] if strict else []
        if missing:
            more = f" ({len(missing)} frames are missing)" if len(missing) > 1 else ""
            raise InputError(f"{missing[0].path}: no such file{more}.", "Check --frames.")
        return listed
    number_of = re.compile(re.escape(head) + r"(-?\d+)" + re.escape(tail) + "$")
    matches = [
        Frame(path, int(match[1]), pattern)
        for path in map(
            Path, glob.glob(f"{glob.escape(str(folder))}/{glob.escape(head)}*{glob.escape(tail)}")
        )
        # The width holds the minus, as printf has it.
        if (match := number_of.match(path.name)) and len(match[1]) >= width
    ]
    if not matches:
        raise InputError(f"{pattern} matches no file.", "Check the path and the number of #.")
    matches.sort(key=lambda frame: (frame.number or 0, frame.path.name))
    if gaps := missing_numbers([frame.number or 0 for frame in matches]):
        log.warning("%s: no files for the frames %s.", pattern, gaps)
    return matches


def usual_step(numbers: list[int]) -> int:
    """The most frequent step between ascending numbers, the least of several: 2 of a shot on twos, stray frames or not."""
    steps = Counter(after - before for before, after in itertools.pairwise(numbers))
    return max(steps, key=lambda step: (steps[step], -step), default=1)


def missing_numbers(numbers: list[int]) -> str:
    """Gaps in ascending numbers as ranges, ``1004-1009,1012``; a shot on twos, by its usual step, has none."""
    usual, gaps = usual_step(numbers), []
    for before, after in itertools.pairwise(numbers):
        if after - before > usual:
            first, last = before + usual, after - usual if (after - before) % usual == 0 else after - 1
            gaps.append(str(first) if first >= last else f"{first}-{last}")
    return ",".join(gaps)
