"""The ``platelight`` command. Nothing heavy is imported before a command needs it: ``--help`` is instant."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module

from platelight import __version__
from platelight.commands.options import (
    Parser,
    add_common,
    add_matte,
    add_memory,
    add_networks,
    add_relight,
    add_request_options,
    add_runner,
    frame_rate,
    positive,
)
from platelight.protocol.errors import PlatelightError
from platelight.protocol.requests import Decompose, Relight
from platelight.resources import prefer_systems_libsodium, prepare_torch

log = logging.getLogger(__name__)

FORWARDED = {
    "serve": ("platelight.server.serve:main", "start a server that others, and Blender, send jobs to"),
    "pair": ("platelight.commands.pair:main", "exchange public keys with a client or server elsewhere"),
    "status": ("platelight.commands.status:main", "show what a server does: queue, workers, memory, rates"),
    "train": ("platelight.training.cli:main", "make training data or train a network"),
    "demo": ("platelight.demo:main", "relight a portrait in Blender from one command"),
}
"""Commands with a parser of their own, by module and function."""

COMMANDS = {
    "decompose": "platelight.commands.decompose:run",
    "relight": "platelight.commands.relight:run",
    "evaluate": "platelight.commands.evaluate:run",
    "bench": "platelight.commands.bench:run",
    "view": "platelight.commands.view:run",
    "farm": "platelight.commands.farm:run",
    "doctor": "platelight.commands.doctor:run",
}


def build_parser() -> Parser:
    """The parser of everything but the forwarded commands' own options."""
    parser = Parser(prog="platelight", description="Relight photographed plates with physically based light.")
    parser.add_argument("--version", action="version", version=f"platelight {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell more, and show tracebacks")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    decompose = commands.add_parser(
        "decompose", help="take plates apart into maps and the light they were shot in"
    )
    decompose.add_argument(
        "plates", nargs="+", metavar="PLATE", help="pictures, shot.####.exr or shot.%%04d.exr"
    )
    add_common(decompose)
    add_matte(decompose)
    add_request_options(decompose, Decompose)

    relight = commands.add_parser("relight", help="put plates under a new light")
    add_relight(relight)

    evaluate = commands.add_parser("evaluate", help="measure on suites of photographs with ground truth")
    evaluate.add_argument("suites", nargs="+", metavar="SUITE", help="folder with a suite.json")
    evaluate.add_argument("--json", metavar="FILE", help="write the figures as JSON as well")
    evaluate.add_argument("--sheets", metavar="DIR", help="write a side-by-side picture of each case")
    evaluate.add_argument("--limit", metavar="N", type=int, help="only the first N cases of each suite")
    evaluate.add_argument(
        "--shadows", choices=("off", "on"), default="off", help="as for relight (default off)"
    )
    evaluate.add_argument(
        "--faces", choices=("off", "on"), default="on", help="as for decompose (default on)"
    )
    evaluate.add_argument(
        "--float32",
        action="store_true",
        help="networks in float32 where they would be in bfloat16, to compare",
    )
    evaluate.add_argument(
        "--weights", metavar="DIR", help="folder of networks that train made (default: the shipped ones)"
    )
    evaluate.add_argument("--device", metavar="D", default="cpu", help="cpu, cuda, cuda:1 or mps")
    evaluate.add_argument("--threads", metavar="N", type=int, help="CPU threads to use")
    add_networks(evaluate)

    bench = commands.add_parser("bench", help="time each stage of one frame on this machine")
    bench.add_argument(
        "--size",
        nargs="+",
        choices=("540p", "1080p", "4k", "8k", "16k"),
        default=["1080p"],
        help="size of the plate; several: growth",
    )
    bench.add_argument("--cycles", action="store_true", help="time Cycles on the same maps too (needs bpy)")
    bench.add_argument("--json", metavar="FILE", help="write the figures as JSON as well")
    bench.add_argument("--device", metavar="D", default="cpu", help="cpu, cuda, cuda:1 or mps")
    bench.add_argument("--threads", metavar="N", type=int, help="CPU threads to use")
    add_networks(bench)
    add_memory(bench)

    view = commands.add_parser("view", help="make a contact sheet, a wipe or a turntable for dailies")
    view.add_argument("kind", choices=("sheet", "wipe", "turntable"), help="what to make")
    view.add_argument(
        "folder", metavar="DIR", help="folder of relit frames; for a turntable also a .maps.exr"
    )
    view.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="a .png for the sheet, else an .mp4"
    )
    view.add_argument("--tiles", metavar="N", type=positive, default=24, help="sheet: frames, evenly chosen")
    view.add_argument("--columns", metavar="N", type=positive, default=6, help="sheet: frames in a row")
    view.add_argument(
        "--rate", metavar="FPS", type=frame_rate, help="frames a second (the header's, else 24)"
    )
    view.add_argument("--light", metavar="HDRI", help="turntable: the light that turns")
    view.add_argument("--steps", metavar="N", type=positive, default=72, help="turntable: frames of one turn")
    add_runner(view)
    add_request_options(view, Relight)

    farm = commands.add_parser("farm", help="templates for render farms, and a Ray cluster")
    farm.add_argument(
        "what", choices=("openjd", "flamenco", "ray"),
        help="which farm's template to print; 'farm ray [OPTIONS] relight …' runs on a Ray cluster",
    )  # fmt: skip
    farm.add_argument("-o", "--output", metavar="FILE", help="write it to a file")

    doctor = commands.add_parser("doctor", help="check that everything needed is here and works")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    for name, (_, text) in FORWARDED.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 1 failed, 2 bad input, 3 some frames failed, 130 cancelled."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbose = False
    try:
        if arguments and arguments[0] in FORWARDED:
            return _call(FORWARDED[arguments[0]][0], arguments[1:])
        if arguments[:2] == ["farm", "ray"]:
            _log_to_stderr(False)
            return _call("platelight.farm.ray.run:main", arguments[2:])
        parsed = build_parser().parse_args(arguments)
        verbose = parsed.verbose
        _log_to_stderr(verbose)
        return _call(COMMANDS[parsed.command], parsed)
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 0 if leave.code is None else 2
    except PlatelightError as error:
        log.debug("traceback", exc_info=error)
        print(f"platelight: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("platelight: Cancelled.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1
    except Exception as error:  # the job boundary: whatever else goes wrong is a bug, told in one line
        if verbose:
            log.exception("internal error")
        print(
            f"platelight: Internal error ({type(error).__name__}: {error}). "
            "Run it again as 'platelight -v …' and report the traceback.",
            file=sys.stderr,
        )
        return 1


def _call(target: str, argument: list[str] | argparse.Namespace) -> int:
    prefer_systems_libsodium()
    prepare_torch()
    module, _, name = target.partition(":")
    result = getattr(import_module(module), name)(argument)
    return int(result or 0)


class _ToStderr(logging.Handler):
    """Looks ``sys.stderr`` up each time: progress bars put their own in its place while they run."""

    def emit(self, record: logging.LogRecord) -> None:
        # Readers of files keep their libraries' words off the terminal for a moment; ours must not go that way.
        quiet = sys.modules.get("platelight.images.quiet")
        with quiet.aloud() if quiet is not None else nullcontext():
            print(f"platelight: {self.format(record)}", file=sys.stderr)


def _log_to_stderr(verbose: bool) -> None:
    root = logging.getLogger("platelight")
    if not any(isinstance(handler, _ToStderr) for handler in root.handlers):
        root.addHandler(_ToStderr())
        root.propagate = False
    root.setLevel(logging.DEBUG if verbose else logging.WARNING)


if __name__ == "__main__":
    raise SystemExit(main())
