"""``platelight demo``: a real portrait relit in real Blender, through the real server, from one command.

The backend is a process of its own, reached over CURVE; Blender (the bpy wheel) is another, with the built
extension installed in an empty user folder; this one only starts them, draws progress and lays out pictures.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from platelight.images import read_light, read_maps, read_plate, write_normal_png, write_png, write_png_values
from platelight.images.sheet import Tile, contact_sheet
from platelight.protocol.errors import ConnectionFailed, InputError, PlatelightError

LIGHTS = (
    ("sunset", 0.0, 0.0),
    ("studio", 0.0, 0.0),
    ("forest", 90.0, 0.5),
    ("city", -60.0, 0.0),
    ("night", 0.0, 2.5),
)
SERVER_SECONDS = 120.0


def repository() -> Path:
    """The checkout that holds ``build_addon.py``.

    Raises:
        InputError: platelight is installed without one.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "build_addon.py").is_file():
        raise InputError(
            "The demo runs from a checkout of platelight.", "Clone the repository and type make demo."
        )
    return root


def blender_lights() -> Path:
    """The folder of HDRIs inside the bpy wheel.

    Raises:
        InputError: no bpy here.
    """
    spec = importlib.util.find_spec("bpy")
    if spec is None or spec.origin is None:
        raise InputError("The demo needs Blender's Python module bpy.", "Type make demo, which installs it.")
    found = sorted(Path(spec.origin).parent.glob("*/datafiles/studiolights/world"))
    if not found:
        raise InputError(f"{Path(spec.origin).parent} holds no studio lights.", "Install bpy again.")
    return found[-1]


def write_portrait(path: Path) -> None:
    """scikit-image's portrait of Eileen Collins (NASA, public domain) as a PNG."""
    from skimage import data

    picture = data.astronaut()  # type: ignore[no-untyped-call]
    write_png_values(path, picture.astype(np.float32) / 255.0)


