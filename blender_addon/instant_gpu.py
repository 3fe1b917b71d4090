"""The instant preview on the graphics card: shader, textures, one quad. Everything here needs Blender's drawing context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gpu
import numpy as np
from gpu_extras.batch import batch_for_shader

from . import instant_table
from .exr import Pixels
from .lens import Frustum
from .prefilter import Atlas

STOPS = (-12, 8)
"""Range of the table of displayed colors, in powers of two about a scene-linear 1."""
_HALF_MOST = 30000.0
_SAMPLERS = (
    "lightAtlas",
    "lightTiles",
    "lightLamps",
    "lobeTable",
    "albedoTable",
    "surfaceMap",
    "colorMap",
    "matteMap",
    "displayTable",
)
_VERTEX = "void main() { place = uv; gl_Position = vec4(pos, 0.0, 1.0); }"
_FRAGMENT = "void main() { outColor = platelight_pixel(place); }"


@dataclass(frozen=True)
class View:
    """How one draw looks: ``turn`` of the light in turns, ``gain`` on it, ``frame`` (3, 3) from the camera to the upright
    frame, ``lens`` what the camera sees, ``mode`` as in ``platelight_view.glsl``."""

    turn: float
    gain: float
    frame: Pixels
    lens: Frustum
    mode: int


def texture(plane: Pixels, kind: str = "RGBA16F") -> Any:
    """A texture of (H, W, 4) or (H, W); what lies beyond half floats is cut off."""
    if kind.endswith("16F"):
        plane = np.clip(plane, -65000.0, 65000.0)
    height, width = plane.shape[:2]
    flat = np.ascontiguousarray(plane, np.float32).ravel()
    return gpu.types.GPUTexture((width, height), format=kind, data=gpu.types.Buffer("FLOAT", flat.size, flat))


def build_shader() -> Any:
    """The shader, compiled.

    Raises:
        Exception: the driver refuses it.
    """
    info = gpu.types.GPUShaderCreateInfo()
    for name, value in instant_table.table().defines.items():
        info.define(name, value)
    for name, value in zip(("LOW", "HIGH"), STOPS, strict=True):
        info.define(f"PLATELIGHT_STOPS_{name}", str(value))
    info.vertex_in(0, "VEC2", "pos")
    info.vertex_in(1, "VEC2", "uv")
    between = gpu.types.GPUStageInterfaceInfo("platelight_between")
    between.smooth("VEC2", "place")
    info.vertex_out(between)
    for slot, name in enumerate(_SAMPLERS):
        info.sampler(slot, "FLOAT_2D", name)
    info.push_constant("MAT4", "viewFrame")
    info.push_constant("VEC4", "viewFrustum")
    info.push_constant("FLOAT", "lightTurn")
    info.push_constant("FLOAT", "lightGain")
    info.push_constant("INT", "displayMode")
    info.fragment_out(0, "VEC4", "outColor")
    info.vertex_source(_VERTEX)
    info.fragment_source(
        "\n".join((instant_table.source(), instant_table.source("platelight_view"), _FRAGMENT))
    )
    return gpu.shader.create_from_info(info)


class Painter:
    """The textures and the shader of one preview. What is not set yet is not drawn."""

    def __init__(self) -> None:
        table = instant_table.table()
        self._shader = build_shader()
        self._textures: dict[str, Any] = {
            "lobeTable": texture(table.lobes, "RGBA32F"),
            "albedoTable": texture(table.albedo, "RGBA32F"),
            "displayTable": texture(np.zeros((2, 4, 4), np.float32)),
        }
        self._unit = 1.0

    def set_light(self, atlas: Atlas) -> None:
        """Take a filtered light."""
        self._unit = max(float(atlas.pixels[..., :3].max()), 1e-20) / _HALF_MOST
        self._textures["lightAtlas"] = texture(atlas.pixels / np.float32(self._unit))
        self._textures["lightTiles"] = texture(atlas.tiles[None], "RGBA32F")
        lamps = atlas.lamps.copy()
        lamps[1::2, :, :3] /= self._unit
        self._textures["lightLamps"] = texture(lamps, "RGBA32F")

    def set_maps(self, surface: Pixels, color: Pixels, matte: Pixels) -> None:
        """Take a plate: (H, W, 4) of normal and roughness, of paint and reflectivity, and (H, W)."""
        self._textures["surfaceMap"] = texture(surface)
        self._textures["colorMap"] = texture(color)
        self._textures["matteMap"] = texture(matte, "R16F")

    def set_display(self, table: Pixels) -> None:
        """Take the table of displayed colors (n, n * n, 4)."""
        self._textures["displayTable"] = texture(table)

    @property
    def ready(self) -> bool:
        """Whether light and maps are there."""
        return all(name in self._textures for name in _SAMPLERS)

    def draw(self, corners: tuple[float, float, float, float], view: View, blend: str = "ALPHA") -> None:
        """Draw the plate into ``corners`` (left, bottom, right, top) of the current viewport, from -1 to 1 each way."""
        if not self.ready:
            return
        left, bottom, right, top = corners
        places = {
            "pos": ((left, bottom), (right, bottom), (right, top), (left, top)),
            "uv": ((0.0, 1.0), (1.0, 1.0), (1.0, 0.0), (0.0, 0.0)),
        }
        batch = batch_for_shader(self._shader, "TRIS", places, indices=((0, 1, 2), (0, 2, 3)))
        shader = self._shader
        shader.bind()
        for name in _SAMPLERS:
            shader.uniform_sampler(name, self._textures[name])
        frame = np.eye(4, dtype=np.float32)
        frame[:3, :3] = np.asarray(view.frame).T  # columns one after another
        shader.uniform_float("viewFrame", frame.ravel().tolist())
        shader.uniform_float("viewFrustum", view.lens)
        shader.uniform_float("lightTurn", view.turn)
        shader.uniform_float("lightGain", view.gain * self._unit)
        shader.uniform_int("displayMode", view.mode)
        gpu.state.blend_set(blend)
        gpu.state.depth_test_set("NONE")
        try:
            batch.draw(shader)
        finally:
            gpu.state.blend_set("NONE")
