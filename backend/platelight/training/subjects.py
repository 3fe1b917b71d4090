"""Subjects of the virtual stage: triangle meshes made from seeds.

Every mesh carries *rest coordinates* beside its posed vertices, so that paint and relief made from noise stick to
the surface, and a part number per face, so that materials differ between skin, hair, eyes and cloth.
Units are arbitrary: the stage scales a subject to the camera.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import trimesh
from scipy.spatial import ConvexHull

from platelight.protocol.errors import InputError
from platelight.training.parts import Part as Part

Array = npt.NDArray[Any]
Rng = np.random.Generator


@dataclass(frozen=True)
class Mesh:
    """Triangles with shading normals.

    vertices, rest: (V, 3); faces: (F, 3) int; normals: (F, 3, 3), one per corner; part: (F,) uint8.
    """

    vertices: Array
    faces: Array
    normals: Array
    rest: Array
    part: Array


def build(
    vertices: Array, faces: Array, part: int | Array, rest: Array | None = None, flat: bool = False
) -> Mesh:
    """Make a mesh, computing corner normals: per face when ``flat``, else averaged over each vertex by area."""
    corners = vertices[faces]
    face_normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    if flat:
        normals = np.repeat(face_normal[:, None], 3, axis=1)
    else:
        vertex_normal = np.zeros_like(vertices)
        for corner in range(3):
            np.add.at(vertex_normal, faces[:, corner], face_normal)
        normals = vertex_normal[faces]
    normals = normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    parts = np.full(len(faces), part, np.uint8) if np.isscalar(part) else np.asarray(part, np.uint8)
    return Mesh(vertices, faces, normals, vertices if rest is None else rest, parts)


def join(meshes: list[Mesh]) -> Mesh:
    """Concatenate meshes into one."""
    offsets = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + o for m, o in zip(meshes, offsets, strict=True)]),
        np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.rest for m in meshes]),
        np.concatenate([m.part for m in meshes]),
    )


def random_rotation(rng: Rng) -> Array:
    """A rotation matrix (3, 3), uniform over SO(3)."""
    q = rng.normal(size=4)
    w, x, y, z = q / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def euler(yaw: float, pitch: float, roll: float) -> Array:
    """Rotation matrix (3, 3) from degrees: roll about Z, then pitch about X, then yaw about Y."""
    a, b, c = np.radians([yaw, pitch, roll])
    ry = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    rx = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    matrix: Array = ry @ rx @ rz
    return matrix


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """A random number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def grid_faces(rows: int, columns: int, wrap: bool = False) -> Array:
    """Two triangles for every cell of a (rows, columns) grid of vertices; ``wrap`` closes it along columns."""
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns if wrap else columns - 1), indexing="ij")
    a, b = (i * columns + j).ravel(), (i * columns + (j + 1) % columns).ravel()
    quads = np.stack([a, b, b + columns, a + columns], 1)
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def smooth_noise(points: Array, frequency: float, rng: Rng, waves: int = 16, ridged: bool = False) -> Array:
    """Band-limited noise (V,) from random plane waves, about unit variance; ``ridged`` folds it into creases."""
    k = rng.normal(size=(waves, 3))
    k *= frequency * rng.uniform(0.6, 1.4, (waves, 1)) / np.linalg.norm(k, axis=1, keepdims=True)
    value: Array = np.sin(points @ k.T + rng.uniform(0, 2 * np.pi, waves)).sum(1) * np.sqrt(2.0 / waves)
    return np.asarray(1.0 - 1.5 * np.abs(value)) if ridged else value


def displace(vertices: Array, faces: Array, rng: Rng) -> Array:
    """Move vertices along their normals by octaves of noise, some of them ridged: relief, dents, folds."""
    normals = trimesh.Trimesh(vertices, faces, process=False).vertex_normals
    size = np.ptp(vertices, axis=0).mean()
    height = np.zeros(len(vertices))
    for _ in range(rng.integers(1, 4)):
        frequency = np.exp(rng.uniform(np.log(2.0), np.log(28.0)))
        amplitude = rng.uniform(0.05, 0.5) / frequency
        warp = smooth_noise(vertices / size, 3.0, rng)[:, None] * rng.uniform(0, 0.3)
        height += amplitude * smooth_noise(vertices / size + warp, frequency, rng, ridged=rng.random() < 0.4)
    moved: Array = vertices + normals * (height * size * rng.uniform(0.3, 1.0))[:, None]
    return moved


def _sphere(rng: Rng) -> tuple[Array, Array]:
    m = trimesh.creation.icosphere(5)
    return m.vertices * rng.uniform(0.5, 1.2, 3), m.faces


