"""The preferences: drawn, pairing with a server, cache, tooltips, and why buttons are gray.

Arguments: the zip, and endpoint and public key of a server that knows this computer already.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import bpy
from fake_layout import Layout

PACKAGE = "bl_ext.user_default.platelight"
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.extensions.package_install_files(repo="user_default", filepath=sys.argv[1], enable_on_install=True)
preferences, session, mapfiles, maps, wire, jobs = (
    sys.modules[f"{PACKAGE}.{name}"]
    for name in ("preferences", "session", "mapfiles", "maps", "wire", "jobs")
)
session = session.session
own, ops = preferences.own(), bpy.ops.platelight
endpoint, server_key = sys.argv[2:4]
out: dict[str, Any] = {}


def sentence(operator: Any, **arguments: Any) -> str:
    try:
        operator(**arguments)
    except RuntimeError as error:
        return str(error).strip()
    return ""


def drawn() -> str:
    texts: list[str] = []
    importlib.import_module(f"{PACKAGE}.ui.preferences").draw(Layout(texts), own)
    return " | ".join(texts)


# Every property of ours has a tooltip, with its unit where it is a measure.
UNIT = re.compile(
    r"\bmm\b|pixel|degree|stop|EV|frame|second|sample|factor|share|GiB|0 to 1|rows|how much|how far|number|place in|angle",
    re.I,
)
groups: list[Any] = [
    getattr(bpy.types, name).bl_rna
    for name in dir(bpy.types)
    if "platelight" in name.lower()
    and not name.startswith(("PLATELIGHT_PT_", "PLATELIGHT_UL_", "PLATELIGHT_MT_"))
]
groups += [type(own).bl_rna, type(bpy.context.scene.platelight).bl_rna]
groups += [bpy.context.scene.platelight.bl_rna.properties["plates"].fixed_type]
groups += [getattr(ops, name).get_rna_type() for name in dir(ops)]
no_tooltip, no_unit, no_item = set(), set(), set()
counted = 0
for group in groups:
    inherited = set(bpy.types.Operator.bl_rna.properties.keys()) | {"rna_type", "name"}
    for item in group.properties:
        if item.identifier in inherited or item.is_hidden or item.identifier.startswith(("bl_", "filter_")):
            continue
        counted += 1
        where = f"{group.identifier}.{item.identifier}"
        if not item.description and item.type not in {"POINTER", "COLLECTION"}:
            no_tooltip.add(where)
        if item.type in {"FLOAT", "INT"} and item.unit == "NONE" and not UNIT.search(item.description):
            no_unit.add(where)
        if item.type == "ENUM":
            no_item |= {
                f"{where}.{choice.identifier}" for choice in item.enum_items if not choice.description
            }
out["tooltips"] = [sorted(no_tooltip), sorted(no_unit), sorted(no_item), counted]


def silent() -> list[str]:
    """Operators that are gray without a reason."""
    found = []
    for name in dir(ops):
        operator = getattr(ops, name)
        if not operator.poll():
            told = sentence(operator)
            if "poll()" not in told or "context is incorrect" in told:
                found.append(f"{name}: {told}")
    return found


out["silent"] = {"empty": silent()}
job = session.job = jobs.Job("Analyzing", lambda reporter: None)
job.state = jobs.JobState.RUNNING
out["silent"]["busy"] = silent()
session.job = None

out["own"] = drawn()
own.endpoint = endpoint
out["stranger"] = [drawn(), sentence(ops.test_backend)]
out["facts before"] = session.facts is None
out["bad key"] = sentence(ops.pair, key="short")
own.endpoint = "host"
out["bad address"] = sentence(ops.pair, key=server_key)
own.endpoint = endpoint
out["other key"] = [sentence(ops.pair, key=wire.public_key()), sentence(ops.test_backend)]
out["paired"] = [
    sentence(ops.pair, key=f" '{server_key}' "),
    drawn(),
    sentence(ops.test_backend),
    session.message,
]
out["facts"] = [*session.facts.devices, session.facts.memory]
ops.copy_key()
out["forgotten"] = [sentence(ops.forget_backend), sentence(ops.forget_backend)]

# The cache: three folders of 1 MB, ten, two and no days old.
root = preferences.user_folder()
for index, days in enumerate((10, 2, 0)):
    folder = root / "maps" / "plate" / str(index)
    folder.mkdir(parents=True)
    (folder / "albedo.exr").write_bytes(bytes(1_000_000))
    moment = time.time() - days * 86400 - 60
    os.utime(folder / "albedo.exr", (moment, moment))
left = lambda: sorted(path.name for path in (root / "maps" / "plate").iterdir())  # noqa: E731
session.cache_bytes = None
drawn()
out["used"] = session.cache_bytes
trimmed = [mapfiles.trim(root, set(), 2_500_000), left()]
kept = [mapfiles.trim(root, {root / "maps" / "plate" / "1"}, 1), left()]
out["trim"] = [*trimmed, *kept]
ops.clear_cache()
out["cleared"] = left()
downloads = root / "polyhaven" / "hdris"
downloads.mkdir(parents=True)
for name in ("used.exr", "used.exr.sha256", "old.exr", "old.exr.sha256"):
    (downloads / name).write_bytes(b"x")
mapfiles.clear(root, {downloads / "used.exr"})
out["downloads"] = sorted(path.name for path in downloads.iterdir())
own.cache_gib = 0.0
out["no quota"] = preferences.cache_quota()
folder = Path("hdris")
folder.mkdir()
out["folders"] = [
    sentence(ops.add_hdri_folder, directory="nowhere"),
    sentence(ops.add_hdri_folder, directory=str(folder.resolve())),
    sentence(ops.add_hdri_folder, directory=str(folder.resolve())),
    len(own.hdri_folders),
    folder.resolve() in preferences.hdri_folders(),
]
drawn()
out["folders"] += [sentence(ops.remove_hdri_folder, index=0), len(own.hdri_folders)]
out["shortcuts"] = sorted(
    f"{keymap.name}: {item.to_string()}"
    for keymap in bpy.context.window_manager.keyconfigs.addon.keymaps
    for item in keymap.keymap_items
    if item.idname == "platelight.turn_light"
)
print("\nRESULT " + json.dumps(out), flush=True)
