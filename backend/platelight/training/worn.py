"""Glasses and hats for heads: what people wear before their faces, in the head's own frame and to its own measure."""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from platelight.training.subjects import Array, Mesh, Part, Rng, build, grid_faces, join

AROUND = 64  # vertices around a hat, and along a rim


class Worn(StrEnum):
    """What a head wears; the values are those that shards and tables tell."""

    NOTHING = "nothing"
    GLASSES = "glasses"
    SUNGLASSES = "sunglasses"
    HAT = "hat"


SHARES: dict[Worn, float] = {Worn.NOTHING: 0.68, Worn.GLASSES: 0.14, Worn.SUNGLASSES: 0.06, Worn.HAT: 0.12}


def draw(rng: Rng) -> Worn:
    """What a head of a set wears."""
    return list(SHARES)[int(rng.choice(len(SHARES), p=list(SHARES.values())))]


def put_on(head: Mesh, worn: Worn, rng: Rng) -> Mesh:
    """A head in centimeters that faces +Z, with what it is to wear; a head without eyes wears nothing before them.

    A hat takes the place of the hair above its brim.
    """
    if worn is Worn.HAT:
        return join([_under(head, _brim(head)), hat(head, rng)])
    if worn is Worn.NOTHING or not (head.part == int(Part.SCLERA)).any():
        return head
    return join([head, glasses(head, worn is Worn.SUNGLASSES, rng)])


def _points(mesh: Mesh, *parts: Part) -> Array:
    return np.asarray(mesh.vertices[np.unique(mesh.faces[np.isin(mesh.part, [int(p) for p in parts])])])


def _eyes(head: Mesh) -> tuple[Array, Array]:
    """Middles of the front of both eyes, the one at -x first."""
    shells = _points(head, Part.SCLERA)
    sides = [shells[shells[:, 0] < 0], shells[shells[:, 0] > 0]]
    middles = [np.append(side[:, :2].mean(0), side[:, 2].max()) for side in sides]
    return middles[0], middles[1]


def _tube(path: Array, radius: float, closed: bool, part: Part) -> Mesh:
    """A tube (eight-sided) along points (N, 3)."""
    path = np.concatenate([path, path[:1]]) if closed else path
    along = np.gradient(path, axis=0)
    if closed:
        along[0] = along[-1] = path[1] - path[-2]
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    aside = np.cross(along, np.where(np.abs(along[:, 2:]) > 0.9, [[0.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]))
    aside /= np.maximum(np.linalg.norm(aside, axis=1, keepdims=True), 1e-9)
    other = np.cross(along, aside)
    turn = np.linspace(0, 2 * np.pi, 8, endpoint=False)[:, None]
    ring = np.cos(turn) * aside[:, None] + np.sin(turn) * other[:, None]
    points = (path[:, None] + radius * ring).reshape(-1, 3)
    return build(points, grid_faces(len(path), 8, wrap=True), int(part), points * 0.3)


def glasses(head: Mesh, dark: bool, rng: Rng) -> Mesh:
    """Rims, bridge and temples, and dark lenses where they are sunglasses; clear ones hardly show and are left out."""
    eyes = _eyes(head)
    skin = _points(head, Part.SKIN)
    apart = float(eyes[1][0] - eyes[0][0])
    half = 0.5 * apart * np.array([rng.uniform(0.72, 0.86), rng.uniform(0.5, 0.75)])  # of a lens
    corner = rng.uniform(0.5, 1.0)  # 1 is an ellipse, less is squarer
    radius = rng.uniform(0.07, 0.22)
    level = float(eyes[0][1] + eyes[1][1]) / 2 - 0.1 * half[1]
    nose = skin[(np.abs(skin[:, 0]) < 0.8) & (np.abs(skin[:, 1] - level) < 1.0)]
    front = max(float(eyes[0][2]), float(eyes[1][2])) + 1.2
    front = max(front, float(nose[:, 2].max()) + 0.1 + radius if len(nose) else front)
    turn = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)
    shape = np.stack([np.cos(turn), np.sin(turn)], 1)
    shape = np.sign(shape) * np.abs(shape) ** corner * half
    meshes = []
    for eye in eyes:
        wrap = -0.012 * ((shape[:, 0] + eye[0]) ** 2 - eye[0] ** 2)  # a frame bends back towards the temples
        rim = np.stack([shape[:, 0] + eye[0], shape[:, 1] + level, front + wrap], 1)
        meshes.append(_tube(rim, radius, True, Part.OBJECT_A))
        if dark:
            middle = rim.mean(0)
            rows = np.linspace(0, 1, 9)[:, None, None]
            lens = middle + (rim - middle) * rows + np.array([0, 0, 0.35]) * (1 - rows**2)
            faces = grid_faces(9, AROUND, wrap=True)[:, ::-1]
            meshes.append(build(lens.reshape(-1, 3), faces, int(Part.IRIS), lens.reshape(-1, 3)))
        side = float(np.sign(eye[0]))
        outer = rim[int(np.argmax(rim[:, 0] * side))]
        ear = skin[(np.abs(skin[:, 1] - level) < 2.0) & (np.abs(skin[:, 2] - (front - 11.0)) < 2.0)]
        wide = float(np.percentile(np.abs(ear[:, 0]), 80)) + 0.2 if len(ear) else float(abs(outer[0]))
        back = np.array([side * max(wide, abs(float(outer[0]))), level + 0.6, front - rng.uniform(11, 13)])
        steps = np.linspace(0, 1, 24)[:, None]
        temple = outer + (back - outer) * steps
        temple[:, 0] = outer[0] + (back[0] - outer[0]) * np.sqrt(steps[:, 0])
        meshes.append(_tube(temple, radius * 0.9, False, Part.OBJECT_A))
    t = np.linspace(-1, 1, 16)
    inner = abs(eyes[1][0]) - half[0]
    arc = np.stack([t * inner, level + 0.25 * half[1] + 0.4 * (1 - t**2), np.full(16, front)], 1)
    meshes.append(_tube(arc, radius, False, Part.OBJECT_A))
    return join(meshes)


