"""Shots taken apart steadily: which frames are read for which, and what of them is kept for a resumed batch."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from platelight.commands.batch import Computing, Loaded, Stream, Work, named
from platelight.commands.camera import Axes, seen
from platelight.commands.kept import VERSION, Kept, take_back
from platelight.commands.progress import Meter, Progress
from platelight.commands.records import Input, Ledger
from platelight.commands.window import Place, Waiting, around, let_go, made_from
from platelight.commands.work import Apart, as_files_hold
from platelight.images import Frame, parse_frames
from platelight.images.sequence import usual_step, whole_shots
from platelight.pipeline.temporal import (
    AFTER,
    BEFORE,
    Shot,
    Still,
    averaged,
    key_places,
    leveled,
    shot_of,
    steadied,
    still,
)
from platelight.pipeline.temporal_flow import Step, both_ways, is_cut
from platelight.protocol.errors import Cancelled, InputError, PlatelightError

log = logging.getLogger(__name__)

__all__ = ["VERSION", "Steady", "wanted"]

STILL = 5e-5
"""Sine of the angle (0.003 degrees) within which two cameras look the same way."""

Taken = tuple[Loaded[Any], Apart]
"""What is left of what was read of a frame, and its maps."""


def wanted(parsed: argparse.Namespace, frames: list[Frame]) -> bool:
    """Whether ``--temporal`` asks for it: ``auto`` does when there is a sequence of at least two frames, all of them here or not."""
    own = sum(1 for frame in frames if frame.shot)
    moving = own > 1 or (own == 1 and bool(parsed.shot) and len(parse_frames(parsed.shot)) > 1)
    names = [
        re.sub(r"\d+(?=\D*$)", lambda digits: "#" * len(digits[0]), frame.path.name)
        for frame in frames
        if not frame.shot
    ]
    if len(names) > 2 and len(set(names)) == 1 and "#" in names[0] and parsed.temporal == "auto":
        log.warning(
            "%d single pictures are taken apart each for itself. Steady them as a shot: %s.",
            len(names),
            names[0],
        )
    if parsed.temporal == "on" and not moving:
        raise InputError("There is no sequence to steady.", "Give shot.####.exr, a movie, or --temporal off.")
    return moving and parsed.temporal != "off"


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
        axes: a frame's camera's axes in the world, where they are known; the shot's light then stays in the world.
        read: reads what ``apart`` takes of a frame that is not to be made; the command's own reading, unless given.

    Raises:
        InputError: a frame is not in the whole shot, or a key frame has no camera.
    """

    def __init__(
        self, frames: list[Frame], whole: str | None, ledger: Ledger,
        files: Callable[[Frame], list[tuple[str, Path]]], settings: Mapping[str, Any],
        apart: Callable[[Frame, Any, Progress], Apart], rest: Callable[[Any], Any],
        axes: Callable[[Frame], Axes] | None = None,
        read: Callable[[Frame], tuple[Any, tuple[int, int]]] | None = None,
    ) -> None:  # fmt: skip
        self.kept = Kept(ledger, files, settings)
        self.files, self.apart, self.rest, self.read = files, apart, rest, read
        self.frames = frames
        self.shots = whole_shots(frames, whole)
        self.place = {frame: k for shot in self.shots.values() for k, frame in enumerate(shot)}
        # More than the usual step between a shot's frames is a hole.
        self.step = {
            name: usual_step([frame.number or 0 for frame in shot]) for name, shot in self.shots.items()
        }
        self.axes = axes
        self.turns = {frame: self.turn(frame) for name in self.shots for frame in self.keys(name)}
        self.todo = set(frames)
        self.known: dict[str, Shot] = {}
        self.lit: dict[Frame, list[Input]] = {}  # key frames that made a shot's light, and from what

    def neighbors(self, frame: Frame) -> list[tuple[int, Frame]]:
        """The frames within reach, by distance."""
        shot, here = self.shots[frame.shot], self.place[frame]
        low, high = max(0, here - BEFORE), min(len(shot) - 1, here + AFTER)
        return [(k - here, shot[k]) for k in range(low, high + 1) if k != here]

    def keys(self, shot: str) -> list[Frame]:
        """The frames whose lights make the shot's."""
        return [self.shots[shot][k] for k in key_places(len(self.shots[shot]))]

    def turn(self, frame: Frame) -> Axes | None:
        """The axes of a frame's camera in those of its shot's first key frame, in which the shot's light is kept; None
        where they are the same, so that a camera that stands still has its lights as they were found."""
        if self.axes is None:
            return None
        turn = self.axes(self.keys(frame.shot)[0]).T @ self.axes(frame)
        return None if np.abs(turn - np.eye(3)).max() < STILL else turn

    def turns_of(self, frame: Frame) -> dict[str, Any]:
        """What a frame's record says of the turns that its light depends on: its own and the key frames'."""
        if self.axes is None or not frame.shot:
            return {}
        turns = [self.turn(frame), *(self.turns[key] for key in self.keys(frame.shot))]
        return {"turns": _told(turns)}

    def others(self, frame: Frame) -> list[tuple[str, Frame]]:
        """The frames on which a frame's steady maps depend beside itself, by role: neighbors and key frames."""
        if not frame.shot:
            return []
        found = [(f"{distance:+d}", other) for distance, other in self.neighbors(frame)]
        return found + [(f"key{k}", other) for k, other in enumerate(self.keys(frame.shot))]

    def near(self, frame: Frame) -> list[tuple[str, Path]]:
        """The files of those frames, as far as they are there."""
        return [
            (f"{name} {role}", path)
            for name, other in self.others(frame)
            if other.path.is_file()
            for role, path in self.files(other)
            if path.is_file()
        ]

    def fitted(
        self, work: Work[Any, Any], compute: Callable[[Stream[Any], Meter], Computing[Any]]
    ) -> Work[Any, Any]:
        """A command's part of a batch, made to go over shots: ``compute`` is to draw from :meth:`stream`."""
        files, extra, read = work.files, work.extra, self.read or work.read
        return replace(
            work, compute=compute, plan=self.plan, stored=self.stored, finish=self.finish, near=self.near,
            files=lambda frame: (files if frame in self.todo else self.files)(frame),
            read=lambda frame: (work.read if frame in self.todo else read)(frame),
            extra=lambda frame: {**extra(frame), **self.turns_of(frame)},
        )  # fmt: skip

    def plan(self, todo: list[Frame], overwrite: bool) -> list[Frame]:
        """The frames to read for those to make, in the order in which they are read: of each shot first the key
        frames, unless its light is known, then all within reach of a frame to make."""
        self.todo = set(todo)
        order = [frame for frame in todo if not frame.shot]
        for name, shot in self.shots.items():
            near = {frame for frame in todo if frame.shot == name}
            if not near:
                continue
            near |= {other for frame in near for _, other in self.neighbors(frame)}
            # Looked for here only: another machine may find the light of the same shot at any time.
            found = None if overwrite else self._kept_shot(name)
            if found is None:
                order += self.keys(name)
            else:
                self.known[name] = found
            order += [frame for frame in shot if frame in near]
        return order

    def stored(self, frame: Frame) -> Loaded[Any] | None:
        """What neighbors need of a frame, where an earlier run left it and the frame itself is not to be made."""
        found = None if frame in self.todo else self.kept.still(frame)
        return None if found is None else Loaded(found[0], found[0].shape, found[1])

    def stream(self, stream: Stream[Any], display: Meter) -> Iterator[tuple[Frame, Taken | Exception]]:
        """Yield the frames to make, in order, with their steady maps and the shot's light.

        A frame that fails yields its error; its neighbors do without it.
        """
        early: dict[Frame, Waiting | Exception] = {}  # key frames, taken apart before their turn
        common: dict[str, Shot | None] = dict(self.known)
        failed: dict[str, Exception] = {}  # shots of which no key frame could be taken apart
        window: list[Place] = []
        made = 0
        for frame, loaded in stream:
            if not frame.shot:
                yield frame, self._alone(frame, loaded, display)
                continue
            if frame.shot not in common and frame.shot not in failed:
                early[frame] = self._put_aside(frame, self._taken(frame, loaded, display))
                if frame == self.keys(frame.shot)[-1]:
                    try:
                        common[frame.shot] = self._find_shot(frame.shot, early)
                    except Exception as error:  # the batch decides whether to go on
                        failed[frame.shot] = error
                continue
            if window and window[-1].frame.shot != frame.shot:
                yield from self._ready(window, made, common, None)
                window, made = [], 0
            if frame.shot in failed:
                own = early.pop(frame, loaded)
                if frame in self.todo:
                    yield frame, own if isinstance(own, Exception) else failed[frame.shot]
                continue
            state = early.pop(frame, None)
            if state is None:
                state = self._taken(frame, loaded, display)
            elif isinstance(state, Waiting):
                state = self._taken_back(state, loaded)
            shared = common[frame.shot]
            if isinstance(state, Waiting) and shared is not None:
                state = replace(state, still=leveled(state.still, shared))
            if isinstance(state, Exception) and frame not in self.todo:  # nobody else tells of it
                log.warning("%s The frames near it do without it.", named(frame, state))
            del loaded
            window.append(Place(frame, state, self._step(window[-1], frame, state) if window else None))
            yield from self._ready(window, made, common, frame)
            made = self._count_made(window, frame)
            while self.place[window[0].frame] <= self.place[frame] - BEFORE - AFTER:
                window.pop(0)
                made -= 1
        if window:
            yield from self._ready(window, max(made, 0), common, None)

    def finish(self) -> None:
        """Remove what was kept for a resumed batch: this one is done."""
        near = [other for frame in self.frames if frame.shot for _, other in self.neighbors(frame)]
        self.kept.clear(self.frames, near)

    def _taken(self, frame: Frame, loaded: Loaded[Any] | Exception, display: Meter) -> Waiting | Exception:
        if isinstance(loaded, Exception):
            return loaded
        if isinstance(loaded.value, Still):
            return Waiting(loaded.value, loaded.inputs)
        apart = self._apart(frame, loaded, display)
        if isinstance(apart, Exception):
            return apart
        roles = {role for role, _ in self.files(frame)}
        inputs = [one for one in loaded.inputs if one.role in roles]
        small = still(apart.maps)
        self.kept.keep_still(frame, inputs, small)
        if frame not in self.todo:
            return Waiting(small, inputs)
        held = Apart(as_files_hold(apart.maps), apart.attributes)
        return Waiting(small, inputs, held, replace(loaded, value=self.rest(loaded.value)))

    def _apart(self, frame: Frame, loaded: Loaded[Any], display: Meter) -> Apart | Exception:
        try:
            return self.apart(frame, loaded.value, display.begin(frame.stem))
        except Cancelled:
            raise
        except Exception as error:  # a frame is a job: the batch decides whether to go on
            return error

    def _put_aside(self, frame: Frame, state: Waiting | Exception) -> Waiting | Exception:
        """A key frame's state with its maps on the disk: its turn may be a thousand frames away."""
        if isinstance(state, Exception):
            return state
        self.lit[frame] = state.inputs
        if state.apart is None:
            return state
        aside = self.kept.put_aside(frame, state.inputs, state.apart.maps)
        if aside is None:
            return state
        return Waiting(state.still, state.inputs, replace(state.apart, maps={}), aside=aside)

    def _taken_back(self, state: Waiting, loaded: Loaded[Any] | Exception) -> Waiting | Exception:
        """A key frame's state at its turn; it was read once more, for what is written beside its maps."""
        if state.apart is None:
            return state
        if isinstance(loaded, Exception):
            return loaded
        try:
            maps = state.apart.maps if state.aside is None else take_back(state.aside)
        except PlatelightError as error:
            return error
        rest = replace(loaded, value=self.rest(loaded.value))
        return Waiting(state.still, state.inputs, replace(state.apart, maps=maps), rest)

    def _alone(self, frame: Frame, loaded: Loaded[Any] | Exception, display: Meter) -> Taken | Exception:
        if isinstance(loaded, Exception):
            return loaded
        apart = self._apart(frame, loaded, display)
        if isinstance(apart, Exception):
            return apart
        return replace(loaded, value=self.rest(loaded.value)), apart

    def _step(self, last: Place, frame: Frame, state: Waiting | Exception) -> Step | None:
        """Ways between two frames, where they follow each other in the shot and both are there."""
        if isinstance(last.state, Exception) or isinstance(state, Exception):
            return None
        if self.place[last.frame] + 1 != self.place[frame]:
            return None
        if last.state.still.empty or state.still.empty:
            return None
        if (frame.number or 0) - (last.frame.number or 0) > self.step[frame.shot]:
            return None
        step = both_ways(last.state.still.view, state.still.view)
        return None if is_cut(last.state.still.view, step) else step

    def _count_made(self, window: list[Place], last: Frame) -> int:
        return sum(1 for one in window if self.place[one.frame] <= self.place[last] - AFTER)

    def _ready(
        self, window: list[Place], made: int, common: Mapping[str, Shot | None], last: Frame | None
    ) -> Iterator[tuple[Frame, Taken | Exception]]:
        """The frames of the window from ``made`` on whose neighbors are all there; all of them at a shot's end."""
        for k in range(made, len(window)):
            frame = window[k].frame
            if last is not None and self.place[frame] > self.place[last] - AFTER:
                return
            if frame in self.todo:  # what is given is the taker's to forget: no name here keeps it
                yield frame, self._made(window, k, common)

    def _made(self, window: list[Place], k: int, common: Mapping[str, Shot | None]) -> Taken | Exception:
        """A frame's steady maps; the window forgets its full-size ones."""
        frame, state = window[k].frame, window[k].state
        if isinstance(state, Exception):
            return state
        small, apart, loaded = state.still, state.apart, state.loaded
        assert apart is not None
        assert loaded is not None
        window[k].state = Waiting(small, state.inputs)
        steady = averaged(small, around(window, k))
        let_go(window, k)
        shared, turn = common[frame.shot], self.turn(frame)
        light = small.light if shared is None else shared.light
        if shared is not None and turn is not None:
            light = seen(light, turn)
        maps = steadied(apart.maps, small, steady, light)
        inputs = made_from(window, k, loaded.inputs, self.others(frame), self.lit)
        return replace(loaded, inputs=inputs), Apart(maps, apart.attributes)

    def _find_shot(self, shot: str, early: Mapping[Frame, Waiting | Exception]) -> Shot | None:
        """What a shot's frames share by its key frames; None where none of them shows a subject."""
        keys = self.keys(shot)
        states = [(early[frame], self.turns[frame]) for frame in keys]
        there = [(state.still, turn) for state, turn in states if isinstance(state, Waiting)]
        if not there:
            raise next(state for state, _ in states if isinstance(state, Exception))
        lost = {key: early[key] for key in keys if key not in self.lit}
        for key, error in lost.items():
            assert isinstance(error, Exception)
            count = f"{len(there)} of {len(keys)} key frames"
            log.warning("%s The light of %s is that of %s.", named(key, error), shot, count)
        there = [(one, turn) for one, turn in there if not one.empty]
        if not there:
            numbers = ", ".join(str(key.number) for key in keys)
            log.warning(
                "%s: frames %s show no subject, so that each frame keeps its own light.", shot, numbers
            )
            return None
        # As the first key frame's camera would see it: that camera's axes in each frame's are the turn's rows.
        found = shot_of(
            [one if turn is None else replace(one, light=seen(one.light, turn.T)) for one, turn in there]
        )
        # What failed may be there the next time, when a light that was found without it is not the shot's.
        if not any(key.path.is_file() for key in lost):
            self.kept.keep_shot({key: self.lit.get(key, []) for key in keys}, self._keys_turns(shot), found)
        return found

    def _kept_shot(self, shot: str) -> Shot | None:
        """What an earlier run or another machine left of a shot."""
        try:
            inputs = {key: self.kept.inputs(key) for key in self.keys(shot)}
        except InputError:  # the key frame's own turn tells what is wrong with it
            return None
        found = self.kept.shot(inputs, self._keys_turns(shot))
        if found is not None:
            self.lit.update(inputs)
        return found

    def _keys_turns(self, shot: str) -> Any:
        return _told([self.turns[key] for key in self.keys(shot)])


def _told(turns: list[Axes | None]) -> Any:
    """Turns as records hold them, the same on every machine."""
    return [None if turn is None else turn.round(9).tolist() for turn in turns]
