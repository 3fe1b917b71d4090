"""What of a plate is saved in the .blend: where it comes from, how it is taken apart, its maps and its objects."""

from typing import Any

import bpy

from . import compat, wire
from .languages import CONTEXT
from .option_properties import options

# Maps of a plate: property name, title, is it data (True) or color (False).
MAPS: tuple[tuple[str, str, bool], ...] = (
    ("plate", "Plate", False),
    ("foreground", "Foreground", False),
    ("matte_map", "Matte", True),
    ("normal", "Normal", True),
    ("albedo", "Albedo", False),
    ("roughness", "Roughness", True),
    ("reflectivity", "Reflectivity", True),
    ("cavity", "Cavity", True),
    ("depth", "Depth", True),
    ("source_light", "Source light", False),
    ("specular_map", "Principled levels", True),
    ("diffuse_pass", "Diffuse pass", False),
    ("specular_pass", "Specular pass", False),
    ("preview", "Preview", False),
    ("result", "Result", False),
    ("relit", "Relit alone", False),
    ("backdrop_map", "Backdrop", False),
    ("grain", "Grain", True),
    ("composite", "Composite", False),
)
# Planes of a decomposition, by their name on the wire, and the property that keeps each. Decompositions of earlier
# versions have no cavity, which means 1 everywhere.
PLANES: dict[str, str] = {
    "foreground": "foreground",
    "matte": "matte_map",
    "normal": "normal",
    "albedo": "albedo",
    "roughness": "roughness",
    "reflectivity": "reflectivity",
    "cavity": "cavity",
    "depth": "depth",
    "light": "source_light",
}


def _camera_poll(_self: Any, thing: Any) -> bool:
    return bool(thing.type == "CAMERA")


