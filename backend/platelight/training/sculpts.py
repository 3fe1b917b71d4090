"""Sculpted subjects of the virtual stage: carved and printed things, paper, cups and pouches.

Photographs of real objects differ from primitives in what is *on* them: carved faces and petals, grooves, folds, wrinkles,
rims that show their inside. Each function here makes one such family from a seed alone, without data.
"""

from __future__ import annotations

import cv2
import numpy as np

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
    smooth_noise,
)

INK = (255.0,)


def _profile(mask: Array, width: float, style: float) -> Array:
    """Height in [0, 1] of a shape drawn in ``mask`` (H, W) uint8: cushion, bevel or dome, ``width`` pixels wide."""
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    t = np.clip(distance / max(width, 1.0), 0, 1)
    if style < 0.4:
        return np.asarray(np.sqrt(np.clip(t * (2 - t), 0, 1)))
    return np.asarray(t if style < 0.6 else t * t * (3 - 2 * t))


def carving(rng: Rng, size: int = 192) -> Array:
    """A relief (size, size): faces, petals, letters, strokes and rings, raised or sunk; heights about +-0.06."""
    height = np.zeros((size, size))

    def point() -> tuple[int, int]:
        return int(rng.uniform(0.1, 0.9) * size), int(rng.uniform(0.1, 0.9) * size)

    for _ in range(int(rng.integers(1, 7))):
        mask = np.zeros((size, size), np.uint8)
        kind = int(rng.integers(7))
        center = point()
        if kind == 0:
            axes = (int(rng.uniform(4, 0.3 * size)), int(rng.uniform(4, 0.3 * size)))
            cv2.ellipse(mask, center, axes, float(rng.uniform(0, 180)), 0, 360, INK, -1)
        elif kind == 1:  # star, flower or sun
            petals, inner = int(rng.integers(3, 19)), rng.uniform(0.3, 0.85)
            phi = np.linspace(0, 2 * np.pi, 200)
            wave = np.abs(np.cos(phi * petals / 2)) ** rng.uniform(0.3, 2)
            radius = size * rng.uniform(0.12, 0.48) * (inner + (1 - inner) * wave)
            middle = np.array(center if rng.random() < 0.5 else (size // 2, size // 2))
            ring = np.stack([np.cos(phi), np.sin(phi)], 1) * radius[:, None] + middle
            cv2.fillPoly(mask, [ring.astype(np.int32)], INK)
        elif kind == 2:  # strokes
            for _ in range(int(rng.integers(1, 9))):
                a = np.array(point())
                steps = np.cumsum(rng.normal(size=(12, 2)) * size * 0.05, 0)
                cv2.polylines(mask, [(a + steps).astype(np.int32)], False, INK, int(rng.integers(2, 9)))
        elif kind == 3:  # letters
            word = "".join(chr(int(c)) for c in rng.integers(48, 91, int(rng.integers(1, 6))))
            cv2.putText(
                mask,
                word,
                (int(0.05 * size), center[1]),
                int(rng.integers(8)),
                rng.uniform(0.8, 3.0),
                INK,
                int(rng.integers(2, 9)),
            )
        elif kind == 4:  # a simple face
            r = size * rng.uniform(0.12, 0.35)
            for x, y, w, h in (
                (-0.4, -0.3, 0.16, 0.1),
                (0.4, -0.3, 0.16, 0.1),
                (0, 0.05, 0.1, 0.25),
                (0, 0.5, 0.35, 0.08),
            ):
                cv2.ellipse(
                    mask,
                    (int(center[0] + x * r), int(center[1] + y * r)),
                    (max(int(w * r), 2), max(int(h * r), 2)),
                    0,
                    0,
                    360,
                    INK,
                    -1,
                )
        elif kind == 5:  # ring or frame
            if rng.random() < 0.5:
                cv2.circle(
                    mask,
                    (size // 2, size // 2),
                    int(size * rng.uniform(0.2, 0.47)),
                    INK,
                    int(rng.integers(3, 16)),
                )
            else:
                m = int(size * rng.uniform(0.03, 0.2))
                cv2.rectangle(mask, (m, m), (size - m, size - m), INK, int(rng.integers(3, 14)))
        else:  # flutes
            turn, pitch = rng.uniform(0, np.pi), rng.uniform(6, 30)
            y, x = np.mgrid[:size, :size]
            mask[
                np.sin((x * np.cos(turn) + y * np.sin(turn)) * 2 * np.pi / pitch) > rng.uniform(-0.3, 0.5)
            ] = 255
        depth = rng.uniform(0.01, 0.07) * (1 if rng.random() < 0.65 else -0.6)
        height += depth * _profile(mask, log_uniform(rng, 2, 30), rng.random())
    return np.asarray(cv2.GaussianBlur(height, (0, 0), rng.uniform(0.5, 1.5)))


def _outline(rng: Rng, x: Array, y: Array) -> Array:
    """True inside a disc, rectangle, superellipse or scalloped edge."""
    power = float(rng.choice([2.0, 2.0, 3.0, 8.0, 60.0]))
    radius = (np.abs(x) ** power + np.abs(y) ** power) ** (1 / power)
    if rng.random() < 0.3:
        radius = radius / (
            1 - rng.uniform(0.02, 0.12) * (0.5 + 0.5 * np.cos(np.arctan2(y, x) * rng.integers(3, 22)))
        )
    return np.asarray(radius < 0.97)


def plaque(rng: Rng) -> Mesh:
    """A carved medal, tile or money box: a relief on a slab with a rim."""
    n = 176
    x, y = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n))
    inside = _outline(rng, x, y)
    relief = cv2.resize(carving(rng), (n, n)) * rng.uniform(0.6, 2.5)
    dome = rng.uniform(-0.1, 0.45) * (1 - 0.5 * (x**2 + y**2))
    edge = _profile(inside.astype(np.uint8) * 255, rng.uniform(1, 26), rng.random())
    thick = rng.uniform(0.08, 0.6)
    z = np.where(inside, dome + relief + thick * (edge - 1) * (0.0 if rng.random() < 0.3 else 1.0), -thick)
    # Outside the outline the sheet folds down onto the slab's wall, so that its side is seen.
    stretch = np.array([1.0, rng.uniform(0.6, 1.3)])
    points = np.stack([x * stretch[0], y * stretch[1], z], -1).reshape(-1, 3)
    faces = grid_faces(n, n)
    kept = inside.ravel()[faces].any(1)
    rest = points + rng.normal(size=3) * 3
    return build(points, faces[kept], int(Part.OBJECT_A), rest)


def carved_box(rng: Rng) -> Mesh:
    """A box whose faces carry reliefs, some open at the top so that the inner walls show."""
    n = 96
    sides = rng.uniform(0.5, 1.0, 3)
    open_top = rng.random() < 0.4
    lip = rng.uniform(-0.12, 0.15) if open_top else 0.0
    x, y = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n))
    meshes = []
    turns = [
        euler(0, 0, 0),
        euler(90, 0, 0),
        euler(180, 0, 0),
        euler(270, 0, 0),
        euler(0, 90, 0),
        euler(0, -90, 0),
    ]
    for index, turn in enumerate(turns):
        if open_top and index == 5:
            continue
        bevel = np.clip(np.minimum(1 - np.abs(x), 1 - np.abs(y)) / 0.04, 0, 1) * 0.03 - 0.03
        relief = (
            cv2.resize(carving(rng), (n, n)) * rng.uniform(0.3, 1.5)
            if rng.random() < 0.6
            else np.zeros((n, n))
        )
        relief = relief * np.clip(np.minimum(1 - np.abs(x), 1 - np.abs(y)) / 0.1, 0, 1)
        points = np.stack([x, y, 1 + bevel + relief], -1).reshape(-1, 3) @ turn.T * sides
        points = points * np.array([1, 1, 1]) * (1 + lip * points[:, 1:2])
        meshes.append(build(points, grid_faces(n, n), int(Part.OBJECT_A), points * 1.0 + 3.0))
    return join(meshes)


