"""The preview's shader without Blender: OpenGL through EGL, by Mesa's llvmpipe where there is no graphics card."""

from __future__ import annotations

import importlib
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ADDON = Path(__file__).resolve().parents[2] / "blender_addon"
_VERTEX = "#version 330\nin vec2 pos; void main() { gl_Position = vec4(pos, 0.0, 1.0); }"
_FRAGMENT = """
uniform sampler2D lightAtlas, lightTiles, lightLamps, lobeTable, albedoTable, normals, views, surfaces;
uniform float lightTurn, lightGain;
layout(location = 0) out vec4 outDiffuse;
layout(location = 1) out vec4 outSpecular;
%s
void main() {
  ivec2 at = ivec2(gl_FragCoord.xy);
  vec4 surface = texelFetch(surfaces, at, 0);  // roughness, f0, albedo, layered
  vec3 diffuse, specular;
  platelight_shade(texelFetch(normals, at, 0).xyz, vec3(surface.z), surface.x, surface.y, texelFetch(views, at, 0).xyz,
                   surface.w > 0.5, diffuse, specular);
  outDiffuse = vec4(diffuse, 1.0);
  outSpecular = vec4(specular, 1.0);
}
"""
_WIDTH = 256


def addon_module(name: str) -> Any:
    """A module of the extension that needs no Blender, in a package whose ``__init__`` does not run."""
    package = sys.modules.setdefault("platelight_instant", types.ModuleType("platelight_instant"))
    package.__path__ = [str(ADDON)]
    return importlib.import_module(f"platelight_instant.{name}")


@dataclass(frozen=True)
class Shaded:
    """Radiance (N, 3) by lobe."""

    diffuse: np.ndarray
    specular: np.ndarray


class Relight:
    """The compiled shader. Skips the test where OpenGL 3.3 is not to be had."""

    def __init__(self) -> None:
        moderngl = pytest.importorskip("moderngl", reason="moderngl, which `make setup` installs, is missing")
        try:
            self._context = moderngl.create_context(standalone=True, backend="egl", require=330)
        except Exception as error:
            pytest.skip(f"no OpenGL 3.3 through EGL here (libegl1, libgl1-mesa-dri): {error}")
        self._linear = moderngl.LINEAR
        table = addon_module("instant_table")
        known = table.table()
        defines = "".join(f"#define {name} {value}\n" for name, value in known.defines.items())
        self._program = self._context.program(
            vertex_shader=_VERTEX, fragment_shader="#version 330\n" + defines + _FRAGMENT % table.source()
        )
        self._fixed = {"lobeTable": self._texture(known.lobes), "albedoTable": self._texture(known.albedo)}
        corners = self._context.buffer(np.array([-1, -1, 3, -1, -1, 3], np.float32).tobytes())
        self._triangle = self._context.vertex_array(self._program, [(corners, "2f", "pos")])

    def _texture(self, plane: np.ndarray, kind: str = "f4") -> Any:
        made = self._context.texture(
            (plane.shape[1], plane.shape[0]), 4, np.ascontiguousarray(plane, kind).tobytes(), dtype=kind
        )
        made.filter = self._linear, self._linear
        made.repeat_x = made.repeat_y = False
        return made

    def shade(
        self,
        atlas: Any,
        normals: np.ndarray,
        views: np.ndarray,
        roughness: np.ndarray | float,
        f0: np.ndarray | float,
        albedo: float = 1.0,
        layered: bool = False,
        degrees: float = 0.0,
    ) -> Shaded:
        """Shade N points; the light in half floats, as in Blender."""
        count = len(normals)
        rows = -(-count // _WIDTH)

        def grid(values: np.ndarray) -> np.ndarray:
            out = np.zeros((rows * _WIDTH, 4), np.float32)
            out[:count, : values.shape[1]] = values
            return out.reshape(rows, _WIDTH, 4)

        given = (roughness, f0, albedo, float(layered))
        surfaces = np.stack([np.broadcast_to(np.asarray(value, np.float32), (count,)) for value in given], -1)
        unit = float(atlas.pixels[..., :3].max()) / 30000.0
        lamps = atlas.lamps.copy()
        lamps[1::2, :, :3] /= unit
        textures = {
            "lightAtlas": self._texture(atlas.pixels / unit, "f2"),
            "lightTiles": self._texture(atlas.tiles[None]),
            "lightLamps": self._texture(lamps),
            "normals": self._texture(grid(normals)),
            "views": self._texture(grid(views)),
            "surfaces": self._texture(grid(surfaces)),
        }
        for slot, (name, texture) in enumerate({**self._fixed, **textures}.items()):
            texture.use(slot)
            self._program[name] = slot
        self._program["lightTurn"] = degrees / 360.0
        self._program["lightGain"] = unit
        targets = [self._context.texture((_WIDTH, rows), 4, dtype="f4") for _ in range(2)]
        buffer = self._context.framebuffer(targets)
        buffer.use()
        self._triangle.render()
        diffuse, specular = (
            np.frombuffer(target.read(), np.float32).reshape(-1, 4)[:count, :3].copy() for target in targets
        )
        for made in (*textures.values(), *targets, buffer):
            made.release()
        return Shaded(diffuse, specular)
