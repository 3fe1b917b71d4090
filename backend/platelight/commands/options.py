"""Options of the command line, built from the request types; imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NoReturn, TypeVar

from platelight.commands import lamps, lights
from platelight.protocol.requests import Decompose, Option, Relight, options_of

R = TypeVar("R", Decompose, Relight)

FLAGS = {"rotation": ("--rotate", "--rotation")}
"""Options whose flag is not their name."""

BY_HAND = frozenset({"matte", "backdrop"})
"""Options that also take a file, which the request says as ``given``."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one sentence, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print the sentence and leave."""
        sentence = message[:1].upper() + message[1:].rstrip(".")
        self.exit(2, f"platelight: {sentence}. See '{self.prog} --help'.\n")


def add_relight(parser: argparse.ArgumentParser) -> None:
    """All options of ``relight``, here and in Blender."""
    parser.add_argument(
        "plates", nargs="*", metavar="PLATE", help="as for decompose; none when --maps is enough"
    )
    parser.add_argument(
        "--light", metavar="HDRI[@U,V]", action="append", type=lights.light, default=[], help=lights.HELP
    )
    parser.add_argument(
        "--lamp", metavar="LAMP", action="append", type=lamps.lamp, default=[], help=lamps.HELP
    )
    parser.add_argument(
        "--light-csv", metavar="FILE", help="keyframes of the light: the columns frame, rotate and exposure"
    )
    parser.add_argument(
        "--light-colorspace", metavar="NAME", default="auto", help="color space of the HDRI, as --colorspace"
    )
    parser.add_argument(
        "--output-colorspace", metavar="NAME", default="linear",
        help="linear color space of the .relit.exr, e.g. ACEScg (default linear: Rec.709)",
    )  # fmt: skip
    parser.add_argument(
        "--maps", metavar="FILE", help="a .maps.exr, or the folder of a sequence's: no decompose"
    )
    add_common(parser)
    add_matte(parser)
    add_backdrop(parser)
    add_request_options(parser, Relight, Decompose)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Options of every command that works on plates."""
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="folder for the results")
    parser.add_argument(
        "--frames",
        metavar="RANGE",
        help="frames of a sequence: 1001-1100, 1001-1100x2; --frames=-5-20 from a negative one on",
    )
    parser.add_argument(
        "--colorspace",
        metavar="[GLOB=]NAME",
        action="append",
        help="color space of the plates, or of those whose name GLOB fits: auto (the default), linear, srgb or "
        "any of the OpenColorIO config, e.g. ACEScg or '*.mov=ARRI LogC4'; may be given again",
    )
    parser.add_argument(
        "--ocio", metavar="FILE",
        help="OpenColorIO config whose color spaces are named (default: the variable OCIO, else the ACES studio config)",
    )  # fmt: skip
    parser.add_argument(
        "--camera", metavar="USD[:/PRIM]",
        help="the shot's camera in a USD stage: its lens is the field of view, and the light turns against it (needs usd-core)",
    )  # fmt: skip
    parser.add_argument(
        "--png", action="store_true", help="write an 8-bit PNG of each map and result as well"
    )
    add_runner(parser)
    add_batch(parser)


def add_runner(parser: argparse.ArgumentParser) -> None:
    """Where jobs run."""
    parser.add_argument(
        "--server",
        metavar="ENDPOINT",
        help="run on a server: its endpoint, or 'local' for the one running here",
    )
    parser.add_argument(
        "--device", metavar="D", default="cpu", help="without --server: cpu, cuda, cuda:1 or mps"
    )
    parser.add_argument("--threads", metavar="N", type=positive, help="without --server: CPU threads to use")
    add_networks(parser)
    add_memory(parser)


def add_networks(parser: argparse.ArgumentParser) -> None:
    """``--networks``."""
    parser.add_argument(
        "--networks", choices=("auto", "torch", "compile", "openvino"), default="auto",
        help="without --server: what runs the networks; auto: PyTorch, compiled on CUDA; openvino is faster on "
        "processors in long runs ('platelight doctor' measures)",
    )  # fmt: skip


def add_memory(parser: argparse.ArgumentParser) -> None:
    """``--memory GIB``."""
    parser.add_argument(
        "--memory", metavar="GIB", type=gibibytes,
        help="without --server: memory that the command may take, in GiB; frames are done one by one then, and the maps "
        "of large plates are kept in half floats",
    )  # fmt: skip


def add_batch(parser: argparse.ArgumentParser) -> None:
    """Options of long runs."""
    parser.add_argument(
        "--shot", metavar="RANGE",
        help="with --temporal: all frames of the shot of which --frames is a part (default: --frames)",
    )  # fmt: skip
    parser.add_argument(
        "--temporal", choices=("auto", "on", "off"), default="auto",
        help="steady maps and one source light along a shot; auto: on for sequences and movies",
    )  # fmt: skip
    parser.add_argument(
        "--keep-going", action="store_true", help="finish the other frames when one fails; exit code 3 then"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="make everything again; without it, frames made before are skipped",
    )
    parser.add_argument("--report", metavar="FILE", help="write what became of each frame as JSON")
    parser.add_argument(
        "--progress", choices=("auto", "lines", "openjd"), default="auto",
        help="auto: a bar on a terminal; lines: one a frame; openjd: for Open Job Description workers",
    )  # fmt: skip


def add_matte(parser: argparse.ArgumentParser) -> None:
    """``--matte auto|full|FILE``."""
    parser.add_argument(
        "--matte",
        metavar="auto|full|FILE",
        default="auto",
        help="auto finds the subject, full takes the whole frame, FILE is a matte of your own",
    )


def add_backdrop(parser: argparse.ArgumentParser) -> None:
    """``--backdrop none|plate|light|FILE``, and its color space."""
    parser.add_argument(
        "--backdrop", metavar="none|plate|light|FILE", default="none", help=_help(Relight, "backdrop")
    )
    parser.add_argument(
        "--backdrop-colorspace",
        metavar="NAME",
        default="auto",
        help="color space of the backdrop FILE, as --colorspace",
    )


def add_request_options(parser: argparse.ArgumentParser, *requests: type[Decompose] | type[Relight]) -> None:
    """One flag for each option of the request types that has not been added by hand; shared ones once."""
    seen = set(BY_HAND)
    for request in requests:
        for option in options_of(request):
            if option.name in seen:
                continue
            seen.add(option.name)
            flags = FLAGS.get(option.name, ("--" + option.name.replace("_", "-"),))
            text = f"{option.description or option.title} (default {option.default})"
            if option.type is bool:
                parser.add_argument(
                    *flags, dest=option.name, action="store_true", help=option.description or option.title
                )
            elif option.choices:
                parser.add_argument(
                    *flags, dest=option.name, choices=option.choices, default=option.default, help=text
                )
            else:
                kind, metavar = _number(option), option.name.rpartition("_")[2].upper()
                parser.add_argument(
                    *flags, dest=option.name, type=kind, default=option.default, metavar=metavar, help=text
                )


def request_of(request: type[R], parsed: argparse.Namespace, **given: Any) -> R:
    """Build a request from parsed options; ``given`` overrides."""
    names = [option.name for option in options_of(request) if hasattr(parsed, option.name)]
    return request(**{**{name: getattr(parsed, name) for name in names}, **given})


def _number(option: Option) -> Callable[[str], int | float]:
    def convert(text: str) -> int | float:
        try:
            value: int | float = option.type(text)
        except ValueError as error:
            kind = "a whole number" if option.type is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {kind}") from error
        low, high = option.minimum, option.maximum
        # Written so that NaN, which compares false with everything, is refused.
        if not ((low is None or value >= low) and (high is None or value <= high)):
            raise argparse.ArgumentTypeError(f"{text} is not between {low:g} and {high:g}")
        return value

    return convert


def positive(text: str) -> int:
    """A whole number above zero."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def gibibytes(text: str) -> float:
    """A size in GiB, half a GiB and more."""
    try:
        size = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error
    if not 0.5 <= size <= 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.5 and 1000000")
    return size


def frame_rate(text: str) -> Fraction:
    """``24``, ``23.976`` or ``24000/1001``."""
    try:
        rate = Fraction(text).limit_denominator(1001)
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a frame rate") from error
    if not 1 <= rate <= 240:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and 240")
    return rate


def _help(request: type[Decompose] | type[Relight], name: str) -> str:
    return next(option.description for option in options_of(request) if option.name == name)
