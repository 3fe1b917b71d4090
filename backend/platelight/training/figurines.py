"""Figurines: creatures and blends of ellipsoids, as signed distances made into meshes; from a seed alone, without data."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import ndimage
from skimage.measure import marching_cubes

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

COARSE, REFINE = 38, 3  # cells of the first grid, and how much finer the second one is
SPAN = 1.3


Field = Callable[[Array], Array]


def _ellipsoid(points: Array, middle: Array, turn: Array, size: Array) -> Array:
    """Approximate signed distance (Quilez), first order exact at the surface."""
    local = ((points - middle) @ turn).astype(np.float32) / size.astype(np.float32)
    radius = np.linalg.norm(local, axis=1)
    slope = np.linalg.norm(local / size.astype(np.float32), axis=1)
    distance: Array = radius * (radius - 1) / np.maximum(slope, 1e-4)
    return distance


def _limb(points: Array, start: Array, end: Array, first: float, last: float) -> Array:
    """Signed distance to a capsule whose radius runs from ``first`` to ``last``."""
    along = end - start
    t = np.clip((points - start) @ along / max(float(along @ along), 1e-6), 0, 1).astype(np.float32)
    distance: Array = np.linalg.norm(points - start - t[:, None] * along, axis=1) - (
        first + (last - first) * t
    )
    return distance


def _ellipsoid_of(middle: Array, turn: Array, size: Array) -> Field:
    return partial(_ellipsoid, middle=middle, turn=turn, size=size)


def _limb_of(start: Array, end: Array, first: float, last: float) -> Field:
    return partial(_limb, start=start, end=end, first=first, last=last)


def _mirrored(points: Array, shape: Field) -> Array:
    return shape(np.stack([np.abs(points[:, 0]), points[:, 1], points[:, 2]], 1))


def smooth_minimum(a: Array, b: Array, blend: float) -> Array:
    """Polynomial smooth minimum of two distances (Quilez); negate all three to cut instead of join."""
    mix = np.clip(0.5 + 0.5 * (a - b) / blend, 0, 1)
    joined: Array = a * (1 - mix) + b * mix - blend * mix * (1 - mix)
    return np.asarray(joined)


def _creature(rng: Rng) -> Field:
    """A body with paired limbs, a head with eyes, ears, muzzle and mouth, and grooves: its signed distance."""
    joins: list[tuple[Callable[[Array], Array], float]] = []
    cuts: list[tuple[Callable[[Array], Array], float]] = []
    soft = log_uniform(rng, 0.01, 0.14)
    body = rng.uniform(0.28, 0.55, 3)
    lean = euler(0, rng.uniform(-70, 20), 0)
    joins.append((_ellipsoid_of(np.zeros(3), lean, body), soft))
    head = rng.uniform(0.2, 0.46, 3)
    neck = np.array([0, body[1] + head[1] * rng.uniform(0.2, 0.9), rng.uniform(-0.1, 0.9) * body[2]])
    neck = np.clip(neck, -0.85, 0.85)
    joins.append((_ellipsoid_of(neck, np.eye(3), head), soft))

    def add(shape: Callable[[Array], Array], blend: float) -> None:
        joins.append((shape, blend))

    def on_head(x: float, y: float) -> Array:
        """A point of the head's front, x and y in units of its size."""
        z = np.sqrt(max(1 - x * x - y * y, 0.05))
        return np.asarray(neck + np.array([x, y, z]) * head)

    if rng.random() < 0.8:  # muzzle, beak or nose
        size = head * rng.uniform(0.2, 0.6, 3)
        place = on_head(0, rng.uniform(-0.5, 0.0))
        add(_ellipsoid_of(place, np.eye(3), size), soft * rng.uniform(0.2, 1.0))
        if rng.random() < 0.6:
            tip, small = place + np.array([0, 0, size[2]]), float(size.mean()) * rng.uniform(0.2, 0.5)
            add(_ellipsoid_of(tip, np.eye(3), np.full(3, small)), 0.008)
    if rng.random() < 0.85:  # eyes, raised or in sockets
        eye, radius = (
            on_head(rng.uniform(0.25, 0.6), rng.uniform(0.0, 0.5)),
            float(head.mean()) * rng.uniform(0.1, 0.3),
        )
        if rng.random() < 0.6:
            cuts.append((_ellipsoid_of(eye, np.eye(3), np.full(3, radius * 1.35)), 0.02))
        add(_ellipsoid_of(eye, np.eye(3), np.full(3, radius)), 0.006)
    if rng.random() < 0.8:  # ears or horns
        base = neck + head * np.array([rng.uniform(0.3, 0.9), rng.uniform(0.5, 0.9), 0])
        tip = base + np.array([rng.uniform(0, 0.25), rng.uniform(0.05, 0.4), rng.uniform(-0.1, 0.1)])
        wide = rng.uniform(0.05, 0.15)
        add(_limb_of(base, tip, wide, wide * rng.uniform(0.1, 0.9)), soft * 0.5)
        hollow = base + (tip - base) * 0.5 + np.array([0, 0, wide])
        if rng.random() < 0.5:
            size = np.array([wide * 0.6, wide * 1.6, wide * 0.6])
            cuts.append((_ellipsoid_of(hollow, np.eye(3), size), 0.015))
    if rng.random() < 0.6:  # a mouth
        place, width = on_head(0, rng.uniform(-0.7, -0.4)), head[0] * rng.uniform(0.3, 0.7)
        bow = rng.uniform(-0.05, 0.08)
        # Mirrored by itself where the creature is not.
        lips = _limb_of(place, place + np.array([width, bow, -0.06]), 0.014, 0.01)
        cuts.append((partial(_mirrored, shape=lips), 0.01))
    for _ in range(int(rng.integers(1, 4))):  # paired limbs, arms, wings or feet
        start = body * rng.uniform(-0.9, 0.9, 3)
        start[0] = body[0] * rng.uniform(0.4, 0.95)
        bend = start + np.array([rng.uniform(0.0, 0.35), rng.uniform(-0.5, 0.2), rng.uniform(-0.15, 0.5)])
        end = np.clip(
            bend + np.array([rng.uniform(-0.15, 0.2), rng.uniform(-0.45, 0.1), rng.uniform(-0.1, 0.4)]),
            -1.05,
            1.05,
        )
        thick, thin = rng.uniform(0.07, 0.2), rng.uniform(0.04, 0.12)
        add(_limb_of(start, bend, thick, thin), soft)
        add(_limb_of(bend, end, thin, thin * 0.8), soft * 0.7)
        if rng.random() < 0.5:
            flat = np.array([thin * 1.3, thin * 0.8, thin * 2.0])
            add(_ellipsoid_of(end, np.eye(3), flat), soft * 0.6)
    if rng.random() < 0.4:  # a tail or crest
        start, end = (
            np.array([0, -0.3 * body[1], -body[2]]),
            np.array([rng.uniform(-0.8, 0.8), rng.uniform(-0.5, 0.6), -0.8]),
        )
        add(_limb_of(start, end, 0.12, 0.05), soft)
    for _ in range(int(rng.integers(0, 6))):  # carved lines
        a = body * rng.normal(size=3)
        b = a + rng.normal(size=3) * 0.3
        width = rng.uniform(0.008, 0.025)
        scale = 1.0 / max(float(np.linalg.norm(a / body)), 1e-3)
        cuts.append((_limb_of(a * scale, b * scale, width, width), 0.015))
    paired = rng.random() < 0.92

    def field(points: Array) -> Array:
        value = joins[0][0](points)
        for shape, blend in joins[1:]:
            value = smooth_minimum(value, shape(points), blend)
        for shape, blend in cuts:
            value = -smooth_minimum(-value, shape(points), blend)
        return value

    return partial(_mirrored, shape=field) if paired else field


