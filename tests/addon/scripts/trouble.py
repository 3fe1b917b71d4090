"""What may happen while a job or a render is under way: ESC, undo, a plate that goes, another file, the extension switched off,
the server killed. The operators are the real ones with the real server; the window manager's part is played here."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import blender_kit as kit
import bpy
import numpy as np

import blender_addon
from blender_addon import exr, modal, plate_properties, render_modal
from blender_addon.modal import JobOperator
from blender_addon.operators.analyse import PLATELIGHT_OT_analyse as Analyse
from blender_addon.operators.render import PLATELIGHT_OT_render_preview as Render
from blender_addon.render_modal import RenderOperator
from blender_addon.session import session

SLOW = 41.0  # see addon_job.py
timers: list[object] = []
reports: list[str] = []
levels: list[float] = []


def window_manager() -> Any:
    def add(_seconds: float, window: Any) -> object:
        timers.append(object())
        return timers[-1]

    return SimpleNamespace(
        event_timer_add=add,
        event_timer_remove=timers.remove,
        modal_handler_add=lambda _operator: None,
        windows=(),
    )


def context() -> Any:
    return SimpleNamespace(scene=bpy.context.scene, window=object(), window_manager=manager)


def play(kind: type, mixin: type) -> Any:
    """An operator without Blender around it: its own functions and a place for its reports."""
    own = {name: value for name, value in vars(kind).items() if callable(value) or name == "_job"}
    settings = {"report": lambda _self, _kind, text: reports.append(text), "filepath": "", "samples": 0}
    return type("Played", (mixin,), {**settings, "whole_range": False, "neutral": False, **own})()


def event(kind: str = "TIMER") -> Any:
    return SimpleNamespace(type=kind, value="PRESS")


def run(operator: Any, during: Callable[[], Any] = lambda: None, limit: float = 60.0) -> list[Any]:
    """Invoke, let it get on, do ``during``, and look until it ends: [result, message, seconds after, state is clean]."""
    operator.invoke(context(), event())
    until = time.monotonic() + limit
    while session.job is not None and session.job.fraction < 0.01 and time.monotonic() < until:
        operator.modal(context(), event())
        time.sleep(0.01)
    during()
    began = time.monotonic()
    answer = {"PASS_THROUGH"}
    while answer & {"PASS_THROUGH", "RUNNING_MODAL"} and time.monotonic() < until:
        answer = operator.modal(context(), event())
        time.sleep(0.01)
    clean = not session.busy and not timers and not session.timers and not session.undoing
    return [*answer, session.message, time.monotonic() - began, clean]


def fresh() -> Any:
    """A file with one plate, another each time: the server keeps results."""
    levels.append(0.2 + 0.05 * len(levels))
    exr.write("shot.exr", {"": np.full((24, 32, 3), levels[-1], np.float32)})
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.platelight.load_plate(filepath=str(Path("shot.exr").resolve()))
    plate = bpy.context.scene.platelight.plates[0]
    plate.fov = SLOW
    return plate


manager = window_manager()
modal.bpy = SimpleNamespace(
    app=SimpleNamespace(background=False, is_job_running=lambda _kind: False),
    context=SimpleNamespace(window_manager=manager),
)
blender_addon.register()
out: dict[str, Any] = {}

played: list[Any] = [None]


def analyse(during: Callable[[], Any]) -> list[Any]:
    played[0] = play(Analyse, JobOperator)
    return run(played[0], during)


def undo() -> None:
    bpy.ops.ed.undo()


fresh()
out["escape"] = analyse(lambda: played[0].modal(context(), event("ESC")))
out["no maps"] = plate_properties.is_analysed(bpy.context.scene.platelight.plates[0])
out["cancel"] = analyse(bpy.ops.platelight.cancel)
out["removed"] = analyse(bpy.ops.platelight.remove_plate)
fresh()
out["loaded"] = analyse(lambda: bpy.ops.wm.read_factory_settings(use_empty=True))
fresh().fov = 40.0
bpy.ops.ed.undo_push(message="loaded")
bpy.context.scene.frame_end = 77
bpy.ops.ed.undo_push(message="changed")
out["undone"] = [*analyse(undo), bpy.context.scene.frame_end]
out["maps after undo"] = plate_properties.is_analysed(bpy.context.scene.platelight.plates[0])
fresh()
out["killed"] = analyse(lambda: os.kill(session.backend.pid, signal.SIGKILL))
bpy.context.scene.platelight.plates[0].fov = 40.0
out["after the kill"] = analyse(lambda: None)
pid = session.backend.pid
fresh()
out["switched off"] = analyse(blender_addon.unregister)
try:
    os.kill(pid, 0)
    out["server ended"] = False
except ProcessLookupError:
    out["server ended"] = True
blender_addon.register()
fresh().fov = 40.0
out["on again"] = analyse(lambda: None)

# Renders: Blender's own job is played, what the operator changes for it is real.
render_modal.bpy = SimpleNamespace(
    context=bpy.context,
    app=SimpleNamespace(background=False, handlers=bpy.app.handlers, is_job_running=lambda _kind: False),
    ops=SimpleNamespace(render=SimpleNamespace(render=lambda *_args, **_options: {"RUNNING_MODAL"})),
)
bpy.ops.platelight.set_light(filepath=kit.studio_light())
bpy.ops.platelight.build_scene()
scene = bpy.context.scene
bpy.ops.mesh.primitive_plane_add()
bystander = bpy.context.object.name
scene.render.filepath, scene.cycles.samples, scene.render.resolution_percentage = "/mine", 5, 50
handlers = len(bpy.app.handlers.render_complete) + len(bpy.app.handlers.render_cancel)


def settings() -> list[Any]:
    there = bpy.context.scene
    thing = bpy.data.objects.get(bystander)
    left = len(bpy.app.handlers.render_complete) + len(bpy.app.handlers.render_cancel) - handlers
    return [
        there.render.filepath,
        there.cycles.samples,
        there.render.resolution_percentage,
        there.render.image_settings.file_format,
        thing is None or thing.visible_camera,
        left,
    ]


before = settings()
changed: list[Any] = []


def render(during: Callable[[], Any]) -> list[Any]:
    operator = play(Render, RenderOperator)

    def and_cancel() -> None:
        changed[:] = settings()
        during()
        for function in list(bpy.app.handlers.render_cancel):
            function(None)

    return [*run(operator, and_cancel, 20.0), settings() == before]


out["render"] = render(lambda: None)
begin, busy = render_modal.bpy.ops.render, render_modal.bpy.app.is_job_running
begun = begin.render
out["refused"] = []
for answer, running in (({"CANCELLED"}, False), ({"RUNNING_MODAL"}, True)):
    begin.render, render_modal.bpy.app.is_job_running = (
        (lambda *_a, _r=answer, **_o: _r),
        (lambda _k, _r=running: _r),
    )
    ended = play(Render, RenderOperator).invoke(context(), event())
    out["refused"].append([sorted(ended), session.rendering, settings() == before, session.message])
begin.render, render_modal.bpy.app.is_job_running = begun, busy
out["changed for it"] = changed != before
bpy.ops.ed.undo_push(message="before")
bpy.context.scene.frame_end = 88
bpy.ops.ed.undo_push(message="after")
out["render undone"] = render(undo)
out["render plate removed"] = render(bpy.ops.platelight.remove_plate)
bpy.context.scene.render.resolution_x = 100
fresh().fov = 40.0
analyse(lambda: None)
bpy.ops.platelight.set_light(filepath=kit.studio_light())
bpy.ops.platelight.build_scene()
bpy.context.scene.render.filepath = "/mine"
played_render = play(Render, RenderOperator)
played_render.invoke(context(), event())
renamed = bpy.context.scene.render.filepath
blender_addon.unregister()
out["render switched off"] = [
    renamed != "/mine",
    bpy.context.scene.render.filepath,
    len(timers),
    len(session.undoing),
]
kit.result(out)
