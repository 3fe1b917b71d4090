"""Before the window: the extension, and no splash."""

import bpy

bpy.ops.extensions.package_install_files(
    repo="user_default", filepath="/work/platelight.zip", enable_on_install=True
)
bpy.context.preferences.view.show_splash = False
bpy.context.preferences.view.show_developer_ui = False
bpy.ops.wm.save_userpref()
