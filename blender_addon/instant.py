"""The instant preview: the active plate relit on the graphics card, in the Image Editor and through its camera; or by the
backend (:mod:`.live`).

Off until it is asked for; a new file begins with it off. A timer looks at what is wanted, has a thread read maps and filter the
light, and asks for redraws; turning and brightening filter nothing. What Cycles renders is exact where this is close
(``docs/shading.md`` has the figures), knows shadows and other objects, and is what the refiner gets.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from bpy_extras import view3d_utils
from mathutils import Vector

from . import color, compat, images, latlong, light, mapfiles, maps, prefilter
from .exr import Pixels
from .instant_gpu import STOPS, Painter, View
from .instant_inputs import CHANNELS, Loader, light_key, maps_key
from .jobs import Reporter, Work
from .lens import Frustum, frustum
from .live import Live
from .modal import redraw
from .plate_properties import is_analysed
from .properties import active_plate
from .scene import field_of_view, lens_shift
from .session import session
from .wire import PlatelightError

log = logging.getLogger(__name__)
_TABLE = 33  # nodes a side of the table of displayed colors
_SPACES = (bpy.types.SpaceImageEditor, bpy.types.SpaceView3D)


def light_work(scene: Any) -> Work:
    """Filter the chosen light.

    Raises:
        InputError: it is not there.
    """
    found = light.target_source(scene)

    def work(reporter: Reporter) -> prefilter.Atlas:
        pixels = light.lat_long(found.read(3, reporter.on_main), found.name)
        pixels = np.nan_to_num(latlong.reduced(pixels, 2 * prefilter.ROWS), posinf=0.0, neginf=0.0)
        return prefilter.prefilter(np.maximum(pixels, 0.0))

    return work


def maps_work(plate: Any) -> Work:
    """Read the plate's maps.

    Raises:
        InputError: one is gone.
    """
    sources = {name: maps.source(plate, name) for name in CHANNELS if name != "cavity" or plate.cavity}

    def work(reporter: Reporter) -> tuple[Pixels, Pixels, Pixels]:
        read = {name: found.read(CHANNELS[name], reporter.on_main) for name, found in sources.items()}
        paint = mapfiles.paint(read["albedo"], read.get("cavity"))
        surface = np.dstack([read["normal"], read["roughness"]])
        return surface, np.dstack([paint, read["reflectivity"]]), read["matte_map"]

    return work


def view_key(scene: Any) -> Hashable:
    """What the table of displayed colors is made of; None where plain sRGB says the same."""
    view, device = scene.view_settings, scene.display_settings.display_device
    balanced = bool(getattr(view, "use_white_balance", False))  # since 4.3
    plain = (
        view.view_transform == "Standard" and view.look in {"None", ""} and device == "sRGB" and not balanced
    )
    if plain and view.exposure == 0.0 and view.gamma == 1.0 and not view.use_curve_mapping:
        return None
    white = (view.white_balance_temperature, view.white_balance_tint) if balanced else None
    curves = _curves_key(view.curve_mapping) if view.use_curve_mapping else None
    return view.view_transform, view.look, view.exposure, view.gamma, device, white, curves


def _curves_key(mapping: Any) -> Hashable:
    points = tuple(
        tuple((*point.location, point.handle_type) for point in curve.points) for curve in mapping.curves
    )
    return points, tuple(mapping.black_level), tuple(mapping.white_level)


def display_table(scene: Any) -> Pixels:
    """The scene's own view transform of a lattice of colors, (n, n * n, 4): Blender saves it as it would a render."""
    low, high = STOPS
    axis = np.exp2(low + np.arange(_TABLE) / (_TABLE - 1) * (high - low)) - 2.0**low
    green, blue, red = np.meshgrid(axis, axis, axis, indexing="ij")
    lattice = np.stack([red, green, blue], -1).reshape(_TABLE, _TABLE * _TABLE, 3).astype(np.float32)
    source = images.put_image("Platelight view", lattice, data=False)
    settings = scene.render.image_settings
    before = compat.image_settings(settings)
    shown = None
    try:
        with tempfile.TemporaryDirectory(prefix="platelight-") as folder:
            path = Path(folder) / "view.png"
            compat.set_still_format(settings, "PNG")
            settings.color_mode, settings.color_depth = "RGB", "16"
            source.save_render(str(path), scene=scene)
            shown = bpy.data.images.load(str(path), check_existing=False)
            color.set_space(shown, "Non-Color")
            return images.image_pixels(shown)
    finally:
        compat.restore_image_settings(settings, before)
        bpy.data.images.remove(source)
        if shown is not None:
            bpy.data.images.remove(shown)