def _blobs(rng: Rng) -> Field:
    """Ellipsoids grown out of one another: fruit, toys, abstract sculpture, knuckles of cloth."""
    blend = log_uniform(rng, 0.01, 0.25)
    parts: list[tuple[Array, Array, Array]] = []
    for index in range(int(rng.integers(3, 13))):
        size = rng.uniform(0.25, 0.6, 3) if index < 2 else rng.uniform(0.06, 0.35, 3)
        middle = np.zeros(3)
        if parts:
            parent, _, extent = parts[int(min(rng.integers(len(parts)), rng.integers(3)))]
            way = rng.normal(size=3)
            middle = parent + way / np.linalg.norm(way) * (extent.mean() * 0.85 + size.mean() * 0.5)
            middle = np.clip(middle, -0.85, 0.85)
        parts.append((middle, random_rotation(rng), size))

    def field(points: Array) -> Array:
        value = np.full(len(points), 9.0, np.float32)
        for middle, turn, size in parts:
            value = smooth_minimum(value, _ellipsoid(points, middle, turn, size), blend)
        return value

    return field


def surface_of(field: Field) -> tuple[Array, Array]:
    """Marching cubes of a distance on a fine grid that is only evaluated near the surface: vertices, faces.

    Raises:
        ValueError: the field has no surface inside the grid.
    """
    axis = np.linspace(-SPAN, SPAN, COARSE, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    coarse = field(points).reshape(COARSE, COARSE, COARSE).astype(np.float32)
    size = (COARSE - 1) * REFINE + 1
    fine = ndimage.zoom(coarse, size / COARSE, order=1, grid_mode=False)
    near = np.abs(fine) < 1.3 * (axis[1] - axis[0])
    axis = np.linspace(-SPAN, SPAN, size, dtype=np.float32)
    where = np.stack(np.nonzero(near), 1)
    fine[near] = field(axis[where])
    vertices, faces, _, _ = marching_cubes(fine, 0.0, spacing=(2 * SPAN / (size - 1),) * 3)  # type: ignore[no-untyped-call]
    return np.asarray(vertices) - SPAN, np.asarray(faces)[:, ::-1]


def figurine(rng: Rng) -> Mesh:
    """A creature or a blend of ellipsoids with relief, facing +Z and upright; the stage turns it."""
    while True:
        shape = _creature(rng) if rng.random() < 0.7 else _blobs(rng)
        amount = rng.uniform(0.002, 0.02) if rng.random() < 0.55 else 0.0
        stretch = np.exp(rng.normal(size=3) * 0.8).astype(np.float32)
        frequency, ridged, seed = rng.uniform(6, 26), rng.random() < 0.5, int(rng.integers(1 << 31))

        def field(points: Array, shape: Field = shape, amount: float = amount, stretch: Array = stretch,
                  frequency: float = frequency, ridged: bool = ridged, seed: int = seed) -> Array:  # fmt: skip
            if not amount:
                return shape(points)
            fur = np.random.default_rng(seed)
            where = smooth_noise(points, 2.5, fur)  # relief here, plain there
            relief = smooth_noise(points * stretch, frequency, fur, ridged=ridged)
            return np.asarray(shape(points) + amount * np.clip(where + 0.5, 0, 1) * relief)

        try:
            vertices, faces = surface_of(field)
            break
        except ValueError:  # no surface inside the grid: draw again
            continue
    mesh = build(vertices, faces, int(Part.OBJECT_A), vertices + rng.normal(size=3) * 3)
    outward = np.einsum(
        "fi,fi->f", mesh.vertices[mesh.faces].mean(1) - mesh.vertices.mean(0), mesh.normals.mean(1)
    )
    if outward.mean() < 0:
        mesh = Mesh(mesh.vertices, mesh.faces, -mesh.normals, mesh.rest, mesh.part)
    if rng.random() < 0.25:  # stands on a slab
        under = slab(rng)
        low = vertices[:, 1].min()
        mesh = join(
            [
                mesh,
                Mesh(
                    under.vertices + np.array([0, low, 0]), under.faces, under.normals, under.rest, under.part
                ),
            ]
        )
    return mesh


def slab(rng: Rng) -> Mesh:
    """A round plinth with its top at y = 0 and a radius below one."""
    rows, turns = 24, 96
    phi = np.linspace(0, 2 * np.pi, turns, endpoint=False)
    t = np.linspace(0, 1, rows)
    radius = np.minimum(1, np.minimum(t, 1 - t) * 8) ** 0.5 * rng.uniform(0.5, 0.9)
    height = (np.clip(t, 0.2, 0.8) - 0.8) * rng.uniform(0.1, 0.4)
    grid = np.stack(
        [radius[:, None] * np.cos(phi), np.repeat(height[:, None], turns, 1), radius[:, None] * np.sin(phi)],
        -1,
    )
    points = grid.reshape(-1, 3)
    return build(
        points, grid_faces(rows, turns, wrap=True)[:, ::-1], int(Part.OBJECT_B), points + rng.normal(size=3)
    )
