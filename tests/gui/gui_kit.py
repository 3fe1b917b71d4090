"""What the scripts in a real Blender's window share: clicks, keys, photographs, and a timer that runs a script.

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


def picture(name: str) -> Iterator[float]:
    """Photograph once panels have moved to where they belong, which takes several drawings."""
    for _ in range(4):
        for each in window().screen.areas:
            each.tag_redraw()
        yield 0.7
    photograph(name)


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


def session() -> Any:
    """The extension's own record of what is under way."""
    return sys.modules[f"{PACKAGE}.session"].session


def ended(what: str, *, well: bool = True) -> Iterator[float]:
    """Wait until no job is under way; with ``well`` it must not have failed."""
    started, until = time.monotonic(), time.monotonic() + WAIT
    yield 0.5
    while session().busy:
        assert time.monotonic() < until, f"{what} took more than {WAIT} s"
        yield 0.2
    yield 0.5
    assert session().is_error != well, f"{what}: {session().message}"
    say(f"{what}: {time.monotonic() - started:.1f} s. {session().message}")


def open_sidebar() -> Iterator[float]:
    """Clear the scene; the sidebar on our tab, an Image Editor at its right."""
    for name in ("Cube", "Light", "Camera"):
        bpy.data.objects.remove(bpy.data.objects[name])
    area("PROPERTIES").type = "IMAGE_EDITOR"
    yield 1.0
    view = area("VIEW_3D").spaces.active
    view.show_region_ui = True
    view.show_region_toolbar = False
    view.overlay.show_floor = view.overlay.show_axis_x = view.overlay.show_axis_y = False
    yield 1.0
    region("VIEW_3D", "UI").active_panel_category = "Platelight"
    area("VIEW_3D").tag_redraw()
    yield 2.0
    assert region("VIEW_3D", "UI").active_panel_category == "Platelight"


def widen(pixels: int) -> Iterator[float]:
    """Drag the sidebar's edge."""
    side = region("VIEW_3D", "UI")
    yield from drag(side.x, side.y + side.height // 2, side.x - pixels, side.y + side.height // 2)


def unfold(*steps: str) -> None:
    """Have panels begin open that begin closed, before the sidebar is seen: Blender has no call that opens one."""
    for step in steps:
        panel = getattr(bpy.types, f"PLATELIGHT_PT_view3d_{step}")
        bpy.utils.unregister_class(panel)
        panel.bl_options = set()
        bpy.utils.register_class(panel)


def drive(steps: Iterator[float]) -> None:
    """Run a script from a timer, so that Blender draws and takes events in between; it yields seconds to wait."""

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
