"""``platelight train light-stage``: subjects photographed one lamp at a time in Cycles, with ground truth, as shards."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class StageConfig:
    """What to make: ``subjects`` numbers from ``first`` on; the rest belongs to the set and is kept in its manifest."""

    url: str
    subjects: int
    data: Path | None = None
    first: int = 0
    seed: int = 11
    size: int = 192
    lamps: int = 256
    samples: int = 256
    workers: int = 1
    threads: int = 1


def add_parser(stages: Any) -> None:
    """Register ``light-stage`` with ``platelight train``'s subcommands."""
    stage = stages.add_parser(
        "light-stage", help="photograph subjects one lamp at a time in Cycles (needs bpy)"
    )
    stage.add_argument("--out", required=True, metavar="URL", help="folder or fsspec URL of the set")
    stage.add_argument("--subjects", type=int, required=True, help="how many")
    stage.add_argument(
        "--data", type=Path, help="folder of head_ict_facekit and others; without it, objects only"
    )
    stage.add_argument(
        "--first", type=int, default=0, help="first subject's number, to share work between machines"
    )
    stage.add_argument("--seed", type=int, default=11)
    stage.add_argument("--size", type=int, default=192, help="pixels on a side")
    stage.add_argument("--lamps", type=int, default=256, help="directions over the sphere, 12 to 512")
    stage.add_argument("--samples", type=int, default=256, help="paths a pixel, shared by all lamps")
    stage.add_argument("--workers", type=int, default=1, help="Blender processes")
    stage.add_argument("--threads", type=int, default=1, help="render threads of each")


def run_parsed(options: argparse.Namespace) -> int:
    """Run the parsed command."""
    config = StageConfig(
        options.out, options.subjects, options.data, options.first, options.seed, options.size,
        options.lamps, options.samples, options.workers, options.threads,
    )  # fmt: skip
    from platelight.training.light_stage_run import make_set

    made, failed = make_set(config)
    print(f"{made} subjects made, {len(failed)} failed" + (f": {failed}" if failed else ""))
    return 1 if failed else 0
