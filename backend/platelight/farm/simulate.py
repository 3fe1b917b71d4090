"""What a farm would do with a shot list: chunks over machines, shared storage, stragglers and crashes.

    python -m platelight.farm.simulate --gpus 1000 --frames 1000000

A chunk's frames are computed one after the other while the next is read and the last is written, so a frame takes
the longer of computing and moving its bytes, storage being shared by all that are at work. A chunk of a steadied
shot takes its neighbors' frames apart as well. A crashed worker loses what is in flight and its chunk goes back to
the queue; what it wrote is skipped by the next (docs/sequences.md).
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass

NEIGHBORS, KEYS, IN_FLIGHT = 18, 7, 16
"""Frames taken apart beside a chunk's own: neighbors at both ends and key frames; and those lost with a worker."""


@dataclass(frozen=True)
class Farm:
    """All times in seconds, sizes in megabytes, storage in megabytes a second."""

    gpus: int = 1000
    frames: int = 1_000_000
    chunk: int = 50
    shot: int = 200
    compute: float = 0.5
    apart: float = 0.6
    spread: float = 0.15
    start: float = 8.0
    session: int = 20
    read: float = 25.0
    write: float = 60.0
    storage: float = 40_000.0
    slow_share: float = 0.02
    slow_factor: float = 4.0
    crash_hours: float = 200.0
    seed: int = 1


@dataclass(frozen=True)
class Outcome:
    """Hours, frames a second of the whole farm, share of the time in which GPUs computed frames that count, the
    last percent of the time's share of frames (a tail of stragglers shows there), crashes, and storage's load."""

    hours: float
    frames_per_second: float
    useful: float
    tail_hours: float
    crashes: int
    storage_load: float


def simulate(farm: Farm) -> Outcome:
    """Run the farm once; the same numbers give the same outcome.

    Storage is shared in the mean: its share for one machine is what is left when all others work as well.
    """
    rng = random.Random(farm.seed)
    speed = [farm.slow_factor if rng.random() < farm.slow_share else 1.0 for _ in range(farm.gpus)]
    moved = (farm.read + farm.write) * min(farm.gpus, math.ceil(farm.frames / farm.chunk)) / farm.storage
    queue: deque[int] = deque(
        min(farm.chunk, farm.frames - first) for first in range(0, farm.frames, farm.chunk)
    )
    free = [(0.0, worker, 0) for worker in range(farm.gpus)]
    heapq.heapify(free)
    useful, crashes, ends = 0.0, 0, []
    while queue:
        now, worker, chunks = heapq.heappop(free)
        count = queue.popleft()
        each = farm.compute * speed[worker] * rng.lognormvariate(0.0, farm.spread)
        per_frame = max(each, moved)
        beside = min(NEIGHBORS + KEYS, max(0, farm.shot - count)) * max(
            each * farm.apart, moved * farm.read / (farm.read + farm.write)
        )
        begin = farm.start if chunks % farm.session == 0 else 0.0
        needed = begin + beside + count * per_frame
        fate = rng.expovariate(1.0 / (farm.crash_hours * 3600.0))
        if fate < needed:
            crashes += 1
            done = max(0, min(count - 1, int((fate - begin - beside) / per_frame) - IN_FLIGHT))
            useful += done * farm.compute
            queue.append(count - done)
            heapq.heappush(free, (now + fate + 60.0, worker, 0))  # the machine comes back a minute later
            continue
        useful += count * farm.compute
        ends += [now + needed]
        heapq.heappush(free, (now + needed, worker, chunks + 1))
    ends.sort()
    wall = ends[-1]
    return Outcome(
        wall / 3600.0, farm.frames / wall, useful / (wall * farm.gpus),
        (wall - ends[int(0.99 * (len(ends) - 1))]) / 3600.0, crashes,
        farm.frames * (farm.read + farm.write) / wall / farm.storage,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the module's command: one line of JSON a run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in asdict(Farm()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    farm = Farm(**vars(parser.parse_args(argv)))
    print(json.dumps({name: round(value, 4) for name, value in asdict(simulate(farm)).items()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
