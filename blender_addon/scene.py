"""What operators do to a scene: plates in, planes out, card and world built, passes read."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from . import card, compat, exr, images, light, materials, proxy, world
from .exr import Pixels
from .properties import MAPS, PLANES, is_analysed
from .wire import InputError

_TITLES = {name: (title, data) for name, title, data in MAPS}
PASSES = (
    "use_pass_diffuse_direct",
    "use_pass_diffuse_indirect",
    "use_pass_diffuse_color",
    "use_pass_glossy_direct",
    "use_pass_glossy_indirect",
    "use_pass_glossy_color",
)


def put_map(plate: Any, name: str, plane: Pixels) -> Any:
    """Keep an array as one of a plate's images, replacing what was there."""
    title, data = _TITLES[name]
    image = images.put_image(f"{plate.name} {title}", plane, data=data, existing=getattr(plate, name))
    image["platelight"] = plate.uid
    image["platelight_unsaved"] = True
    if not bpy.app.background:
        image.preview_ensure()  # panels may only draw it
    setattr(plate, name, image)
    return image


def map_pixels(plate: Any, name: str, channels: int) -> Pixels:
    """A plate's map as (H, W) for one channel, else (H, W, channels).

    Raises:
        InputError: the map is gone.
    """
    image = getattr(plate, name)
    if image is None or image.size[0] == 0:
        raise InputError(f"{plate.name} has no {_TITLES[name][0].lower()}.", "Analyze the plate again.")
    pixels = images.image_pixels(image)
    return np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels[..., :channels])


def load_plate(scene: Any, path: str, name: str = "", colorspace: str = "auto") -> Any:
    """Read a picture, add it to the scene's plates and make it the active one.

    Raises:
        InputError: not a picture that can be read.
    """
    picture = images.load_picture(path, colorspace)
    state = scene.platelight
    plate = state.plates.add()
    plate.uid = uuid.uuid4().hex
    plate.name = name or Path(path).stem
    plate.filepath = path
    plate.colorspace = colorspace
    height, width = picture.pixels.shape[:2]
    plate.width, plate.height = width, height
    pixels = picture.pixels
    if picture.alpha is not None:
        pixels = np.dstack([pixels, picture.alpha])
    put_map(plate, "plate", pixels)
    state.active = len(state.plates) - 1
    return plate


def remove_plate(scene: Any, index: int) -> None:
    """Take a plate out of the scene with the images and objects that were made for it."""
    plate = scene.platelight.plates[index]
    if plate.collection is not None:
        for thing in list(plate.collection.objects):
            if thing.get("platelight") == plate.uid:
                bpy.data.objects.remove(thing)
        bpy.data.collections.remove(plate.collection)
    if plate.material is not None:
        bpy.data.materials.remove(plate.material)
    for name, _, _ in MAPS:
        image = getattr(plate, name)
        if image is not None and image.get("platelight") == plate.uid:
            bpy.data.images.remove(image)
    scene.platelight.plates.remove(index)
    scene.platelight.active = max(0, min(scene.platelight.active, len(scene.platelight.plates) - 1))


def field_of_view(plate: Any) -> float:
    """Horizontal field of view in degrees, from the user's own camera where there is one.

    Raises:
        InputError: what was chosen is no camera.
    """
    if plate.own_camera is not None:
        if plate.own_camera.type != "CAMERA":
            raise InputError(f"{plate.own_camera.name} is not a camera.", "Choose a camera, or none.")
        return float(np.degrees(plate.own_camera.data.angle_x))
    return float(plate.fov)


