"""Everything that is saved in the .blend: plates with their maps, the light, what to render and where to put it.

Options of the backend's requests (matte, field of view, rotation, exposure...) are built from the request
types themselves, so that names, defaults, ranges and help texts have one home. Long because it is one flat list.
"""

import math
from typing import Any

import bpy

from . import compat, wire
from .hdris import SHELVES

# Maps of a plate: property name, title, is it data (True) or color (False).
MAPS: tuple[tuple[str, str, bool], ...] = (
    ("plate", "Plate", False),
    ("foreground", "Foreground", False),
    ("matte_map", "Matte", True),
    ("normal", "Normal", True),
    ("albedo", "Albedo", False),
    ("roughness", "Roughness", True),
    ("reflectivity", "Reflectivity", True),
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
# Planes of a decomposition, by their name on the wire, and the property that keeps each.
PLANES: dict[str, str] = {
    "foreground": "foreground",
    "matte": "matte_map",
    "normal": "normal",
    "albedo": "albedo",
    "roughness": "roughness",
    "reflectivity": "reflectivity",
    "depth": "depth",
    "light": "source_light",
}


# What each choice of a request means, for its tooltip.
_CHOICES: dict[str, dict[str, str]] = {
    "matte": {
        "auto": "Finds the subject",
        "full": "The whole frame is the subject",
        "given": "A matte of your own: a file, or the plate's alpha",
    },
    "backdrop": {
        "none": "Nothing: the subject alone, with alpha",
        "plate": "The plate itself",
        "light": "The light, as the camera sees it",
        "given": "A picture, numbered files or a movie of your own",
    },
}


def _property(option: wire.Option) -> Any:
    """A bpy property that means what the option means."""
    words: dict[str, Any] = {
        "name": option.title,
        "description": option.description[:1].upper() + option.description[1:],
    }
    if option.choices == ("off", "on"):
        return bpy.props.BoolProperty(default=option.default == "on", **words)
    if option.choices:
        items = [(choice, choice.capitalize(), _CHOICES[option.name][choice]) for choice in option.choices]
        return bpy.props.EnumProperty(items=items, default=option.default, **words)
    if option.type is bool:
        return bpy.props.BoolProperty(default=option.default, **words)
    bounds: dict[str, Any] = {}
    if option.minimum is not None:
        bounds["min"] = option.type(option.minimum)
    if option.maximum is not None:
        bounds["max"] = option.type(option.maximum)
    kind = bpy.props.IntProperty if option.type is int else bpy.props.FloatProperty
    return kind(default=option.default, **bounds, **words)


def _options(request: Any, *names: str) -> dict[str, Any]:
    """Properties for the named options of a request."""
    found = {option.name: _property(option) for option in wire.options_of(request) if option.name in names}
    if missing := set(names) - set(found):
        raise KeyError(f"{request.__name__} has no option {sorted(missing)}")
    return found


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
        description="How far the proxy's unseen back bulges: 0 is flat, 1 as much as its front",
        default=1.0,
        min=0.0,
        max=4.0,
    )
    proxy: bpy.props.PointerProperty(type=bpy.types.Object, options={"HIDDEN"})
    camera: bpy.props.PointerProperty(type=bpy.types.Object, options={"HIDDEN"})
    card: bpy.props.PointerProperty(type=bpy.types.Object, options={"HIDDEN"})
    material: bpy.props.PointerProperty(type=bpy.types.Material, options={"HIDDEN"})
    collection: bpy.props.PointerProperty(type=bpy.types.Collection, options={"HIDDEN"})
    notes: bpy.props.StringProperty(options={"HIDDEN"})


