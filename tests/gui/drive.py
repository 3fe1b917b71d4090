"""Inside the real Blender: work a plate through the panels, from loading to the compositor, and photograph each state."""

from __future__ import annotations

import time
from collections.abc import Iterator

import bpy
import gui_kit as kit


def script() -> Iterator[float]:
    """The whole work; yields seconds to wait."""
    state, ops = bpy.context.scene.platelight, bpy.ops.platelight

    yield from kit.open_sidebar()
    yield from kit.widen(110)
    kit.photograph("1_empty")

    ops.load_plate(filepath=str(kit.WORK / "portrait.png"))
    ops.show_map(name="plate")
    yield from kit.picture("2_loaded")

    # A job that is cancelled by ESC leaves nothing behind.
    assert kit.call(ops.analyse) == {"RUNNING_MODAL"}
    yield 1.0
    kit.photograph("3_analyzing")
    kit.key("ESC")
    until = time.monotonic() + 60
    while kit.session().busy:
        assert time.monotonic() < until, "ESC did not end the job"
        yield 0.2
    yield 0.5
    assert kit.session().message == "Cancelled.", kit.session().message
    assert state.plates[0].normal is None
    kit.say("cancelled by ESC")
    yield from kit.picture("4_cancelled")

    kit.call(ops.analyse)
    yield from kit.ended("analyze")
    ops.show_map(name="normal")
    yield from kit.picture("5_analyzed")
    ops.set_light(filepath=str(kit.WORK / "forest.exr"))
    kit.call(ops.build_scene)
    yield from kit.ended("build")
    with bpy.context.temp_override(
        window=kit.window(), area=kit.area("VIEW_3D"), region=kit.region("VIEW_3D", "WINDOW")
    ):
        ops.rendered_view()
    state.samples = 16
    yield 45.0
    kit.photograph("6_built")
    kit.area("VIEW_3D").spaces.active.shading.type = "SOLID"
    bpy.context.preferences.view.render_display_type = "NONE"
    kit.call(ops.render_preview)
    yield from kit.ended("render")
    assert state.plates[0].preview is not None, kit.session().message
    ops.show_map(name="preview")
    kit.scroll(4)
    yield from kit.picture("7_rendered")
    state.backdrop = "light"
    kit.scroll(20)
    kit.call(ops.refine)
    yield 1.0
    kit.photograph("8_refining")
    yield from kit.ended("refine")
    ops.show_map(name="result")
    yield from kit.picture("9_refined")
    state.backdrop = "plate"
    kit.call(ops.refine)
    yield from kit.ended("refine over the plate")
    state.edge, state.light_wrap = 1.0, 0.3
    kit.call(ops.composite)
    yield from kit.ended("composite")
    ops.show_map(name="result")
    kit.area("VIEW_3D").ui_type = "CompositorNodeTree"
    yield 2.0
    nodes = kit.region("NODE_EDITOR", "WINDOW")
    with bpy.context.temp_override(window=kit.window(), area=kit.area("NODE_EDITOR"), region=nodes):
        bpy.ops.node.view_all()
    yield from kit.picture("10_composite")
    kit.area("NODE_EDITOR").ui_type = "VIEW_3D"
    yield 2.0

    # A lamp at its true distance, rendered by the backend with shadows from depth.
    lamp = bpy.data.objects.new("Key", bpy.data.lights.new("Key", "AREA"))
    lamp.data.energy, lamp.data.color, lamp.data.size = 60.0, (1.0, 0.7, 0.4), 0.5
    lamp.location, lamp.rotation_euler = (-1.2, 1.2, 0.8), (1.2, 0.0, -0.9)
    bpy.context.scene.collection.objects.link(lamp)
    state.exposure, state.physics, state.shadows = -2.0, "BACKEND", True
    yield 1.0
    kit.scroll(-40)
    kit.scroll(7)
    yield 1.0
    kit.photograph("11_lamps")
    kit.call(ops.refine)
    yield from kit.ended("refine by the backend")
    kit.scroll(20)
    yield from kit.picture("12_backend")
    lamp.data.spread = 1.0
    try:
        kit.call(ops.refine)
    except RuntimeError as error:
        kit.say(f"refused: {error}".strip())
    assert kit.session().is_error, kit.session().message
    lamp.data.spread = 3.1416
    yield 1.0
    kit.scroll(20)
    yield from kit.picture("13_refused")
    assert state.plates[0].result is not None
    bpy.ops.ed.undo()
    yield 1.0
    kit.say("undo survived")
    bpy.ops.wm.save_as_mainfile(filepath=str(kit.WORK / "shot.blend"))
    yield 1.0


kit.drive(script())
