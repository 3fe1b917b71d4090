"""Install Backend from the zip itself, without dependencies and without network. Argument: the zip."""

from __future__ import annotations

import json
import sys

import bpy

PACKAGE = "bl_ext.user_default.platelight"
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.extensions.package_install_files(repo="user_default", filepath=sys.argv[1], enable_on_install=True)
installer, preferences, wire = (
    sys.modules[f"{PACKAGE}.{name}"] for name in ("installer", "preferences", "wire")
)
folder = preferences.user_folder() / "backend"
bundled = sys.modules[f"{PACKAGE}.ui.draw"].bundled()
out: dict[str, object] = {"before": installer.install_state(folder, *bundled)}
bpy.context.preferences.system.use_online_access = False
try:
    bpy.ops.platelight.install_backend()
except RuntimeError as error:
    out["offline"] = str(error)
bpy.context.preferences.addons[PACKAGE].preferences.install_options = "--no-index --no-deps"
out["installed"] = sorted(bpy.ops.platelight.install_backend())
out["after"] = installer.install_state(folder, *bundled)
out["version"] = installer.installed_version(folder) == wire.version
out["inside"] = str(installer.environment_python(folder)).startswith(str(preferences.user_folder()))
print("\nRESULT " + json.dumps(out), flush=True)
