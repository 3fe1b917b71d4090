"""Inside the real Blender: a .blend whose plate is a sequence and whose light's exposure is keyed, for ``render``."""

import bpy

for thing in list(bpy.data.objects):  # what Blender starts with
    bpy.data.objects.remove(thing)
ops, state = bpy.ops.platelight, bpy.context.scene.platelight
ops.load_plate(filepath="/work/shot/shot.1001.png", sequence=True, last=1003)
ops.set_light(filepath="/work/forest.exr")
state.samples = 2
for frame, state.exposure in ((1001, 0.0), (1003, 2.0)):
    state.keyframe_insert("exposure", frame=frame)
bpy.ops.wm.save_as_mainfile(filepath="/work/keyed.blend")