class PlatelightPlate(bpy.types.PropertyGroup):
    """One plate: where it comes from, how it is taken apart, its maps and its objects."""

    uid: bpy.props.StringProperty(options={"HIDDEN"})
    filepath: bpy.props.StringProperty(name="File", description="The picture to relight", subtype="FILE_PATH")
    colorspace: bpy.props.StringProperty(
        name="Color Space",
        description="Color space of the file: auto, or the name of one of Blender's color spaces",
        default="auto",
    )
    matte_path: bpy.props.StringProperty(
        name="Matte File",
        description="Gray picture, numbered files or movie, white where the subject is; empty takes the plate's alpha",
        subtype="FILE_PATH",
    )
    is_sequence: bpy.props.BoolProperty(options={"HIDDEN"})
    frame_first: bpy.props.IntProperty(
        name="First Frame", description="First frame of the plate that is worked on", default=1
    )
    frame_last: bpy.props.IntProperty(
        name="Last Frame", description="Last frame of the plate that is worked on", default=1
    )
    frame_offset: bpy.props.IntProperty(
        name="Frame Offset",
        translation_context=CONTEXT,
        description="Added to the scene's frame to find the plate's file number, or the movie's frame counted from 1",
        default=0,
    )
    matte_offset: bpy.props.IntProperty(
        name="Matte Offset",
        description="Frames added to the plate's own to find the matte's file number or movie frame",
        default=0,
    )
    map_folder: bpy.props.StringProperty(
        name="Maps Folder",
        description="Where the maps of each frame are kept; beside the .blend if it was saved before Analyze",
    )
    width: bpy.props.IntProperty(options={"HIDDEN"})
    height: bpy.props.IntProperty(options={"HIDDEN"})
    facet_size: bpy.props.FloatProperty(
        name="Facet Size",
        description="Size of the card's facets in pixels of the plate; larger is lighter on memory",
        default=1.0,
        min=1.0,
        max=8.0,
        subtype="PIXEL",
    )
    distance: bpy.props.FloatProperty(
        name="Distance",
        description="Distance from the camera to the middle of the subject; lamps near it need the true one",
        default=2.0,
        min=0.01,
        max=1e5,
        subtype="DISTANCE",
        unit="LENGTH",
    )
    own_camera: bpy.props.PointerProperty(
        name="Camera",
        description="A camera of yours, such as a tracked one, to use in place of one made from the field of view",
        type=bpy.types.Object,
        **compat.pointer_poll(_camera_poll),
    )
    skin: bpy.props.BoolProperty(
        name="Skin",
        description="Cycles lets light spread below the subject's surface as in skin: soft where light ends, redder there",
        default=False,
    )
    skin_radius: bpy.props.FloatProperty(
        name="Skin Radius (mm)",
        description="How far red light spreads below skin in mm, its mean free path; green goes 0.37 and blue 0.19 times "
        "as far. True where Distance is",
        default=3.67,
        min=0.01,
        soft_max=20.0,
        max=1000.0,
        precision=2,
    )
    shadow_proxy: bpy.props.BoolProperty(
        name="Shadow Proxy",
        description="A solid made from depth, hidden from cameras, that casts the subject's shadow and reflection on CG things",
        default=False,
    )
    self_shadow: bpy.props.FloatProperty(
        name="Self Shadow",
        description="How much the proxy shadows the plate itself, 0 to 1",
        default=0.0,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
    )
    relief: bpy.props.FloatProperty(
        name="Depth Relief",
        description="Factor on the proxy's depth about the subject's middle: 0 is flat, 1 as the depth map says",
        default=1.0,
        min=0.0,
        soft_max=3.0,
        max=100.0,
    )
    roundness: bpy.props.FloatProperty(
        name="Back",
        translation_context=CONTEXT,
        description="How far the proxy's unseen back bulges: 0 is flat, 1 as much as its front",
        default=1.0,
        min=0.0,
        max=4.0,
    )
    proxy: bpy.props.PointerProperty(type=bpy.types.Object, options={"HIDDEN"})
    camera: bpy.props.PointerProperty(type=bpy.types.Object, options={"HIDDEN"})
    made_camera: bpy.props.PointerProperty(type=bpy.types.Object, options={"HIDDEN"})
    card: bpy.props.PointerProperty(type=bpy.types.Object, options={"HIDDEN"})
    material: bpy.props.PointerProperty(type=bpy.types.Material, options={"HIDDEN"})
    collection: bpy.props.PointerProperty(type=bpy.types.Collection, options={"HIDDEN"})
    notes: bpy.props.StringProperty(options={"HIDDEN"})


PlatelightPlate.__annotations__.update(
    {name: bpy.props.PointerProperty(name=title, type=bpy.types.Image) for name, title, _ in MAPS}
)
PlatelightPlate.__annotations__.update(options(wire.Decompose, "matte", "working_size", "fov", "faces"))


# Functions, not methods: bpy 4.2 crashes at exit when a PropertyGroup has any Python function of its own.


def is_analysed(plate: Any) -> bool:
    """Whether the maps that a card needs are there."""
    needed = ("normal", "albedo", "roughness", "reflectivity", "depth", "matte_map")
    return all(getattr(plate, name) for name in needed)


def is_built(plate: Any) -> bool:
    """Whether the card stands in the scene, and the camera that was made for it."""
    card, camera = plate.card, plate.camera
    if card is None or camera is None or not stands(plate, card):
        return False
    return camera == plate.own_camera or stands(plate, camera)


def stands(plate: Any, thing: Any) -> bool:
    """Whether an object is in the plate's scene: one that was deleted lives on while the plate points to it."""
    whole, ours = plate.id_data, plate.collection
    # Panels ask whenever they are drawn: its own collection is small, a scene may not be.
    return (
        ours is not None
        and ours.objects.get(thing.name) == thing
        and ours in whole.collection.children_recursive
    ) or thing in whole.objects.values()


def frames_of(plate: Any) -> tuple[int, int] | None:
    """First and last frame of a sequence, None of a still."""
    return (plate.frame_first, plate.frame_last) if plate.is_sequence else None
