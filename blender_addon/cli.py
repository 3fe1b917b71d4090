"""``blender --command platelight …`` and, under the bpy wheel, ``python -m``: the ``platelight`` command in Blender.

``relight`` has the options of ``platelight relight``, its physical render by Cycles; ``render`` does the plate that stands
in the .blend, with the light that is keyed there. Everything else goes to the backend's own command.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpy

from . import cli_batch, footage, lamps, maps, preferences, remote, wire
from .cli_batch import Job
from .plate_properties import is_built
from .properties import active_plate
from .session import session

_handle: Any = None
PROGRAM = "blender --command platelight"
BACKEND_ONLY = (
    "maps", "shot", "png", "threads", "light_colorspace", "backdrop_colorspace", "output_colorspace", "ocio", "device", "shadows", "camera",
    "networks", "memory",
)  # fmt: skip
"""Options of ``relight`` that the render by Cycles does not know, beside ``--temporal on``."""


def parser() -> argparse.ArgumentParser:
    """The options: those of ``platelight relight``, and what Cycles adds."""
    top = wire.Parser(
        prog=PROGRAM,
        description="Relight plates in Blender.",
        epilog="All other commands of platelight (decompose, view, status, ...) go to the installed backend's own.",
    )
    commands = top.add_subparsers(dest="command", required=True)
    relight = commands.add_parser("relight", help="put plates under a new light, rendered by Cycles")
    wire.add_relight(relight)
    relight.add_argument(
        "--engine",
        choices=("cycles", "backend"),
        default="cycles",
        help="what renders: Cycles, or the backend's own renderer, with steady maps along shots",
    )
    relight.add_argument("--samples", type=wire.positive, default=64, help="Cycles samples a pixel")
    render = commands.add_parser("render", help="render and refine the plate that stands in the .blend")
    render.add_argument("-o", "--output", metavar="DIR", required=True, help="folder for the results")
    render.add_argument(
        "--frames", metavar="RANGE", help="frames of the scene; default: the plate's, or the current one"
    )
    render.add_argument("--plate", metavar="NAME", help="which plate; default: the active one")
    render.add_argument("--samples", type=wire.positive, help="Cycles samples a pixel; default: the scene's")
    render.add_argument(
        "--engine",
        choices=("cycles", "backend"),
        help="what renders: Cycles, or the backend with the HDRI and the lamps alone; default: the scene's",
    )
    render.add_argument(
        "--shadows",
        choices=("off", "on"),
        help="the subject shades itself, from its depth, by --engine backend; default: the scene's",
    )
    render.add_argument("--server", metavar="ENDPOINT", help="address of the backend, or 'local'")
    wire.add_batch(render)
    return top


def relight(args: argparse.Namespace) -> int:
    """Relight every frame of a command line; returns the exit code."""
    unknown = parser().parse_args(["relight", "-", "--light", "-", "-o", "-"])
    for name in BACKEND_ONLY:
        if getattr(args, name) != getattr(unknown, name):
            raise wire.InputError(
                f"Cycles does not take --{name.replace('_', '-')}.", "Add --engine backend."
            )
    if args.temporal == "on":
        raise wire.InputError(
            "Cycles takes each frame for itself.", "Add --engine backend, or --temporal off."
        )
    if not args.plates:
        raise wire.InputError("There is nothing to relight.", "Give a PLATE.")
    if not args.light and not args.lamp:
        raise wire.InputError("There is no light.", "Give --light HDRI, or a --lamp.")
    if len(args.light) > 1:
        raise wire.InputError(
            "Cycles has one World for all of the plate.", "Add --engine backend for several --light."
        )
    if any(footage.is_movie(Path(path)) for path in args.plates):
        raise wire.InputError("Cycles takes pictures and sequences here.", "Add --engine backend for movies.")
    frames = wire.sequences().expand(args.plates, args.frames, strict=not args.keep_going)
    tracks = wire.read_tracks(Path(args.light_csv)) if args.light_csv else {}
    folder, by_stem = Path(args.output).resolve(), {frame.stem: frame for frame in frames}

    def job(frame: Any) -> Job:
        files = [("plate", frame.path)]
        if args.light:
            files.append(("light", wire.sequences().numbered(args.light[0].path, frame.number)))
        for role, value, words in (
            ("matte", args.matte, {"auto", "full"}),
            ("backdrop", args.backdrop, {"none", "plate", "light"}),
        ):
            if value not in words:
                files.append((role, wire.sequences().numbered(value, frame.number)))
        moved = {"rotation": args.rotation, "exposure": args.exposure}
        if tracks and frame.number is None:
            raise wire.InputError(
                f"{frame.path} has no frame number.", "Animate the light of a sequence only."
            )
        for name, track in tracks.items():
            moved[name] += track.at(float(frame.number))
        outputs = [folder / f"{frame.stem}.{kind}.exr" for kind in ("maps", "light", "relit")]
        space = wire.sequences().color_space_of(frame, args.colorspace)
        return Job(frame.stem, frame.number, files, outputs, {**moved, "colorspace": space})

    def make(job: Job) -> None:
        _relight(by_stem[job.stem], job, args)

    if not bpy.data.filepath:  # what Blender starts with: a cube around the camera, and a lamp
        for thing in bpy.context.scene.objects:
            thing.hide_render = True
        bpy.context.scene.world = None
    kept = (
        "matte",
        "backdrop",
        "fov",
        "working_size",
        "faces",
        "strength",
        "pbr_only",
        "samples",
        "lamp",
        "distance",
    )
    return cli_batch.run([job(frame) for frame in frames], make, _ledger(folder, "cycles", args, kept), args)


SPACES = {"linear": "Linear Rec.709", "srgb": "sRGB"}


def _relight(frame: Any, job: Job, args: argparse.Namespace) -> None:
    ops, state = bpy.ops.platelight, bpy.context.scene.platelight
    files = dict(job.files)
    made: list[Any] = []
    space = str(job.settings["colorspace"])
    ops.load_plate(filepath=str(frame.path.resolve()), colorspace=SPACES.get(space, space))
    try:
        plate = active_plate(state)
        plate.fov, plate.working_size, plate.distance = args.fov, args.working_size, args.distance
        plate.faces = args.faces == "on"
        plate.matte = args.matte if "matte" not in files else "given"
        plate.matte_path = str(files["matte"].resolve()) if "matte" in files else ""
        state.samples, state.strength = args.samples, args.strength
        moved = {name: job.settings[name] for name in ("rotation", "exposure")}
        if "light" in files:
            ops.set_light(filepath=str(files["light"].resolve()), **moved)
        state.backdrop = args.backdrop if "backdrop" not in files else "given"
        state.backdrop_path = str(files["backdrop"].resolve()) if "backdrop" in files else ""
        _analyse(neutral=bool(frame.shot))
        ops.save_maps(filepath=str(job.outputs[0]))
        ops.build_scene()
        made = [lamps.build(lamp, plate.camera, plate.collection) for lamp in args.lamp]
        target = str(job.outputs[-1])
        ops.render_preview(filepath=target if args.pbr_only else "")
        if not args.pbr_only:
            ops.refine(filepath=target)
    finally:
        for thing in made:
            bpy.data.lights.remove(thing.data)
        ops.remove_plate()


def _analyse(*, neutral: bool) -> None:
    """Analyze the active plate; ``neutral``: a frame of a shot that its subject has left gets neutral maps, and a line."""
    bpy.ops.platelight.analyse(neutral=neutral)
    if "without a subject" in session.message:
        print(session.message, file=sys.stderr, flush=True)


def render(args: argparse.Namespace) -> int:
    """Render and refine the plate of the .blend, frame by frame; returns the exit code."""
    scene = bpy.context.scene
    state = scene.platelight
    if args.plate:
        if args.plate not in state.plates:
            raise wire.InputError(f"This scene has no plate {args.plate}.", "Give the name of one.")
        state.active = state.plates.find(args.plate)
    plate = active_plate(state)
    if plate is None:
        raise wire.InputError("This .blend has no plate.", "Load one in Blender and save the file.")
    if args.samples:
        state.samples = args.samples
    if args.engine:
        state.physics = args.engine.upper()
    if args.shadows:
        if args.shadows == "on" and state.physics == "CYCLES":
            raise wire.InputError("Cycles does not take --shadows.", "Add --engine backend.")
        state.shadows = args.shadows == "on"
    numbers = [scene.frame_current]
    if args.frames:
        numbers = wire.sequences().parse_frames(args.frames)
    elif plate.is_sequence:
        numbers = list(range(plate.frame_first, plate.frame_last + 1))
    folder = Path(args.output).resolve()
    several = plate.is_sequence or len(numbers) > 1
    shared = [("blend", bpy.data.filepath), ("light", bpy.path.abspath(state.hdri) if state.hdri else "")]
    inputs = [(role, Path(path)) for role, path in shared if path and Path(path).is_file()]

    base = (re.sub(r"[._-]?\d+$", "", plate.name) if several else "") or plate.name
    given = [
        ("plate", plate.filepath, 0),
        ("backdrop", state.backdrop_path if state.backdrop == "given" else "", 0),
    ]
    given.append(("matte", plate.matte_path if plate.matte == "given" else "", plate.matte_offset))

    def files(number: int) -> list[tuple[str, Path]]:
        """What a frame is made of beside the .blend and the light."""
        at = number + plate.frame_offset if plate.is_sequence else None
        found = [
            (role, footage.file_of(Path(bpy.path.abspath(path)), None if at is None else at + more))
            for role, path, more in given
            if path
        ]
        return [(role, path) for role, path in found if path.is_file()]

    def job(number: int) -> Job:
        stem = f"{base}.{number:04d}" if several else base
        return Job(stem, number, inputs + files(number), [folder / f"{stem}.relit.exr"])

    def make(job: Job) -> None:
        ops = bpy.ops.platelight
        scene.frame_set(job.number)
        if plate.is_sequence and not plate.frame_first <= (job.number or 0) <= plate.frame_last:
            raise wire.InputError(f"{plate.name} has no frame {job.number}.", "Check --frames.")
        if not maps.has_maps(plate):
            _analyse(neutral=plate.is_sequence)
        if state.light_from == "SCENE":
            ops.match_scene_light()
        if not is_built(plate):
            ops.build_scene()
        if state.physics == "CYCLES":
            ops.render_preview()
        target = job.outputs[0]
        ops.refine(filepath=str(target.with_name(f"{base}.####.relit.exr") if plate.is_sequence else target))

    before = scene.frame_current
    try:
        return cli_batch.run(
            [job(number) for number in numbers],
            make,
            _ledger(folder, "blend", args, ("plate", "samples", "engine", "shadows")),
            args,
        )
    finally:
        scene.frame_set(before)


def _ledger(folder: Path, name: str, args: argparse.Namespace, kept: Sequence[str]) -> Any:
    settings = {option: getattr(args, option) for option in kept}
    return wire.ledger(folder, name, {**settings, "blender": bpy.app.version_string})


def backend(argv: Sequence[str]) -> int:
    """Hand a command line to the backend's own command; returns its exit code.

    Raises:
        ConnectionFailed: no backend is installed here.
    """
    command = remote.command_line(preferences.settings())
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONHOME", "PYTHONPATH"}}
    with subprocess.Popen([*command, *argv], env=environment) as process:
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            return process.wait()
        finally:
            signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def _without(argv: Sequence[str], *options: str) -> list[str]:
    """A command line without some options and their values."""
    left: list[str] = []
    words = iter(argv)
    for word in words:
        if word in options:
            next(words, None)
        elif word.partition("=")[0] not in options:
            left.append(word)
    return left


def _progress(title: str, fraction: float, text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{title}: {100 * fraction:3.0f} % {text:<40}", end="", file=sys.stderr, flush=True)


def main(argv: list[str]) -> int:
    """Entry of the command; returns its exit code."""
    try:
        if argv and argv[0] not in {"relight", "render", "-h", "--help"}:
            return backend(argv)
        args = parser().parse_args(argv)
        if args.command == "relight" and args.engine == "backend":
            return backend(_without(argv, "--engine", "--samples"))
        if args.server:
            os.environ["PLATELIGHT_ENDPOINT"] = "" if args.server == "local" else args.server
        session.on_progress = _progress
        return relight(args) if args.command == "relight" else render(args)
    except SystemExit as stop:
        return int(stop.code or 0)
    except (
        RuntimeError,
        wire.PlatelightError,
    ) as error:  # RuntimeError is how bpy.ops tells an operator's report
        print(str(error).removeprefix("Error: ").strip(), file=sys.stderr)
        return 2
    finally:
        session.on_progress = None
        session.close()


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
