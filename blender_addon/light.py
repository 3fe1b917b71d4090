"""The target light: an HDRI file, a plate's own light, or the light of the scene; as a World, and for the backend."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import bpy
import numpy as np

from . import color, compat, images, latlong, maps, polyhaven, world
from .exr import Pixels
from .mapfiles import OnMain, Source
from .plate_properties import frames_of, is_built
from .wire import InputError, Place, light_planes

# A light wider than this is sent smaller where nobody will look at it directly.
_LIGHT_WIDTH = 2048
BAKED = "Platelight Scene Light"
SUNLESS = "Platelight Light without Sun"
_FACES = "platelight_faces"  # of a baked light: the heading, in radians, of its center column
_UPRIGHT = math.radians(0.1)  # a camera less turned than this looks where the light's center column does


class Target(NamedTuple):
    """Lights for a request: each (h, 2h, 3) in the camera's frame by the name of its plane, and what is still to be applied."""

    lights: dict[str, Pixels]
    rotation: float
    exposure: float


def lender(state: Any) -> Any:
    """The plate whose inferred light is the target.

    Raises:
        InputError: it is gone, or has none.
    """
    plate = next((p for p in state.plates if p.uid == state.light_plate), None)
    if plate is None or plate.source_light is None:
        raise InputError("The plate whose light is used is gone.", "Choose another light.")
    return plate