def cup(rng: Rng) -> Mesh:
    """A cup, bowl or vase of revolution, open at the top: thin walls, the inside is seen; some are fluted or carved."""
    rows, turns = 120, 180
    t = np.linspace(0, 1, rows)
    radius = rng.uniform(0.3, 0.9) * (
        1 + rng.uniform(-0.4, 0.8) * t + rng.normal() * 0.25 * np.sin(np.pi * t)
    )
    radius = np.maximum(radius + rng.normal() * 0.08 * np.sin(2 * np.pi * t + rng.uniform(0, 6)), 0.08)
    y = (t - 0.5) * rng.uniform(0.6, 2.2)
    phi = np.linspace(0, 2 * np.pi, turns, endpoint=False)
    surface = np.repeat(radius[:, None], turns, 1)
    if rng.random() < 0.35:
        surface = surface + cv2.resize(carving(rng), (turns, rows)) * np.sin(np.pi * t)[:, None] * 0.6
    if rng.random() < 0.2:
        surface = surface * (1 + rng.uniform(0.01, 0.06) * np.cos(phi * rng.integers(5, 24)))
    grid = np.stack([surface * np.cos(phi), np.repeat(y[:, None], turns, 1), surface * np.sin(phi)], -1)
    points = grid.reshape(-1, 3)
    wall = build(points, grid_faces(rows, turns, wrap=True), int(Part.OBJECT_A), points + 2.0)
    disc = grid[0] * np.array([1, 0, 1]) + np.array([0, y[0] + 0.02, 0])
    floor = np.concatenate([disc, disc.mean(0, keepdims=True)])
    k = np.arange(turns)
    faces = np.stack([k, (k + 1) % turns, np.full(turns, turns)], 1)
    parts = [wall, build(floor, faces, int(Part.OBJECT_A), floor + 2.0, flat=True)]
    if rng.random() < 0.3:  # a handle
        angle = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 40)
        size, thick = rng.uniform(0.2, 0.45), rng.uniform(0.03, 0.09)
        path = np.stack(
            [radius[rows // 2] * 0.97 + size * np.cos(angle), size * 1.2 * np.sin(angle), 0 * angle], 1
        )
        ring = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        out = np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)
        tube = path[:, None] + thick * (
            np.cos(ring)[None, :, None] * out[:, None] + np.sin(ring)[None, :, None] * np.array([0, 0, 1.0])
        )
        points = tube.reshape(-1, 3)
        parts.append(build(points, grid_faces(40, 24, wrap=True), int(Part.OBJECT_A), points + 2.0))
    return join(parts)


def paper(rng: Rng) -> Mesh:
    """Creased paper or cardboard: minima and maxima of planes, a continuous surface of flat facets with sharp creases."""
    n = 150
    x, y = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n))
    steep = rng.uniform(0.15, 1.1)
    slope = rng.normal(size=2) * 0.2
    z = slope[0] * x + slope[1] * y
    for _ in range(int(rng.integers(3, 26))):
        slope = rng.normal(size=2) * steep
        px, py = rng.uniform(-1, 1, 2)
        row, column = int((py + 1) / 2 * (n - 1)), int((px + 1) / 2 * (n - 1))
        plane = z[row, column] + rng.normal() * 0.03 + slope[0] * (x - px) + slope[1] * (y - py)
        z = np.minimum(z, plane) if rng.random() < 0.5 else np.maximum(z, plane)
    z = np.clip(z - np.median(z), -1.2, 1.2)
    if rng.random() < 0.4:
        flat_points = np.stack([x, y, 0 * x], -1).reshape(-1, 3)
        z = z + 0.02 * smooth_noise(flat_points, rng.uniform(5, 20), rng, ridged=True).reshape(
            n, n
        ) * rng.uniform(0, 1)
    corners = rng.uniform(0.75, 1.0, (2, int(rng.integers(4, 16))))
    phi = np.arctan2(y, x) % (2 * np.pi)
    k = corners.shape[1]
    reach = np.interp(phi, np.linspace(0, 2 * np.pi, k + 1), np.append(corners[0], corners[0][0]))
    square = np.maximum(np.abs(x), np.abs(y)) if rng.random() < 0.7 else np.hypot(x, y)
    faces = grid_faces(n, n)
    kept = (square < reach).ravel()[faces].all(1)
    points = np.stack([x, y * rng.uniform(0.6, 1.2), z], -1).reshape(-1, 3)
    return build(points, faces[kept], int(Part.OBJECT_A), points * 1.0 + rng.normal(size=3) * 3, flat=True)