def given_matte(plate: Any, shape: tuple[int, ...]) -> Pixels:
    """The matte that the user gives: a file, else the plate's alpha; (H, W) in [0, 1].

    Raises:
        InputError: there is neither, or the file has another shape than the plate.
    """
    if plate.matte_path:
        picture = images.load_picture(plate.matte_path)
        matte = picture.pixels.mean(axis=2) if picture.alpha is None else picture.alpha
        if matte.shape != shape:
            raise InputError(
                f"{plate.matte_path} is {matte.shape[1]} by {matte.shape[0]}, the plate is {shape[1]} by {shape[0]}.",
                "Give a matte of the plate's size.",
            )
        return np.clip(matte, 0.0, 1.0).astype(np.float32)
    alpha = map_pixels(plate, "plate", 4)[..., 3]
    if float(alpha.min()) >= 1.0:
        raise InputError(f"{plate.name} has no alpha.", "Choose a matte file, or auto.")
    return np.clip(alpha, 0.0, 1.0)


def keep_maps(plate: Any, planes: dict[str, Pixels]) -> None:
    """Keep the planes of a decomposition as the plate's images."""
    for plane, name in PLANES.items():
        if plane in planes:
            put_map(plate, name, planes[plane])


def build(scene: Any, plate: Any) -> None:
    """Camera, material, card and world for a plate; a second call updates them in place.

    Raises:
        InputError: the plate has no maps yet, or the HDRI is gone.
    """
    if not is_analysed(plate):
        raise InputError(f"{plate.name} has no maps yet.", "Analyze it first.")
    state = scene.platelight
    if plate.collection is None:
        plate.collection = bpy.data.collections.new(f"Platelight {plate.name}")
        scene.collection.children.link(plate.collection)
    if plate.own_camera is not None:
        plate.camera = plate.own_camera
    else:
        mine = (
            plate.camera if plate.camera is not None and plate.camera.get("platelight") == plate.uid else None
        )
        plate.camera = world.build_camera(f"{plate.name} Camera", plate.fov, plate.collection, mine)
        plate.camera["platelight"] = plate.uid
    put_map(plate, "specular_map", materials.specular_plane(map_pixels(plate, "reflectivity", 1)))
    pictures = {
        "albedo": plate.albedo,
        "normal": plate.normal,
        "roughness": plate.roughness,
        "specular": plate.specular_map,
        "matte": plate.matte_map,
    }
    plate.material = materials.build_material(f"{plate.name} Material", pictures, plate.material)
    depth, matte = map_pixels(plate, "depth", 1), map_pixels(plate, "matte_map", 1)
    solid = depth[matte > 0.5]
    middle = float(np.median(solid)) if solid.size else float(np.median(depth))
    plate.card = card.build_card(
        f"{plate.name} Card",
        card.CardSettings(
            plate.width,
            plate.height,
            field_of_view(plate),
            plate.facet_size,
            plate.distance / max(middle, 1e-6),
        ),
        normal=plate.normal,
        depth=plate.depth,
        matte=plate.matte_map,
        material=plate.material,
        camera=plate.camera,
        collection=plate.collection,
        existing=plate.card,
    )
    plate.card["platelight"] = plate.uid
    plate.card["platelight_depth_scale"] = plate.distance / max(middle, 1e-6)
    build_proxy(plate, depth, matte)
    scene.camera = plate.camera
    scene.render.engine = compat.engine_id(state.engine)
    scene.render.resolution_x, scene.render.resolution_y = plate.width, plate.height
    scene.render.resolution_percentage = 100
    scene.render.film_transparent = True
    scene.cycles.samples = state.samples
    for name in PASSES:
        setattr(bpy.context.view_layer if scene == bpy.context.scene else scene.view_layers[0], name, True)
    if state.hdri or state.light_from != "HDRI":
        light.update_world(scene, plate)


def build_proxy(plate: Any, depth: Pixels, matte: Pixels) -> None:
    """Make, update or remove the plate's shadow proxy, as its setting says."""
    if not plate.shadow_proxy:
        if plate.proxy is not None:
            mesh = plate.proxy.data
            bpy.data.objects.remove(plate.proxy)
            bpy.data.meshes.remove(mesh)
        return
    plate.proxy = proxy.build_proxy(
        f"{plate.name} Proxy",
        proxy.ProxySettings(
            field_of_view(plate),
            plate.card["platelight_depth_scale"],
            plate.relief,
            plate.roundness,
            plate.self_shadow,
        ),
        depth,
        matte,
        maps={
            "albedo": plate.albedo,
            "roughness": plate.roughness,
            "depth": plate.depth,
            "matte": plate.matte_map,
        },
        camera=plate.camera,
        collection=plate.collection,
        existing=plate.proxy,
    )
    plate.proxy["platelight"] = plate.uid


