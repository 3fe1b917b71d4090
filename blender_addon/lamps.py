"""The scene's lamps as a request carries them: in the plate camera's frame, in meters, as Cycles lights with them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector

from . import color, compat, light, wire
from .lens import stretch
from .wire import InputError

_CYCLES = "Leave it out of Lamps, or let Cycles do the physical render."


def chosen(scene: Any, card: Any) -> list[Any]:
    """The lamps of the scene that light the plate in a render, by name; a split-off sun is the HDRI's own, and not there.

    Args:
        card: what they are to light: lamps that are linked to other things only are left out. Or None.
    """
    state = scene.platelight
    if state.lamps == "NONE":
        return []
    found = _rendered(scene)
    if state.lamps == "COLLECTION":
        found &= set(_lamps_in(state.lamp_collection.all_objects)) if state.lamp_collection else set()
    return [
        lamp
        for lamp in sorted(found, key=lambda lamp: str(lamp.name_full))
        if not lamp.hide_render and lamp != state.sun and reaches(lamp, card)
    ]


def left_out(scene: Any) -> list[Any]:
    """The lamps that renders have to do without, as the setting says; not those whose bounces alone reach the card."""
    if scene.platelight.lamps == "ALL":
        return []
    kept = {*chosen(scene, None), scene.platelight.sun}
    return [thing for thing in scene.objects if thing.type == "LIGHT" and thing not in kept]


def distance(scene: Any, plate: Any) -> float:
    """How far from the camera, in meters, the card has what its depth map calls 1."""
    return float(plate.card["platelight_depth_scale"]) * stretch(plate.camera) * meters(scene)


def for_backend(scene: Any, plate: Any) -> tuple[wire.Lamp, ...]:
    """What the backend is to light the plate with beside its HDRI, at the frame that the scene stands at.

    The scene's own light has its lamps in it already.

    Raises:
        InputError: a lamp does what the backend cannot, or there are too many.
    """
    if scene.platelight.light_from == "SCENE":
        return ()
    things, film = chosen(scene, plate.card), light.film(scene)
    hidden = [thing for thing in things if thing.hide_viewport]  # Blender lets their animation stand still
    try:
        for thing in hidden:
            thing.hide_viewport = False
            thing.update_tag(refresh={"TIME"})
            thing.data.update_tag(refresh={"TIME"})
        bpy.context.view_layer.update()
        graph = bpy.context.evaluated_depsgraph_get()
        to_camera = plate.camera.evaluated_get(graph).matrix_world.normalized().inverted()
        seen = [thing.evaluated_get(graph) for thing in things]
        lamps = [
            lamp
            for thing in seen
            if _shines(thing)
            and (lamp := lamp_of(thing.name, thing.data, to_camera @ thing.matrix_world, meters(scene), film))
        ]
    finally:
        for thing in hidden:
            thing.hide_viewport = True
    if len(lamps) > wire.MOST_LAMPS:
        raise InputError(
            f"{len(lamps)} lamps light the plate; the backend takes {wire.MOST_LAMPS}.",
            "Choose a collection with fewer in the Light panel.",
        )
    return tuple(lamps)


def lamp_of(name: str, data: Any, matrix: Matrix, meters: float = 1.0, gain: float = 1.0) -> wire.Lamp | None:
    """One of Blender's lights for a request; None where it gives no light.

    Args:
        matrix: from the lamp to the camera.
        meters: length of a unit of the scene. Blender's watts are for units: power grows with their square.
        gain: factor on the power.

    Raises:
        InputError: it does what the backend cannot.
    """
    shade = _color(name, data)
    power = gain * float(data.energy) * 2.0 ** float(getattr(data, "exposure", 0.0))
    brightest = max(shade)
    if power * brightest == 0.0 or getattr(data.cycles, "is_portal", False):
        return None
    if power < 0.0 or min(shade) < 0.0:
        raise InputError(f"The lamp {name} takes light away.", _CYCLES)
    if not getattr(data, "normalize", True):
        raise InputError(f"The lamp {name} has Normalize off.", _CYCLES)
    # A color outside Rec.709's gamut, which a wider working space can have, becomes the nearest within it.
    red, green, blue = np.maximum(color.to_rec709(np.array(shade, np.float32)), 0.0).tolist()
    back, up = (matrix.to_3x3().col[axis].normalized() for axis in (2, 1))
    options: dict[str, Any] = {"color": (red, green, blue), "direction": tuple(-back), "up": tuple(up)}
    if data.type == "SUN":
        return wire.Lamp("sun", power, angle=math.degrees(data.angle), **options)
    options["at"] = tuple(matrix.translation * meters)
    power *= meters**2
    if data.type == "AREA":
        if data.spread < math.pi - 1e-3:
            raise InputError(f"The lamp {name} has a Spread below 180°.", _CYCLES)
        return wire.Lamp("area", power, size=_size(data, matrix, meters), **options)
    options["radius"] = data.shadow_soft_size * meters
    if data.type == "SPOT":
        cone = max(math.degrees(data.spot_size), 1.0)
        return wire.Lamp("spot", power, cone=cone, blend=data.spot_blend, **options)
    return wire.Lamp("point", power, **options)


def build(lamp: wire.Lamp, camera: Any, collection: Any) -> Any:
    """One of Blender's lights from a request's lamp, in front of a camera; lengths are units of the scene."""
    data = bpy.data.lights.new("Platelight Lamp", lamp.kind.upper())
    data.energy, data.color = lamp.power, tuple(color.from_rec709(np.array(lamp.color, np.float32)))
    if lamp.kind == "sun":
        data.angle = math.radians(lamp.angle)
    elif lamp.kind == "area":
        data.shape, (data.size, data.size_y) = "RECTANGLE", lamp.size
    else:
        data.shadow_soft_size = lamp.radius
    if lamp.kind == "spot":
        data.spot_size, data.spot_blend = math.radians(lamp.cone), lamp.blend
    back = -Vector(lamp.direction).normalized()
    up = Vector(lamp.up)
    up -= up.dot(back) * back
    up = up.normalized() if up.length > 1e-6 else back.orthogonal().normalized()
    frame = Matrix((up.cross(back), up, back)).transposed().to_4x4()
    thing = bpy.data.objects.new("Platelight Lamp", data)
    collection.objects.link(thing)
    thing.matrix_world = camera.matrix_world @ Matrix.Translation(lamp.at) @ frame
    return thing


def _size(data: Any, matrix: Matrix, meters: float) -> tuple[float, float]:
    """Width and height of an area; round ones have a rectangle of their own area."""
    height = data.size_y if data.shape in {"RECTANGLE", "ELLIPSE"} else data.size
    round_off = math.sqrt(math.pi) / 2.0 if data.shape in {"DISK", "ELLIPSE"} else 1.0
    across, along, _ = matrix.to_scale()
    sides = (data.size * abs(across), height * abs(along))
    return max(sides[0] * round_off * meters, 1e-6), max(sides[1] * round_off * meters, 1e-6)


def _color(name: str, data: Any) -> tuple[float, float, float]:
    """Color, its temperature, and what a plain Emission node does to it.

    Raises:
        InputError: its nodes do more than that.
    """
    shade = list(data.color)
    if getattr(data, "use_temperature", False):
        shade = [a * b for a, b in zip(shade, data.temperature_color, strict=True)]
    tree = compat.light_nodes(data)
    if tree is not None:
        output = tree.get_output_node("CYCLES")
        socket = output.inputs["Surface"] if output is not None else None
        if socket is None or not socket.is_linked:
            return (0.0, 0.0, 0.0)
        node = socket.links[0].from_node
        if node.type != "EMISSION" or any(node.inputs[each].is_linked for each in ("Color", "Strength")):
            raise InputError(f"The lamp {name} has nodes that the backend does not know.", _CYCLES)
        factor = node.inputs["Strength"].default_value
        shade = [a * b * factor for a, b in zip(shade, node.inputs["Color"].default_value, strict=False)]
    return (shade[0], shade[1], shade[2])


def meters(scene: Any) -> float:
    """Length of a unit of the scene in meters."""
    units = scene.unit_settings
    return float(units.scale_length) if units.system != "NONE" else 1.0


def reaches(lamp: Any, card: Any) -> bool:
    """Whether light linking lets a lamp light the card."""
    receivers = lamp.light_linking.receiver_collection
    if receivers is None or card is None:
        return True
    entries = [
        *(
            ((thing,), one)
            for thing, one in zip(receivers.objects, receivers.collection_objects, strict=True)
        ),
        *(
            (part.all_objects, one)
            for part, one in zip(receivers.children, receivers.collection_children, strict=True)
        ),
    ]
    for things, entry in entries:
        if card in tuple(things):
            return bool(entry.light_linking.link_state == "INCLUDE")
    return all(entry.light_linking.link_state != "INCLUDE" for _, entry in entries)


def _shines(lamp: Any) -> bool:
    """Whether its ray visibility lets a lamp light things at all.

    Raises:
        InputError: it lights diffuse or glossy surfaces only, which the backend cannot.
    """
    if lamp.visible_diffuse != lamp.visible_glossy:
        raise InputError(f"The lamp {lamp.name} is hidden from diffuse or from glossy rays.", _CYCLES)
    return bool(lamp.visible_diffuse)


def _lamps_in(things: Any) -> list[Any]:
    """The lamps among a collection's objects, at once: a panel counts them whenever it is drawn."""
    kinds = np.empty(len(things), np.int32)
    things.foreach_get("type", kinds)
    wanted = bpy.types.Object.bl_rna.properties["type"].enum_items["LIGHT"].value
    return [things[int(index)] for index in np.flatnonzero(kinds == wanted)]


def _rendered(scene: Any) -> set[Any]:
    """The lamps that some collection shows to the render."""
    layer = bpy.context.view_layer if scene == bpy.context.scene else scene.view_layers[0]

    def walk(part: Any, hidden: bool) -> Iterator[Any]:
        hidden = hidden or part.collection.hide_render
        if not hidden and not part.exclude:
            yield from _lamps_in(part.collection.objects)
        for child in part.children:
            yield from walk(child, hidden)

    return set(walk(layer.layer_collection, False))
