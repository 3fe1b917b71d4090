"""What stands on the light stage: a subject for every seed, placed before the camera, with hair and texture maps."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from platelight.protocol.errors import InputError
from platelight.training.bodies import Bodies, folder_of
from platelight.training.figurines import figurine
from platelight.training.materials import BROWS
from platelight.training.raycast import Kind, place
from platelight.training.sculpts import sculpt
from platelight.training.subjects import Array, Heads, Mesh, Part, Rng, build, euler, objects, smooth_noise
from platelight.training.worn import Worn, draw, put_on

ICT = "ICT-FaceKit, (c) 2020 USC ICT, MIT"
PERRY_SMITH = "Infinite, 3D Head Scan, Lee Perry-Smith, CC-BY 3.0"
MPFB2 = "MakeHuman's body, MPFB2, makehumancommunity.org, CC0"
GLTF = "Avocado and WaterBottle, Microsoft, CC0"
PROCEDURAL = "procedural, made by this project"


class Family(StrEnum):
    """Kinds of subjects, as the manifest names them."""

    HEAD = "head"
    BODY = "body"
    SCAN = "scan"
    CLOTH = "cloth"
    GLTF = "gltf"
    FIGURINE = "figurine"
    SCULPT = "sculpt"
    SMOOTH = "smooth"
    HARD = "hard"


SHARES: dict[Family, float] = {
    Family.HEAD: 0.24, Family.BODY: 0.14, Family.SCAN: 0.06, Family.CLOTH: 0.04, Family.GLTF: 0.06,
    Family.FIGURINE: 0.18, Family.SCULPT: 0.14, Family.SMOOTH: 0.07, Family.HARD: 0.07,
}  # fmt: skip


@dataclass(frozen=True)
class Strands:
    """Hairs: points (S, K, 3) from root to tip, root radius in camera units, normal (S, 3) of what they grow on."""

    points: Array
    radius: float
    normal: Array


@dataclass(frozen=True)
class Subject:
    """A subject in camera space, in front of a camera at the origin that looks along -Z with ``fov`` degrees.

    ``unit``: camera units in a centimeter, for scattering depth; ``rest_size``: extent of the rest coordinates.
    ``uv`` (F, 3, 2) and ``textures`` (color, normal, roughness, orm) come with scans and glTF objects only. ``tone``: linear
    albedo of the skin; None leaves it to chance.
    """

    family: Family
    mesh: Mesh
    fov: float
    unit: float
    sources: tuple[str, ...]
    uv: Array | None = None
    textures: dict[str, str] = field(default_factory=dict)
    strands: tuple[Strands, ...] = ()
    worn: Worn = Worn.NOTHING
    tone: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Look:
    """What is not left to chance: what a head wears, its skin's linear albedo, whether it has hair; whether a body shows a hand."""

    worn: Worn | None = None
    tone: tuple[float, float, float] | None = None
    hair: bool = True
    hand: bool = False