def subject_width(plate: Any) -> float:
    """Width of the subject in scene units at the plate's distance, from the matte."""
    matte = map_pixels(plate, "matte_map", 1)
    columns = np.nonzero((matte > 0.5).any(axis=0))[0]
    if not columns.size:
        raise InputError("The matte has no solid pixel.", "Analyze the plate again with another matte.")
    share = (columns[-1] - columns[0] + 1) / matte.shape[1]
    return float(2.0 * np.tan(np.radians(field_of_view(plate)) / 2) * share * plate.distance)


def read_passes(path: Path) -> tuple[Pixels, Pixels, Pixels]:
    """Combined (H, W, 4) premultiplied, diffuse and specular (H, W, 3) straight, from Cycles' multilayer EXR.

    Denoising touches Combined alone. The card is lit by nothing but lights, so diffuse plus specular is
    Combined: both are scaled to the denoised sum where the ratio is sane.
    """
    layers = exr.read(path).layers

    def of(key: str) -> Pixels:
        plane: Pixels = compat.pass_channels(layers, key)
        return plane

    combined = of("combined")
    diffuse = (of("diffuse_direct") + of("diffuse_indirect"))[..., :3] * of("diffuse_color")[..., :3]
    specular = (of("glossy_direct") + of("glossy_indirect"))[..., :3] * of("glossy_color")[..., :3]
    total = diffuse + specular
    ratio = np.clip(np.where(total > 1e-5, combined[..., :3] / np.maximum(total, 1e-5), 1.0), 0.5, 2.0)
    alpha = combined[..., 3:4]
    straight = np.where(alpha > 1e-3, ratio / np.maximum(alpha, 1e-3), 0.0)
    return combined, (diffuse * straight).astype(np.float32), (specular * straight).astype(np.float32)


def keep_passes(plate: Any, path: Path) -> None:
    """Keep what Cycles rendered as the plate's preview and passes.

    Raises:
        InputError: the render lacks the passes.
    """
    try:
        combined, diffuse, specular = read_passes(path)
    except KeyError as error:
        raise InputError(
            f"The render has no {error.args[0]} pass.", "Build the scene again, with Cycles."
        ) from error
    put_map(plate, "preview", combined)
    put_map(plate, "diffuse_pass", diffuse)
    put_map(plate, "specular_pass", specular)


def backdrop_pixels(path: str, shape: tuple[int, ...]) -> Pixels:
    """The backdrop picture (H, W, 3) at the plate's size.

    Raises:
        InputError: no such picture.
    """
    pixels = images.load_picture(path).pixels
    if pixels.shape[:2] == shape:
        return pixels
    scratch = images.put_image("Platelight scratch", pixels, data=False)
    try:
        scratch.scale(shape[1], shape[0])
        return np.ascontiguousarray(images.image_pixels(scratch)[..., :3])
    finally:
        bpy.data.images.remove(scratch)


def save_picture(
    path: str, image: Any, layers: dict[str, Pixels], attributes: dict[str, exr.Attribute]
) -> None:
    """Save a picture: ``.exr`` with its layers in float, ``.png`` as the scene displays it; temp + rename.

    Raises:
        InputError: another kind of file, or a folder that cannot be written.
    """
    target = Path(bpy.path.abspath(path))
    if target.suffix.lower() == ".exr":
        exr.write(target, layers, attributes)
    elif target.suffix.lower() == ".png":
        images.save_displayed(image, target)
    else:
        raise InputError(f"{target} is neither .exr nor .png.", "Choose one of these.")


def pack_maps() -> None:
    """Put images that exist nowhere else into the .blend that is about to be saved."""
    for image in bpy.data.images:
        if image.get("platelight_unsaved"):
            image.pack()
            image["platelight_unsaved"] = False
