"""Inside the real Blender: install the extension, then work a plate through the panels and photograph each state.

Operators are started as their buttons start them (``INVOKE_DEFAULT``), keys and mouse come from Blender's event
simulation. Prints ``GUI ...`` lines; ``GUI done`` is the last one of a good run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy

PACKAGE = "bl_ext.user_default.platelight"
WORK = Path("/work")
WAIT = 600.0  # seconds for any one job on a slow machine
begun = time.monotonic()


def say(words: str) -> None:
    print(f"GUI {time.monotonic() - begun:6.1f} {words}", flush=True)


def install() -> None:
    """Before the window: the extension, and no splash."""
    bpy.ops.extensions.package_install_files(
        repo="user_default", filepath=str(WORK / "platelight.zip"), enable_on_install=True
    )
    bpy.context.preferences.view.show_splash = False
    bpy.context.preferences.view.show_developer_ui = False
    bpy.ops.wm.save_userpref()


def window() -> Any:
    return bpy.context.window_manager.windows[0]


def area(kind: str) -> Any:
    return next(a for a in window().screen.areas if a.type == kind)


def region(kind: str, name: str) -> Any:
    return next(r for r in area(kind).regions if r.type == name)


def call(operator: Any, **arguments: Any) -> Any:
    """As a click on its button does."""
    with bpy.context.temp_override(window=window(), area=area("VIEW_3D"), region=region("VIEW_3D", "WINDOW")):
        return operator("INVOKE_DEFAULT", **arguments)


def photograph(name: str) -> None:
    """The whole screen; ``screen.screenshot`` is black in some versions."""
    target = WORK / "shots" / f"{name}.png"
    subprocess.run(["import", "-window", "root", str(target)], check=True)
    say(f"picture {name}")


def key(kind: str) -> None:
    view = region("VIEW_3D", "WINDOW")
    x, y = view.x + view.width // 3, view.y + view.height // 2
    for value in ("PRESS", "RELEASE"):
        window().event_simulate(type=kind, value=value, x=x, y=y)


def drag(x0: int, y0: int, x1: int, y1: int) -> Iterator[float]:
    """Press, move in steps, release."""
    window().event_simulate(type="MOUSEMOVE", value="NOTHING", x=x0, y=y0)
    yield 0.2
    window().event_simulate(type="LEFTMOUSE", value="PRESS", x=x0, y=y0)
    yield 0.2
    for step in range(1, 9):
        window().event_simulate(
            type="MOUSEMOVE", value="NOTHING", x=x0 + (x1 - x0) * step // 8, y=y0 + (y1 - y0) * step // 8
        )
        yield 0.05
    window().event_simulate(type="LEFTMOUSE", value="RELEASE", x=x1, y=y1)
    yield 0.3


def scroll(pages: int) -> None:
    """Move the sidebar's panels."""
    side = region("VIEW_3D", "UI")
    with bpy.context.temp_override(window=window(), area=area("VIEW_3D"), region=side):
        for _ in range(abs(pages)):
            (bpy.ops.view2d.scroll_down if pages > 0 else bpy.ops.view2d.scroll_up)(deltay=300)


