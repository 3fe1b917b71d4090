"""The instant preview by the backend: its physical render at a preview's size, in an image that follows the light.

A thread has one request under way at most; when its picture is there, the newest wish goes next, whatever was wished for in
between. Maps are read, reduced and hashed once, the light once, so that turning and brightening send a few bytes. It is what
``platelight relight --pbr-only`` gives, without lamps, shadows and several places: Refine has those.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any, NamedTuple

import bpy
import numpy as np

from . import images, latlong, light, maps, preferences, remote, scene, wire
from .exr import Pixels
from .instant_inputs import CHANNELS, Loader, light_key, maps_key
from .jobs import Reporter, Work
from .plate_properties import PLANES, is_analysed
from .properties import active_plate, plate_by_uid
from .session import session

PIXELS = 960 * 540
ROWS = 256
"""Rows of the light: half those of an HDRI of 1k, which from a roughness of 0.2 on differs by less than 1 %."""
_DARKEST, _BRIGHTEST = -20.0, 20.0  # stops that a request takes


class Surface(NamedTuple):
    """A plate's maps as they are sent."""

    uid: str
    planes: dict[str, wire.Plane]


class Wish(NamedTuple):
    """What a picture is made of."""

    light: Hashable
    surface: Hashable
    fov: float
    backdrop: str
    rotation: float
    exposure: float
    axes: tuple[float, ...]  # of a tilted camera, in whose frame the backend gets the light


def step_of(height: int, width: int) -> int:
    """How many pixels a side become one, so that no more than a preview's are left."""
    return max(1, math.ceil(math.sqrt(height * width / PIXELS) - 1e-9))


