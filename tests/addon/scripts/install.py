"""Install the built zip as a user would, register, unregister, register, remove: what is left behind?"""

from __future__ import annotations

import os
import sys
from typing import Any

import bpy
from addon_utils import disable, enable

PACKAGE = "bl_ext.user_default.platelight"


def traces() -> dict[str, list[str]]:
    """Everything of ours that Blender knows."""
    handlers = bpy.app.handlers
    found: dict[str, list[str]] = {
        "classes": [name for name in dir(bpy.types) if "latelight" in name.lower()],
        "subclasses": [
            cls.__name__
            for base in (bpy.types.Panel, bpy.types.Operator, bpy.types.PropertyGroup, bpy.types.UIList)
            for cls in base.__subclasses__()
            if "PLATELIGHT" in cls.__name__.upper() and getattr(cls, "is_registered", False)
        ],
        "properties": [name for name in dir(bpy.types.Scene) if "platelight" in name],
        "operators": [name for name in dir(bpy.ops.platelight) if not name.startswith("_")],
        "handlers": [
            f"{name}.{function.__module__}"
            for name in dir(handlers)
            if isinstance(getattr(handlers, name), list)
            for function in getattr(handlers, name)
            if "platelight" in getattr(function, "__module__", "")
        ],
        "timers": [
            function.__name__
            for module in [sys.modules.get(f"{PACKAGE}.instant")]
            for function in vars(module or _None).values()
            if callable(function) and bpy.app.timers.is_registered(function)
        ],
        "keymaps": [
            item.idname
            for keymap in (bpy.context.window_manager.keyconfigs.addon or _None()).keymaps
            for item in keymap.keymap_items
            if "platelight" in item.idname
        ],
    }
    return found


class _None:
    keymaps: tuple[Any, ...] = ()


def wheels_loaded() -> dict[str, str]:
    """Where the bundled modules come from, after they were needed."""
    wire = sys.modules[f"{PACKAGE}.wire"]
    wire.local_endpoint()
    return {name: str(sys.modules[name].__file__) for name in ("zmq", "msgspec")}


bpy.ops.wm.read_factory_settings(use_empty=True)
clean = traces()
installed = bpy.ops.extensions.package_install_files(
    repo="user_default", filepath=sys.argv[1], enable_on_install=True
)
first = traces()
wheels = wheels_loaded()
vendored = sys.modules[f"{PACKAGE}.wire"].Decompose.__module__
disable(PACKAGE)
between = traces()
enable(PACKAGE)
second = traces()
module = sys.modules[PACKAGE]
for _ in range(3):
    module.unregister()
    module.register()
third = traces()
disable(PACKAGE, default_set=True)
last = traces()
removed = (
    bpy.ops.extensions.package_uninstall(repo_index=_index, pkg_id="platelight")
    if (
        _index := next(
            (
                i
                for i, repo in enumerate(bpy.context.preferences.extensions.repos)
                if repo.module == "user_default"
            ),
            None,
        )
    )
    is not None
    else {"NO REPO"}
)
print(
    "\nRESULT "
    + __import__("json").dumps(
        {
            "version": list(bpy.app.version),
            "installed": sorted(installed),
            "clean": clean,
            "first": first,
            "between": between,
            "second": second,
            "third": third,
            "last": last,
            "removed": sorted(removed),
            "wheels": wheels,
            "vendored": vendored,
            "resources": os.environ["BLENDER_USER_RESOURCES"],
        }
    ),
    flush=True,
)
