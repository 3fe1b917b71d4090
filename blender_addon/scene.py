"""What operators do to a scene: plates in, planes out, card and world built, passes read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from . import card, color, compat, exr, footage, images, lamps, light, materials, proxy, skin, world
from .exr import Pixels
from .lens import Frustum, frustum, stretch
from .mapfiles import OnMain, Source
from .maps import is_untouched, map_pixels, plate_source, put_map
from .plate_properties import PLANES, frames_of, is_analysed, stands
from .wire import InputError

PASSES = (
    "use_pass_diffuse_direct",
    "use_pass_diffuse_indirect",
    "use_pass_diffuse_color",
    "use_pass_glossy_direct",
    "use_pass_glossy_indirect",
    "use_pass_glossy_color",
)


def field_of_view(plate: Any) -> float:
    """Horizontal field of view in degrees, from the user's own camera where there is one.

    Raises:
        InputError: what was chosen is no camera, or one without perspective.
    """
    own = plate.own_camera
    if own is None:
        return float(plate.fov)
    if own.type != "CAMERA":
        raise InputError(f"{own.name} is not a camera.", "Choose a camera, or none.")
    if own.data.type != "PERSP":
        raise InputError(
            f"{own.name} has no perspective.", "Choose a camera of the type Perspective, or none."
        )
    return float(2.0 * np.degrees(np.arctan(frustum(own, plate.width, plate.height).across)))


def lens_shift(plate: Any) -> tuple[float, float]:
    """How far the picture's middle lies to the right of the camera's axis and above it, as tangents."""
    own = plate.own_camera
    seen = frustum(own, plate.width, plate.height) if own is not None else Frustum(0.0, 0.0)
    return seen.right, seen.up


def matte_source(plate: Any, frame: int | None) -> Source:
    """Where the matte that the user gives is: a file (by frame, where it is a run of files or a movie), else the plate.

    Raises:
        InputError: no such file.
    """
    if not plate.matte_path:
        return plate_source(plate, frame)
    path = Path(bpy.path.abspath(plate.matte_path))
    return footage.source(path, frame, offset=plate.frame_offset + plate.matte_offset)


def matte_of(pixels: Pixels, shape: tuple[int, ...], name: str, *, own_file: bool) -> Pixels:
    """The matte (H, W) in a picture (H, W, 4): its alpha, or of an opaque file its gray; in a job's thread.

    Raises:
        InputError: a plate without alpha, or another shape than the plate's.
    """
    matte = pixels[..., 3]
    if float(matte.min()) >= 1.0:
        if not own_file:
            raise InputError(f"{name} has no alpha.", "Choose a matte file, or auto.")
        matte = pixels[..., :3].mean(axis=2)
    if matte.shape != shape:
        raise InputError(
            f"{name} is {matte.shape[1]} by {matte.shape[0]}, the plate is {shape[1]} by {shape[0]}.",
            "Give a matte of the plate's size.",
        )
    return np.clip(matte, 0.0, 1.0).astype(np.float32)


def plate_channels(plate: Any) -> int:
    """How many channels of a plate to read for :func:`over_black`: four where its own alpha is its matte."""
    return 4 if plate.matte == "given" and not plate.matte_path else 3


def over_black(pixels: Pixels) -> Pixels:
    """A plate as it is sent, (H, W, 3): what its own alpha has cut out (H, W, 4), straight, stands before black."""
    return pixels[..., :3] * pixels[..., 3:] if pixels.shape[2] == 4 else pixels


def maps_of(planes: Mapping[str, Pixels]) -> dict[str, Pixels]:
    """The maps that are kept of a decomposition, by name; in a job's thread.

    Depth is scaled so that the middle of the subject is at 1: a clip keeps one distance.
    """
    kept = {name: planes[plane] for plane, name in PLANES.items() if plane in planes}
    if "depth" in kept and "matte_map" in kept:
        kept["depth"] = kept["depth"] / np.float32(middle_depth(kept["depth"], kept["matte_map"]))
    if "reflectivity" in kept:
        kept["specular_map"] = materials.specular_plane(kept["reflectivity"])
    return kept


def middle_depth(depth: Pixels, matte: Pixels) -> float:
    """Median depth of the subject, or of the whole picture where the matte is empty."""
    solid = depth[matte > 0.5]
    return max(float(np.median(solid)) if solid.size else float(np.median(depth)), 1e-6)


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
    if plate.collection not in scene.collection.children_recursive:
        scene.collection.children.link(plate.collection)
    if plate.own_camera is not None:
        plate.camera = plate.own_camera
    else:
        made = plate.made_camera
        if made is None and plate.camera is not None and plate.camera.get("platelight") == plate.uid:
            made = plate.camera  # of an earlier version
        made = world.build_camera(f"{plate.name} Camera", plate.fov, plate.collection, made)
        plate.camera = plate.made_camera = made
        plate.camera["platelight"] = plate.uid
        _put_in(plate, plate.camera)
    if not (is_untouched(plate, "reflectivity") and plate.specular_map is not None) and not plate.is_sequence:
        put_map(plate, "specular_map", materials.specular_plane(map_pixels(plate, "reflectivity", 1)))
    pictures = {
        "albedo": plate.albedo,
        "cavity": plate.cavity,
        "normal": plate.normal,
        "roughness": plate.roughness,
        "specular": plate.specular_map,
        "matte": plate.matte_map,
    }
    frames = frames_of(plate)
    plate.material = materials.build_material(f"{plate.name} Material", pictures, plate.material, frames)
    meters, spread = lamps.meters(scene), plate.skin_radius if plate.skin else 0.0
    skin.set_skin(plate.material, skin.width(spread, meters))
    depth, matte = map_pixels(plate, "depth", 1), map_pixels(plate, "matte_map", 1)
    unit = stretch(plate.camera)  # the card scales with its camera
    scale = plate.distance / middle_depth(depth, matte) / unit
    plate.card = card.build_card(
        f"{plate.name} Card",
        card.CardSettings(
            plate.width,
            plate.height,
            field_of_view(plate),
            plate.facet_size,
            scale,
            skin.reach(spread, meters) / unit,
            frames or (1, 1),
            lens_shift(plate),
        ),
        normal=plate.normal,
        depth=plate.depth,
        matte=plate.matte_map,
        material=plate.material,
        camera=plate.camera,
        collection=plate.collection,
        existing=plate.card,
    )
    card.follow_lens(plate.card, plate.own_camera, plate.width, plate.height)
    plate.card["platelight"] = plate.uid
    _put_in(plate, plate.card)
    plate.card["platelight_depth_scale"] = scale
    build_proxy(plate, depth, matte)
    scene.camera = plate.camera
    scene.render.engine = compat.engine_id(state.engine)
    scene.render.resolution_x, scene.render.resolution_y = plate.width, plate.height
    scene.render.resolution_percentage = 100
    scene.render.film_transparent = True
    scene.cycles.samples = state.samples
    for name in PASSES:
        setattr(compat.layer_of(scene, plate.card), name, True)
    if state.hdri or state.light_from != "HDRI":
        light.update_world(scene, plate)


def _put_in(plate: Any, thing: Any) -> None:
    """Have an object that was deleted from the scene stand in it again."""
    if not stands(plate, thing):
        plate.collection.objects.link(thing)


def shade_cavity(plate: Any) -> None:
    """Have card and proxy show the plate's cavity map, or none."""
    if plate.material is not None:
        materials.set_cavity(plate.material, plate.cavity, frames_of(plate))
    for material in plate.proxy.data.materials[:1] if plate.proxy is not None else ():
        materials.set_cavity(material, plate.cavity, frames_of(plate))


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
            lens_shift(plate),
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
        frames=frames_of(plate),
    )
    plate.proxy["platelight"] = plate.uid
    _put_in(plate, plate.proxy)
    shade_cavity(plate)


