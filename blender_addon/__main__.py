"""``python -m blender_addon [FILE.blend] relight|render …`` in a Python with the bpy wheel: Blender's command without Blender."""

import sys
from pathlib import Path

import bpy

from . import cli, register, unregister


def main() -> int:
    """Open the .blend that is named first, if one is, and run the command; returns its exit code."""
    arguments = sys.argv[1:]
    bpy.ops.wm.read_factory_settings(use_empty=True)
    register()
    try:
        if arguments and arguments[0].endswith(".blend"):
            try:
                # Blender's own idea of the current folder is the shell's, not this process's.
                bpy.ops.wm.open_mainfile(filepath=str(Path(arguments.pop(0)).resolve()))
            except RuntimeError as error:
                print(str(error).removeprefix("Error: ").strip(), file=sys.stderr)
                return 2
        return cli.main(arguments)
    finally:
        unregister()


if __name__ == "__main__":
    sys.exit(main())
