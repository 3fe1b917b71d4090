"""Materials of the light stage as Cycles node graphs, with the ground truth written to AOVs. Needs bpy.

Every material reports what it shades with: ``albedo`` (diffuse color, dark for metals), ``roughness``, ``f0`` and the
bumped ``normal``; so the maps are true by construction. Patterns follow the mesh's ``rest`` attribute.
"""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
import torch

from platelight.training.light_stage_subjects import Subject
from platelight.training.materials import LIPS, _colors, _skin_tone
from platelight.training.subjects import Part, Rng

AOVS = {"albedo": "COLOR", "normal": "COLOR", "f0": "COLOR", "finish": "COLOR"}
EYE = (3.156, 3.613, 9.6)  # where ICT-FaceKit's left eye looks out, in its units; the right one mirrors it
SCATTER = (0.37, 0.14, 0.07)  # mean free paths of skin in cm (Jensen et al. 2001), red to blue


def _tensor_rng(rng: Rng) -> torch.Generator:
    return torch.Generator().manual_seed(int(rng.integers(1 << 31)))


def random_color(rng: Rng) -> tuple[float, float, float]:
    """A paint from the palette that the fast generator uses, linear."""
    r, g, b = _colors(1, 1, _tensor_rng(rng))[0, 0].tolist()
    return r, g, b


def skin_tone(rng: Rng) -> tuple[float, float, float]:
    """A skin albedo from melanin and hemoglobin (``materials._skin_tone``), linear."""
    r, g, b = _skin_tone(1, _tensor_rng(rng))[0].tolist()
    return r, g, b


