"""Shots taken apart steadily: which frames are read for which, and what of them is kept for a resumed batch."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from platelight.commands.batch import Computing, Loaded, Stream, Work
from platelight.commands.progress import Meter, Progress
from platelight.commands.records import HIDDEN, Input, Ledger
from platelight.commands.work import Apart
from platelight.images import Frame, expand
from platelight.images.atomic import write_bytes
from platelight.images.exr import half
from platelight.images.sanitize import Pixels
from platelight.pipeline import temporal
from platelight.pipeline.temporal import Still, averaged, shot_light, steadied, still, ways_from
from platelight.pipeline.temporal_flow import Way, both_ways
from platelight.protocol.errors import Cancelled, InputError

log = logging.getLogger(__name__)

KEYS = 5
"""Frames, evenly over the shot, whose lights make the shot's."""
VERSION = 1
"""Rises with every change of the method that changes bytes."""

Taken = tuple[Loaded[Any], Apart]
"""What is left of what was read of a frame, and its maps."""


def wanted(parsed: argparse.Namespace, frames: list[Frame]) -> bool:
    """Whether ``--temporal`` asks for it: ``auto`` does when there is a sequence of at least two frames."""
    moving = sum(1 for frame in frames if frame.shot) > 1
    if parsed.temporal == "on" and not moving:
        raise InputError("There is no sequence to steady.", "Give shot.####.exr, a movie, or --temporal off.")
    return moving and parsed.temporal != "off"


@dataclass
class _Waiting:
    """A frame taken apart: what its neighbors need, and what is written, for the frames that are to be made."""

    still: Still
    apart: Apart | None
    loaded: Loaded[Any] | None


