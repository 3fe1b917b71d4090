"""What can be asked of the backend. These structs own every option's name, default, range and help text:
the command line's options and the add-on's properties are built from them (``options_of``).

Planes travel beside the request, by name, as arrays (H, W) or (H, W, C), row 0 at the top, linear Rec.709:

=========== =========================================================================== =====================
request     planes in                                                                   planes out
=========== =========================================================================== =====================
decompose   plate (H,W,3); matte (H,W) when ``matte="given"``                           foreground (H,W,3), matte (H,W),
                                                                                        normal (H,W,3), albedo (H,W,3),
                                                                                        roughness (H,W), reflectivity (H,W),
                                                                                        cavity (H,W), depth (H,W),
                                                                                        light (h,2h,3)
relight     all of decompose's outputs but ``light`` (optional as ``source_light``);     diffuse, specular, pbr (H,W,3),
            cavity where there is one, depth for ``shadows`` and ``lamps`` only;        relit (H,W,4) premultiplied;
            ``light`` (h,2h,3) is the target, and may be left out with ``lamps``;       only relit for ``composite_only``
            with ``places`` ``light``, ``light_2`` to ``light_4``, one a place;
            backdrop (H,W,3) when ``backdrop="given"``
refine      foreground, matte, normal, albedo; light and backdrop as relight; diffuse,   as relight
            specular (H,W,3) as Cycles rendered them from all maps
=========== =========================================================================== =====================

Planes that a request does not read are ignored; ``maps_of`` tells which maps it reads.
Planes in may be halves or floats, each for itself. Planes out are floats, or with ``halves`` half floats, for those who keep no
more, but for depth and light, which are floats always. Passes are black where the matte is 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from platelight.protocol.errors import InputError
from platelight.protocol.lamps import MOST, Lamp

Matte = Annotated[
    Literal["auto", "full", "given"],
    Meta(
        title="Matte",
        description="auto finds the subject, full takes the whole frame, given uses a matte of your own",
    ),
]
Backdrop = Annotated[
    Literal["none", "plate", "light", "given"],
    Meta(
        title="Backdrop",
        description="what stands behind the relit subject: nothing, the plate, the HDRI, or a picture",
    ),
]
WorkingSize = Annotated[
    int,
    Meta(
        ge=64,
        le=2048,
        title="Working Size",
        description="long side of the subject as the networks see it, in pixels",
    ),
]
Fov = Annotated[
    float,
    Meta(
        ge=1.0,
        le=170.0,
        title="Field of View",
        description="horizontal field of view of the camera, in degrees",
    ),
]
Faces = Annotated[
    Literal["off", "on"],
    Meta(
        title="Faces",
        description="faces that are found get the form of a face, and hair and clothes about them their paint and finish; off serves "
        "masks, reliefs and hands before a face",
    ),
]
Rotation = Annotated[
    float,
    Meta(
        ge=-3600.0,
        le=3600.0,
        title="Rotation",
        description="turn of the HDRI about the vertical axis, in degrees, as Blender's World Mapping Z",
    ),
]
Exposure = Annotated[
    float, Meta(ge=-20.0, le=20.0, title="Exposure", description="brightness of the HDRI, in stops (EV)")
]
Strength = Annotated[
    float,
    Meta(
        ge=0.0,
        le=1.0,
        title="Refinement",
        description="how far the neural refiner mends the physical render, 0 to 1",
    ),
]
CompositeOnly = Annotated[
    bool,
    Meta(title="Composite only", description="return the relit picture without the passes it is made of"),
]

Shadows = Annotated[
    Literal["off", "on"],
    Meta(
        title="Shadows",
        description="the subject shades itself in the physical render, from its depth; edges of lamps' shadows "
        "are at least 3° wide",
    ),
]

Lamps = Annotated[
    tuple[Lamp, ...],
    Meta(max_length=MOST, title="Lamps", description="lamps at their true distance, beside the HDRI"),
]
MOST_LIGHTS = 4
Place = tuple[Annotated[float, Meta(ge=0.0, le=1.0)], Annotated[float, Meta(ge=0.0, le=1.0)]]
Places = Annotated[
    tuple[Place, ...],
    Meta(
        max_length=MOST_LIGHTS,
        title="Places",
        description="where in the plate each of several HDRIs was taken, from its upper left corner (0, 0) to its lower "
        "right one (1, 1); between them the results blend",
    ),
]
Distance = Annotated[
    float,
    Meta(
        ge=1e-3,
        le=1e6,
        title="Distance",
        description="how far the subject is from the camera, in meters (where its depth is 1): lamps need it",
    ),
]


class Decompose(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="decompose", tag_field="kind"):
    """Take a plate apart into maps and the light that it was shot under."""

    matte: Matte = "auto"
    working_size: WorkingSize = 512
    fov: Fov = 40.0
    faces: Faces = "on"
    halves: bool = False


class Relight(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="relight", tag_field="kind"):
    """Render maps under a target light and refine the result."""

    rotation: Rotation = 0.0
    exposure: Exposure = 0.0
    backdrop: Backdrop = "none"
    pbr_only: Annotated[
        bool, Meta(title="PBR only", description="stop after the physical render, no neural refiner")
    ] = False
    composite_only: CompositeOnly = False
    shadows: Shadows = "off"
    places: Places = ()
    lamps: Lamps = ()
    distance: Distance = 1.0
    strength: Strength = 1.0
    working_size: WorkingSize = 512
    fov: Fov = 40.0
    halves: bool = False


class Refine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="refine", tag_field="kind"):
    """Finish diffuse and specular passes that Cycles rendered from the maps."""

    rotation: Rotation = 0.0
    exposure: Exposure = 0.0
    backdrop: Backdrop = "none"
    composite_only: CompositeOnly = False
    strength: Strength = 1.0
    working_size: WorkingSize = 512
    fov: Fov = 40.0
    halves: bool = False


Request = Decompose | Relight | Refine


def light_planes(places: Sequence[Place]) -> tuple[str, ...]:
    """Names of the planes that hold the target lights: ``light`` for one, ``light_2`` and so on for those of more places.

    Raises:
        InputError: two places are one.
    """
    if len(set(places)) < len(places):
        raise InputError("Two lights are at one place.", "Give each light a place of its own.")
    return ("light", *(f"light_{number}" for number in range(2, len(places) + 1)))


def maps_of(request: Relight | Refine) -> tuple[str, ...]:
    """The names of a plate's maps that a request reads; ``cavity`` may be lacking. Others need not be sent."""
    maps = ("foreground", "matte", "normal", "albedo")
    if isinstance(request, Refine):
        return (*maps, "cavity")  # the passes hold what the others tell
    deep = ("depth",) if request.lamps or request.shadows == "on" else ()
    return (*maps, "roughness", "reflectivity", "cavity", *deep)


