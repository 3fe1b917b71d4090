"""The ``blender --command platelight`` function, called as Blender calls it: arguments are the zip and the options."""

from __future__ import annotations

import json
import sys

import bpy

PACKAGE = "bl_ext.user_default.platelight"
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.extensions.package_install_files(repo="user_default", filepath=sys.argv[1], enable_on_install=True)
command = sys.modules[f"{PACKAGE}.cli"]
codes = [
    command.main(["relight"]),
    command.main(["relight", "missing.png", "--light", "missing.exr", "-o", "out"]),
]
if len(sys.argv) > 2:
    codes.append(command.main(sys.argv[2:]))
print("\nRESULT " + json.dumps(codes), flush=True)