class Steady:
    """Takes the frames of shots apart and steadies them; see docs/sequences.md for the order of things.

    Args:
        frames: the frames of this batch.
        whole: ``--shot``: the range of the whole shot, of which the batch may be a part.
        ledger: records of the batch, whose folder keeps what neighbors need of frames already made.
        files: the files on which a frame's own maps depend, by role.
        settings: on what else they depend.
        apart: takes one frame apart, given what was read.
        rest: what of that is still needed afterwards.
    """

    def __init__(
        self, frames: list[Frame], whole: str | None, ledger: Ledger,
        files: Callable[[Frame], list[tuple[str, Path]]], settings: Mapping[str, Any],
        apart: Callable[[Frame, Any, Progress], Apart], rest: Callable[[Any], Any],
    ) -> None:  # fmt: skip
        self.ledger, self.files, self.settings, self.apart, self.rest = ledger, files, settings, apart, rest
        self.shots: dict[str, list[Frame]] = {}
        for name in dict.fromkeys(frame.shot for frame in frames if frame.shot):
            own = [frame for frame in frames if frame.shot == name]
            shot = expand([name], whole, strict=False) if whole else own
            missing = [frame for frame in own if frame not in set(shot)]
            if missing:
                raise InputError(
                    f"Frame {missing[0].number} of {name} is not in --shot {whole}.", "Widen --shot."
                )
            self.shots[name] = shot
        self.place = {frame: k for shot in self.shots.values() for k, frame in enumerate(shot)}
        self.todo: set[Frame] = set()
        self.kept: set[Path] = set()

    def neighbors(self, frame: Frame) -> list[tuple[int, Frame]]:
        """The frames within reach, by distance."""
        shot, here = self.shots[frame.shot], self.place[frame]
        low, high = max(0, here - temporal.REACH), min(len(shot) - 1, here + temporal.REACH)
        return [(k - here, shot[k]) for k in range(low, high + 1) if k != here]

    def keys(self, shot: str) -> list[Frame]:
        """The frames whose lights make the shot's."""
        frames = self.shots[shot]
        return [
            frames[k]
            for k in dict.fromkeys(np.linspace(0, len(frames) - 1, KEYS).round().astype(int).tolist())
        ]

    def all_files(self, frame: Frame) -> list[tuple[str, Path]]:
        """All files on which a frame's steady maps depend: its own, its neighbors' and the key frames'."""
        found = self.files(frame)
        if not frame.shot:
            return found
        others = [(f"{distance:+d}", other) for distance, other in self.neighbors(frame)]
        others += [(f"key{k}", other) for k, other in enumerate(self.keys(frame.shot))]
        for name, other in others:
            if other.path.is_file():
                found += [(f"{name} {role}", path) for role, path in self.files(other) if path.is_file()]
        return found

    def fitted(
        self, work: Work[Any, Any], compute: Callable[[Stream[Any], Meter], Computing[Any]]
    ) -> Work[Any, Any]:
        """A command's part of a batch, made to go over shots: ``compute`` is to draw from :meth:`stream`."""
        own = work.files

        def files(frame: Frame) -> list[tuple[str, Path]]:
            seen = {path for _, path in self.files(frame)}
            return self.all_files(frame) + [(role, path) for role, path in own(frame) if path not in seen]

        return replace(
            work, files=files, compute=compute, plan=self.plan, stored=self.stored, finish=self.finish
        )

    def plan(self, todo: list[Frame]) -> list[Frame]:
        """The frames to read for those to make, in the order in which they are read: of each shot first the key
        frames, unless its light is known, then all within reach of a frame to make."""
        self.todo = set(todo)
        order = [frame for frame in todo if not frame.shot]
        for name, shot in self.shots.items():
            near = {frame for frame in todo if frame.shot == name}
            if not near:
                continue
            near |= {other for frame in near for _, other in self.neighbors(frame)}
            order += self.keys(name) if self._known_light(name) is None else []
            order += [frame for frame in shot if frame in near]
        return order

    def stored(self, frame: Frame) -> Loaded[Any] | None:
        """What neighbors need of a frame, where an earlier run left it and the frame itself is not to be made."""
        if frame in self.todo:
            return None
        try:
            found = Still.from_bytes(self._still_path(frame).read_bytes())
        except (OSError, SafetensorError, KeyError, InputError):
            return None
        return Loaded(found, found.shape, [])

    def stream(self, stream: Stream[Any], display: Meter) -> Iterator[tuple[Frame, Taken | Exception]]:
        """Yield the frames to make, in order, with their steady maps and the shot's light.

        A frame that fails yields its error; its neighbors do without it.
        """
        early: dict[Frame, _Waiting | Exception] = {}  # key frames, read before their turn
        lights: dict[str, Pixels] = {}
        window: list[tuple[Frame, _Waiting | Exception, tuple[Way, Way] | None]] = []
        made = 0
        for frame, loaded in stream:
            if not frame.shot:
                yield from self._alone(frame, loaded, display)
                continue
            if frame.shot not in lights and (known := self._known_light(frame.shot)) is not None:
                lights[frame.shot] = known
            if frame.shot not in lights:
                early[frame] = self._taken(frame, loaded, display)
                if frame == self.keys(frame.shot)[-1]:
                    lights[frame.shot] = self._find_light(frame.shot, early)
                continue
            if window and window[-1][0].shot != frame.shot:
                yield from self._ready(window, made, lights, None)
                window, made = [], 0
            state = early.pop(frame, None)
            state = self._taken(frame, loaded, display) if state is None else state
            del loaded
            window.append((frame, state, self._step(window[-1], frame, state) if window else None))
            yield from self._ready(window, made, lights, frame)
            made = self._count_made(window, frame)
            while self.place[window[0][0]] < self.place[frame] - 2 * temporal.REACH:
                window.pop(0)
                made -= 1
        if window:
            yield from self._ready(window, max(made, 0), lights, None)

    def finish(self) -> None:
        """Remove what was kept for a resumed batch: this one is done."""
        for path in self.kept:
            path.unlink(missing_ok=True)

    def _taken(self, frame: Frame, loaded: Loaded[Any] | Exception, display: Meter) -> _Waiting | Exception:
        if isinstance(loaded, Exception):
            return loaded
        if isinstance(loaded.value, Still):
            return _Waiting(loaded.value, None, None)
        try:
            apart = self.apart(frame, loaded.value, display.begin(frame.stem))
        except Cancelled:
            raise
        except Exception as error:  # a frame is a job: the batch decides whether to go on
            return error
        small = still(apart.maps)
        path = self._still_path(frame)
        write_bytes(path, small.to_bytes())
        self.kept.add(path)
        if frame not in self.todo:
            return _Waiting(small, None, None)
        # Waiting for their neighbors, maps are held as the files will hold them.
        held: dict[str, Any] = {
            name: plane if name in ("depth", "light") else half(plane) for name, plane in apart.maps.items()
        }
        return _Waiting(small, Apart(held, apart.attributes), replace(loaded, value=self.rest(loaded.value)))

    def _alone(
        self, frame: Frame, loaded: Loaded[Any] | Exception, display: Meter
    ) -> Iterator[tuple[Frame, Taken | Exception]]:
        if isinstance(loaded, Exception):
            yield frame, loaded
            return
        try:
            apart = self.apart(frame, loaded.value, display.begin(frame.stem))
        except Cancelled:
            raise
        except Exception as error:
            yield frame, error
            return
        yield frame, (replace(loaded, value=self.rest(loaded.value)), apart)

    def _step(
        self, last: tuple[Frame, _Waiting | Exception, Any], frame: Frame, state: _Waiting | Exception
    ) -> tuple[Way, Way] | None:
        """Ways between two frames, where they follow each other in the shot and both are there."""
        if isinstance(last[1], Exception) or isinstance(state, Exception):
            return None
        if self.place[last[0]] + 1 != self.place[frame]:
            return None
        return both_ways(last[1].still.view, state.still.view)

    def _count_made(self, window: list[tuple[Frame, Any, Any]], last: Frame) -> int:
        return sum(1 for frame, _, _ in window if self.place[frame] <= self.place[last] - temporal.REACH)

    def _ready(
        self, window: list[tuple[Frame, _Waiting | Exception, tuple[Way, Way] | None]], made: int,
        lights: Mapping[str, Pixels], last: Frame | None,
    ) -> Iterator[tuple[Frame, Taken | Exception]]:  # fmt: skip
        """The frames of the window from ``made`` on whose neighbors are all there; all of them at a shot's end."""
        for k in range(made, len(window)):
            frame, state, _ = window[k]
            if last is not None and self.place[frame] > self.place[last] - temporal.REACH:
                return
            if frame not in self.todo:
                continue
            if isinstance(state, Exception):
                yield frame, state
                continue
            assert state.apart is not None
            assert state.loaded is not None
            window[k] = (frame, _Waiting(state.still, None, None), window[k][2])
            steady = averaged(state.still, self._around(window, k))
            maps = {name: np.asarray(plane, np.float32) for name, plane in state.apart.maps.items()}
            maps = steadied(maps, state.still, steady, lights[frame.shot])
            yield frame, (state.loaded, Apart(maps, state.apart.attributes))

    def _around(
        self, window: list[tuple[Frame, _Waiting | Exception, tuple[Way, Way] | None]], here: int
    ) -> list[tuple[int, Still, Way]]:
        """A frame's neighbors with the ways to them, as far as no gap is between."""
        found: list[tuple[int, Still, Way]] = []
        for side in (1, -1):
            steps: list[Way] = []
            stills: list[Still] = []
            for distance in range(1, temporal.REACH + 1):
                k = here + side * distance
                if not 0 <= k < len(window):
                    break
                pair = window[k if side > 0 else k + 1][2]
                state = window[k][1]
                if pair is None or isinstance(state, Exception):
                    break
                steps.append(pair[0] if side > 0 else pair[1])
                stills.append(state.still)
            ways = ways_from(steps)
            found += [
                (side * (k + 1), one, way) for k, (one, way) in enumerate(zip(stills, ways, strict=True))
            ]
        return found

    def _digest(self, frames: list[Frame]) -> str:
        inputs: list[list[Any]] = []
        for frame in frames:
            here: list[Input] = self.ledger.look([pair for pair in self.files(frame) if pair[1].is_file()])
            inputs.append([frame.stem, [[one.role, one.name, one.sha256] for one in here]])
        said = json.dumps([VERSION, self.settings, inputs], sort_keys=True, default=str)
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    def _still_path(self, frame: Frame) -> Path:
        return self.ledger.folder / HIDDEN / "steady" / f"{frame.stem}.{self._digest([frame])}.safetensors"

    def _light_path(self, shot: str) -> Path:
        return self.ledger.folder / HIDDEN / f"light.{self._digest(self.keys(shot))}.safetensors"

    def _known_light(self, shot: str) -> Pixels | None:
        try:
            return np.asarray(load(self._light_path(shot).read_bytes())["light"], np.float32)
        except (OSError, SafetensorError, KeyError):
            return None

    def _find_light(self, shot: str, early: Mapping[Frame, _Waiting | Exception]) -> Pixels:
        states = [early[frame] for frame in self.keys(shot)]
        there = [state.still.light for state in states if isinstance(state, _Waiting)]
        if not there:
            raise next(state for state in states if isinstance(state, Exception))
        light = shot_light(there)
        write_bytes(self._light_path(shot), save({"light": light}))
        return light
