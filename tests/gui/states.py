"""Inside the real Blender: what the panels look like when something is amiss or many things are there.

The backend's job function is a stand-in that needs no networks (``tests/addon/scripts/addon_job.py``); the window is tall, so
that the whole sidebar is in each picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import bpy
import gui_kit as kit

SLOW = 41.0  # field of view by which the stand-in takes its time


def refused(operator: Any, words: str, **arguments: Any) -> None:
    """The operator fails with a sentence that has these words."""
    try:
        kit.call(operator, **arguments)
    except RuntimeError as error:
        kit.say(f"refused: {error}".strip())
    assert kit.session().is_error, f"{operator} was not refused"
    assert words in kit.session().message, kit.session().message


def lamps() -> None:
    """Four of the kinds that light the plate, two of them in a collection."""
    group = bpy.data.collections.new("Stage")
    bpy.context.scene.collection.children.link(group)
    for index, kind in enumerate(("POINT", "SUN", "SPOT", "AREA")):
        lamp = bpy.data.objects.new(kind.title(), bpy.data.lights.new(kind.title(), kind))
        lamp.location = (index - 1.5, 0.5, 1.0)
        (group if index < 2 else bpy.context.scene.collection).objects.link(lamp)
    bpy.context.scene.platelight.lamp_collection = group


def without_backend(own: Any) -> Iterator[float]:
    """Nothing answers, a program that is none, nothing to load."""
    ops = bpy.ops.platelight
    ops.load_plate(filepath=str(kit.WORK / "portrait.png"))
    own.endpoint = "tcp://127.0.0.1:9"
    own.start_backend = False
    refused(ops.analyse, "No backend answers")
    yield from kit.picture("s01_backend_off")
    own.endpoint, own.start_backend = "", True
    refused(ops.use_footage, "has no", kind="IMAGE", name="gone")
    yield from kit.picture("s02_footage_gone")
    try:
        ops.load_plate(filepath=str(kit.WORK / "gone" / "plate.1001.exr"))
    except RuntimeError as error:
        kit.say(f"refused: {error}".strip())
    assert kit.session().is_error, "a missing plate was loaded"
    yield from kit.picture("s03_plate_missing")


def sequence(state: Any) -> Iterator[float]:
    """Numbered files: Analyze Range cancelled, done, a frame that was not analyzed, Relight Range."""
    ops = bpy.ops.platelight
    ops.load_plate(filepath=str(kit.WORK / "shot" / "shot.1001.png"), sequence=True)
    plate = state.plates[state.active]
    bpy.context.scene.frame_set(1001)
    plate.matte, plate.fov = "full", SLOW
    kit.call(ops.analyse, whole_range=True)
    yield from kit.picture("s04_range_under_way")
    kit.call(ops.cancel)
    yield from kit.ended("cancelled")
    assert kit.session().message == "Cancelled.", kit.session().message
    yield from kit.picture("s05_range_cancelled")
    plate.matte, plate.fov, plate.frame_last = "auto", 40.0, 1002
    kit.call(ops.analyse, whole_range=True)
    yield from kit.ended("range analyzed")
    plate.frame_last = 1003
    ops.set_light(filepath=str(kit.WORK / "forest.exr"))
    kit.call(ops.build_scene)
    yield from kit.ended("built")
    state.samples = 1
    yield from kit.picture("s06_range_without_output")
    state.output = str(kit.WORK / "relit.####.exr")
    state.physics = "BACKEND"
    kit.call(ops.relight_range)
    yield from kit.ended("a gap in the range", well=False)
    yield from kit.picture("s07_range_with_a_gap")
    assert "1003" in kit.session().message, kit.session().message
    plate.frame_last = 1002
    kit.call(ops.relight_range)
    yield 1.0
    yield from kit.picture("s08_range_refining")
    yield from kit.ended("range")
    # By Cycles, while the user looks at other frames.
    state.physics, state.output = "CYCLES", str(kit.WORK / "cycles.####.png")
    kit.call(ops.relight_range)
    for frame in (1002, 1001, 1003):
        yield 1.0
        bpy.context.scene.frame_set(frame)
    yield from kit.picture("s08_range_by_cycles")
    yield from kit.ended("range by Cycles")
    assert kit.session().message == "The range is relit.", kit.session().message
    for frame in (1001, 1002):
        assert (kit.WORK / f"cycles.{frame}.png").is_file(), frame
    assert not (kit.WORK / "cycles.1003.png").exists()
    state.physics = "BACKEND"


def light(state: Any) -> Iterator[float]:
    """Several lamps, a plate's light, the scene's light, a backdrop that is gone."""
    ops = bpy.ops.platelight
    lamps()
    state.lamps = "COLLECTION"
    state.split_sun = True
    yield from kit.picture("s09_lamps")
    state.lamps, state.split_sun = "ALL", False
    ops.use_plate_light(name=state.plates[state.active].name)
    plate = state.plates[state.active]
    plate.shadow_proxy = True
    state.backdrop, state.backdrop_path = "given", str(kit.WORK / "gone.exr")
    refused(ops.refine, "gone.exr")
    yield from kit.picture("s10_plates_light")
    state.light_from, state.backdrop = "SCENE", "plate"
    refused(ops.refine, "not taken yet")
    yield from kit.picture("s11_scenes_light")
    state.light_from = "HDRI"


def preferences(own: Any) -> Iterator[float]:
    """The extension's own, of a backend here and of one elsewhere."""
    bpy.context.preferences.active_section = "ADDONS"
    bpy.context.window_manager.addon_search = "Platelight"
    kit.area("VIEW_3D").ui_type = "PREFERENCES"
    yield 1.0
    bpy.ops.preferences.addon_expand(module=kit.PACKAGE)
    yield from kit.picture("s12_preferences")
    own.endpoint = "tcp://render.example:7777"
    yield from kit.picture("s13_preferences_elsewhere")
    own.endpoint = ""
    kit.area("PREFERENCES").ui_type = "VIEW_3D"


def script() -> Iterator[float]:
    """All states; yields seconds to wait."""
    own = bpy.context.preferences.addons[kit.PACKAGE].preferences
    state = bpy.context.scene.platelight
    yield from kit.open_sidebar()
    yield from without_backend(own)
    yield from sequence(state)
    yield from light(state)
    bpy.context.preferences.view.language = "de_DE"
    bpy.context.preferences.view.use_translate_interface = True
    yield from kit.picture("s14_german")
    bpy.context.preferences.view.language = "en_US"
    yield 1.0
    yield from preferences(own)


kit.drive(script())