def _torus(rng: Rng) -> tuple[Array, Array]:
    m = trimesh.creation.torus(1.0, rng.uniform(0.2, 0.5), 96, 48)
    return m.vertices, m.faces


def _lathe(rng: Rng) -> tuple[Array, Array]:
    """A vase, cup or bottle: a random profile turned about the vertical."""
    rows, turns = 96, 128
    t = np.linspace(0, 1, rows)
    radius = np.abs(
        0.5 + sum(rng.normal() * 0.25 / k * np.cos(np.pi * k * t + rng.uniform(0, 6)) for k in range(1, 6))
    )
    radius = np.where((t < 0.01) | (t > 0.99), 1e-3, np.maximum(radius, 0.05))
    phi = np.linspace(0, 2 * np.pi, turns, endpoint=False)
    y = (t - 0.5) * rng.uniform(1.0, 2.5)
    grid = np.stack(
        [radius[:, None] * np.cos(phi), np.repeat(y[:, None], turns, 1), radius[:, None] * np.sin(phi)], -1
    )
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(turns), indexing="ij")
    a, b = i * turns + j, i * turns + (j + 1) % turns
    faces = np.concatenate(
        [np.stack([a, a + turns, b], -1), np.stack([b, a + turns, b + turns], -1)]
    ).reshape(-1, 3)
    return grid.reshape(-1, 3), faces


def _capsule(rng: Rng) -> tuple[Array, Array]:
    m = trimesh.creation.capsule(rng.uniform(0.5, 2.0), rng.uniform(0.2, 0.7), count=[48, 48])
    return m.vertices, m.faces


def _hull(rng: Rng) -> tuple[Array, Array]:
    """A cut stone: the convex hull of a few points."""
    points = rng.normal(size=(rng.integers(6, 26), 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True) ** rng.uniform(0.5, 1.0)
    hull = ConvexHull(points)
    faces = hull.simplices.copy()
    outward = np.einsum(
        "fi,fi->f",
        np.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]]),
        hull.equations[:, :3],
    )
    faces[outward < 0] = faces[outward < 0][:, ::-1]
    return points, faces


def _box(rng: Rng) -> tuple[Array, Array]:
    m = trimesh.creation.box(rng.uniform(0.4, 1.6, 3))
    return np.asarray(m.vertices), np.asarray(m.faces)


def _prism(rng: Rng) -> tuple[Array, Array]:
    m = trimesh.creation.cylinder(
        rng.uniform(0.3, 0.9), rng.uniform(0.4, 2.0), sections=int(rng.integers(3, 9))
    )
    return np.asarray(m.vertices), np.asarray(m.faces)


SMOOTH: list[Callable[[Rng], tuple[Array, Array]]] = [_sphere, _torus, _lathe, _capsule]
HARD: list[Callable[[Rng], tuple[Array, Array]]] = [_hull, _box, _prism]


def objects(rng: Rng, hard: bool) -> Mesh:
    """One to five primitives; ``hard`` ones have flat faces and creases, the others are smooth, often displaced."""
    count = int(rng.choice([1, 1, 1, 2, 3, 4, 5]))
    meshes = []
    for index in range(count):
        family = HARD if hard and (index == 0 or rng.random() < 0.6) else SMOOTH
        maker = family[rng.integers(len(family))]
        vertices, faces = maker(rng)
        rest = vertices / max(float(np.ptp(vertices, axis=0).max()), 1e-6) * 2.0
        flat = family is HARD
        if family is SMOOTH and rng.random() < 0.65:
            vertices = displace(vertices, faces, rng)
        turn = random_rotation(rng)
        vertices = vertices @ turn.T * rng.uniform(0.5, 1.0) + (rng.normal(size=3) * 0.6 if index else 0.0)
        part = int(Part.OBJECT_A) + int(rng.integers(4))
        meshes.append(build(vertices, faces, part, rest + rng.normal(size=3) * 3, flat))
    return join(meshes)