def script() -> Iterator[float]:
    """The whole work; yields seconds to wait."""
    session = sys.modules[f"{PACKAGE}.session"].session
    state, ops = bpy.context.scene.platelight, bpy.ops.platelight

    def idle(what: str) -> Iterator[float]:
        started, until = time.monotonic(), time.monotonic() + WAIT
        yield 0.5
        while session.busy:
            assert time.monotonic() < until, f"{what} took more than {WAIT} s"
            yield 0.2
        yield 0.5
        assert not session.is_error, f"{what}: {session.message}"
        say(f"{what}: {time.monotonic() - started:.1f} s. {session.message}")

    for name in ("Cube", "Light", "Camera"):
        bpy.data.objects.remove(bpy.data.objects[name])
    area("PROPERTIES").type = "IMAGE_EDITOR"
    yield 1.0
    view = area("VIEW_3D").spaces.active
    view.show_region_ui = True
    view.show_region_toolbar = False
    view.overlay.show_floor = view.overlay.show_axis_x = view.overlay.show_axis_y = False
    yield 1.0
    side = region("VIEW_3D", "UI")
    yield from drag(side.x, side.y + side.height // 2, side.x - 110, side.y + side.height // 2)
    region("VIEW_3D", "UI").active_panel_category = "Platelight"
    area("VIEW_3D").tag_redraw()
    yield 2.0
    assert region("VIEW_3D", "UI").active_panel_category == "Platelight"
    photograph("1_empty")

    ops.load_plate(filepath=str(WORK / "portrait.png"))
    ops.show_map(name="plate")
    yield 2.0
    photograph("2_loaded")

    # A job that is cancelled by ESC leaves nothing behind.
    assert call(ops.analyse) == {"RUNNING_MODAL"}
    yield 1.0
    photograph("3_analyzing")
    key("ESC")
    until = time.monotonic() + 60
    while session.busy:
        assert time.monotonic() < until, "ESC did not end the job"
        yield 0.2
    yield 0.5
    assert session.message == "Cancelled.", session.message
    assert state.plates[0].normal is None
    say("cancelled by ESC")
    photograph("4_cancelled")

    call(ops.analyse)
    yield from idle("analyze")
    ops.show_map(name="normal")
    yield 3.0
    photograph("5_analyzed")
    ops.set_light(filepath=str(WORK / "forest.exr"))
    call(ops.build_scene)
    yield from idle("build")
    with bpy.context.temp_override(window=window(), area=area("VIEW_3D"), region=region("VIEW_3D", "WINDOW")):
        ops.rendered_view()
    state.samples = 16
    yield 45.0
    photograph("6_built")
    area("VIEW_3D").spaces.active.shading.type = "SOLID"
    bpy.context.preferences.view.render_display_type = "NONE"
    call(ops.render_preview)
    yield from idle("render")
    assert state.plates[0].preview is not None, session.message
    ops.show_map(name="preview")
    scroll(4)
    yield 3.0
    photograph("7_rendered")
    state.backdrop = "light"
    scroll(20)
    call(ops.refine)
    yield 1.0
    photograph("8_refining")
    yield from idle("refine")
    ops.show_map(name="result")
    yield 3.0
    photograph("9_refined")
    state.backdrop = "plate"
    call(ops.refine)
    yield from idle("refine over the plate")
    state.edge, state.light_wrap = 1.0, 0.3
    call(ops.composite)
    yield from idle("composite")
    ops.show_map(name="result")
    area("VIEW_3D").ui_type = "CompositorNodeTree"
    yield 2.0
    nodes = region("NODE_EDITOR", "WINDOW")
    with bpy.context.temp_override(window=window(), area=area("NODE_EDITOR"), region=nodes):
        bpy.ops.node.view_all()
    yield 3.0
    photograph("10_composite")
    area("NODE_EDITOR").ui_type = "VIEW_3D"
    yield 2.0

    # A lamp at its true distance, rendered by the backend with shadows from depth.
    lamp = bpy.data.objects.new("Key", bpy.data.lights.new("Key", "AREA"))
    lamp.data.energy, lamp.data.color, lamp.data.size = 60.0, (1.0, 0.7, 0.4), 0.5
    lamp.location, lamp.rotation_euler = (-1.2, 1.2, 0.8), (1.2, 0.0, -0.9)
    bpy.context.scene.collection.objects.link(lamp)
    state.exposure, state.physics, state.shadows = -2.0, "BACKEND", True
    yield 1.0
    scroll(-40)
    scroll(7)
    yield 1.0
    photograph("11_lamps")
    call(ops.refine)
    yield from idle("refine by the backend")
    scroll(20)
    yield 3.0
    photograph("12_backend")
    lamp.data.spread = 1.0
    try:
        call(ops.refine)
    except RuntimeError as error:
        say(f"refused: {error}".strip())
    assert session.is_error, session.message
    lamp.data.spread = 3.1416
    scroll(-20)
    yield 2.0
    photograph("13_refused")
    assert state.plates[0].result is not None
    bpy.ops.ed.undo()
    yield 1.0
    say("undo survived")
    bpy.ops.wm.save_as_mainfile(filepath=str(WORK / "shot.blend"))
    yield 1.0


def drive() -> None:
    """Run ``script`` from a timer, so that Blender draws and takes events in between."""
    steps = script()

    def tick() -> float | None:
        try:
            return next(steps)
        except StopIteration:
            say("done")
            print("GUI done", flush=True)
            code = 0
        except BaseException:
            traceback.print_exc()
            try:
                photograph("failed")
            finally:
                code = 1
        sys.stdout.flush()
        os._exit(code)

    bpy.app.timers.register(tick, first_interval=3.0)


if __name__ == "__main__":
    install() if sys.argv[-1] == "install" else drive()