class Casting:
    """Draws subjects; families whose data is absent are left out, and the others take their share."""

    def __init__(self, data: Path | None) -> None:
        self.heads: Heads | None = None
        self.scan: Path | None = None
        self.gltf: list[Path] = []
        people = folder_of(data)
        self.bodies = Bodies(people) if people is not None else None
        if data is not None:
            if not data.is_dir():
                raise InputError(f"{data} is no folder.", "Point --data at the folder of head_ict_facekit.")
            if (data / "head_ict_facekit").is_dir():
                self.heads = Heads(data / "head_ict_facekit")
            scan = data / "head_leeperrysmith" / "LeePerrySmith.glb"
            self.scan = scan if scan.is_file() else None
            self.gltf = sorted((data / "gltf_microsoft_cc0").glob("*/glTF/*.gltf"))
        absent = {
            Family.HEAD: self.heads is None, Family.CLOTH: self.heads is None,
            Family.BODY: self.bodies is None,
            Family.SCAN: self.scan is None, Family.GLTF: not self.gltf,
        }  # fmt: skip
        self.families = [f for f in SHARES if not absent.get(f, False)]

    def sources(self) -> tuple[str, ...]:
        """License lines of all the data that subjects may be drawn from."""
        lines = [ICT] * (self.heads is not None) + [MPFB2] * (self.bodies is not None)
        lines += [PERRY_SMITH] * (self.scan is not None)
        return (*lines, *([GLTF] * bool(self.gltf)), PROCEDURAL)

    def draw(self, seed: int, index: int, family: Family | None = None, look: Look | None = None) -> Subject:
        """Subject ``index`` of a set; the same for the same seed and data.

        With a ``look`` heads differ in that alone: the same head before the same camera.
        """
        rng = np.random.default_rng([seed, index])
        shares = np.array([SHARES[f] for f in self.families])
        drawn = self.families[int(rng.choice(len(shares), p=shares / shares.sum()))]
        family = family or drawn
        if family is Family.HEAD and self.heads is not None:
            return _head(self.heads, rng, look or Look())
        if family is Family.BODY and self.bodies is not None:
            return _body(self.bodies, rng, look or Look())
        if family is Family.CLOTH and self.heads is not None:
            return _torso(self.heads, rng)
        if family is Family.SCAN and self.scan is not None:
            return _scan(self.scan, rng)
        if family is Family.GLTF and self.gltf:
            return _gltf(self.gltf[int(rng.integers(len(self.gltf)))], rng)
        if family is Family.FIGURINE:
            return _staged(family, figurine(rng), Kind.FIGURINE, rng, 18.0)
        if family is Family.SCULPT:
            return _staged(family, sculpt(rng), Kind.OBJECT, rng, 18.0)
        if family in (Family.SMOOTH, Family.HARD):
            return _staged(family, objects(rng, family is Family.HARD), Kind.OBJECT, rng, 18.0)
        raise InputError(f"There is no data for a {family}.", "Give --data a folder that holds it.")


def _oriented(mesh: Mesh) -> Mesh:
    """The mesh with every face wound so that it agrees with its shading normals, as Cycles expects."""
    corners = mesh.vertices[mesh.faces]
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    wrong = np.einsum("fi,fi->f", facing, mesh.normals.sum(1)) < 0
    faces, normals = mesh.faces.copy(), mesh.normals.copy()
    faces[wrong], normals[wrong] = faces[wrong][:, ::-1], normals[wrong][:, ::-1]
    return Mesh(mesh.vertices, faces, normals, mesh.rest, mesh.part)


def _staged(
    family: Family, mesh: Mesh, kind: Kind, rng: Rng, height: float, sources: tuple[str, ...] = (PROCEDURAL,)
) -> Subject:
    """Place a mesh of any unit that stands for something about ``height`` cm high."""
    placed, fov = place(mesh, kind, rng)
    unit = float(np.ptp(placed.vertices, axis=0).max()) / height
    return Subject(family, _oriented(placed), fov, unit, sources)


def _head(heads: Heads, rng: Rng, look: Look) -> Subject:
    bare = heads.sample(rng)
    wardrobe = np.random.default_rng(rng.integers(1 << 31))  # its own, so that looks share all the rest
    drawn = draw(wardrobe)
    worn = drawn if look.worn is None else look.worn
    mesh = put_on(bare, worn, wardrobe)
    placed, fov = place(mesh, Kind.HEAD, rng)
    turned = _rigid(mesh.vertices, placed.vertices)
    unit = float(np.linalg.norm(turned, axis=0)[0])
    strands = _brows(placed, unit, rng) if rng.random() < 0.85 else []
    if (bare.part == int(Part.HAIR)).any() and rng.random() < 0.75 and worn is not Worn.HAT and look.hair:
        strands.append(_hair(placed, unit, rng))
    if not look.hair:
        keep = placed.part != int(Part.HAIR)
        placed = replace(
            placed, faces=placed.faces[keep], normals=placed.normals[keep], part=placed.part[keep]
        )
    return Subject(
        Family.HEAD, _oriented(placed), fov, unit, (ICT, PROCEDURAL), strands=tuple(strands), worn=worn, tone=look.tone
    )  # fmt: skip


