"""The window of a shot: frames taken apart that wait for their neighbors, or that their neighbors still need."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from platelight.commands.batch import Loaded
from platelight.commands.records import Input
from platelight.commands.work import Apart
from platelight.images import Frame
from platelight.pipeline.temporal import FUTURE, PAST, Still, ways_from
from platelight.pipeline.temporal_flow import CALM, Step, View, Way, calmed

NOTHING = View(np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32))


@dataclass
class Waiting:
    """A frame taken apart: what its neighbors need, the files that it was made from, and what is written, for the frames
    that are to be made; ``aside`` is the file that holds a key frame's maps until its turn."""

    still: Still
    inputs: list[Input]
    apart: Apart | None = None
    loaded: Loaded[Any] | None = None
    aside: Path | None = None


@dataclass
class Place:
    """A frame in the window of a shot; ``step`` leads to it from the frame before, where both are there; ``calm`` is the
    same calmed, once it was needed."""

    frame: Frame
    state: Waiting | Exception
    step: Step | None
    calm: Step | None = None


def around(window: list[Place], here: int) -> list[tuple[int, Still, Way]]:
    """A frame's neighbors with the ways to them, as far as no gap is between."""
    found: list[tuple[int, Still, Way]] = []
    for side in (1, -1):
        steps: list[Way] = []
        stills: list[Still] = []
        for distance in range(1, (FUTURE if side > 0 else PAST) + 1):
            k = here + side * distance
            if not 0 <= k < len(window):
                break
            pair = _calmed(window, k if side > 0 else k + 1)
            state = window[k].state
            if pair is None or isinstance(state, Exception):
                break
            steps.append(pair[0] if side > 0 else pair[1])
            stills.append(state.still)
        ways = ways_from(steps)
        found += [(side * (k + 1), one, way) for k, (one, way) in enumerate(zip(stills, ways, strict=True))]
    return found


def _calmed(window: list[Place], k: int) -> Step | None:
    """The step to a place of the window, calmed by those around it as far as no gap is between; found when it is first
    needed, which is when all of them are there."""
    last, here, step = window[k - 1].state, window[k].state, window[k].step
    if step is None or isinstance(last, Exception) or isinstance(here, Exception):
        return None
    if window[k].calm is None:
        before, after = window[max(0, k - CALM) : k][::-1], window[k + 1 : k + 1 + CALM]
        window[k].calm = calmed(last.still.view, here.still.view, step, _unbroken(before), _unbroken(after))
    return window[k].calm


def made_from(
    window: list[Place], here: int, read: list[Input], others: list[tuple[str, Frame]],
    lit: Mapping[Frame, list[Input]],
) -> list[Input]:  # fmt: skip
    """What a frame's steady maps were made from, each file as it was when its frame was taken apart. What failed is not
    among it: the record then does not fit the files that are there, and the next run makes the frame again.

    Args:
        read: what was read of the frame itself.
        others: neighbors and key frames by role.
        lit: what the key frames were, of which the shot's light is.
    """
    known = {one.frame: one.state.inputs for one in window if isinstance(one.state, Waiting)}
    own = {one.role: one for one in known[window[here].frame]}
    found = [own.get(one.role, one) for one in read]
    for name, other in others:
        inputs = (lit if name.startswith("key") else known).get(other, [])
        found += [msgspec.structs.replace(one, role=f"{name} {one.role}") for one in inputs]
    return found


def let_go(window: list[Place], made: int) -> None:
    """Forget what no frame after ``made`` asks for: steps as they were found, once all that they calm are calmed; ways on to
    places up to ``made`` and the next; pictures between calmed steps; fields of the distant past."""
    for k, place in enumerate(window[:-CALM]):
        state, near = place.state, window[max(0, k - CALM) : k + CALM + 1]
        if k <= made and isinstance(state, Waiting):
            if all(one.calm is not None or one.step is None for one in window[k : k + 2]):
                state = replace(state, still=replace(state.still, view=NOTHING))
            if k <= made - PAST:
                state = replace(state, still=replace(state.still, fields={}))
            place.state = state
        if place.step is not None and all(one.calm is not None or one.step is None for one in near):
            place.step = place.calm
            if place.calm and k <= made + 1:  # only the way back from there is asked for from now on
                place.step = place.calm = (place.calm[1], place.calm[1])


def _unbroken(places: list[Place]) -> list[Step]:
    """Their steps up to the first gap."""
    return [one.step for one in itertools.takewhile(lambda one: one.step, places) if one.step]