class Graph:
    """A material's node tree, built by calls that return sockets; numbers and colors may stand for sockets."""

    def __init__(self, name: str) -> None:
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self.tree = self.material.node_tree
        self.tree.nodes.clear()

    def node(self, kind: str, inputs: dict[Any, Any] | None = None, **settings: Any) -> Any:
        made = self.tree.nodes.new(kind)
        for key, value in settings.items():
            setattr(made, key, value)
        for key, value in (inputs or {}).items():
            self.feed(made.inputs[key], value)
        return made

    def feed(self, socket: Any, value: Any) -> None:
        if hasattr(value, "is_linked"):
            self.tree.links.new(value, socket)
        elif isinstance(value, tuple) and len(value) == 3 and socket.type == "RGBA":
            socket.default_value = (*value, 1.0)
        else:
            socket.default_value = value

    def attribute(self, name: str, kind: str = "Vector") -> Any:
        return self.node("ShaderNodeAttribute", attribute_name=name).outputs[kind]

    def math(self, operation: str, a: Any, b: Any = 0.0, clamp: bool = False) -> Any:
        return self.node("ShaderNodeMath", {0: a, 1: b}, operation=operation, use_clamp=clamp).outputs[0]

    def mix(self, factor: Any, a: Any, b: Any) -> Any:
        return self.node("ShaderNodeMixRGB", {"Fac": factor, "Color1": a, "Color2": b}).outputs[0]

    def multiply(self, a: Any, b: Any) -> Any:
        return self.node(
            "ShaderNodeMixRGB", {"Fac": 1.0, "Color1": a, "Color2": b}, blend_type="MULTIPLY"
        ).outputs[0]

    def noise(self, where: Any, scale: float, detail: float = 3.0, distortion: float = 0.0) -> Any:
        """fBm in about [0, 1]."""
        inputs = {"Vector": where, "Scale": scale, "Detail": detail, "Distortion": distortion}
        return self.node("ShaderNodeTexNoise", inputs).outputs[0]

    def cells(self, where: Any, scale: float) -> Any:
        return self.node("ShaderNodeTexVoronoi", {"Vector": where, "Scale": scale}).outputs["Distance"]

    def wave(self, where: Any, scale: float, distortion: float, rings: bool = False) -> Any:
        kind = "RINGS" if rings else "BANDS"
        return self.node(
            "ShaderNodeTexWave", {"Vector": where, "Scale": scale, "Distortion": distortion}, wave_type=kind
        ).outputs["Fac"]

    def span(self, value: Any, low: float, high: float, to_low: float, to_high: float) -> Any:
        inputs = {"Value": value, "From Min": low, "From Max": high, "To Min": to_low, "To Max": to_high}
        return self.node("ShaderNodeMapRange", inputs, clamp=True).outputs[0]

    def blob(self, where: Any, middle: tuple[float, ...], size: tuple[float, ...], sharp: float) -> Any:
        """1 inside an ellipsoid of rest coordinates, 0 outside, over a soft edge."""
        off = self.node("ShaderNodeVectorMath", {0: where, 1: middle}, operation="SUBTRACT").outputs[0]
        unit = self.node("ShaderNodeVectorMath", {0: off, 1: size}, operation="DIVIDE").outputs[0]
        length = self.node("ShaderNodeVectorMath", {0: unit}, operation="LENGTH").outputs["Value"]
        return self.span(length, 1 - sharp, 1 + sharp, 1.0, 0.0)

    def bump(self, height: Any, distance: float, strength: float = 1.0, normal: Any = None) -> Any:
        inputs = {"Height": height, "Distance": distance, "Strength": strength}
        if normal is not None:
            inputs["Normal"] = normal
        return self.node("ShaderNodeBump", inputs).outputs[0]

    def image(self, path: str, color: bool, uv: Any) -> Any:
        picture = bpy.data.images.load(path, check_existing=True)
        picture.colorspace_settings.name = "sRGB" if color else "Non-Color"
        return self.node("ShaderNodeTexImage", {"Vector": uv}, image=picture).outputs["Color"]

    def finish(
        self,
        color: Any,
        roughness: Any,
        f0: Any = 0.04,
        metallic: Any = 0.0,
        normal: Any = None,
        true_normal: Any = None,
        true_roughness: Any = None,
        scatter: float = 0.0,
        extra: dict[str, Any] | None = None,
    ) -> Any:
        """Close the graph with a Principled BSDF and the AOVs that tell what it was fed, or what a smooth surface would need."""
        shaded = normal if normal is not None else self.node("ShaderNodeNewGeometry").outputs["Normal"]
        inputs: dict[str, Any] = {
            "Base Color": color, "Roughness": roughness, "Metallic": metallic,
            "Specular IOR Level": self.math("DIVIDE", f0, 0.08), "Subsurface Weight": 1.0 if scatter else 0.0,
            **(extra or {}),
        }  # fmt: skip
        if scatter:
            inputs |= {"Subsurface Scale": scatter, "Subsurface Radius": SCATTER}
        if normal is not None:
            inputs["Normal"] = normal
        shader = self.node("ShaderNodeBsdfPrincipled", inputs)
        self.node("ShaderNodeOutputMaterial", {"Surface": shader.outputs[0]})
        dark = self.math("SUBTRACT", 1.0, metallic)
        gray = self.node("ShaderNodeCombineXYZ", {0: dark, 1: dark, 2: dark}).outputs[0]
        self.aov("albedo", self.multiply(color, gray))
        self.aov("normal", true_normal if true_normal is not None else shaded)
        plain = self.node("ShaderNodeCombineXYZ", {0: f0, 1: f0, 2: f0}).outputs[0]
        self.aov("f0", self.mix(metallic, plain, color))
        depth = self.node("ShaderNodeCameraData").outputs["View Z Depth"]
        told = roughness if true_roughness is None else true_roughness
        self.aov("finish", self.node("ShaderNodeCombineXYZ", {0: told, 1: depth, 2: 1.0}).outputs[0])
        return self.material

    def aov(self, name: str, value: Any) -> None:
        self.node("ShaderNodeOutputAOV", {"Color": value}, aov_name=name)


