"""A range of frames: each rendered and refined in turn."""

from typing import Any

import bpy

from .. import maps, scene, wire
from ..modal import TICK, redraw
from ..properties import active_plate
from ..session import session
from .common import has_scene, idle, refuse, told


class PLATELIGHT_OT_relight_range(bpy.types.Operator):
    """Render and refine every frame of the plate; each result goes to the Output file with its frame's number"""

    bl_idname = "platelight.relight_range"
    bl_label = "Relight Range"

    _steps: Any = None
    _timer: Any = None
    _home: str = ""

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs a sequence that stands in the scene, and a place for the results."""
        if not (idle(cls) and has_scene(cls, context)):
            return False
        state = context.scene.platelight
        if not active_plate(state).is_sequence:
            return refuse(cls, "The plate is a single picture; use Render Preview and Refine")
        return bool(state.output) or refuse(cls, "Choose an Output file")

    def _plan(self, context: Any) -> Any:
        """Yield the operators to be called, each once the one before has ended; the scene is at its frame then."""
        self._home, uid = context.scene.name, active_plate(context.scene.platelight).uid

        def at(frame: int) -> tuple[Any, Any]:
            """The scene's settings and the plate, shown, chosen and at a frame, whatever the user did meanwhile."""
            home = bpy.data.scenes.get(self._home)
            plates = home.platelight.plates if home is not None else ()
            index = next((number for number, plate in enumerate(plates) if plate.uid == uid), None)
            if home is None or index is None:
                raise wire.InputError("The plate was removed while its range was relit.", "Load it again.")
            if bpy.context.scene != home:
                raise wire.InputError(
                    "Another scene was chosen while the range was relit.",
                    f"Show {home.name} and start again.",
                )
            home.platelight.active = index
            home.frame_set(frame)
            return home.platelight, plates[index]

        plate = active_plate(context.scene.platelight)
        frames = range(plate.frame_first, plate.frame_last + 1)
        for frame in frames:  # what lacks is told now, not after hours
            maps.source(plate, "albedo", frame)
        for number, frame in enumerate(frames, 1):
            session.series = (frame, number, len(frames))
            state, plate = at(frame)
            if plate.shadow_proxy and state.physics == "CYCLES":
                scene.build_proxy(
                    plate, *(maps.map_pixels(plate, name, 1, frame) for name in ("depth", "matte_map"))
                )
            if state.light_from == "SCENE":
                yield bpy.ops.platelight.match_scene_light
            if at(frame)[0].physics == "CYCLES":
                yield bpy.ops.platelight.render_preview
            at(frame)
            yield bpy.ops.platelight.refine

    @told
    def execute(self, context: Any) -> set[str]:
        """Do all frames and wait."""
        before = context.scene.frame_current
        try:
            for operator in self._plan(context):
                if operator() != {"FINISHED"}:
                    return {"CANCELLED"}
        finally:
            session.series = None
            self._leave(before)
        session.say("The range is relit.")
        return {"FINISHED"}

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Do all frames, Blender stays responsive in between."""
        if bpy.app.background or context.window is None:
            return self.execute(context)
        self._before = context.scene.frame_current
        self._steps = self._plan(context)
        self._timer = session.add_timer(context, TICK)
        context.window_manager.modal_handler_add(self)
        session.say("")
        return {"RUNNING_MODAL"}

    def modal(self, context: Any, event: Any) -> set[str]:
        """Start the next step when the one before has ended well."""
        if event.type != "TIMER" or session.busy or bpy.app.is_job_running("RENDER"):
            return {"PASS_THROUGH"}
        if session.is_error or session.message == "Cancelled.":
            return self._over(context, {"CANCELLED"})
        try:
            operator = next(self._steps, None)
            if operator is None:
                session.say("The range is relit.")
                return self._over(context, {"FINISHED"})
            operator("INVOKE_DEFAULT")
        except (wire.PlatelightError, RuntimeError) as error:
            session.fail(self, str(error))
            self.report({"ERROR"}, str(error))
            return self._over(context, {"CANCELLED"})
        return {"PASS_THROUGH"}

    def cancel(self, context: Any) -> None:
        """Blender ends the operator itself."""
        self._over(context, set())

    def _over(self, context: Any, result: set[str]) -> set[str]:
        session.drop_timer(self._timer)
        self._timer = session.series = None
        self._leave(self._before)
        redraw()
        return result

    def _leave(self, frame: int) -> None:
        home = bpy.data.scenes.get(self._home)
        if home is not None:
            home.frame_set(frame)


CLASSES = (PLATELIGHT_OT_relight_range,)
