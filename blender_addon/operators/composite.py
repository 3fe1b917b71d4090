"""The composite: the group in the scene's compositor, and the final multilayer file."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import bpy
import numpy as np

from .. import compositor, exr, mapfiles, maps, plates, scene, wire
from ..comp_render import CompositeSetup, read_combined
from ..exr import Pixels
from ..jobs import Reporter, Work
from ..modal import JobOperator
from ..plate_properties import frames_of
from ..properties import active_plate, plate_by_uid
from ..render_modal import RenderOperator
from ..session import session
from .common import has_scene, idle, refuse

_LAYERS = {
    "albedo": 3,
    "normal": 3,
    "roughness": 1,
    "reflectivity": 1,
    "cavity": 1,
    "matte_map": 1,
    "depth": 1,
    "diffuse_pass": 3,
    "specular_pass": 3,
}
_NAMES = {"matte_map": "matte", "diffuse_pass": "diffuse", "specular_pass": "specular"}


def _found(uid: str) -> tuple[Any, Any]:
    """Scene and plate."""
    found = plate_by_uid(uid)
    if found is None:
        raise wire.InputError("The plate was removed while it was composited.", "Load it again.")
    return found


class _Parts(NamedTuple):
    files: mapfiles.Files
    grain: float


class PLATELIGHT_OT_composite(JobOperator, bpy.types.Operator):
    """Put the Platelight Composite group into the scene's compositor: subject, backdrop, edge, light wrap, grain"""

    bl_idname = "platelight.composite"
    bl_label = "Set Up Compositor"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a result whose backdrop can be taken off again."""
        if not (idle(cls) and has_scene(cls, context)):
            return False
        state = context.scene.platelight
        if active_plate(state).result is None:
            return refuse(cls, "Refine first")
        if state.backdrop == "light":
            return refuse(cls, "Refine with another backdrop than the HDRI: that one comes composited")
        return True

    def prepare(self, context: Any) -> tuple[str, Work]:
        """Find result, matte and backdrop."""
        state = context.scene.platelight
        plate = active_plate(state)
        self._uid = plate.uid
        frame = maps.current_frame(plate)
        backdrop = state.backdrop
        own = scene.backdrop_source(state.backdrop_path, plate, frame) if backdrop == "given" else None
        sources = {"result": (maps.source(plate, "result"), 4), "matte": (maps.source(plate, "matte_map"), 1)}
        if backdrop == "plate":
            sources["plate"] = (maps.plate_source(plate, frame), scene.plate_channels(plate))
            sources["foreground"] = (maps.source(plate, "foreground"), 3)
        folder = maps.map_folder(plate)

        def work(reporter: Reporter) -> _Parts:
            planes = {name: origin.read(count, reporter.on_main) for name, (origin, count) in sources.items()}
            matte = planes["matte"]
            front, behind = planes["result"][..., :3], None
            if backdrop == "plate":
                whole = scene.over_black(planes["plate"])
                share, behind = plates.behind_subject(whole, planes["foreground"], matte)
                front = front - share
            elif own is not None:
                behind = scene.backdrop_pixels(own, matte.shape, reporter.on_main)
                front = front - behind * (1.0 - matte[..., None])
            reporter.progress(0.5, "grain")
            front = np.maximum(front, 0.0)
            kept: dict[str, Pixels] = {"relit": np.dstack([front, matte])}
            grain = 0.0
            if behind is not None:
                grain = plates.grain_to_add(front, behind, matte)
                kept["backdrop_map"] = np.dstack([behind, np.ones_like(matte)])
            kept["grain"] = plates.grain_picture(*matte.shape, seed=frame or 0)
            return _Parts(mapfiles.write_maps(folder, kept, frame), grain)

        return f"Compositing {plate.name}", work

    def finish(self, context: Any, value: _Parts) -> None:
        """Place the group."""
        home, plate = _found(self._uid)
        maps.attach(plate, value.files)
        pictures = {"Relit": plate.relit, "Grain Picture": plate.grain}
        if "backdrop_map" in value.files:
            pictures["Backdrop"] = plate.backdrop_map
        else:  # that of an earlier composite
            plate.backdrop_map = None
        state = home.platelight
        settings = {"Edge": state.edge, "Light Wrap": state.light_wrap, "Wrap Size": state.wrap_size}
        settings["Grain"] = value.grain * state.grain
        compositor.place_group(home, pictures, settings, frames_of(plate))
        session.say(f"The compositor has {plate.name}, with grain of {value.grain:.2g}.")


class PLATELIGHT_OT_save_composite(RenderOperator, bpy.types.Operator):
    """Render the Platelight Composite group and save it with all maps and passes as one multilayer EXR"""

    bl_idname = "platelight.save_composite"
    bl_label = "Save Composite"

    filepath: bpy.props.StringProperty(
        name="File",
        description="The .exr file; empty puts it beside Output, named .comp.exr",
        subtype="FILE_PATH",
    )

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs the group."""
        if not (idle(cls) and has_scene(cls, context)):
            return False
        return active_plate(context.scene.platelight).relit is not None or refuse(
            cls, "Set up the compositor first"
        )

    def setup(self, context: Any, target: Path) -> AbstractContextManager[Any]:
        """A scene of its own with the group alone."""
        state = context.scene.platelight
        plate = active_plate(state)
        self._uid = plate.uid
        name = self.filepath or (str(Path(state.output).with_suffix(".comp.exr")) if state.output else "")
        if not name:
            raise wire.InputError("No file is chosen.", "Choose an Output in the Composite panel.")
        self._saved = Path(bpy.path.abspath(name))
        frame = self._frame = maps.current_frame(plate)
        if frame is not None:
            self._saved = scene.numbered(self._saved, frame)
        setup = CompositeSetup(context.scene, plate, target)
        self.scene_name = setup.name
        return setup

    def digest(self, _context: Any) -> Callable[[Path], mapfiles.Files]:
        """The composite with everything else into one file."""
        _, plate = _found(self._uid)
        frame, folder, saved = self._frame, maps.map_folder(plate), self._saved
        sources = {
            name: (maps.source(plate, name, frame), count)
            for name, count in _LAYERS.items()
            if getattr(plate, name) is not None
        }
        relit = maps.source(plate, "relit", frame)

        def read(path: Path) -> mapfiles.Files:
            picture = read_combined(path)
            layers = {"": picture, "relit": relit.read(4)}
            for name, (origin, count) in sources.items():
                layers[_NAMES.get(name, name)] = origin.read(count)
            exr.write(saved, layers, {"platelight:version": wire.version})
            return mapfiles.write_maps(folder, {"composite": picture}, frame)

        return read

    def take(self, _context: Any, files: mapfiles.Files) -> str:
        """Keep the composite."""
        _, plate = _found(self._uid)
        maps.attach(plate, files)
        return f"Saved {self._saved.name}."


CLASSES = (PLATELIGHT_OT_composite, PLATELIGHT_OT_save_composite)
