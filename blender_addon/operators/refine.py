"""Refine: maps and Cycles' passes go to the backend, the finished picture comes back."""

from typing import Any

import bpy

from .. import images, light, preferences, remote, scene, wire
from ..jobs import Reporter, Work
from ..modal import JobOperator
from ..properties import PLANES, active_plate, plate_by_uid
from ..session import session
from .common import has_scene, idle, refuse

_CHANNELS = {
    "foreground": 3,
    "matte": 1,
    "normal": 3,
    "albedo": 3,
    "roughness": 1,
    "reflectivity": 1,
    "depth": 1,
}


class PLATELIGHT_OT_refine(JobOperator, bpy.types.Operator):
    """Finish the rendered preview with the neural refiner"""

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
        """Needs a rendered preview."""
        if not (idle(cls) and has_scene(cls, context)):
            return False
        plate = active_plate(context.scene.platelight)
        return plate.diffuse_pass is not None or refuse(cls, "Render the preview first")

    def prepare(self, context: Any) -> tuple[str, Work]:
        """Copy maps, passes, light and options."""
        state = context.scene.platelight
        plate = active_plate(state)
        self._uid = plate.uid
        planes = {plane: scene.map_pixels(plate, PLANES[plane], count) for plane, count in _CHANNELS.items()}
        planes["diffuse"] = scene.map_pixels(plate, "diffuse_pass", 3)
        planes["specular"] = scene.map_pixels(plate, "specular_pass", 3)
        shape = planes["normal"].shape[:2]
        if planes["diffuse"].shape[:2] != shape:
            raise wire.InputError(
                f"The preview of {plate.name} has another size than its maps.", "Render it again."
            )
        if plate.source_light is not None:
            planes["source_light"] = images.image_pixels(plate.source_light)[..., :3].copy()
        target = light.for_backend(context.scene, plate, full=state.backdrop == "light")
        planes["light"] = target.pixels
        if state.backdrop == "plate":
            planes["plate"] = scene.map_pixels(plate, "plate", 3)
        elif state.backdrop == "given":
            planes["backdrop"] = scene.backdrop_pixels(state.backdrop_path, shape)
        request = wire.Refine(
            rotation=target.rotation,
            exposure=target.exposure,
            backdrop=state.backdrop,
            strength=state.strength,
            working_size=plate.working_size,
            fov=scene.field_of_view(plate),
        )
        self._target = self.filepath or state.output
        settings = preferences.settings()
        process = session.backend = remote.ensure_backend(settings, session.backend)

        def work(reporter: Reporter) -> remote.Answer:
            return remote.ask(settings, process, request, planes, reporter)

        return f"Refining {plate.name}", work

    def finish(self, _context: Any, value: remote.Answer) -> None:
        """Keep the result and save it where asked."""
        found = plate_by_uid(self._uid)
        if found is None:
            raise wire.InputError("The plate was removed while it was refined.", "Load it again.")
        _, plate = found
        scene.put_map(plate, "result", value.planes["relit"])
        if self._target:
            layers = {"": value.planes["relit"]}
            if "pbr" in value.planes:
                layers["pbr"] = value.planes["pbr"]
            layers["diffuse"] = scene.map_pixels(plate, "diffuse_pass", 3)
            layers["specular"] = scene.map_pixels(plate, "specular_pass", 3)
            notes: dict[str, str | int | float] = {
                "platelight:version": wire.version,
                "platelight:plate": plate.filepath,
            }
            notes.update({f"platelight:{k}": str(v) for k, v in value.meta.items()})
            scene.save_picture(self._target, plate.result, layers, notes)
        session.say(f"{plate.name} is refined.")


CLASSES = (PLATELIGHT_OT_refine,)
