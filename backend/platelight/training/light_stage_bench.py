"""``python -m platelight.training.light_stage_bench``: one render with light groups against one render a lamp, and without noise.

Each way is timed in CPU seconds and compared with a long render: the error of single lamps' pictures, and of their sum
under a bright and a soft sky, over the subject, relative to the mean.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import numpy.typing as npt

from platelight.training.light_stage_lights import fibonacci
from platelight.training.light_stage_scene import _dress, _render, _sky, photograph
from platelight.training.light_stage_subjects import Casting, Family, Subject

Array = npt.NDArray[Any]


def pictures(subject: Subject, lamps: int, size: int, samples: int, way: str) -> tuple[Array, float]:
    """OLAT stack (L, H, W, 3) and CPU seconds; ``way`` is groups, clean, sampled (groups, lamps sampled directly) or single."""
    if way == "clean":
        began = time.process_time()
        return photograph(subject, lamps, size, samples, 1).olat, time.process_time() - began
    scene = _dress(subject, size, samples, 1, 1)
    low, high = subject.mesh.vertices.min(0), subject.mesh.vertices.max(0)
    _sky(scene, lamps, (low + high) / 2)
    scene.cycles.seed = {"groups": 2, "sampled": 3, "single": 4, "long": 5}[way]
    if way in ("sampled", "single"):
        bpy.data.materials["lamp"].cycles.emission_sampling = "FRONT"
        scene.cycles.use_light_tree = False  # twice as fast here
    began = time.process_time()
    if way != "single":
        channels = _render(scene)
        stack = [np.stack([channels[f"Combined_L{i:04d}.{c}"] for c in "RGB"], -1) for i in range(lamps)]
        return np.stack(stack), time.process_time() - began
    scene.render.use_persistent_data = True
    tiles = [bpy.data.objects[f"L{i:04d}"] for i in range(lamps)]
    for tile in tiles:
        tile.hide_render, tile.lightgroup = True, ""
    while scene.view_layers[0].lightgroups:
        bpy.ops.scene.view_layer_remove_lightgroup()
    stack = []
    for tile in tiles:
        tile.hide_render = False
        channels = _render(scene)
        stack.append(np.stack([channels[f"Combined.{c}"] for c in "RGB"], -1))
        tile.hide_render = True
    return np.stack(stack), time.process_time() - began


def main(argv: list[str] | None = None) -> int:
    """Print one line a way."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lamps", type=int, default=64)
    options.add_argument("--size", type=int, default=64)
    options.add_argument("--long", type=int, default=2048, help="samples of the reference")
    options.add_argument(
        "--data", type=Path, help="folder of head_ict_facekit: a head in place of a figurine"
    )
    chosen = options.parse_args(argv)
    subject = Casting(chosen.data).draw(3, 2, Family.HEAD if chosen.data else Family.FIGURINE)
    truth, _ = pictures(subject, chosen.lamps, chosen.size, chosen.long, "long")
    seen = truth.sum((0, 3)) > 1e-3
    towards = fibonacci(chosen.lamps)
    skies = {
        "soft": 0.3 + np.clip(towards[:, 1], 0, 1),
        "lamp": 0.05 + 40.0 * (towards @ [0.5, 0.6, 0.62] > 0.97),
    }

    def error(a: Array, b: Array) -> float:
        return float(np.abs(a - b)[..., seen, :].mean() / b[..., seen, :].mean())

    for way, samples in (("groups", 96), ("clean", 96), ("groups", 256), ("sampled", 160), ("single", 2)):
        stack, seconds = pictures(subject, chosen.lamps, chosen.size, samples, way)
        line = [f"{way} {samples} samples: {seconds:.1f} CPU s, a lamp's picture {error(stack, truth):.3f}"]
        for name, weights in skies.items():
            line.append(
                f"{name} sky {error(np.tensordot(weights, stack, 1), np.tensordot(weights, truth, 1)):.3f}"
            )
        print(", ".join(line), file=sys.stderr)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)