def shrunk(plane: Pixels, step: int, weight: Pixels | None = None) -> Pixels:
    """Means of blocks of ``step`` pixels a side of (H, W) or (H, W, C), edges repeated; by a weight (H, W), where there is any."""
    if step == 1:
        return plane
    pad = [(0, -size % step) for size in plane.shape[:2]]

    def mean(values: Pixels) -> Pixels:
        whole = np.pad(values, [*pad, *[(0, 0)] * (values.ndim - 2)], mode="edge")
        high, wide = (size // step for size in whole.shape[:2])
        return whole.reshape(high, step, wide, step, *whole.shape[2:]).mean((1, 3), dtype=np.float32)

    if weight is None:
        return mean(plane)
    spread = weight if plane.ndim == 2 else weight[..., None]
    share = mean(spread)
    return np.where(share > 0.0, mean(plane * spread) / np.maximum(share, 1e-6), mean(plane))


def surface_work(plate: Any, backdrop: str, backdrop_path: str) -> Work:
    """Read the plate's maps and make them ready to be sent.

    Raises:
        InputError: one is gone, or no backdrop is chosen.
    """
    uid, frame = plate.uid, maps.current_frame(plate)
    channels = {**CHANNELS, "foreground": 3}
    sources = {
        name: (maps.source(plate, PLANES[name]), channels[PLANES[name]])
        for name in wire.maps_of(wire.Relight(pbr_only=True))
        if name != "cavity" or plate.cavity is not None
    }
    if backdrop == "plate":
        sources["plate"] = (maps.plate_source(plate, frame), scene.plate_channels(plate))
    behind = scene.backdrop_source(backdrop_path, plate, frame) if backdrop == "given" else None

    def work(reporter: Reporter) -> Surface:
        read = {name: found.read(count, reporter.on_main) for name, (found, count) in sources.items()}
        shape = read["matte"].shape[:2]
        if "plate" in read:
            read["plate"] = scene.over_black(read["plate"])
        if behind is not None:
            read["backdrop"] = scene.backdrop_pixels(behind, shape, reporter.on_main)
        step, matte = step_of(*shape), read["matte"]
        planes = {}
        for name, plane in read.items():
            small = shrunk(
                np.asarray(plane, np.float32), step, None if name in {"matte", "plate", "backdrop"} else matte
            )
            if name == "normal":
                small = small / np.maximum(np.linalg.norm(small, axis=-1, keepdims=True), 1e-6)
            halves = np.clip(small, -65504.0, 65504.0).astype(np.float16)
            planes[name] = wire.describe(name, halves)
        return Surface(uid, planes)

    return work


def light_work(scene_: Any) -> Work:
    """Read the chosen light, (h, 2h, 3), as it is before strength, rotation and exposure.

    Raises:
        InputError: it is not there.
    """
    found = light.target_source(scene_)

    def work(reporter: Reporter) -> tuple[Pixels, wire.Plane]:
        pixels = latlong.reduced(light.lat_long(found.read(3, reporter.on_main), found.name), ROWS)
        pixels = np.ascontiguousarray(pixels, np.float32)
        return pixels, wire.describe("light", pixels)

    return work


class Live:
    """The preview by the backend while it is on."""

    def __init__(self) -> None:
        self._lights, self._surfaces = Loader("Reading the light"), Loader("Reading the maps")
        self._pictures = Loader("Relighting")
        self._light: tuple[Hashable, Any] = (None, None)
        self._surface: tuple[Hashable, Any] = (None, None)
        self._line: remote.Line | None = None
        self._image = ""  # its name, "" before the first picture
        self._uid = ""  # of the plate that it shows
        self.drawn = 0

    @property
    def tick(self) -> float:
        """Seconds between looks at what is wanted: short where someone waits for a picture."""
        return 0.01 if self._pictures.busy else 0.03

    @property
    def busy(self) -> bool:
        """Whether something is being read or drawn."""
        return self._lights.busy or self._surfaces.busy or self._pictures.busy

    def step(self, scene_: Any) -> bool:
        """Look at what is wanted, once; True if a redraw is due."""
        state = scene_.platelight
        plate = active_plate(state)
        if plate is None or not is_analysed(plate):
            return False
        try:
            wanted_light = light_key(scene_)
        except wire.PlatelightError:
            wanted_light = "gone"
        surface = maps_key(plate), state.backdrop, state.backdrop_path
        changed = self._lights.step(wanted_light, lambda: light_work(scene_), self._take_light)
        changed |= self._surfaces.step(
            surface, lambda: surface_work(plate, state.backdrop, state.backdrop_path), self._take_surface
        )
        if self._light[0] != wanted_light or self._surface[0] != surface:
            return changed
        wish = self._wish(scene_, plate)
        return changed | self._pictures.step(wish, lambda: self._work(wish), self._put)

    def close(self) -> None:
        """Take everything back: editors show the plate again."""
        for loader in (self._lights, self._surfaces, self._pictures):
            loader.close()
        if self._line is not None:
            self._line.close()
            self._line = None
        image = bpy.data.images.get(self._image) if self._image else None
        if image is not None:
            found = plate_by_uid(self._uid)
            for space in _editors():
                if space.image == image:
                    space.image = found[1].plate if found is not None else None
            bpy.data.images.remove(image)

    def _take_light(self, value: Any) -> None:
        self._light = self._lights.key, value

    def _take_surface(self, value: Any) -> None:
        self._surface = self._surfaces.key, value

    def _wish(self, scene_: Any, plate: Any) -> Wish:
        state = scene_.platelight
        of_scene = state.light_from == "SCENE"  # what the scene sends is the scene's to turn and to brighten
        gain = float(light.strength(state))
        stops = math.log2(gain) if gain > 0.0 else _DARKEST
        stops += 0.0 if of_scene else state.exposure
        axes = light.camera_axes(scene_, plate)
        return Wish(
            self._light[0],
            self._surface[0],
            scene.field_of_view(plate),
            state.backdrop,
            0.0 if of_scene else state.rotation,
            min(max(stops, _DARKEST), _BRIGHTEST),
            tuple(map(float, axes.flat)) if light.is_turned(axes) else (),
        )

    def _work(self, wish: Wish) -> Work:
        """Ask for one picture.

        Raises:
            ConnectionFailed: no backend answers, and none may be started.
        """
        if self._line is None or self._line.closed:
            settings = preferences.settings()
            process = session.backend = remote.ensure_backend(settings, session.backend)
            session.other_backend = process is None
            self._line = remote.Line(settings, process)
        line, surface, (pixels, described) = self._line, self._surface[1], self._light[1]
        request = wire.Relight(
            pbr_only=True, composite_only=True, halves=True, fov=wish.fov, backdrop=wish.backdrop, exposure=wish.exposure,
            rotation=0.0 if wish.axes else wish.rotation,
        )  # fmt: skip

        def work(reporter: Reporter) -> tuple[str, Pixels]:
            sent = described
            if wish.axes:
                axes = np.reshape(wish.axes, (3, 3)).astype(np.float32)
                sent = wire.describe("light", latlong.turned(pixels, axes, wish.rotation))
            found = line.ask(request, {**surface.planes, "light": sent}, reporter)
            return surface.uid, np.ascontiguousarray(found["relit"], np.float32)

        return work

    def _put(self, value: tuple[str, Pixels]) -> None:
        uid, pixels = value
        found = plate_by_uid(uid)
        if found is None:
            return
        plate = found[1]
        existing = bpy.data.images.get(self._image) if self._image else None
        image = images.put_image(f"{plate.name} Live", pixels, data=False, existing=existing)
        if existing is None or self._uid != uid:
            for space in _editors():
                if space.image is None or space.image == image or space.image.get("platelight") == uid:
                    space.image = image
        self._image, self._uid = image.name, uid
        self.drawn += 1


def _editors() -> list[Any]:
    manager = bpy.context.window_manager
    areas = [area for window in (manager.windows if manager else ()) for area in window.screen.areas]
    return [area.spaces.active for area in areas if area.type == "IMAGE_EDITOR"]