def _skin(g: Graph, subject: Subject, rng: Rng) -> Any:
    where, unit = g.attribute("rest"), subject.unit
    scan = subject.uv is not None
    cm = 15.0 if scan else 1.0  # a scan's rest coordinates span 2 for about 30 cm
    drawn = skin_tone(rng)
    tone = subject.tone or drawn
    if scan:
        # The scan's own paint, moved towards another tone: divided by its mean, times the new one.
        map_color = g.image(subject.textures["color"], True, g.node("ShaderNodeUVMap").outputs[0])
        share = float(rng.choice([0.0, 1.0]))
        gain = tuple(1 + share * (t / m - 1) for t, m in zip(tone, (0.42, 0.24, 0.17), strict=True))
        color = g.multiply(map_color, g.node("ShaderNodeCombineXYZ", dict(enumerate(gain))).outputs[0])
    else:
        blush = g.noise(where, 0.22 * cm, 3)
        red = tuple(t * k for t, k in zip(tone, (0.95, 0.72, 0.72), strict=True))
        color = g.mix(g.span(blush, 0.35, 0.75, 0, rng.uniform(0.2, 0.9)), tone, red)
        spots = g.span(
            g.noise(where, 3.2 * cm, 2), 0.62, 0.75, 0, float(rng.choice([0, 0, 0.7]) * rng.random())
        )
        color = g.mix(spots, color, tuple(t * k for t, k in zip(tone, (0.7, 0.55, 0.45), strict=True)))
        mottle = g.span(g.noise(where, 6.0 * cm, 4), 0.2, 0.8, 0.9, 1.08)
        color = g.multiply(
            color, g.node("ShaderNodeCombineXYZ", {0: mottle, 1: mottle, 2: mottle}).outputs[0]
        )
        lips = g.math("MULTIPLY", g.blob(where, LIPS, (2.7, 0.95, 2.0), 0.25), rng.uniform(0.3, 1.0))
        color = g.mix(lips, color, tuple(t * k for t, k in zip(tone, (0.85, 0.5, 0.52), strict=True)))
        shade = tuple(0.35 * t for t in tone)
        jaw = g.blob(where, (0, -6.0, 8.5), (7.5, 4.5, 6.0), 0.4)
        beard = g.math("MULTIPLY", jaw, float(rng.choice([0.0, 0.0, 0.6]) * rng.random()))
        color = g.mix(g.math("MULTIPLY", beard, g.noise(where, 9.0, 2)), color, shade)
    pores = g.math("MULTIPLY", g.cells(where, 9.0 * cm), 0.6)
    lines = g.noise(where, 1.6 * cm, 5, distortion=1.2)
    height = g.math("ADD", pores, g.math("MULTIPLY", lines, rng.uniform(0.3, 2.0)))
    base = None
    if scan:
        texel = g.image(subject.textures["normal"], False, g.node("ShaderNodeUVMap").outputs[0])
        base = g.node("ShaderNodeNormalMap", {"Color": texel, "Strength": 1.0}).outputs[0]
    normal = g.bump(height, 0.03 * unit, rng.uniform(0.1, 0.5), base)
    oil = g.noise(where, 0.35 * cm, 2)  # the shiny zones of a face
    dull = rng.uniform(0.38, 0.62)
    roughness = g.span(oil, 0.3, 0.7, dull, max(dull - rng.uniform(0.0, 0.22), 0.22))
    f0 = g.span(oil, 0.3, 0.7, 0.028, rng.uniform(0.028, 0.045))
    return g.finish(color, roughness, f0, normal=normal, scatter=unit * rng.uniform(0.5, 1.2))


def _mapped(g: Graph, subject: Subject, rng: Rng) -> Any:
    """A glTF object's own metallic-roughness material."""
    uv = g.node("ShaderNodeUVMap").outputs[0]
    paths = subject.textures
    color: Any = g.image(paths["color"], True, uv) if "color" in paths else random_color(rng)
    roughness: Any = rng.uniform(0.2, 0.8)
    metallic: Any = 0.0
    if "orm" in paths:
        split = g.node("ShaderNodeSeparateColor", {0: g.image(paths["orm"], False, uv)})
        roughness, metallic = split.outputs[1], split.outputs[2]
    normal = None
    if "normal" in paths:
        normal = g.node("ShaderNodeNormalMap", {"Color": g.image(paths["normal"], False, uv)}).outputs[0]
    return g.finish(color, roughness, 0.04, metallic, normal)


def _plain(
    g: Graph, color: tuple[float, float, float], roughness: float, f0: float, bump: float, subject: Subject
) -> Any:
    normal = g.bump(g.noise(g.attribute("rest"), 6.0), 0.02 * subject.unit, bump) if bump else None
    return g.finish(color, roughness, f0, normal=normal)


