"""Refine: maps with Cycles' passes, or with light and lamps, go to the backend; the finished picture comes back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import bpy
import numpy as np

from .. import exr, images, lamps, light, mapfiles, maps, preferences, remote, scene, wire
from ..jobs import Reporter, Work
from ..modal import JobOperator
from ..plate_properties import PLANES
from ..properties import active_plate, plate_by_uid
from ..session import session
from .common import has_scene, idle, refuse

_CHANNELS = {
    "foreground": 3,
    "matte": 1,
    "normal": 3,
    "albedo": 3,
    "roughness": 1,
    "reflectivity": 1,
    "cavity": 1,
    "depth": 1,
}


class _Refined(NamedTuple):
    files: mapfiles.Files
    meta: dict[str, Any]


def _target(
    scene: Any, plate: Any, taken: tuple[wire.Place, ...]
) -> Callable[[mapfiles.OnMain], light.Target] | None:
    """The light that goes along: the chosen one, several where they were ``taken`` at places, without an HDRI the World's
    color; None where all is dark."""
    state = scene.platelight
    if state.hdri or state.light_from != "HDRI" or state.backdrop == "light":
        return light.for_backend(scene, plate, full=state.backdrop == "light", taken=taken)
    if state.physics == "CYCLES":  # the passes have it
        return None
    pixels = light.world_pixels(scene)
    return (lambda _on_main: light.Target({"light": pixels}, 0.0, 0.0)) if pixels.any() else None


class PLATELIGHT_OT_refine(JobOperator, bpy.types.Operator):
    """Finish the physical render with the neural refiner: the rendered preview, or what the backend renders itself"""

    bl_idname = "platelight.refine"
    bl_label = "Refine"
    bl_options = {"REGISTER", "UNDO"}

    filepath: bpy.props.StringProperty(
        name="File",
        description="Where to save the result: .exr with its layers, or .png as displayed; empty takes the panel's",
        subtype="FILE_PATH",
    )

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a rendered preview, unless the backend renders."""
        if not (idle(cls) and has_scene(cls, context)):
            return False
        state = context.scene.platelight
        if state.physics == "BACKEND" or active_plate(state).diffuse_pass is not None:
            return True
        return refuse(cls, "Render the preview first, or set Renderer to Backend")

    def prepare(self, context: Any) -> tuple[str, Work]:
        """Find maps, passes and light, and copy the options."""
        state = context.scene.platelight
        plate = active_plate(state)
        self._uid = plate.uid
        frame = self._frame = maps.current_frame(plate)
        by_backend = state.physics == "BACKEND"
        self._shifted = by_backend and any(scene.lens_shift(plate))
        sources = {}
        if not by_backend:
            sources["diffuse"] = (maps.source(plate, "diffuse_pass"), 3)
            sources["specular"] = (maps.source(plate, "specular_pass"), 3)
        if plate.source_light is not None:
            sources["source_light"] = (maps.source(plate, "source_light"), 3)
        backdrop = state.backdrop
        if backdrop == "plate":
            sources["plate"] = (maps.plate_source(plate, frame), scene.plate_channels(plate))
        behind = scene.backdrop_source(state.backdrop_path, plate, frame) if backdrop == "given" else None
        # Cycles' passes have the light of the scene where each facet is.
        taken = light.places(context.scene, plate) if by_backend else ()
        target = _target(context.scene, plate, taken)
        options: dict[str, Any] = {
            "backdrop": backdrop,
            "strength": state.strength,
            "working_size": plate.working_size,
            "fov": scene.field_of_view(plate),
        }
        if by_backend:
            options["places"] = taken
            options["lamps"] = lamps.for_backend(context.scene, plate)
            options["distance"] = lamps.distance(context.scene, plate)
            options["shadows"] = "on" if state.shadows else "off"
            if target is None and not options["lamps"]:
                raise wire.InputError("Nothing lights the plate.", "Choose an HDRI, or add a lamp.")
        else:
            options["composite_only"] = True  # the passes are here already
        kind = wire.Relight if by_backend else wire.Refine
        for plane in wire.maps_of(kind(**options)):
            if plane != "cavity" or plate.cavity is not None:
                sources[plane] = (maps.source(plate, PLANES[plane]), _CHANNELS[plane])
        name, folder = plate.name, maps.map_folder(plate)
        wanted = self.filepath or state.output
        self._picture = None
        saved = Path(bpy.path.abspath(wanted)) if wanted else None
        if saved is not None and frame is not None:
            saved = scene.numbered(saved, frame)
        if saved is not None and saved.suffix.lower() != ".exr":
            scene.check_picture(saved)
            self._picture, saved = saved, None
        notes: dict[str, exr.Attribute] = {
            "platelight:version": wire.version,
            "platelight:plate": plate.filepath,
        }
        settings = preferences.settings()
        process = session.backend = remote.ensure_backend(settings, session.backend)
        session.other_backend = process is None

        def work(reporter: Reporter) -> _Refined:
            planes = {
                plane: origin.read(count, reporter.on_main, widen=False)
                for plane, (origin, count) in sources.items()
            }
            if "plate" in planes:
                planes["plate"] = scene.over_black(planes["plate"])
            shape = planes["normal"].shape[:2]
            if not by_backend and planes["diffuse"].shape[:2] != shape:
                raise wire.InputError(
                    f"The preview of {name} has another size than its maps.", "Render it again."
                )
            if behind is not None:
                planes["backdrop"] = scene.backdrop_pixels(behind, shape, reporter.on_main)
            if target is not None:
                lights, options["rotation"], options["exposure"] = target(reporter.on_main)
                planes.update(lights)
            answer = remote.ask(settings, process, kind(**options), planes, reporter)
            kept = {"result": answer.planes["relit"]}
            if by_backend:
                planes["diffuse"], planes["specular"] = answer.planes["diffuse"], answer.planes["specular"]
                kept["diffuse_pass"], kept["specular_pass"] = planes["diffuse"], planes["specular"]
                matte = planes["matte"][..., None]
                kept["preview"] = np.dstack([answer.planes["pbr"] * matte, matte])
            if saved is not None:
                layers = {"": answer.planes["relit"]}
                layers["pbr"] = np.add(planes["diffuse"], planes["specular"], dtype=np.float32)
                layers["diffuse"], layers["specular"] = planes["diffuse"], planes["specular"]
                notes.update({f"platelight:{k}": str(v) for k, v in answer.meta.items()})
                exr.write(saved, layers, notes)
            files = mapfiles.write_maps(folder, kept, frame)
            return _Refined(files, answer.meta)

        return f"Refining {plate.name}", work

    def finish(self, _context: Any, value: _Refined) -> None:
        """Keep the result, and save it as it is displayed where a .png was asked for."""
        found = plate_by_uid(self._uid)
        if found is None:
            raise wire.InputError("The plate was removed while it was refined.", "Load it again.")
        _, plate = found
        maps.attach(plate, value.files)
        if self._picture is not None:
            images.save_displayed(maps.map_pixels(plate, "result", 4, self._frame), self._picture)
        unlike = " The backend left the lens shift of the camera out." if self._shifted else ""
        session.say(f"{plate.name} is refined.{unlike}")


CLASSES = (PLATELIGHT_OT_refine,)
