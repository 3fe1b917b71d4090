"""Runs in a Blender of its own: reads movie frames for ``movies.py``, so that decoding never holds the user's Blender.

A request is a line of JSON on standard input (``path``, ``frame`` from 1, ``space``, ``out``), the answer a line on standard output.
Pixels go to ``out`` as .npy, (H, W, 4), bottom row first: uint8 codes of 8-bit movies, else linear float32.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Color

MARK = "PLATELIGHT "
IDLE = 60.0  # seconds without a request after which this process ends
_last = time.monotonic()
_open: tuple[str, str] = ("", "")


def _watch() -> None:
    while time.monotonic() - _last < IDLE:
        time.sleep(1.0)
    os._exit(0)


def _texture(path: str, space: str) -> Any:
    """A texture over the movie: evaluating it makes Blender decode the frame that its image user names."""
    global _open
    if _open == (path, space):
        return bpy.data.textures[0]
    _open = ("", "")
    for texture in list(bpy.data.textures):
        bpy.data.images.remove(texture.image)
        bpy.data.textures.remove(texture)
    image = bpy.data.images.load(path, check_existing=False)
    if image.source != "MOVIE" or 0 in image.size:
        bpy.data.images.remove(image)
        raise RuntimeError("it holds no picture")
    if space != "auto":
        image.colorspace_settings.name = space
    texture = bpy.data.textures.new("movie", "IMAGE")
    texture.image = image
    for costly in ("use_mipmap", "use_interpolation"):  # 5.2 has no mipmaps any more
        if hasattr(texture, costly):
            setattr(texture, costly, False)
    texture.image_user.frame_start, texture.image_user.use_auto_refresh = 1, False
    texture.image_user.frame_duration = image.frame_duration
    _open = (path, space)
    return texture


def _rec709(flat: Any) -> Any:
    """Floats as this Blender holds them, which may work in another space, in linear Rec.709; as ``color.py``, which is the other's."""
    rows = np.array([Color(axis).from_scene_linear_to_rec709_linear() for axis in np.eye(3)], np.float32)
    pixels = flat.reshape(-1, 4)
    pixels[:, :3] = pixels[:, :3] @ rows
    return flat


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Decode one frame into ``out`` and say what it is."""
    texture = _texture(request["path"], request["space"])
    image = texture.image
    if not 1 <= request["frame"] <= image.frame_duration:
        return {"error": f"has no frame {request['frame']}, it has {image.frame_duration}"}
    texture.image_user.frame_current = request["frame"]
    texture.evaluate((0.0, 0.0, 0.0))
    width, height = image.size
    flat = np.empty(width * height * 4, np.float32)
    image.pixels.foreach_get(flat)
    kept = _rec709(flat) if image.is_float else np.rint(flat * 255.0).astype(np.uint8)
    np.save(Path(request["out"]), kept.reshape(height, width, 4), allow_pickle=False)
    return {"space": image.colorspace_settings.name, "alpha": image.depth in {32, 64, 128}}


def main() -> None:
    """Serve until standard input ends."""
    global _last
    threading.Thread(target=_watch, daemon=True).start()
    print(MARK + "{}", flush=True)
    for line in sys.stdin:
        _last = time.monotonic() + 3600.0  # not while one is decoded
        try:
            said = answer(json.loads(line))
        except Exception as error:  # the boundary of this process: told, and the next request is heard
            said = {"error": f"cannot be read: {str(error).strip()}"}
        print(MARK + json.dumps(said), flush=True)
        _last = time.monotonic()
    os._exit(0)


if __name__ == "__main__":
    main()
