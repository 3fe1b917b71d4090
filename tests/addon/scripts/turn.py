"""The light turned by dragging, and the shelf of HDRIs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import blender_kit as kit
import bpy
import numpy as np

import blender_addon
from blender_addon import exr, hdris, preferences
from blender_addon.operators.turn import PLATELIGHT_OT_turn_light as Turn

blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
state, ops = scene.platelight, bpy.ops.platelight
out: dict[str, Any] = {}
headers: list[str | None] = []
area = SimpleNamespace(header_text_set=headers.append)
manager = SimpleNamespace(modal_handler_add=lambda _operator: None)
context = SimpleNamespace(scene=scene, area=area, window_manager=manager)
# The operator without Blender around it: its own functions, and events as the window manager sends them.
Hand = type("Hand", (), {name: value for name, value in vars(Turn).items() if callable(value)})


def event(kind: str, x: int = 0, value: str = "PRESS", *, shift: bool = False, ctrl: bool = False) -> Any:
    return SimpleNamespace(type=kind, value=value, mouse_x=x, shift=shift, ctrl=ctrl)


def drag(*events: Any) -> list[Any]:
    hand = Hand()
    hand.invoke(context, event("LEFTMOUSE", 100))
    for each in events:
        answer = hand.modal(context, each)
    return [*answer, round(state.rotation, 4), round(state.exposure, 4)]


def refusal() -> str:
    try:
        ops.turn_light(rotation=1.0)
    except RuntimeError as error:
        return str(error)
    return ""


out["no light"] = refusal()
ops.set_light(filepath=kit.studio_light())
state.light_from = "SCENE"
out["scene"] = refusal()
state.light_from = "HDRI"
state.rotation, state.exposure = 10.0, 1.0
out["escape"] = drag(event("MOUSEMOVE", 300), event("WHEELUPMOUSE"), event("ESC"))
out["done"] = drag(
    event("MOUSEMOVE", 140), event("MOUSEMOVE", 180), event("WHEELDOWNMOUSE"), event("LEFTMOUSE")
)
out["fine"] = drag(event("MOUSEMOVE", 140, shift=True), event("RET"))
out["snap"] = drag(event("MOUSEMOVE", 107, ctrl=True), event("RET"))
out["keyframes off"] = scene.animation_data is None
scene.tool_settings.use_keyframe_insert_auto = True
drag(event("MOUSEMOVE", 120), event("RET"))
out["keyframes on"] = scene.animation_data is not None and scene.animation_data.action is not None
out["header"] = [headers[1], headers[-1]]

shown = hdris.shown("BLENDER", "")
out["carried"] = [len(shown.files), shown.more, all(path.is_file() for path in shown.files)]
out["thumbnail"] = list(hdris.preview(shown.files[0]).image_size)
folder = Path("mine/deeper")
folder.mkdir(parents=True)
for index in range(50):
    exr.write(folder / f"sky_{index:02d}.exr", {"": np.ones((4, 8, 3), np.float32)})
(folder / "readme.txt").touch()
real = preferences.hdri_folders
preferences.hdri_folders = lambda: (Path("mine").resolve(), Path("gone").resolve())
found = hdris.shown("FOLDERS", "")
out["folders"] = [len(found.files), found.more]
out["filter"] = [path.name for path in hdris.shown("FOLDERS", "SKY 07").files]
exr.write("mine/new.exr", {"": np.ones((4, 8, 3), np.float32)})
before = len(hdris.files("FOLDERS"))
ops.refresh_hdris()
out["refresh"] = [before, len(hdris.files("FOLDERS"))]
preferences.hdri_folders = real
blender_addon.unregister()
kit.result(out)