def subject_width(plate: Any) -> float:
    """Width of the subject in scene units at the plate's distance, from the matte."""
    matte = map_pixels(plate, "matte_map", 1)
    columns = np.nonzero((matte > 0.5).any(axis=0))[0]
    if not columns.size:
        raise InputError("The matte has no solid pixel.", "Analyze the plate again with another matte.")
    share = (columns[-1] - columns[0] + 1) / matte.shape[1]
    return float(2.0 * np.tan(np.radians(field_of_view(plate)) / 2) * share * plate.distance)


def read_passes(path: Path) -> tuple[Pixels, Pixels, Pixels]:
    """Combined (H, W, 4) premultiplied, diffuse and specular (H, W, 3) straight, from Cycles' multilayer EXR; in a
    job's thread.

    Denoising touches Combined alone. The card is lit by nothing but lights, so diffuse plus specular is
    Combined: both are scaled to the denoised sum where the ratio is sane.
    """
    layers = exr.read(path).layers

    def of(key: str) -> Pixels:
        try:
            plane: Pixels = compat.pass_channels(layers, key)
        except KeyError as error:
            raise InputError(
                f"The render has no {key} pass.", "Build the scene again, with Cycles."
            ) from error
        return plane

    combined = of("combined")
    diffuse = (of("diffuse_direct") + of("diffuse_indirect"))[..., :3] * of("diffuse_color")[..., :3]
    specular = (of("glossy_direct") + of("glossy_indirect"))[..., :3] * of("glossy_color")[..., :3]
    total = diffuse + specular
    ratio = np.clip(np.where(total > 1e-5, combined[..., :3] / np.maximum(total, 1e-5), 1.0), 0.5, 2.0)
    alpha = combined[..., 3:4]
    straight = np.where(alpha > 1e-3, ratio / np.maximum(alpha, 1e-3), 0.0)
    return (
        color.to_rec709(combined),
        color.to_rec709((diffuse * straight).astype(np.float32)),
        color.to_rec709((specular * straight).astype(np.float32)),
    )