def _eye(g: Graph, rng: Rng) -> Any:
    """ICT-FaceKit's outer eye shell, which covers the iris mesh: iris, its dark ring and pupil are painted on it."""
    where = g.attribute("rest")
    r, green, b = random_color(rng)
    brown = rng.random() < 0.6
    iris = (0.09, 0.04, 0.02) if brown else (0.15 * r + 0.03, 0.15 * green + 0.06, 0.15 * b + 0.07)
    color: Any = (0.62, 0.57, 0.53)
    wide, pupil = rng.uniform(0.66, 0.78), rng.uniform(0.2, 0.4)
    for x in (-EYE[0], EYE[0]):
        middle = (x, *EYE[1:])
        for radius, paint, soft in ((wide, tuple(0.4 * c for c in iris), 0.06), (wide * 0.85, iris, 0.12),
                                    (pupil, (0.004, 0.004, 0.004), 0.08)):  # fmt: skip
            color = g.mix(g.blob(where, middle, (radius, radius, 1.5), soft), color, paint)
    return g.finish(color, 0.06, 0.03)


def _cloth(g: Graph, subject: Subject, rng: Rng) -> Any:
    where = g.attribute("rest")
    color: Any = random_color(rng)
    scale = rng.uniform(6, 30)
    weave = g.math("ADD", g.wave(where, scale, 0.3), g.wave(where, scale * 1.1, 0.3, rings=True))
    if rng.random() < 0.4:
        stripes = g.span(g.wave(where, rng.uniform(0.4, 3.0), rng.uniform(0, 3)), 0.45, 0.55, 0, 1)
        color = g.mix(stripes, color, random_color(rng))
    fade = g.span(g.noise(where, 1.5, 4), 0.2, 0.8, 0.8, 1.05)
    color = g.multiply(color, g.node("ShaderNodeCombineXYZ", {0: fade, 1: fade, 2: fade}).outputs[0])
    normal = g.bump(weave, 0.05 * subject.unit, rng.uniform(0.05, 0.4))
    return g.finish(color, rng.uniform(0.55, 1.0), rng.uniform(0.02, 0.05), normal=normal)


def _object(g: Graph, subject: Subject, rng: Rng) -> Any:
    """Plastic, painted ware, leather, wood, stone, metal or translucent stuff, with a random pattern."""
    where = g.attribute("rest")
    kind = str(rng.choice(["plain", "plastic", "leather", "wood", "stone", "metal", "wax", "cloth"],
                          p=[0.26, 0.16, 0.1, 0.12, 0.1, 0.12, 0.07, 0.07]))  # fmt: skip
    if kind == "cloth":
        return _cloth(g, subject, rng)
    color: Any = random_color(rng)
    relief, depth = g.noise(where, rng.uniform(4, 14), 4), 0.0
    roughness: Any = rng.uniform(0.25, 0.95)
    f0, metallic, scatter = 0.04, 0.0, 0.0
    if kind == "plain" and rng.random() < 0.5:
        sharp = rng.uniform(0.01, 0.15)
        spots = g.span(g.noise(where, rng.uniform(1, 5), 2), 0.5 - sharp, 0.5 + sharp, 0, 1)
        color = g.mix(spots, color, random_color(rng))
    elif kind == "plastic":
        roughness = g.span(relief, 0.3, 0.7, rng.uniform(0.06, 0.2), rng.uniform(0.2, 0.45))
        f0 = rng.uniform(0.035, 0.06)
    elif kind == "leather":
        relief, depth = g.cells(where, rng.uniform(8, 22)), rng.uniform(0.2, 0.8)
        color = g.mix(g.span(g.noise(where, 2.0, 5), 0.3, 0.7, 0, 0.5), color, tuple(0.4 * c for c in color))
        roughness = g.span(relief, 0.0, 0.6, rng.uniform(0.5, 0.8), rng.uniform(0.25, 0.5))
    elif kind == "wood":
        grain = g.wave(where, rng.uniform(1, 4), rng.uniform(3, 12), rings=True)
        light = (rng.uniform(0.2, 0.6), rng.uniform(0.12, 0.32), rng.uniform(0.05, 0.16))
        color = g.mix(
            g.math("MULTIPLY", grain, g.noise(where, 9.0, 5)), light, tuple(0.35 * c for c in light)
        )
        relief, depth, roughness = grain, rng.uniform(0, 0.3), rng.uniform(0.25, 0.7)
    elif kind == "stone":
        veins = g.span(g.noise(where, rng.uniform(1, 4), 8, distortion=rng.uniform(0, 3)), 0.4, 0.6, 0, 1)
        color = g.mix(veins, color, random_color(rng))
        relief, depth = g.noise(where, rng.uniform(3, 12), 8), rng.uniform(0, 0.9)
    elif kind == "metal":
        metals = [
            (0.95, 0.64, 0.37),
            (1.0, 0.78, 0.34),
            (0.91, 0.92, 0.92),
            (0.56, 0.57, 0.58),
            (0.75, 0.6, 0.35),
        ]
        color, metallic = metals[int(rng.integers(len(metals)))], 1.0
        worn = g.noise(where, rng.uniform(2, 8), 6)
        roughness = g.span(worn, 0.3, 0.7, rng.uniform(0.12, 0.5), rng.uniform(0.15, 0.5))
    elif kind == "wax":
        scatter = subject.unit * rng.uniform(0.3, 1.5)
        roughness = rng.uniform(0.2, 0.6)
    normal = g.bump(relief, 0.06 * subject.unit, depth) if depth > 0.05 else None
    return g.finish(color, roughness, f0, metallic, normal, scatter=scatter)