class PlatelightScene(bpy.types.PropertyGroup):
    """A scene's plates and the light that they share."""

    plates: bpy.props.CollectionProperty(
        type=PlatelightPlate, name="Plates", description="The plates of this scene"
    )
    active: bpy.props.IntProperty(name="Active Plate", options={"HIDDEN"})
    hdri: bpy.props.StringProperty(
        name="HDRI",
        description="Lat-long picture, twice as wide as high, that lights the plate; the folder button checks it",
    )
    light_from: bpy.props.EnumProperty(
        name="Light",
        description="What lights the plate",
        items=[
            ("HDRI", "HDRI", "A lat-long picture, as the World"),
            ("PLATE", "Plate's Light", "The light that a plate was shot under, as the World"),
            ("SCENE", "Scene", "The scene's own World, lamps and surfaces, as Match Scene Light saw them"),
        ],
        default="HDRI",
    )
    light_plate: bpy.props.StringProperty(options={"HIDDEN"})
    light_gain: bpy.props.FloatProperty(
        name="Strength",
        description="Factor on the plate's light under which a gray card reads as on the plate",
        default=1.0,
        min=0.0,
        soft_max=100.0,
        precision=3,
    )
    hdri_strength: bpy.props.FloatProperty(
        name="Strength",
        description="Factor on the HDRI: 1 is as in the file, 2 is one stop more; goes with Exposure and can be animated",
        default=1.0,
        min=0.0,
        soft_max=100.0,
        precision=3,
    )
    shelf: bpy.props.EnumProperty(
        name="HDRIs", description="Which HDRIs are shown", items=list(SHELVES), default="BLENDER"
    )
    shelf_words: bpy.props.StringProperty(
        name="Filter",
        description="Words that the HDRI's file name has to contain",
        options={"TEXTEDIT_UPDATE"},
    )
    split_sun: bpy.props.BoolProperty(
        name="Sun as Lamp",
        description="Take the sun out of the light and set up a Sun lamp of its direction, color and energy: crisp shadows",
        default=False,
    )
    sun_angle: bpy.props.FloatProperty(
        name="Sun Size",
        description="Angle across the Sun lamp in degrees; 0 takes the size found in the light, the real sun has 0.53",
        default=0.0,
        min=0.0,
        max=math.pi,
        subtype="ANGLE",
    )
    lamps: bpy.props.EnumProperty(
        name="Lamps",
        description="Which Point, Sun, Spot and Area lamps of this scene light the plate, in watts and at their true distance",
        items=[
            ("ALL", "All", "Every lamp that the scene renders with"),
            ("COLLECTION", "Collection", "The lamps of one collection"),
            ("NONE", "None", "No lamp"),
        ],
        default="ALL",
    )
    lamp_collection: bpy.props.PointerProperty(
        name="Lamp Collection",
        description="The collection, with what is nested in it, whose lamps light the plate",
        type=bpy.types.Collection,
    )
    browse_words: bpy.props.StringProperty(
        name="Keywords", description="Words that the HDRI's name, tags or categories have to contain"
    )
    browse_category: bpy.props.StringProperty(
        name="Category",
        description="Category of Poly Haven, such as studio or night; all for every one",
        default="all",
    )
    browse_resolution: bpy.props.EnumProperty(
        name="Resolution",
        description="Size of the HDRI that is downloaded",
        items=[
            (size, size.upper(), f"{1024 * int(size[:-1])} pixels wide") for size in ("1k", "2k", "4k", "8k")
        ],
        default="2k",
    )
    bake_height: bpy.props.IntProperty(
        name="Light Rows",
        description="Rows of the picture that Match Scene Light takes; it is twice as wide",
        default=128,
        min=16,
        max=4096,
    )
    bake_samples: bpy.props.IntProperty(
        name="Light Samples",
        description="Cycles samples a pixel of the picture that Match Scene Light takes",
        default=128,
        min=1,
        max=65536,
    )
    baked_light: bpy.props.PointerProperty(type=bpy.types.Image, options={"HIDDEN"})
    sun: bpy.props.PointerProperty(type=bpy.types.Object, options={"HIDDEN"})
    engine: bpy.props.EnumProperty(
        name="Engine",
        description="What renders the preview; only Cycles gives the passes that the refiner takes",
        items=[("CYCLES", "Cycles", "Exact"), ("EEVEE", "EEVEE", "Fast; light from behind is cut")],
        default="CYCLES",
    )
    physics: bpy.props.EnumProperty(
        name="Renderer",
        description="What renders the maps under the light and the lamps before the refiner finishes them",
        items=[
            (
                "CYCLES",
                "Cycles",
                "The rendered preview: things of the scene light, shade and reflect as well",
            ),
            (
                "BACKEND",
                "Backend",
                "The backend itself, without a preview: the HDRI and the lamps alone",
            ),
        ],
        default="CYCLES",
    )
    samples: bpy.props.IntProperty(
        name="Samples", description="Cycles samples a pixel for the preview", default=64, min=1, max=65536
    )
    denoise: bpy.props.BoolProperty(
        name="Denoise", description="Denoise the preview and its passes where this Blender can", default=True
    )
    output: bpy.props.StringProperty(
        name="Output",
        description="File for the result: .exr with all layers, or .png. Empty keeps it in Blender only",
        subtype="FILE_PATH",
    )
    edge: bpy.props.FloatProperty(
        name="Edge",
        description="Pixels by which the subject's edge is pulled in and softened, in the compositor",
        default=0.0,
        min=0.0,
        max=64.0,
        subtype="PIXEL",
    )
    light_wrap: bpy.props.FloatProperty(
        name="Light Wrap",
        description="How much of the blurred backdrop spills over the subject's edge, in the compositor",
        default=0.0,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
    )
    wrap_size: bpy.props.FloatProperty(
        name="Wrap Size",
        description="Pixels over which the backdrop spills",
        default=12.0,
        min=0.0,
        max=256.0,
        subtype="PIXEL",
    )
    grain: bpy.props.FloatProperty(
        name="Grain Match",
        description="Share of the grain that the subject lacks to match its backdrop, as measured from both",
        default=1.0,
        min=0.0,
        max=4.0,
        subtype="FACTOR",
    )
    backdrop_path: bpy.props.StringProperty(
        name="Backdrop File", description="Picture behind the relit subject", subtype="FILE_PATH"
    )