@dataclass(frozen=True)
class Option:
    """One option of a request, as an interface needs it.

    ``choices`` is set for enumerations, ``minimum``/``maximum`` for numbers where bounded.
    """

    name: str
    type: type
    default: Any
    title: str
    description: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


def options_of(request: type[Decompose] | type[Relight] | type[Refine]) -> Iterator[Option]:
    """Yield the options of a request type in order, with defaults, ranges and help texts."""
    info = msgspec.inspect.type_info(request)
    assert isinstance(info, msgspec.inspect.StructType)
    for field in info.fields:
        # Lists, which interfaces make in their own ways; what files hold, which their programs know.
        if field.name in ("lamps", "places", "composite_only", "halves"):
            continue
        kind, title, description = field.type, field.name, ""
        if isinstance(kind, msgspec.inspect.Metadata):
            schema = kind.extra_json_schema or {}
            title, description = schema.get("title", title), schema.get("description", "")
            kind = kind.type
        if isinstance(kind, msgspec.inspect.LiteralType):
            choices = tuple(str(value) for value in kind.values)
            yield Option(field.name, str, field.default, title, description, choices)
        elif isinstance(kind, msgspec.inspect.BoolType):
            yield Option(field.name, bool, field.default, title, description)
        elif isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
            number = int if isinstance(kind, msgspec.inspect.IntType) else float
            yield Option(field.name, number, field.default, title, description, (), kind.ge, kind.le)
        else:
            raise TypeError(f"{request.__name__}.{field.name} has a type no interface knows: {kind!r}")