def _brim(head: Mesh) -> float:
    """Height above which a hat covers the head."""
    skin = _points(head, Part.SKIN)
    top = float(skin[:, 1].max())
    level = float(_eyes(head)[0][1]) if (head.part == int(Part.SCLERA)).any() else top - 11.0
    return level + 0.42 * (top - level)


def _under(head: Mesh, brim: float) -> Mesh:
    """The head without hair above a height."""
    high = head.vertices[head.faces][..., 1].max(1) > brim - 0.5
    keep = ~((head.part == int(Part.HAIR)) & high)
    return Mesh(head.vertices, head.faces[keep], head.normals[keep], head.rest, head.part[keep])


def hat(head: Mesh, rng: Rng) -> Mesh:
    """A crown to the head's measure, with a brim all around (a hat), in front only (a cap) or none."""
    brim = _brim(head)
    skin = _points(head, Part.SKIN)
    high = skin[skin[:, 1] > brim]
    middle = (high.max(0) + high.min(0)) / 2
    half = (high.max(0) - high.min(0))[[0, 2]] / 2 + rng.uniform(0.4, 0.9)
    top = float(high[:, 1].max()) + rng.uniform(0.4, 3.0)
    turn = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)
    kind = rng.choice(["hat", "cap", "beanie"])
    reach = {"hat": rng.uniform(0.3, 0.8), "cap": rng.uniform(0.5, 0.8), "beanie": 0.0}[str(kind)]
    ahead = np.clip(np.sin(turn), 0, 1) ** 0.6 if kind == "cap" else np.ones(AROUND)
    droop = rng.uniform(0.0, 2.0) * reach
    square = rng.uniform(0.55, 1.0)  # of the crown's upper edge: 1 is a dome
    # (share of the head's half-widths, share of the brim, height before it droops): under the brim, around it, up the crown
    rise = np.linspace(0, 1, 12)
    dome = np.sqrt(np.clip(1 - rise**2, 0, 1)) ** square
    rings = [
        (0.97, 0.0, brim - 0.25),
        (1.0, 0.5, brim - 0.25),
        (1.0, 1.0, brim - 0.2),
        (1.0, 1.0, brim),
        (1.0, 0.5, brim),
    ]
    rings += [(1.0, 0.0, brim)]
    rings += [
        (float(s), 0.0, brim + float(r) * (top - brim)) for s, r in zip(dome[1:], rise[1:], strict=True)
    ]
    points = np.stack(
        [
            np.stack(
                [
                    middle[0] + np.cos(turn) * half[0] * (share + reach * out * ahead),
                    height - droop * out**1.4 * ahead,
                    middle[2] + np.sin(turn) * half[1] * (share + reach * out * ahead),
                ],
                1,
            )
            for share, out, height in rings
        ]
    ).reshape(-1, 3)
    faces = grid_faces(len(rings), AROUND, wrap=True)[:, ::-1]
    return build(points, faces, int(Part.CLOTH), points * 0.3)