def lat_long(light: Pixels, name: str) -> Pixels:
    """A picture (h, w, 3) as a light (h, 2h, 3).

    Raises:
        InputError: it is far from twice as wide as high.
    """
    height, width = light.shape[:2]
    if abs(width / height - 2.0) > 0.05:
        raise InputError(f"{name} is {width} by {height}.", "An HDRI has to be twice as wide as high.")
    height = min(height, width // 2)
    return light[:height, : 2 * height]


def file_pixels(path: str) -> Pixels:
    """An HDRI file as (h, 2h, 3), kept for the jobs to come.

    Raises:
        InputError: no picture, far from twice as wide as high, or a download that was damaged since.
    """
    polyhaven.check(Path(path))
    space = color.space_of(Path(bpy.path.abspath(path)))
    light = np.ascontiguousarray(lat_long(images.load_picture(path, space).pixels, path), np.float32)
    images.keep_picture(path, light)
    return light


def target_source(scene: Any) -> Source:
    """Where the chosen light's pixels are, before strength, rotation and exposure.

    Raises:
        InputError: what was chosen is not there.
    """
    state = scene.platelight
    if state.light_from == "PLATE":
        return maps.source(lender(state), "source_light")
    if state.light_from == "SCENE":
        return _taken(state.baked_light)
    if not state.hdri:
        raise InputError("No HDRI is chosen.", "Choose a lat-long picture in the Light panel.")
    return images.picture_source(state.hdri)


def _taken(image: Any) -> Source:
    if image is None:
        raise InputError("The light of the scene was not taken yet.", "Press Match Scene Light.")
    return images.pixel_source(image)


def strength_property(state: Any) -> str | None:
    """The property that is the factor on the chosen light; None where the scene itself says how bright it is."""
    return {"PLATE": "light_gain", "HDRI": "hdri_strength"}.get(state.light_from)


def strength(state: Any) -> np.float32:
    """The factor on the chosen light at the frame that the scene stands at, film exposure included: a baked light has it."""
    name = strength_property(state)
    return np.float32(getattr(state, name) * film(state.id_data) if name else 1.0)


def film(scene: Any) -> float:
    """The factor by which Cycles brightens all that it renders."""
    return float(scene.cycles.film_exposure)


def camera_axes(scene: Any, plate: Any) -> Pixels:
    """The plate's camera's axes as columns (3, 3) in the upright frame that the chosen light's center column faces."""
    camera = plate.camera
    if camera is None:
        return np.eye(3, dtype=np.float32)
    state = scene.platelight
    if state.light_from == "SCENE":
        baked = state.baked_light
        angle = world.heading(camera) if baked is None else baked.get(_FACES, world.heading(camera))
    else:
        angle = world.facing(scene, camera)
    forward = np.array([math.cos(angle), math.sin(angle), 0.0])
    right = np.array([math.sin(angle), -math.cos(angle), 0.0])
    frame = np.stack([right, [0.0, 0.0, 1.0], -forward])
    return np.asarray(frame @ np.array(camera.matrix_world.to_3x3().normalized()), np.float32)


def is_turned(axes: Pixels) -> bool:
    """Whether a camera of :func:`camera_axes` looks elsewhere than along the light's center column, or is tilted."""
    return abs(float(np.trace(axes)) - 3.0) > _UPRIGHT**2


def places(scene: Any, plate: Any) -> tuple[Place, ...]:
    """Where in a plate the several lights of the scene were taken; none where one lights all of it."""
    state = scene.platelight
    if state.light_from != "SCENE" or state.baked_plate != plate.uid:
        return ()
    return tuple(tuple(each.place) for each in state.baked_places)


def for_backend(
    scene: Any, plate: Any, *, full: bool, taken: Sequence[Place] = ()
) -> Callable[[OnMain], Target]:
    """The light as the plate's camera sees it, at most 2048 wide unless ``full``: a function for a job's thread.

    The World is upright, the backend's frame is the camera's: pitch and roll are resampled into the picture.
    ``taken``: what ``places`` said, where the request tells the lights of several apart.

    Raises:
        InputError: as ``target_source``.
    """
    state = scene.platelight
    sources = [target_source(scene)]
    if taken:
        sources = [_taken(each.image) for each in state.baked_places]
    # What the scene sends is the scene's to turn and to brighten.
    rotation, exposure = (0.0, 0.0) if state.light_from == "SCENE" else (state.rotation, state.exposure)
    gain = strength(state)
    axes = camera_axes(scene, plate)
    tilted = is_turned(axes)

    def one(pixels: Source, on_main: OnMain) -> Pixels:
        light = lat_long(pixels.read(3, on_main), pixels.name) * gain
        if not full:
            light = latlong.reduced(light, _LIGHT_WIDTH // 2)
        if tilted:
            return latlong.turned(light, axes, rotation)
        return np.ascontiguousarray(light, np.float32)

    def make(on_main: OnMain) -> Target:
        names = light_planes(taken)
        lights = {name: one(source, on_main) for name, source in zip(names, sources, strict=True)}
        return Target(lights, 0.0 if tilted else rotation, exposure)

    return make


def world_pixels(scene: Any) -> Pixels:
    """The World where no HDRI is chosen, as a light (2, 4, 3) of one color; black where there is none.

    Raises:
        InputError: it is more than one color.
    """
    found = np.zeros((2, 4, 3), np.float32)
    tree = compat.world_nodes(scene.world)
    if scene.world is None:
        return found
    if tree is None:
        return found + color.to_rec709(np.array(scene.world.color, np.float32)) * np.float32(film(scene))
    output = tree.get_output_node("CYCLES")
    links = output.inputs["Surface"].links if output is not None else ()
    if not links:
        return found
    node = links[0].from_node
    if node.type != "BACKGROUND" or any(node.inputs[each].is_linked for each in ("Color", "Strength")):
        raise InputError(
            "The backend does not know the nodes of this World.",
            "Choose an HDRI, or press Match Scene Light.",
        )
    shade = color.to_rec709(np.array(node.inputs["Color"].default_value[:3], np.float32))
    return found + shade * np.float32(node.inputs["Strength"].default_value * film(scene))


def keep_baked(scene: Any, plate: Any, lights: Sequence[tuple[Pixels, Place]], faces: float) -> None:
    """Keep what Match Scene Light photographed, and where in the plate that was: the subject's middle first.

    ``faces`` is the heading that it was photographed along, as ``world.heading``.
    """
    state = scene.platelight
    kept = [each.image for each in state.baked_places][1:]
    state.baked_light = _keep(lights[0][0], BAKED, state.baked_light)
    state.baked_light["platelight_bake"] = state.baked_light.get("platelight_bake", 0) + 1
    state.baked_light[_FACES] = faces
    state.baked_places.clear()
    state.baked_plate = plate.uid
    for number, (pixels, place) in enumerate(lights if len(lights) > 1 else ()):
        added = state.baked_places.add()
        added.place = place
        if number:
            added.image = _keep(pixels, f"{BAKED} {number + 1}", kept.pop(0) if kept else None)
        else:
            added.image = state.baked_light
    for image in filter(None, kept):  # of more places before
        bpy.data.images.remove(image)


def _keep(pixels: Pixels, name: str, existing: Any) -> Any:
    image = images.put_image(name, pixels, data=False, existing=existing)
    image["platelight_unsaved"] = True
    return image


def update_world(scene: Any, plate: Any) -> None:
    """Light the scene with the chosen light, as the plate's camera sees it. The scene's own light stays as it is, and so does
    all that was there where the chosen one cannot be taken.

    Raises:
        InputError: no such file, not a lat-long picture, or no sun in it to be split off.
    """
    state = scene.platelight
    if state.light_from == "SCENE":
        drop_sun(scene)
        return
    if state.light_from == "PLATE":
        lends = lender(state)
        image, frames = lends.source_light, frames_of(lends)
    else:
        image, frames = _file_image(state.hdri), None
    driven = world.Driven(
        "platelight.rotation", "platelight.exposure", f"platelight.{strength_property(state)}"
    )
    if state.split_sun:
        found = target_source(scene)
        sun, rest = latlong.split_sun(lat_long(found.read(3), found.name))
        image, frames = _keep(rest, SUNLESS, world.picture_of(scene, SUNLESS)), None
    drop_sun(scene)
    world.build_world(scene, image, plate.camera, driven_by=driven, frames=frames)
    if state.split_sun:
        state.sun = world.build_sun(scene, sun, plate.camera, state.sun_angle, driven)


def drop_sun(scene: Any) -> None:
    """Take the lamp of a split light out of the scene."""
    lamp = scene.platelight.sun
    if lamp is not None:
        data = lamp.data
        bpy.data.objects.remove(lamp)
        bpy.data.lights.remove(data)


def refresh(scene: Any, plate: Any) -> None:
    """Update the World where a card stands already."""
    if plate is not None and is_built(plate):
        update_world(scene, plate)


def _file_image(name: str) -> Any:
    path = Path(bpy.path.abspath(name))
    if not name or not path.is_file():
        raise InputError(f"{path} is not a file.", "Choose an HDRI that exists.")
    try:
        image = world.load_hdri(str(path))
    except RuntimeError as error:
        raise InputError(
            f"{path} is not a picture that Blender can read.", "Give an EXR or HDR file."
        ) from error
    if image.size[1] == 0 or abs(image.size[0] / image.size[1] - 2.0) > 0.05:
        raise InputError(
            f"{path} is {image.size[0]} by {image.size[1]}.", "An HDRI has to be twice as wide as high."
        )
    return image