PlatelightPlate.__annotations__.update(
    {name: bpy.props.PointerProperty(name=title, type=bpy.types.Image) for name, title, _ in MAPS}
)
PlatelightPlate.__annotations__.update(_options(wire.Decompose, "matte", "working_size", "fov"))
PlatelightScene.__annotations__.update(
    _options(wire.Relight, "rotation", "exposure", "backdrop", "strength", "shadows")
)

CLASSES = (PlatelightPlate, PlatelightScene)


# Functions, not methods: bpy 4.2 crashes at exit when a PropertyGroup has any Python function of its own.


def active_plate(state: Any) -> Any:
    """The plate of ``scene.platelight`` that operators work on, or None."""
    return state.plates[state.active] if 0 <= state.active < len(state.plates) else None


def is_analysed(plate: Any) -> bool:
    """Whether the maps that a card needs are there."""
    needed = ("normal", "albedo", "roughness", "reflectivity", "depth", "matte_map")
    return all(getattr(plate, name) for name in needed)


def is_built(plate: Any) -> bool:
    """Whether the card stands in the scene."""
    return plate.card is not None and plate.camera is not None


def plate_by_uid(uid: str) -> tuple[Any, Any] | None:
    """(scene, plate) for an identifier, or None if it is gone: no job may hold on to RNA memory."""
    for scene in bpy.data.scenes:
        for plate in scene.platelight.plates:
            if plate.uid == uid:
                return scene, plate
    return None


def register() -> None:
    """Register the property groups and hang them on scenes."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.platelight = bpy.props.PointerProperty(type=PlatelightScene)


def unregister() -> None:
    """Undo ``register``."""
    del bpy.types.Scene.platelight
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