def _body(bodies: Bodies, rng: Rng, look: Look) -> Subject:
    mesh, shown = bodies.sample(rng, look.hand)
    placed, fov = place(mesh, Kind.BODY, rng, shown)
    unit = float(np.linalg.norm(_rigid(mesh.vertices, placed.vertices), axis=0)[0])
    strands = _brows(placed, unit, rng) if rng.random() < 0.85 else []
    if (mesh.part == int(Part.HAIR)).any() and rng.random() < 0.6:
        strands.append(_hair(placed, unit, rng))
    return Subject(Family.BODY, _oriented(placed), fov, unit, (MPFB2, PROCEDURAL), strands=tuple(strands))


def _rigid(before: Array, after: Array) -> Array:
    """The linear part (3, 3) of the affine map from ``before`` to ``after``."""
    a, b = before - before.mean(0), after - after.mean(0)
    solution: Array = np.linalg.lstsq(a, b, rcond=None)[0].T
    return solution


def _torso(heads: Heads, rng: Rng) -> Subject:
    """A clothed torso alone, with folds: what a picture of a person shows most of."""
    neck = heads.neutral + np.array([0.0, rng.uniform(-2, 2), 0.0])
    cloth = heads._clothes(neck, rng)
    size = np.ptp(cloth.vertices, axis=0).mean()
    normals = cloth.normals.mean(1)
    lift = np.zeros(len(cloth.vertices))
    hang = cloth.vertices / size * np.array([1.0, rng.uniform(0.25, 0.8), 1.0])
    for _ in range(int(rng.integers(2, 5))):
        frequency = float(np.exp(rng.uniform(np.log(4), np.log(24))))
        warp = smooth_noise(hang, 3.0, rng)[:, None] * 0.15
        lift += smooth_noise(hang + warp, frequency, rng, ridged=rng.random() < 0.6) * 0.12 / frequency
    outward = np.zeros_like(cloth.vertices)
    for corner in range(3):
        np.add.at(outward, cloth.faces[:, corner], normals)
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-9)
    moved = build(cloth.vertices + outward * (lift * size)[:, None], cloth.faces, int(Part.CLOTH), cloth.rest)
    return _staged(Family.CLOTH, moved, Kind.FIGURINE, rng, 60.0, (PROCEDURAL,))


def _textured(vertices: Array, faces: Array, uv: Array, part: Part) -> tuple[Mesh, Array]:
    mesh = build(vertices, faces, int(part), vertices / max(float(np.ptp(vertices, axis=0).max()), 1e-9) * 2)
    return mesh, uv[faces]


def _load(path: Path) -> tuple[Array, Array, Array]:
    """Vertices, faces and uv (V, 2) of a glTF file's geometry, in its scene's frame."""
    try:
        mesh: Any = trimesh.load_scene(path).to_geometry()  # a Trimesh, or a cloud without faces
        return np.asarray(mesh.vertices), np.asarray(mesh.faces), np.asarray(mesh.visual.uv)
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise InputError(
            f"{path} is no readable glTF file with texture coordinates.", "Fetch it again."
        ) from error


def _scan(path: Path, rng: Rng) -> Subject:
    vertices, faces, uv = _load(path)
    height = float(np.ptp(vertices[:, 1]))
    mesh, corners = _textured(vertices * (30.0 / height), faces, uv, Part.SKIN)
    middle = (mesh.vertices.max(0) + mesh.vertices.min(0)) / 2
    mesh = replace(mesh, vertices=mesh.vertices - middle)
    placed, fov = place(mesh, Kind.HEAD, rng)
    unit = float(np.linalg.norm(_rigid(mesh.vertices, placed.vertices), axis=0)[0])
    textures = {"color": str(path.parent / "color.jpg"), "normal": str(path.parent / "normal.jpg")}
    return Subject(Family.SCAN, placed, fov, unit, (PERRY_SMITH,), corners, textures)


def _gltf(path: Path, rng: Rng) -> Subject:
    vertices, faces, uv = _load(path)
    mesh, corners = _textured(vertices, faces, uv, Part.OBJECT_A)
    placed, fov = place(mesh, Kind.FIGURINE, rng)
    document = json.loads(path.read_text())
    material = document["materials"][0]
    pbr = material.get("pbrMetallicRoughness", {})
    wanted = {
        "color": pbr.get("baseColorTexture"),
        "orm": pbr.get("metallicRoughnessTexture"),
        "normal": material.get("normalTexture"),
    }
    textures = {}
    for name, reference in wanted.items():
        if reference is not None:
            source = document["textures"][reference["index"]]["source"]
            textures[name] = str(path.parent / document["images"][source]["uri"])
    unit = float(np.ptp(placed.vertices, axis=0).max()) / 15.0
    return Subject(Family.GLTF, placed, fov, unit, (GLTF,), corners, textures)


