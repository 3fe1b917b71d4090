"""Inside the real Blender: the two panels that begin closed. HDRIs that are here; Poly Haven offline, searched, downloading."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import bpy
import gui_kit as kit
from haven import ASSETS, Haven


def thumbnail(picture: Path) -> bytes:
    """A PNG as Poly Haven gives one, of an HDRI."""
    image = bpy.data.images.load(str(picture))
    image.scale(256, 128)
    target = picture.with_suffix(".png")
    image.save_render(str(target))
    bpy.data.images.remove(image)
    return target.read_bytes()


def poly_haven() -> Haven:
    """A stand-in for polyhaven.com that pauses in the middle of each file."""
    haven = Haven()
    threading.Thread(target=haven.serve_forever, daemon=True).start()
    os.environ["PLATELIGHT_POLYHAVEN"] = haven.address
    small = [thumbnail(kit.WORK / name) for name in ("forest.exr", "sunset.exr")]
    haven.pictures = {name: small[index % 2] for index, name in enumerate(sorted(ASSETS))}
    haven.content = (kit.WORK / "sunset.exr").read_bytes()
    return haven


def script() -> Iterator[float]:
    """All states; yields seconds to wait."""
    state, ops, system = bpy.context.scene.platelight, bpy.ops.platelight, bpy.context.preferences.system
    kit.unfold("shelf", "library")
    yield from kit.open_sidebar()
    yield 8.0  # Blender makes the thumbnails in the background
    system.use_online_access = False
    yield from kit.picture("h1_hdris_of_blender")
    state.shelf = "FOLDERS"
    yield from kit.picture("h2_hdris_none")
    ops.add_hdri_folder(directory=str(kit.WORK))
    yield 4.0
    yield from kit.picture("h3_hdris_in_a_folder")
    system.use_online_access = True
    haven = poly_haven()
    kit.call(ops.browse_hdris)
    yield from kit.ended("search")
    yield from kit.picture("h4_poly_haven_found")
    haven.pause, state.browse_resolution = 12.0, "1k"
    kit.call(ops.download_hdri, name="dusk")
    yield from kit.picture("h5_poly_haven_downloading")
    haven.pause, haven.damage = 0.0, 2
    yield from kit.ended("download")
    kit.call(ops.download_hdri, name="night_city")
    yield from kit.ended("damaged download", well=False)
    assert "damaged twice" in kit.session().message, kit.session().message
    yield from kit.picture("h6_poly_haven_damaged")
    state.shelf = "DOWNLOADED"
    ops.refresh_hdris()
    ops.set_light(filepath=state.hdri)
    yield from kit.picture("h7_hdris_downloaded")
    assert state.hdri.endswith("dusk_1k.exr"), state.hdri


kit.drive(script())