class Instant:
    """The preview on the graphics card while it is on."""

    tick = 0.05  # seconds between looks at what is wanted

    def __init__(self) -> None:
        self.painter = Painter()
        self._loaders = Loader("Filtering the light"), Loader("Reading the maps")
        self._view: Hashable = ()
        self._shown: Hashable = None
        self._handlers = [
            (space, space.draw_handler_add(self._draw, (), "WINDOW", "POST_PIXEL")) for space in _SPACES
        ]

    def step(self, scene: Any) -> bool:
        """Look at what is wanted, once; True if a redraw is due."""
        plate = active_plate(scene.platelight)
        if plate is None or not is_analysed(plate):
            return False
        lights, surface = self._loaders
        try:
            key = light_key(scene)
        except PlatelightError:
            key = "gone"
        changed = lights.step(key, lambda: light_work(scene), self.painter.set_light)
        changed |= surface.step(
            maps_key(plate), lambda: maps_work(plate), lambda read: self.painter.set_maps(*read)
        )
        view = view_key(scene)
        if view != self._view and not session.rendering:
            if view is not None:
                self.painter.set_display(display_table(scene))
            self._view = view
            changed = True
        state = scene.platelight
        shown = state.rotation, state.exposure, float(light.strength(state)), plate.uid
        changed |= shown != self._shown
        self._shown = shown
        return changed

    @property
    def busy(self) -> bool:
        """Whether maps or light are being read."""
        return any(loader.busy for loader in self._loaders)

    def close(self) -> None:
        """Take everything back."""
        for loader in self._loaders:
            loader.close()
        while self._handlers:
            space, handler = self._handlers.pop()
            space.draw_handler_remove(handler, "WINDOW")

    def view(self, scene: Any, plate: Any, mode: int) -> View:
        """How the plate is drawn now."""
        state = scene.platelight
        of_scene = state.light_from == "SCENE"  # what the scene sends is the scene's to turn and to brighten
        across = math.tan(math.radians(field_of_view(plate)) / 2)
        return View(
            0.0 if of_scene else state.rotation / 360.0,
            float(light.strength(state)) * (1.0 if of_scene else 2.0**state.exposure),
            light.camera_axes(scene, plate),
            Frustum(across, across * plate.height / plate.width, *lens_shift(plate)),
            mode,
        )

    def _draw(self) -> None:
        context = bpy.context
        scene, region, space = context.scene, context.region, context.space_data
        plate = active_plate(scene.platelight)
        if (
            plate is None
            or not plate.width
            or not self.painter.ready
            or self._loaders[1].key != maps_key(plate)
        ):
            return
        own_view = self._view is not None
        if space.type == "IMAGE_EDITOR":
            image = space.image
            if image is None or image.get("platelight") != plate.uid:
                return
            own_view = own_view and image.use_view_as_render
            pixels = [region.view2d.view_to_region(at, at, clip=False) for at in (0.0, 1.0)]
        else:
            pixels = _camera_frame(scene, plate, region, space)
        if pixels is None:
            return
        (left, bottom), (right, top) = pixels
        width, height = region.width / 2.0, region.height / 2.0
        corners = left / width - 1.0, bottom / height - 1.0, right / width - 1.0, top / height - 1.0
        try:
            self.painter.draw(corners, self.view(scene, plate, 2 if own_view else 1))
        except Exception:  # one that is raised here would be raised at every redraw
            log.exception("the instant preview could not be drawn")
            bpy.app.timers.register(stop)


def _camera_frame(scene: Any, plate: Any, region: Any, space: Any) -> list[Any] | None:
    """Lower left and upper right corner of the plate in a 3D Viewport that looks through its camera."""
    camera = plate.camera or plate.own_camera
    if camera is None or scene.camera != camera or space.region_3d.view_perspective != "CAMERA":
        return None
    lens = frustum(camera, plate.width, plate.height)
    place = camera.matrix_world.normalized()
    found = [
        view3d_utils.location_3d_to_region_2d(
            region,
            space.region_3d,
            place @ Vector((s * lens.across + lens.right, s * lens.down + lens.up, -1.0)),
        )
        for s in (-1.0, 1.0)
    ]
    return None if None in found else found


_instant: Instant | Live | None = None


def is_on() -> bool:
    """Whether the preview is drawn."""
    return _instant is not None


def is_busy() -> bool:
    """Whether it still reads."""
    return _instant is not None and _instant.busy


def start() -> None:
    """Switch it on, by what the scene says.

    Raises:
        Exception: this Blender or its driver cannot.
    """
    global _instant
    if _instant is None:
        _instant = _wanted()()
        bpy.app.timers.register(_tick)
        redraw()


def _wanted() -> type[Instant] | type[Live]:
    return Live if bpy.context.scene.platelight.instant_by == "BACKEND" else Instant


def stop() -> None:
    """Switch it off and let go of everything."""
    global _instant
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    if _instant is not None:
        _instant.close()
        _instant = None
        redraw()


def _tick() -> float | None:
    global _instant
    if _instant is None:
        return None
    try:
        if type(_instant) is not _wanted():
            _instant.close()
            _instant = _wanted()()
        if _instant.step(bpy.context.scene):
            redraw()
    except Exception:  # a timer that raises is gone without a word
        log.exception("the instant preview ended")
        session.say("The instant preview ended with an error. The log has the details.", error=True)
        stop()
        return None
    return _instant.tick