def pouch(rng: Rng) -> Mesh:
    """A cushion, packet or tea bag: puffed, with a flat seam and wrinkles that run from it."""
    n = 150
    x, y = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n))
    seam = rng.uniform(0.0, 0.2)
    u, v = np.clip(np.abs(x) / (1 - seam), 0, 1), np.clip(np.abs(y) / (1 - seam), 0, 1)
    power = rng.uniform(1.5, 6)
    puff = ((1 - u**power) * (1 - v**power)) ** rng.uniform(0.4, 1.0)
    z = puff * rng.uniform(0.08, 0.5)
    points = np.stack([x, y, 0 * x], -1).reshape(-1, 3)
    across = smooth_noise(
        points * np.array([rng.uniform(4, 12), 1.0, 1.0]), rng.uniform(1, 3), rng, ridged=rng.random() < 0.5
    )
    along = smooth_noise(
        points * np.array([1.0, rng.uniform(4, 12), 1.0]), rng.uniform(1, 3), rng, ridged=rng.random() < 0.5
    )
    near_x, near_y = np.exp(-(1 - np.abs(x)) / 0.25), np.exp(-(1 - np.abs(y)) / 0.25)
    wrinkle = along.reshape(n, n) * near_x + across.reshape(n, n) * near_y
    z = (
        z
        + wrinkle * rng.uniform(0, 0.035)
        + rng.uniform(0, 0.06)
        * smooth_noise(points, rng.uniform(2, 8), rng, ridged=True).reshape(n, n)
        * puff
    )
    if rng.random() < 0.5:
        z = z + rng.normal() * 0.2 * x * y + rng.normal() * 0.15 * x**2
    points = np.stack([x, y * rng.uniform(0.6, 1.4), z], -1).reshape(-1, 3)
    return build(points, grid_faces(n, n), int(Part.OBJECT_A), points + rng.normal(size=3) * 3)


def sculpt(rng: Rng) -> Mesh:
    """One carved or folded thing, turned so that its worked side is seen."""
    maker = (plaque, carved_box, cup, paper, paper, pouch)[int(rng.integers(6))]
    mesh = maker(rng)
    if maker is carved_box:
        turn = euler(rng.uniform(-180, 180), rng.uniform(5, 50), rng.normal() * 8)
    elif maker is cup:
        turn = euler(rng.uniform(-180, 180), rng.uniform(-15, 60), rng.normal() * 12)
    else:  # a sheet seen edge-on teaches nothing
        turn = euler(rng.normal() * 32, rng.normal() * 28, rng.normal() * 30)
    return Mesh(mesh.vertices @ turn.T, mesh.faces, mesh.normals @ turn.T, mesh.rest, mesh.part)