def _roots(mesh: Mesh, chosen: Array, count: int, rng: Rng) -> tuple[Array, Array, Array]:
    """Points, unit normals and faces of ``count`` places spread evenly by area over the chosen faces."""
    corners = mesh.vertices[mesh.faces[chosen]]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1)
    pick = rng.choice(len(chosen), count, p=area / area.sum())
    u, v = rng.random((2, count))
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u)[:, None], np.where(fold, 1 - v, v)[:, None]
    w = 1 - u - v
    points = corners[pick, 0] * w + corners[pick, 1] * u + corners[pick, 2] * v
    n = mesh.normals[chosen[pick]]
    normal = n[:, 0] * w + n[:, 1] * u + n[:, 2] * v
    return points, normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9), chosen[pick]


def _hair(mesh: Mesh, unit: float, rng: Rng) -> Strands:
    """Strands that grow from the hair's under-layer and fall or stand as one hairdo."""
    scalp = np.flatnonzero(mesh.part == int(Part.HAIR))
    count = int(rng.integers(7000, 14000))
    root, normal, _ = _roots(mesh, scalp, count, rng)
    length = rng.uniform(0.8, 7.0) * unit * rng.uniform(0.7, 1.0, (count, 1))
    steps = 7
    fall = euler(float(rng.normal() * 35), float(rng.normal() * 15), float(rng.normal() * 35)) @ np.array(
        [0, -1.0, -0.3]
    )
    flow = fall - normal * (normal @ fall)[:, None]
    flow /= np.maximum(np.linalg.norm(flow, axis=1, keepdims=True), 1e-6)
    lift = rng.uniform(0.1, 0.9)
    curl, turn = rng.uniform(0, 0.5) ** 2, rng.uniform(3, 14)
    lock = smooth_noise(root / unit, rng.uniform(0.6, 2.0), rng)[:, None]
    side = np.cross(normal, flow)
    points = [root - normal * 0.1 * unit]
    for step in range(1, steps + 1):
        t = step / steps
        way = (
            normal * lift * (1 - t) ** 2
            + flow * (0.4 + t)
            + side * (0.35 * lock + curl * np.sin(turn * t + 3 * lock))
        )
        way = way + rng.normal(size=(count, 3)) * 0.08
        points.append(points[-1] + way / np.linalg.norm(way, axis=1, keepdims=True) * length / steps)
    return Strands(np.stack(points, 1), float(rng.uniform(0.006, 0.014)) * unit * 2, normal)


def _brows(mesh: Mesh, unit: float, rng: Rng) -> list[Strands]:
    """Eyebrows: short hairs about ICT-FaceKit's brow landmarks, combed outwards and up; none where no skin is near them."""
    center = mesh.rest[mesh.faces].mean(1)
    distance = np.min([np.linalg.norm(center - np.array(p), axis=1) for p in BROWS], axis=0)
    chosen = np.flatnonzero((mesh.part == int(Part.SKIN)) & (distance < rng.uniform(0.45, 0.75)))
    if not len(chosen):
        return []
    count = int(rng.integers(250, 900))
    root, normal, face = _roots(mesh, chosen, count, rng)
    linear = (
        _rigid(mesh.rest[np.unique(mesh.faces[chosen])], mesh.vertices[np.unique(mesh.faces[chosen])]) / unit
    )
    outward = np.sign(center[face, :1]) * np.array([[1.0, 0, 0]]) + np.array([[0, rng.uniform(0.1, 0.9), 0]])
    way = outward @ linear.T + normal * 0.35 + rng.normal(size=(count, 3)) * 0.2
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    length = rng.uniform(0.5, 1.0, (count, 1)) * unit
    t = np.linspace(0, 1, 4)[None, :, None]
    points = (
        root[:, None] + way[:, None] * length[:, None] * t - normal[:, None] * length[:, None] * 0.25 * t**2
    )
    return [Strands(points - normal[:, None] * 0.03 * unit, 0.012 * unit, normal)]