class Heads:
    """Random heads of ICT-FaceKit (Li et al. 2020, MIT license) with stand-ins for hair and clothing.

    Args:
        folder: holds ``generic_neutral_mesh.obj``, ``ict_deltas_f16.npz`` and ``vertex_indices.json``.
    """

    PARTS: ClassVar[dict[str, Part]] = {
        "M_Face": Part.SKIN,
        "M_BackHead": Part.SKIN,
        "M_GumsTongue": Part.GUMS,
        "M_Teeth": Part.TEETH,
        "M_ScleraLeft": Part.SCLERA,
        "M_ScleraRight": Part.SCLERA,
        "M_IrisLeft": Part.IRIS,
        "M_IrisRight": Part.IRIS,
    }

    def __init__(self, folder: Path) -> None:
        obj, deltas = folder / "generic_neutral_mesh.obj", folder / "ict_deltas_f16.npz"
        for path in (obj, deltas):
            if not path.is_file():
                raise InputError(
                    f"{path} is missing.", "Point --data at a folder that holds head_ict_facekit."
                )
        archive = np.load(deltas, allow_pickle=False)
        self.neutral = archive["neutral"].astype(np.float64)
        self.identity = archive["identity"].astype(np.float32)
        self.expression = archive["expression"].astype(np.float32)
        faces: list[list[int]] = []
        parts: list[int] = []
        current = None
        for line in obj.read_text().splitlines():
            if line.startswith("usemtl"):
                current = self.PARTS.get(line.split()[1])
            elif line.startswith("f ") and current is not None:
                ring = [int(token.split("/")[0]) - 1 for token in line.split()[1:]]
                for k in range(1, len(ring) - 1):
                    faces.append([ring[0], ring[k], ring[k + 1]])
                    parts.append(int(current))
        self.faces = np.array(faces)
        self.part = np.array(parts, np.uint8)

    def sample(self, rng: Rng) -> Mesh:
        """One head and shoulders, about 30 units high, facing +Z."""
        weights = rng.normal(size=len(self.identity)) * rng.uniform(0.4, 1.1)
        vertices = self.neutral + np.tensordot(weights.astype(np.float32), self.identity, 1)
        active = rng.random(len(self.expression)) < 0.12
        amount = np.where(active, rng.uniform(0, 0.9, len(self.expression)), 0).astype(np.float32)
        vertices = vertices + np.tensordot(amount, self.expression, 1)
        if rng.random() < 0.5:  # wrinkles and pores coarser than the mesh can carry come as bump later
            normals = trimesh.Trimesh(vertices, self.faces, process=False).vertex_normals
            vertices = (
                vertices
                + normals
                * (smooth_noise(self.neutral, rng.uniform(0.8, 2.5), rng) * rng.uniform(0, 0.12))[:, None]
            )
        meshes = [build(vertices, self.faces, self.part, self.neutral)]
        if rng.random() < 0.85:
            meshes.append(self._hair(vertices, rng))
        meshes.append(self._clothes(vertices, rng))
        return join(meshes)

    def _hair(self, vertices: Array, rng: Rng) -> Mesh:
        rest = self.neutral
        skin = self.faces[self.part == int(Part.SKIN)]
        center = rest[skin].mean(1)
        low = rng.uniform(-9.0, 6.0)  # how far down the back the hair reaches
        hairline = 9.6 + rng.uniform(-1.0, 1.5) + 0.9 * smooth_noise(center, 0.4, rng)
        scalp = np.where(
            center[:, 2] > 2.0, center[:, 1] > hairline, center[:, 1] > low + 1.5 * (center[:, 2] + 1.0)
        )
        skin = skin[scalp & (np.abs(center[:, 0]) < 12)]
        used, inverse = np.unique(skin, return_inverse=True)
        faces = inverse.reshape(-1, 3)
        base = vertices[used]
        fine = trimesh.Trimesh(base, faces, process=False).subdivide()
        points, faces = np.asarray(fine.vertices), np.asarray(fine.faces)
        normals = fine.vertex_normals
        body = rng.uniform(0.3, 2.2)
        strand = points * np.array([3.0, rng.uniform(0.2, 1.0), 3.0])
        lift = body * (1 + 0.35 * smooth_noise(points, 0.6, rng)) + rng.uniform(0.05, 0.3) * smooth_noise(
            strand, rng.uniform(1.0, 2.5), rng, ridged=True
        )
        points = points + normals * np.maximum(lift, 0.05)[:, None]
        return build(points, faces, int(Part.HAIR), points * np.array([2.0, 0.3, 2.0]))

    def _clothes(self, vertices: Array, rng: Rng) -> Mesh:
        m = trimesh.creation.icosphere(5)
        v = np.asarray(m.vertices)
        width, depth = rng.uniform(17, 24), rng.uniform(8, 12)
        points = (
            np.sign(v) * np.abs(v) ** rng.uniform(0.7, 1.0) * np.array([width, rng.uniform(14, 20), depth])
        )
        points[:, 1] -= np.abs(points[:, 0]) ** 1.5 * 0.04
        folds = smooth_noise(
            points * np.array([1, 0.4, 1]), rng.uniform(0.15, 0.6), rng, ridged=rng.random() < 0.6
        )
        points = points + v * (folds * rng.uniform(0.2, 1.4))[:, None]
        neck = vertices[:, 1].min()
        points += np.array([0.0, neck - rng.uniform(6, 14) + 2.0, rng.uniform(-3, 0)])
        return build(points, np.asarray(m.faces), int(Part.CLOTH), points * 0.3)
