"""Garments of a body: parts of a suit, laid in folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import trimesh
from scipy.sparse import csr_matrix

from platelight.training.subjects import Array, Mesh, Part, Rng, build, smooth_noise


@dataclass(frozen=True)
class Garment:
    """Points (K, 3) in the data's pose, to which folds keep, and where they are; faces (F, 3); its stuff."""

    flat: Array
    posed: Array
    faces: Array
    part: Part

    def kept(self, faces: npt.NDArray[np.bool_]) -> Garment:
        """What these faces (F,) leave of it."""
        used, inverse = np.unique(self.faces[faces], return_inverse=True)
        return Garment(self.flat[used], self.posed[used], inverse.reshape(-1, 3), self.part)

    def hem(self) -> Array:
        """The points (K, 3) in the data's pose where it ends."""
        edges = np.concatenate([self.faces[:, [0, 1]], self.faces[:, [1, 2]], self.faces[:, [2, 0]]])
        kinds, count = np.unique(np.sort(edges, 1), axis=0, return_counts=True)
        return np.asarray(self.flat[np.unique(kinds[count == 1])])


def cloth(garment: Garment, rng: Rng) -> Mesh:
    """A garment laid in folds."""
    flat, points = garment.flat, garment.posed
    normals = trimesh.Trimesh(points, garment.faces, process=False).vertex_normals
    lift = np.maximum(rng.uniform(0.03, 0.2) * (1 + 0.5 * smooth_noise(flat, 0.8, rng)), 0.04)
    hang = flat * np.array([1.0, rng.uniform(0.4, 1.0), 1.0])
    warp = smooth_noise(hang, 0.7, rng)[:, None] * rng.uniform(0.2, 0.8)
    here = np.clip(0.5 + 0.6 * smooth_noise(flat, 0.5, rng), 0, 1.5)  # folds gather in places
    for _ in range(int(rng.integers(1, 4))):
        frequency = float(np.exp(rng.uniform(np.log(1.5), np.log(10))))
        fold = smooth_noise(hang + warp, frequency, rng, ridged=rng.random() < 0.6)
        lift = lift + here * fold * rng.uniform(0.1, 0.5) / frequency
    return build(points + normals * lift[:, None], garment.faces, int(garment.part), flat * 3.0)


def finer(values: Array, faces: Array, rounds: int) -> tuple[Array, Array]:
    """Values (K, C) of points and faces (F, 3), each face cut in four ``rounds`` times."""
    for _ in range(rounds):
        values, faces = trimesh.remesh.subdivide(values, faces)  # type: ignore[no-untyped-call]
    return values, faces


def relaxed(points: Array, faces: Array, rounds: int) -> Array:
    """Points drawn to the mean of their neighbors, which rounds off what a coarse mesh has of edges."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.unique(np.sort(edges, 1), axis=0)
    ones = np.ones(len(edges))
    matrix = csr_matrix((ones, edges.T), (len(points),) * 2)
    matrix = matrix + matrix.T
    count = np.maximum(np.asarray(matrix.sum(1)), 1)
    for _ in range(rounds):
        points = points * 0.5 + 0.5 * (matrix @ points) / count
    return points
