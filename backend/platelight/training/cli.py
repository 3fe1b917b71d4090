"""``platelight train STAGE``: make geometry, then train the networks in the order of the method."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from platelight.training import light_stage

ORDER = ("normal", "illum", "diffuse", "specular", "render")


def parser() -> argparse.ArgumentParser:
    """The options of ``platelight train``."""
    root = argparse.ArgumentParser(prog="platelight train", description=__doc__)
    stages = root.add_subparsers(dest="stage", required=True)
    geometry = stages.add_parser("geometry", help="ray-cast subjects into shards of geometry buffers")
    geometry.add_argument("--data", type=Path, required=True, help="folder that holds head_ict_facekit")
    geometry.add_argument("--out", type=Path, required=True, help="folder of the shards")
    geometry.add_argument("--views", type=int, default=4096)
    geometry.add_argument("--size", type=int, default=192, help="pixels on a side")
    geometry.add_argument("--seed", type=int, default=7)
    geometry.add_argument(
        "--first",
        type=int,
        default=0,
        help="number of the first shard, so that several processes share the work",
    )
    geometry.add_argument("--heads", type=float, default=0.27, help="share of heads among the views")
    geometry.add_argument("--figurines", type=float, default=0.28, help="share of figurines")
    geometry.add_argument("--sculpts", type=float, default=0.25, help="share of carved or folded things")
    geometry.add_argument("--hard", type=float, default=0.08, help="share of hard-edged objects")
    light_stage.add_parser(stages)
    for name in ORDER:
        stage = stages.add_parser(name, help=f"train {name}")
        stage.add_argument("--bank", type=Path, required=True, help="shards made by train geometry")
        stage.add_argument("--lights", type=Path, required=True, help="folder of lat-long HDRIs")
        stage.add_argument(
            "--run", type=Path, required=True, help="folder of checkpoints and log; an old one is resumed"
        )
        stage.add_argument(
            "--weights",
            type=Path,
            required=True,
            help="folder of the networks trained before, and of the result",
        )
        stage.add_argument(
            "--textures", type=Path, help="folder of color maps to print on things, searched below"
        )
        stage.add_argument(
            "--further", action="store_true", help="start from this network's published weights"
        )
        stage.add_argument("--minutes", type=float, default=0.0, help="training time")
        stage.add_argument(
            "--steps", type=int, default=0, help="training steps (instead of minutes: reproducible)"
        )
        stage.add_argument("--batch", type=int, default=16)
        stage.add_argument("--size", type=int, default=128)
        stage.add_argument("--rate", type=float, default=1e-3)
        stage.add_argument("--seed", type=int, default=1)
        stage.add_argument("--threads", type=int, default=1)
    return root


def main(argv: list[str] | None = None) -> int:
    """Run one stage."""
    options = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.stage == "light-stage":
        return light_stage.run_parsed(options)
    if options.stage == "geometry":
        from platelight.training.raycast import Mix, make_bank

        mix = Mix(options.heads, options.figurines, options.sculpts, options.hard)
        make_bank(options.out, options.data, options.views, options.seed, options.size, options.first, mix)
        return 0
    import torch

    from platelight.training.trainer import TrainConfig, train

    torch.set_flush_denormal(True)  # numbers too small to matter would cost a tenth of the time
    path = train(
        TrainConfig(
            options.stage,
            options.run,
            options.bank,
            options.lights,
            options.weights,
            options.minutes,
            options.steps,
            options.batch,
            options.size,
            options.rate,
            seed=options.seed,
            threads=options.threads,
            textures=options.textures,
            further=options.further,
        )
    )
    print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
