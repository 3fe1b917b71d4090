"""``platelight train STAGE``: make geometry, then train the networks in the order of the method."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from platelight.protocol.errors import InputError, PlatelightError
from platelight.training import light_stage

ORDER = ("normal", "illum", "diffuse", "specular", "render")
STARTS = ("usual", "mmae", "imagenet", "random")


def _ingredients(stage: argparse.ArgumentParser) -> None:
    """What pictures are made of, and on what device."""
    stage.add_argument(
        "--bank", type=Path, help="shards made by train geometry (without: the fast generator)"
    )
    stage.add_argument("--lights", type=Path, help="folder of lat-long HDRIs (by default the pack's)")
    stage.add_argument(
        "--pack", type=Path, help="folder made by train pack: heads, lights, pretrained weights"
    )
    stage.add_argument(
        "--textures", type=Path, help="folder of color maps to print on things, searched below"
    )
    stage.add_argument(
        "--photos", type=Path, help="unlabeled photographs for mmae; never an evaluation suite"
    )
    stage.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    stage.add_argument("--batch", type=int, default=16)
    stage.add_argument("--size", type=int, default=128)
    stage.add_argument("--seed", type=int, default=1)
    stage.add_argument("--threads", type=int, default=1)
    stage.add_argument("--reuse", type=int, default=4, help="pictures made of a view of the fast generator")
    stage.add_argument(
        "--compile", action="store_true", help="torch.compile the encoders (a minute at first)"
    )
    stage.add_argument("--split", action="store_true", help="write checkpoints in files of at most 15 MiB")
    stage.add_argument("--start", choices=STARTS, default="usual", help="what networks start from")


def _staged(stage: argparse.ArgumentParser) -> None:
    """A light-stage set beside them."""
    stage.add_argument("--stage-set", metavar="URL", help="a light-stage set's folder or URL, mixed in")
    stage.add_argument(
        "--stage-share", type=float, default=0.3, help="share of its pictures in a batch; 1: no others"
    )
    stage.add_argument(
        "--enlarge",
        type=Path,
        metavar="DIR",
        help="folder of train mmae's weights, which fill in parts of a quarter of the set's pictures",
    )


def parser() -> argparse.ArgumentParser:
    """The options of ``platelight train``."""
    root = argparse.ArgumentParser(prog="platelight train", description=__doc__)
    stages = root.add_subparsers(dest="stage", required=True)
    geometry = stages.add_parser("geometry", help="ray-cast subjects into shards of geometry buffers")
    geometry.add_argument("--data", type=Path, required=True, help="folder that holds head_ict_facekit")
    geometry.add_argument("--out", type=Path, required=True, help="folder of the shards")
    geometry.add_argument("--views", type=int, default=4096)
    geometry.add_argument("--size", type=int, default=384, help="pixels on a side")
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
    geometry.add_argument("--statues", type=float, default=0.0, help="share of people made of stone")
    geometry.add_argument("--rough", type=float, default=0.0, help="share of rocks and draped cloth")
    light_stage.add_parser(stages)
    pack = stages.add_parser("pack", help="gather what a bare GPU machine needs, in about 20 MiB")
    pack.add_argument(
        "--data", type=Path, required=True, help="folder of head_ict_facekit, HDRIs and color maps"
    )
    pack.add_argument("--out", type=Path, required=True)
    drawing = stages.add_parser("plot", help="draw the curves of runs")
    drawing.add_argument("runs", type=Path, nargs="+", help="run folders or log.csv tables")
    drawing.add_argument("-o", "--out", type=Path, default=Path("curves.png"))
    speed = stages.add_parser("speed", help="measure the picture generator")
    _ingredients(speed)
    speed.add_argument("--seconds", type=float, default=20.0)
    speed.add_argument("--sheet", type=Path, help="also write a sheet of pictures and normals here (PNG)")
    held = stages.add_parser("suite", help="write held-out pictures as a suite for platelight evaluate")
    _ingredients(held)
    held.add_argument("--out", type=Path, required=True, help="folder of the suite; it must not exist")
    held.add_argument("--count", type=int, default=24, help="pictures")
    held.add_argument(
        "--stage-set", metavar="URL", help="a light-stage set's folder or URL: its held-out subjects instead"
    )
    refined = stages.add_parser(
        "refiner-set", help="pictures as the refiner sees them in use, for train render"
    )
    _ingredients(refined)
    _staged(refined)
    refined.add_argument("--out", type=Path, required=True, help="folder of the shards; those there stay")
    refined.add_argument("--count", type=int, default=2048, help="pictures")
    refined.add_argument("--first", type=int, default=0, help="number of the first shard, to share work")
    refined.add_argument("--weights", type=Path, help="folder of the networks; by default the shipped ones")
    climb = stages.add_parser("ladder", help="all stages in order within a given time")
    _ingredients(climb)
    _staged(climb)
    climb.add_argument("--out", type=Path, required=True, help="folder of weights, curves and checkpoints")
    climb.add_argument("--minutes", type=float, required=True, help="how long this call may take, in all")
    climb.add_argument("--of", type=float, default=0.0, help="the whole ladder's minutes over several calls")
    between = stages.add_parser("mean", help="the mean of two versions of a network's weights")
    between.add_argument("network", choices=ORDER)
    between.add_argument("old", type=Path, help="folder of weights")
    between.add_argument("new", type=Path, help="folder of weights")
    between.add_argument("--share", type=float, default=0.5, help="share of the new ones")
    between.add_argument("--weights", type=Path, required=True, help="folder of the result")
    for name in ("mmae", *ORDER):
        stage = stages.add_parser(name, help=f"train {name}")
        _ingredients(stage)
        _staged(stage)
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
            "--further", action="store_true", help="start from this network's published weights"
        )
        stage.add_argument("--minutes", type=float, default=0.0, help="training time")
        stage.add_argument(
            "--leg", type=float, default=0.0, help="minutes of this call; the next one goes on"
        )
        stage.add_argument(
            "--steps", type=int, default=0, help="training steps (instead of minutes: reproducible)"
        )
        stage.add_argument("--rate", type=float, default=1e-3)
        stage.add_argument(
            "--encoder-rate",
            type=float,
            default=1.0,
            help="the encoder's share of the rate; 0 keeps it as it is",
        )
        stage.add_argument(
            "--refiner-set", type=Path, help="folder made by train refiner-set, for render alone"
        )
    return root


def _lights(options: argparse.Namespace) -> Path:
    lights: Path | None = options.lights or options.pack
    if lights is None:
        raise InputError("There is no light to train by.", "Give --lights or --pack.")
    return lights


def _train(options: argparse.Namespace) -> int:
    """One stage, or the ladder."""
    import torch

    from platelight.training.ladder import LadderConfig, ladder
    from platelight.training.start import Start
    from platelight.training.trainer import TrainConfig, train

    torch.set_flush_denormal(True)  # numbers too small to matter would cost a tenth of the time
    climbing = options.stage == "ladder"
    config = TrainConfig(
        options.stage,
        options.out if climbing else options.run,
        options.bank,
        _lights(options),
        options.out if climbing else options.weights,
        options.minutes,
        batch=options.batch,
        size=options.size,
        seed=options.seed,
        threads=options.threads,
        textures=options.textures,
        device=options.device,
        compile=options.compile,
        split=options.split,
        start=Start(options.start),
        pack=options.pack,
        photos=options.photos,
        reuse=options.reuse,
        stage_set=options.stage_set,
        stage_share=options.stage_share,
        enlarge=options.enlarge,
        **({} if climbing else {
            "steps": options.steps, "rate": options.rate, "encoder_rate": options.encoder_rate,
            "further": options.further, "leg": options.leg,
            "refiner_set": options.refiner_set,
        }),
    )  # fmt: skip
    if climbing:
        done = ladder(LadderConfig(options.out, options.minutes, config, options.of, Start(options.start)))
        print("published:", ", ".join(done) or "nothing yet")
        return 0
    path = train(config)
    print(path or "stopped before its end; the same command goes on")
    return 0


def run(options: argparse.Namespace) -> int:
    """Dispatch one command."""
    if options.stage == "geometry":
        from platelight.training.raycast import Mix, make_bank

        mix = Mix(
            options.heads,
            options.figurines,
            options.sculpts,
            options.hard,
            statues=options.statues,
            rough=options.rough,
        )
        make_bank(options.out, options.data, options.views, options.seed, options.size, options.first, mix)
        return 0
    if options.stage == "pack":
        from platelight.training.pack import make_pack

        sizes = make_pack(options.out, options.data)
        print(json.dumps({**sizes, "MiB": round(sum(sizes.values()) / 2**20, 1)}))
        return 0
    if options.stage == "plot":
        from platelight.training.plot import plot

        print(plot(options.runs, options.out))
        return 0
    if options.stage == "mean":
        from platelight.training.mean import mean

        print(mean(options.network, options.old, options.new, options.share, options.weights))
        return 0
    if options.stage == "light-stage":
        return light_stage.run_parsed(options)
    if options.stage == "speed":
        from platelight.training.speed import speed
        from platelight.training.supply import Ingredients

        made_of = Ingredients(_lights(options), options.bank, options.textures, options.pack, options.reuse)
        print(json.dumps(speed(made_of, options, options.seconds, options.sheet)))
        return 0
    if options.stage == "refiner-set":
        print(f"{_refiner_set(options)} shards written")
        return 0
    if options.stage == "suite":
        print(_suite(options))
        return 0
    return _train(options)


def _suite(options: argparse.Namespace) -> Path:
    """Held-out pictures of the bank, or of a light-stage set."""
    import torch

    from platelight.training.light_stage_reader import StageGenerator, StageReader
    from platelight.training.lights import load_bank
    from platelight.training.pictures import Maker
    from platelight.training.suite import write_suite
    from platelight.training.supply import Ingredients, make_generator

    torch.manual_seed(options.seed)
    maker: Maker
    if options.stage_set:
        reader = StageReader(options.stage_set)
        maker = StageGenerator(reader, load_bank(_lights(options)), options.size, options.seed)
    elif options.bank is None:
        raise InputError("There is nothing to hold out.", "Give --bank or --stage-set.")
    else:
        made_of = Ingredients(_lights(options), options.bank, options.textures, options.pack)
        maker = make_generator(made_of, options.size, options.seed, torch.device("cpu"))
    return write_suite(
        maker, options.out, options.count, f"held out; seed {options.seed}, {options.size} pixels"
    )


def _refiner_set(options: argparse.Namespace) -> int:
    """Pictures of the bank and of a light-stage set, taken apart by the whole pipeline."""
    import torch

    from platelight.pipeline.networks import Networks
    from platelight.training.refiner_set import make_refiner_set
    from platelight.training.supply import Ingredients, make_maker

    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    cpu = torch.device("cpu")
    made_of = Ingredients(
        _lights(options), options.bank, options.textures, options.pack, options.reuse, options.stage_set,
        options.stage_share, options.enlarge,
    )  # fmt: skip
    networks = Networks.load(cpu, options.weights)
    return make_refiner_set(
        lambda shard: make_maker(made_of, options.size, options.seed * 7919 + shard, cpu),
        networks, options.out, options.count, options.first,
    )  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run one command; errors that a person can mend are told in one sentence."""
    options = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        return run(options)
    except PlatelightError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
