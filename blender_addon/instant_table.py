"""What the instant preview's shader needs beside a light: its source, its constants, and the table of lobes.

Numpy only; no bpy module use.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import prefilter
from .exr import Pixels


@dataclass(frozen=True)
class Table:
    """``lobes`` (rows, angles, 4), a block of roughnesses for each tap and then for the rest; ``albedo`` (n, n, 4);
    ``defines``, the constants of the shader."""

    lobes: Pixels
    albedo: Pixels
    defines: dict[str, str]


def folder() -> Path:
    """Where the shader and its table are: inside the extension, or beside it in a checkout."""
    here = Path(__file__).resolve().parent
    inside = here / "shaders" / "glsl"
    return inside if inside.is_dir() else here.parent / "shaders" / "glsl"


@functools.cache
def source(name: str = "platelight_relight") -> str:
    """The functions of a shader."""
    return (folder() / f"{name}.glsl").read_text("utf-8")


@functools.cache
def table() -> Table:
    """The table that ``shaders/glsl/fit_lobes.py`` wrote, as textures."""
    with np.load(folder() / "lobes.npz", allow_pickle=False) as stored:
        taps, aside, around, albedo = (stored[name] for name in ("taps", "aside", "around", "albedo"))
        bend = float(stored["bend"])
    roughnesses, angles, count, _ = taps.shape
    pairs = aside.shape[2]
    blocks = [taps[:, :, tap] for tap in range(count)]
    blocks += [around[..., kind] for kind in range(2)]
    for first in range(0, pairs, 4):
        some = aside[:, :, first : first + 4]
        blocks.append(np.pad(some, ((0, 0), (0, 0), (0, 4 - some.shape[2]))))
    defines = {
        "LEVELS": len(prefilter.ALPHAS),
        "CLUSTERS": prefilter.CLUSTERS,
        "PYRAMID": len(prefilter.TEXELS),
        "ALPHA": repr(float(prefilter.ALPHAS[0])),
        "RATIO": repr(float(prefilter.RATIO)),
        "BEND": repr(bend),
        "ANGLES": angles,
        "ROUGHNESSES": roughnesses,
        "TAPS": count,
        "SINGLES": count - pairs,
    }
    return Table(
        np.ascontiguousarray(np.concatenate(blocks), np.float32),
        np.ascontiguousarray(np.pad(albedo, ((0, 0), (0, 0), (0, 1))), np.float32),
        {f"PLATELIGHT_{name}": str(value) for name, value in defines.items()},
    )
