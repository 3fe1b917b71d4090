"""What of a scene is saved in the .blend: its plates, the light, what to render and where to put it."""

import math
from typing import Any

import bpy

from . import wire
from .hdris import SHELVES
from .option_properties import options
from .plate_properties import PlatelightPlate


class PlatelightBaked(bpy.types.PropertyGroup):
    """One of several lights that Match Scene Light took, and where in the plate that was."""

    image: bpy.props.PointerProperty(type=bpy.types.Image, options={"HIDDEN"})
    place: bpy.props.FloatVectorProperty(size=2, options={"HIDDEN"})


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
    instant_by: bpy.props.EnumProperty(
        name="Instant Preview by",
        description="What draws the instant preview",
        items=[
            ("GPU", "Graphics Card", "Over the plate's pictures and through its camera, at once"),
            (
                "BACKEND",
                "Backend",
                "The backend's own physical render in an image of its own, smaller, as Refine begins with",
            ),
        ],
        default="GPU",
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
    bake_points: bpy.props.IntProperty(
        name="Light Places",
        description="From how many places Match Scene Light takes the light, along the subject's longer side, or four as 2 x 2 where "
        "it is both wide and tall; several for a subject that is large against what lights it. Only Renderer on Backend tells them "
        "apart",
        default=1,
        min=1,
        max=wire.MOST_LIGHTS,
    )
    baked_light: bpy.props.PointerProperty(type=bpy.types.Image, options={"HIDDEN"})
    baked_places: bpy.props.CollectionProperty(type=PlatelightBaked, options={"HIDDEN"})
    baked_plate: bpy.props.StringProperty(options={"HIDDEN"})
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
        name="Denoise",
        description="Denoise the preview and its passes; gray where this Blender was built without OpenImageDenoise",
        default=True,
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


PlatelightScene.__annotations__.update(
    options(wire.Relight, "rotation", "exposure", "backdrop", "strength", "shadows")
)

CLASSES = (PlatelightPlate, PlatelightBaked, PlatelightScene)


# Functions, not methods: bpy 4.2 crashes at exit when a PropertyGroup has any Python function of its own.


def active_plate(state: Any) -> Any:
    """The plate of ``scene.platelight`` that operators work on, or None."""
    return state.plates[state.active] if 0 <= state.active < len(state.plates) else None


def plate_by_uid(uid: str) -> tuple[Any, Any] | None:
    """(scene, plate) for an identifier, or None if it is gone: no job may hold on to RNA memory.

    A copied scene has plates of the same identifiers: the scene that is shown comes first.
    """
    for scene in sorted(bpy.data.scenes, key=lambda scene: scene != bpy.context.scene):
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
