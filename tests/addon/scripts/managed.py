"""Start and stop a backend by the operators; argument: the zip. PLATELIGHT_BACKEND names the Python that has it."""

from __future__ import annotations

import json
import sys

import bpy
from addon_utils import disable, enable

PACKAGE = "bl_ext.user_default.platelight"
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.extensions.package_install_files(repo="user_default", filepath=sys.argv[1], enable_on_install=True)
session = sys.modules[f"{PACKAGE}.session"].session
remote, preferences = sys.modules[f"{PACKAGE}.remote"], sys.modules[f"{PACKAGE}.preferences"]
ops = bpy.ops.platelight


def reachable() -> bool:
    return bool(remote.reachable(preferences.settings()))


seen = [["before", reachable(), ops.stop_backend.poll()]]
started = sorted(ops.start_backend())
first = session.backend.pid
seen.append(["started", reachable(), ops.start_backend.poll(), str(session.backend.state)])
ops.stop_backend()
seen.append(["stopped", reachable(), ops.start_backend.poll()])
ops.start_backend()
second = session.backend.pid
seen.append(["again", reachable(), second != first])
disable(PACKAGE)
seen.append(["disabled", session.backend is None])
enable(PACKAGE)
again = sys.modules[f"{PACKAGE}.session"].session
ops.start_backend()
third = again.backend.pid  # Blender ends with it running
print(
    "\nRESULT " + json.dumps({"seen": seen, "started": started, "pids": [first, second, third]}), flush=True
)
