"""A sequence that its subject leaves: the range is analyzed with neutral maps, and rendered; and the command's frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import blender_kit as kit
import bpy
import numpy as np

import blender_addon
from blender_addon import cli, exr, maps, remote, wire
from blender_addon.session import session

SIZE = 24
LEVELS = {1: 0.0, 2: 0.5, 3: 0.0}  # a black frame shows no subject


def answer(
    _settings: Any, _process: Any, request: Any, planes: dict[str, Any], _reporter: Any
) -> remote.Answer:
    """Flat maps of frames that are not black."""
    shape = planes["plate" if "plate" in planes else "matte"].shape[:2]
    one = np.ones(shape, np.float32)
    gray = np.dstack([one * 0.5] * 3)
    if type(request).__name__ == "Decompose":
        if planes["plate"].max() == 0.0:
            raise wire.NoSubjectError("No subject was found in the plate.", "Pass --matte full.")
        made = dict.fromkeys(("matte", "roughness", "cavity", "depth"), one) | {"reflectivity": one * 0}
        made |= {"foreground": gray, "albedo": gray, "normal": np.dstack([one * 0, one * 0, one])}
        return remote.Answer(made | {"light": np.ones((8, 16, 3), np.float32)}, {})
    matte = np.asarray(planes["matte"], np.float32)
    return remote.Answer({"relit": np.dstack([gray, matte]), "pbr": gray}, {})


def told(call: Any, **values: Any) -> str:
    """What an operator says, or why it fails."""
    try:
        call(**values)
    except RuntimeError as error:
        return str(error)
    return session.message


def numbers(frame: int) -> list[float]:
    """Means of the maps of a frame."""
    return [
        float(maps.map_pixels(plate, name, 3, frame).mean((0, 1))[-1])
        for name in (
            "matte_map", "foreground", "normal", "albedo", "roughness", "reflectivity", "cavity", "depth", "source_light"
        )
    ]  # fmt: skip


remote.ask, remote.ensure_backend = answer, lambda _settings, _process: None
blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
for frame, level in LEVELS.items():
    exr.write(f"shot.{frame}.exr", {"": np.full((SIZE, SIZE, 3), level, np.float32)})
exr.write("sky.exr", {"": np.ones((16, 32, 3), np.float32)})
scene = bpy.context.scene
state, ops = scene.platelight, bpy.ops.platelight
state.denoise, state.samples = False, 4
out: dict[str, Any] = {}
ops.load_plate(filepath=str(Path("shot.1.exr").resolve()), sequence=True)
plate = state.plates[0]
out["one frame"] = told(ops.analyse)
plate.frame_last = 1
out["range without"] = told(ops.analyse, whole_range=True)
out["maps without"] = maps.has_maps(plate)
plate.frame_last = 3
out["range"] = told(ops.analyse, whole_range=True)
out["maps"] = [numbers(frame) for frame in LEVELS]
plate.shadow_proxy = True
ops.set_light(filepath=str(Path("sky.exr").resolve()))
scene.frame_set(1)
ops.build_scene()
state.output = str(Path("out.####.exr").resolve())
out["relit"] = told(ops.relight_range)
out["alpha"] = [float(maps.map_pixels(plate, "preview", 4, frame)[..., 3].mean()) for frame in LEVELS]
ops.remove_plate()
files = [str(Path(f"shot.{frame}.exr").resolve()) for frame in LEVELS]
line = ["--light", str(Path("sky.exr").resolve()), "--samples", "2", "-o"]
out["command"] = [
    cli.main(["relight", str(Path("shot.#.exr").resolve()), *line, "made"]),
    cli.main(["relight", files[0], *line, "alone"]),
]
out["made"] = sorted(path.name for path in Path("made").glob("*.relit.exr"))
blender_addon.unregister()
kit.result(out)
