"""``blender --command platelight relight ...``: the operators, for shells and farms. PBR by Cycles."""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import bpy

from . import wire
from .properties import active_plate
from .session import session

_handle: Any = None
log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """The command's options; those of requests have the names, choices and help of the request types."""
    options = {option.name: option for option in wire.options_of(wire.Refine)}
    matte = next(option for option in wire.options_of(wire.Decompose) if option.name == "matte")
    top = argparse.ArgumentParser(
        prog="blender --command platelight", description="Relight plates in Blender."
    )
    commands = top.add_subparsers(dest="command", required=True)
    relight = commands.add_parser("relight", help="relight pictures by an HDRI, with Cycles")
    relight.add_argument("plates", nargs="+", metavar="PLATE", help="picture of the subject")
    relight.add_argument("--light", required=True, metavar="HDRI", help="lat-long picture")
    relight.add_argument("-o", "--output", default=".", metavar="DIR", help="folder for the results")
    relight.add_argument(
        "--rotate", type=float, default=0.0, metavar="DEG", help=options["rotation"].description
    )
    relight.add_argument(
        "--exposure", type=float, default=0.0, metavar="EV", help=options["exposure"].description
    )
    relight.add_argument(
        "--backdrop",
        default=options["backdrop"].default,
        help="plate, light, none or a file: " + options["backdrop"].description,
    )
    relight.add_argument("--matte", default=matte.default, help="auto, full or a file: " + matte.description)
    relight.add_argument("--fov", type=float, default=options["fov"].default, help=options["fov"].description)
    relight.add_argument("--samples", type=int, default=64, help="Cycles samples a pixel")
    relight.add_argument("--pbr-only", action="store_true", help="stop after the physical render")
    relight.add_argument("--server", metavar="ENDPOINT", help="address of the backend")
    return top


def relight(args: argparse.Namespace) -> None:
    """Relight every plate of a command line.

    Raises:
        RuntimeError: an operator refused; the text is its sentence.
    """
    scene = bpy.context.scene
    folder = Path(args.output)
    for path in args.plates:
        ops = bpy.ops.platelight
        ops.load_plate(filepath=str(Path(path).resolve()))
        state = scene.platelight
        plate = active_plate(state)
        plate.fov = args.fov
        if args.matte in {"auto", "full"}:
            plate.matte = args.matte
        else:
            plate.matte, plate.matte_path = "given", str(Path(args.matte).resolve())
        state.samples = args.samples
        ops.set_light(filepath=str(Path(args.light).resolve()), rotation=args.rotate, exposure=args.exposure)
        if args.backdrop in {"none", "plate", "light"}:
            state.backdrop = args.backdrop
        else:
            state.backdrop, state.backdrop_path = "given", str(Path(args.backdrop).resolve())
        ops.analyse()
        stem = Path(path).stem
        ops.save_maps(filepath=str((folder / f"{stem}.maps.exr").resolve()))
        ops.build_scene()
        target = str((folder / f"{stem}.relit.exr").resolve())
        ops.render_preview(filepath=target if args.pbr_only else "")
        if not args.pbr_only:
            ops.refine(filepath=target)
        print(target, flush=True)
        ops.remove_plate()


def _progress(title: str, fraction: float, text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{title}: {100 * fraction:3.0f} % {text:<40}", end="", file=sys.stderr, flush=True)


def main(argv: list[str]) -> int:
    """Entry of the command; returns its exit code."""
    try:
        args = parser().parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    if args.server:
        import os

        os.environ["PLATELIGHT_ENDPOINT"] = args.server
    session.on_progress = _progress
    try:
        relight(args)
    except RuntimeError as error:  # how bpy.ops tells an operator's report
        print(str(error).removeprefix("Error: ").strip(), file=sys.stderr)
        return 2
    finally:
        session.on_progress = None
        session.close()
    return 0


def register() -> None:
    """Register the command."""
    global _handle
    _handle = bpy.utils.register_cli_command("platelight", main)


def unregister() -> None:
    """Undo ``register``."""
    global _handle
    if _handle is not None:
        bpy.utils.unregister_cli_command(_handle)
        _handle = None
