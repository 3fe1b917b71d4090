"""Analyze: the plate goes to the backend, its maps come back."""

import json
from typing import Any

import bpy

from .. import preferences, remote, scene, wire
from ..jobs import Reporter, Work
from ..modal import JobOperator
from ..properties import active_plate, plate_by_uid
from ..session import session
from .common import has_plate, idle


class PLATELIGHT_OT_analyse(JobOperator, bpy.types.Operator):
    """Take the plate apart into normal, albedo, roughness, reflectivity, depth, matte and its own light"""

    bl_idname = "platelight.analyse"
    bl_label = "Analyze"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a plate and no other job."""
        return idle(cls) and has_plate(cls, context)

    def prepare(self, context: Any) -> tuple[str, Work]:
        """Copy the plate and the options."""
        plate = active_plate(context.scene.platelight)
        if plate is None:
            raise wire.InputError("This scene has no plate.", "Load one first.")
        self._uid = plate.uid
        planes = {"plate": scene.map_pixels(plate, "plate", 3)}
        if plate.matte == "given":
            planes["matte"] = scene.given_matte(plate, planes["plate"].shape[:2])
        request = wire.Decompose(
            matte=plate.matte, working_size=plate.working_size, fov=scene.field_of_view(plate)
        )
        settings = preferences.settings()
        process = session.backend = remote.ensure_backend(settings, session.backend)

        def work(reporter: Reporter) -> remote.Answer:
            return remote.ask(settings, process, request, planes, reporter)

        return f"Analyzing {plate.name}", work

    def finish(self, _context: Any, value: remote.Answer) -> None:
        """Keep the maps, if the plate is still there."""
        found = plate_by_uid(self._uid)
        if found is None:
            raise wire.InputError("The plate was removed while it was analyzed.", "Load it again.")
        _, plate = found
        scene.keep_maps(plate, value.planes)
        plate.notes = json.dumps(value.meta, default=str)
        session.say(f"{plate.name} is analyzed.")


CLASSES = (PLATELIGHT_OT_analyse,)
