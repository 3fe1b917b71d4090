"""Statues, reliefs, rocks and draped cloth: things whose form is rich and whose color does not tell what they are.

Heads and bodies painted as skin, hair and cloth teach that skin is a face. Carved or cast of one stuff, with other
proportions, worn or pressed flat into a relief, the same meshes must be read by their shading, as figurines must.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import trimesh
from scipy import ndimage

from platelight.training.body_clothes import relaxed
from platelight.training.figurines import slab
from platelight.training.subjects import (
    Array,
    Mesh,
    Part,
    Rng,
    build,
    euler,
    grid_faces,
    join,
    log_uniform,
    random_rotation,
    smooth_noise,
)

RELIEFS = 0.35  # of statues are pressed into a relief
OCTAVES = 6


def _remodeled(points: Array, faces: Array, size: float, rng: Rng) -> Array:
    """Points of a mesh in other proportions, worn smooth and then roughened, in the mesh's own frame."""
    unit = points / size
    bend = np.stack([smooth_noise(unit, rng.uniform(1.0, 3.0), rng, waves=6) for _ in range(3)], 1)
    points = points + bend * size * rng.uniform(0.0, 0.1)
    points = points * np.exp(rng.normal(size=3) * 0.15)
    if rng.random() < 0.6:
        points = relaxed(points, faces, int(rng.integers(1, 9)))
    if rng.random() < 0.6:
        normals = trimesh.Trimesh(points, faces, process=False).vertex_normals
        height = np.zeros(len(points))
        for _ in range(int(rng.integers(1, 3))):
            frequency = log_uniform(rng, 6.0, 36.0)
            stretch = np.exp(rng.normal(size=3) * 0.5)
            height += smooth_noise(unit * stretch, frequency, rng, ridged=rng.random() < 0.5) / frequency
        where = np.clip(smooth_noise(unit, 2.5, rng) + 0.6, 0, 1)
        points = points + normals * (height * where * size * rng.uniform(0.02, 0.25))[:, None]
    return points


def statue(mesh: Mesh, size: float, rng: Rng) -> tuple[Mesh, bool]:
    """A person's mesh, facing +Z, made of one or two stuffs, and whether it became a relief.

    Args:
        mesh: of a head or a body. size: radius about the origin of what is to be seen, in the mesh's units.

    Returns:
        The statue in the mesh's units; a relief has a radius of about one about the origin, for the stage to frame.
    """
    points = _remodeled(mesh.vertices, mesh.faces, size, rng)
    part = np.full(len(mesh.faces), int(Part.OBJECT_A), np.uint8)
    if rng.random() < 0.5:  # hair and clothes of another color
        part[np.isin(mesh.part, (int(Part.HAIR), int(Part.CLOTH)))] = int(Part.OBJECT_B)
    rest = points / size + rng.normal(size=3) * 3
    if rng.random() >= RELIEFS:
        return build(points, mesh.faces, part, rest), False
    points = points / size
    near = np.linalg.norm(points[:, :2], axis=1) < 1.0
    back = float(np.quantile(points[near, 2], rng.uniform(0.2, 0.7)))
    points = (points - np.array([0, 0, back])) * np.array([1, 1, rng.uniform(0.15, 0.6)])
    figure = build(points, mesh.faces, part, rest)
    # What reaches beyond the plate is cut off, as is what lies behind it.
    kept = (np.linalg.norm(points[:, :2], axis=1) < 0.95)[mesh.faces].all(1)
    kept &= (points[:, 2] > -0.05)[mesh.faces].any(1)
    used, faces = np.unique(
        figure.faces[kept], return_inverse=True
    )  # the stage frames all vertices there are
    figure = Mesh(
        figure.vertices[used],
        faces.reshape(-1, 3),
        figure.normals[kept],
        figure.rest[used],
        figure.part[kept],
    )
    plate = slab(rng)
    turned = np.stack([plate.vertices[:, 0], -plate.vertices[:, 2], plate.vertices[:, 1]], 1)
    turned = turned * np.array([1.0, rng.uniform(0.7, 1.4), 1.0])
    wide = float(np.abs(turned[:, 0]).max())
    turned = turned * np.array([1.0, 1.0, rng.uniform(0.5, 1.5)]) / wide * rng.uniform(0.9, 1.2)
    turned[:, 2] -= turned[:, 2].max() + rng.uniform(-0.02, 0.05)
    dome = rng.uniform(0.0, 0.4)
    for raised in (turned, figure.vertices):
        raised[:, 2] -= dome * (raised[:, :2] ** 2).sum(1)
    figure = build(figure.vertices, figure.faces, figure.part, figure.rest)
    behind = build(
        turned, plate.faces, int(Part.OBJECT_A) + int(rng.integers(2)), turned + rng.normal(size=3)
    )
    turn = euler(rng.normal() * 30, rng.normal() * 25, rng.normal() * 20)
    whole = join([figure, behind])
    return (
        Mesh(whole.vertices @ turn.T, whole.faces, whole.normals @ turn.T, whole.rest, whole.part),
        True,
    )


