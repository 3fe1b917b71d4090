"""Search and take an HDRI by the operators. Argument: the zip; PLATELIGHT_POLYHAVEN is a local server."""

from __future__ import annotations

import json
import sys

import bpy

PACKAGE = "bl_ext.user_default.platelight"
bpy.ops.wm.read_factory_settings(use_empty=True)
bpy.ops.extensions.package_install_files(repo="user_default", filepath=sys.argv[1], enable_on_install=True)
browser = sys.modules[f"{PACKAGE}.browser"]
state, ops = bpy.context.scene.platelight, bpy.ops.platelight
bpy.context.preferences.system.use_online_access = False
out: dict[str, object] = {"offline": [ops.browse_hdris.poll(), ops.download_hdri.poll()]}
bpy.context.preferences.system.use_online_access = True
state.browse_category, state.browse_resolution = "urban", "1k"
ops.browse_hdris()
out["found"] = [hdri.id for hdri in browser.page.hdris]
out["pictures"] = sorted(path.name for path in browser.page.pictures.values())  # icons of them need a window
ops.download_hdri(name="dusk")
out["light"] = state.hdri
print("\nRESULT " + json.dumps(out), flush=True)