def hair_color(rng: Rng) -> tuple[float, float, float]:
    """Black to white through brown, red and blond; one in eight dyed."""
    if rng.random() < 0.12:
        r, g, b = random_color(rng)
        return r * 0.5, g * 0.5, b * 0.5
    value = float(np.exp(rng.uniform(np.log(0.012), np.log(0.35))))
    warm = rng.uniform(0.0, 1.0) if value < 0.25 else rng.uniform(0.0, 0.6)
    return value * (1 + 0.4 * warm), value * (1 - 0.1 * warm), value * (1 - 0.5 * warm)


def strands_material(color: tuple[float, float, float], rng: Rng) -> Any:
    """Hair: Principled with a sheen of its own; normal and roughness told are those of a surface that looks alike.

    The normal is that of what it grows on. A strand spreads a highlight all around itself, so across the strands a head of hair is as
    rough as can be, whatever a strand is: the mean of both directions' slopes is what one roughness can tell.
    """
    g = Graph("strands")
    vary = g.span(g.node("ShaderNodeHairInfo").outputs["Random"], 0, 1, 0.7, 1.3)
    tint = g.multiply(color, g.node("ShaderNodeCombineXYZ", {0: vary, 1: vary, 2: vary}).outputs[0])
    gloss = rng.uniform(0.3, 0.55)
    # Slopes go with the square of roughness (alpha), and across the strands alpha is 1.
    return g.finish(
        tint, gloss, 0.046, true_normal=g.attribute("grown_on"), true_roughness=((gloss**2 + 1) / 2) ** 0.5
    )


def part_material(part: Part, subject: Subject, hair: tuple[float, float, float], rng: Rng) -> Any:
    """The material of one part of a subject."""
    g = Graph(part.name.lower())
    if part is Part.SKIN:
        return _skin(g, subject, rng)
    if subject.textures:
        return _mapped(g, subject, rng)
    if part is Part.HAIR:
        return _plain(g, (hair[0] * 0.8, hair[1] * 0.8, hair[2] * 0.8), 0.55, 0.04, 0.6, subject)
    if part is Part.CLOTH:
        return _cloth(g, subject, rng)
    if part is Part.TEETH:
        return _plain(g, (0.62, 0.55, 0.44), 0.2, 0.05, 0.0, subject)
    if part is Part.GUMS:
        return _plain(g, (0.30, 0.10, 0.09), 0.25, 0.04, 0.2, subject)
    if part is Part.SCLERA:
        return _eye(g, rng)
    if part is Part.IRIS:
        r, gr, b = random_color(rng)
        return _plain(g, (0.25 * r, 0.25 * gr, 0.25 * b), 0.06, 0.04, 0.0, subject)
    return _object(g, subject, rng)