def backdrop_source(path: str, plate: Any, frame: int | None) -> Source:
    """Where the backdrop's pixels are: by the scene's frame where it is a run of files or a movie.

    Raises:
        InputError: none is chosen, or no such file.
    """
    if not path:
        raise InputError("No backdrop file is chosen.", "Choose one in the Composite panel.")
    return footage.source(Path(bpy.path.abspath(path)), frame, offset=plate.frame_offset)


def backdrop_pixels(found: Source, shape: tuple[int, ...], on_main: OnMain) -> Pixels:
    """The backdrop (H, W, 3) at the plate's size; in a job's thread.

    Raises:
        InputError: it cannot be read.
    """
    pixels = found.read(3, on_main)
    return pixels if pixels.shape[:2] == shape else on_main(lambda: _scaled(pixels, shape))


def _scaled(pixels: Pixels, shape: tuple[int, ...]) -> Pixels:
    (rows, columns), (height, width) = pixels.shape[:2], shape[:2]
    if not 0.98 < (columns * height) / (rows * width) < 1.02:  # of another shape its middle covers the plate
        high = max(1, min(rows, round(columns * height / width)))
        wide = max(1, min(columns, round(rows * width / height)))
        top, left = (rows - high) // 2, (columns - wide) // 2
        pixels = pixels[top : top + high, left : left + wide]
    scratch = images.put_image("Platelight scratch", pixels, data=True)  # no color is changed on the way
    try:
        scratch.scale(shape[1], shape[0])
        return np.ascontiguousarray(images.image_pixels(scratch)[..., :3])
    finally:
        bpy.data.images.remove(scratch)


def numbered(path: Path, frame: int) -> Path:
    """The file of one frame: the last number of its name replaced, or the number put before the suffix."""
    if "#" in path.name:
        count = path.name.count("#")
        return path.with_name(path.name.replace("#" * count, f"{frame:0{count}d}"))
    return path.with_name(f"{path.stem}.{frame:04d}{path.suffix}")


def check_picture(target: Path) -> None:
    """Refuse kinds of files that are not written here.

    Raises:
        InputError: neither .exr nor .png.
    """
    if target.suffix.lower() not in {".exr", ".png"}:
        raise InputError(f"{target} is neither .exr nor .png.", "Choose one of these.")