def build_extension(root: Path, folder: Path) -> Path:
    """Build the extension's zip into ``folder``, or take the one that is there if no source is newer."""
    vendored = ("protocol", "client", "commands", "images", "shading")
    sources = [
        p
        for d in ("blender_addon", "shaders", *(f"backend/platelight/{name}" for name in vendored))
        for p in (root / d).rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    ]
    newest = max(p.stat().st_mtime for p in sources)
    ready = [p for p in folder.glob("*.zip") if p.stat().st_mtime > newest]
    if not ready:
        command = [sys.executable, str(root / "build_addon.py"), "--no-backend", "-o", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PlatelightError(f"The extension could not be built: {done.stderr.strip()[-400:]}")
        ready = list(folder.glob("*.zip"))
    return max(ready, key=lambda p: p.stat().st_mtime)


class Backend:
    """``platelight serve`` as a process, for the length of a ``with`` block."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.connection = folder, folder / "config" / "server.json"
        self.process: subprocess.Popen[bytes] | None = None
        self.log: IO[bytes] | None = None

    def __enter__(self) -> Backend:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)  # keys live here: the server refuses a folder that others can read
        self.connection.unlink(missing_ok=True)
        self.log = (self.folder / "backend.log").open("wb")
        arguments = [
            "--port",
            "0",
            "--store",
            str(self.folder / "store"),
            "--connection-file",
            str(self.connection),
        ]
        command = [sys.executable, "-m", "platelight.cli", "serve", *arguments]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=self.environment())
        deadline = time.monotonic() + SERVER_SECONDS
        while not self.connection.is_file():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise ConnectionFailed("The backend did not start.", f"See {self.folder / 'backend.log'}.")
            time.sleep(0.05)
        return self

    def environment(self) -> dict[str, str]:
        """Where the server and its clients find keys and each other."""
        return {**os.environ, "PLATELIGHT_CONFIG_DIR": str(self.folder / "config")}

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.log is not None:
            self.log.close()


def run_blender(
    root: Path, job: dict[str, Any], environment: dict[str, str], progress: Progress, task: Any
) -> None:
    """Run the script in Blender, turning its lines into progress.

    Raises:
        PlatelightError: Blender failed; the end of its output is in the sentence.
    """
    with tempfile.TemporaryDirectory(prefix="platelight-demo-") as folder:
        job_file = Path(folder) / "job.json"
        job_file.write_text(json.dumps(job))
        environment = {**environment, "BLENDER_USER_RESOURCES": str(Path(folder) / "blender")}
        command = [sys.executable, "-u", str(root / "blender_addon" / "demo_script.py"), str(job_file)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=folder
        )
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            if line.startswith("PROGRESS "):
                _, fraction, words = line.rstrip().split(" ", 2)
                progress.update(task, completed=float(fraction), description=words)
            else:
                lines = [*lines[-60:], line]
        if process.wait() != 0:
            raise PlatelightError(f"Blender ended with an error: {''.join(lines[-12:]).strip()}")


def save_pictures(out: Path, stem: str, plate: Path, lights: list[dict[str, Any]]) -> Path:
    """One PNG a map and the contact sheet; returns the sheet."""
    maps, _ = read_maps(out / f"{stem}.maps.exr")
    source = read_light(out / f"{stem}.light.exr")
    write_normal_png(out / f"{stem}.normal.png", maps["normal"])
    write_png(out / f"{stem}.albedo.png", maps["albedo"], highlights="clip")
    for name in ("roughness", "reflectivity", "matte"):
        write_png_values(out / f"{stem}.{name}.png", maps[name])
    write_png_values(out / f"{stem}.cavity.png", maps["cavity"] * 0.5)
    solid = maps["matte"] > 0.5
    near, far = np.percentile(maps["depth"][solid], (1, 99))
    depth = np.clip((far - maps["depth"]) / max(float(far - near), 1e-6), 0, 1) * maps["matte"]
    write_png_values(out / f"{stem}.depth.png", depth)
    write_png(out / f"{stem}.light.png", source / max(float(np.percentile(source, 95)), 1e-6))
    cover = maps["matte"][..., None]
    tiles = [
        Tile("plate", read_plate(plate).pixels),
        Tile("matte", maps["matte"], encoded=True),
        Tile("normal", (maps["normal"] * 0.5 + 0.5) * cover, encoded=True),
        Tile("albedo", maps["albedo"] * cover),
        Tile("roughness", maps["roughness"] * maps["matte"], encoded=True),
        Tile("reflectivity (x 5)", maps["reflectivity"] * maps["matte"] * 5, encoded=True),
        Tile("cavity (x 0.5)", maps["cavity"] * maps["matte"] * 0.5, encoded=True),
        Tile("depth", depth, encoded=True),
        Tile("inferred light", source / max(float(np.percentile(source, 95)), 1e-6)),
    ]
    rows: list[list[Tile]] = [[], [], []]
    for index, light in enumerate(lights):
        suffix = "" if index == 0 else f".{light['name']}"
        relit = read_plate(out / f"{stem}{suffix}.relit.exr")
        preview = read_plate(out / f"{stem}{suffix}.preview.exr").pixels
        write_png(out / f"{stem}{suffix}.relit.png", relit.pixels)
        hdri = read_light(light["path"]) * 2.0 ** light["exposure"]
        rows[0].append(Tile(light["name"], hdri))
        rows[1].append(Tile("PBR preview, Cycles", preview * cover))
        rows[2].append(Tile("result", relit.pixels))
    sheet = out / "contact_sheet.png"
    contact_sheet(sheet, [tiles[:4], tiles[4:], *rows])
    return sheet


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code.

    Raises:
        PlatelightError: an option cannot be used, or a step failed.
    """
    parser = argparse.ArgumentParser(prog="platelight demo", description="Relight a portrait in Blender.")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder of the results")
    parser.add_argument("--plate", type=Path, help="a portrait of your own instead of the astronaut")
    parser.add_argument("--samples", type=int, default=24, help="Cycles samples a pixel")
    parser.add_argument(
        "--lights", type=int, default=len(LIGHTS), help=f"how many of the {len(LIGHTS)} HDRIs (default all)"
    )
    options = parser.parse_args(argv)
    if not 1 <= options.lights <= len(LIGHTS):
        raise InputError(f"--lights {options.lights} is out of range.", f"Give 1 to {len(LIGHTS)}.")
    if options.plate is not None and not options.plate.is_file():
        raise InputError(f"{options.plate} is not a file.", "Check the path of --plate.")
    console = Console()
    started = time.monotonic()
    root, out = repository(), options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    plate = out / "astronaut.png"
    if options.plate is None:
        write_portrait(plate)
    else:
        plate = out / options.plate.name
        if not (plate.exists() and plate.samefile(options.plate)):
            shutil.copyfile(options.plate, plate)
    hdris = blender_lights()
    lights = [
        {"name": n, "path": str(hdris / f"{n}.exr"), "rotation": r, "exposure": e}
        for n, r, e in LIGHTS[: options.lights]
    ]
    columns = (
        TextColumn("{task.description:<44}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("building the extension", total=1.0)
        addon = build_extension(root, root / "build" / "demo")
        progress.update(task, completed=0.01, description="starting the backend")
        with Backend(out / ".backend") as backend:
            job = {
                "addon": str(addon),
                "plate": str(plate),
                "out": str(out),
                "lights": lights,
                "samples": options.samples,
            }
            run_blender(root, job, backend.environment(), progress, task)
        progress.update(task, description="laying out pictures")
        sheet = save_pictures(out, plate.stem, plate, lights)
    console.print(f"{sheet} in {time.monotonic() - started:.0f} s")
    return 0