def rock(rng: Rng) -> Mesh:
    """A stone: cut by planes, weathered by octaves of noise, now round and now broken."""
    ball = trimesh.creation.icosphere(6)
    ways, faces = np.asarray(ball.vertices), np.asarray(ball.faces)
    planes = (
        random_rotation(rng)
        @ (v := rng.normal(size=(3, int(rng.integers(5, 30)))))
        / np.linalg.norm(v, axis=0)
    )
    reach = np.clip(ways @ planes, 1e-3, None) / rng.uniform(0.55, 1.1, planes.shape[1])
    sharp = log_uniform(rng, 6.0, 60.0)
    radius = (reach**sharp).sum(1) ** (-1 / sharp)
    points = ways * np.clip(radius, 0.2, 1.6)[:, None] * np.exp(rng.normal(size=3) * 0.25)
    frequency, rough = rng.uniform(1.5, 4.0), rng.uniform(0.45, 0.85)
    stretch, ridged = np.exp(rng.normal(size=3) * 0.4), rng.random() < 0.5
    warp = np.stack([smooth_noise(points, 2.0, rng) for _ in range(3)], 1) * rng.uniform(0, 0.3)
    height, amount = np.zeros(len(points)), rng.uniform(0.02, 0.12)
    for _ in range(OCTAVES):
        height += amount * smooth_noise((points + warp) * stretch, frequency, rng, waves=12, ridged=ridged)
        frequency, amount = frequency * 2.0, amount * rough
        if frequency > 60:
            break
    points = points + ways * height[:, None]
    return build(points, faces, int(Part.OBJECT_A), points + rng.normal(size=3) * 3, flat=rng.random() < 0.1)


def drape(rng: Rng) -> Mesh:
    """Cloth that lies over hidden things, in folds, turned so that its upper side is seen."""
    n = 200
    line = np.linspace(-1, 1, n)
    x, y = np.meshgrid(line, line)
    height = np.zeros((n, n))
    for _ in range(int(rng.integers(1, 6))):
        cx, cy = rng.uniform(-0.6, 0.6, 2)
        a, b = rng.uniform(0.15, 0.6, 2)
        about = rng.uniform(0, np.pi)
        u = ((x - cx) * np.cos(about) + (y - cy) * np.sin(about)) / a
        v = (-(x - cx) * np.sin(about) + (y - cy) * np.cos(about)) / b
        power = rng.choice([2.0, 2.0, 4.0, 8.0])
        bump = np.clip(1 - np.abs(u) ** power - np.abs(v) ** power, 0, None) ** (1 / power)
        height = np.maximum(height, bump * rng.uniform(0.1, 0.7))
    # Cloth spans hollows and rounds edges off.
    height = np.maximum(height, ndimage.gaussian_filter(height, n * rng.uniform(0.01, 0.08)))
    height = ndimage.gaussian_filter(height, n * rng.uniform(0.005, 0.03))
    flat = np.stack([x, y, height], -1).reshape(-1, 3)
    way = rng.uniform(0, np.pi)
    along = flat @ euler(0, 0, np.degrees(way)).T * np.array([1.0, log_uniform(rng, 0.15, 0.8), 1.0])
    warp = np.stack([smooth_noise(flat, 2.0, rng) for _ in range(3)], 1) * rng.uniform(0.05, 0.4)
    gather = np.clip(0.4 + 0.7 * smooth_noise(flat, 1.5, rng), 0, 1.5)
    folds = np.zeros(n * n)
    for _ in range(int(rng.integers(1, 4))):
        frequency = log_uniform(rng, 4.0, 24.0)
        folds += gather * rng.uniform(0.1, 0.6) / frequency * smooth_noise(
            along + warp, frequency, rng, ridged=rng.random() < 0.6
        )  # fmt: skip
    flat[:, 2] += folds
    outline = np.linalg.norm(flat[:, :2], axis=1) * (1 + 0.15 * smooth_noise(flat * [1, 1, 0], 2.5, rng))
    kept = (outline < rng.uniform(0.75, 1.4))[grid_faces(n, n)].all(1)
    turn = euler(rng.normal() * 30, rng.uniform(-60, 30), rng.uniform(-180, 180))
    made = build(flat, grid_faces(n, n)[kept], int(Part.OBJECT_A), np.stack([x, y, 0 * x], -1).reshape(-1, 3))
    return Mesh(made.vertices @ turn.T, made.faces, made.normals @ turn.T, made.rest, made.part)


ROUGH: tuple[Callable[[Rng], Mesh], ...] = (rock, drape)
