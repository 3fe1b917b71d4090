"""Subjects in motion with ground truth: what temporal stability is measured on.

A ray-cast subject (``subjects``) turns and drifts while a ball passes in front of it; every frame is photographed
(``pictures``) under one light with fresh grain. As the meshes are known, so is the true flow between frames.
``flicker`` makes such shots and measures on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import trimesh

from platelight.images import write_light, write_png_values
from platelight.images.atomic import atomic_path
from platelight.models.networks import exposure_of
from platelight.training.figurines import figurine
from platelight.training.lights import LEVELS, ROWS, Lighting, prefilter_matrix
from platelight.training.materials import paint, unit
from platelight.training.pictures import Photographer
from platelight.training.raycast import Scene, photograph
from platelight.training.subjects import Heads, Mesh, Part, build, euler, join, objects
from platelight.training.views import Views

Array = npt.NDArray[Any]
FOV = 30.0
GRAIN = 0.006
"""Noise at middle gray, of the kind that a film camera at moderate sensitivity leaves: it grows with the root."""


@dataclass(frozen=True)
class Shot:
    """F frames of S x S: plate and albedo and normal (F, S, S, 3), mask (F, S, S) bool; flow (F-1, S, S, 2) in
    pixels (right, down) from each frame to the next, seen (F-1, S, S) bool where that point is still in view;
    turn (F-1, 2, 3, 3) the rotation of subject and ball to the next frame, ball (F-1, S, S) which of both it is."""

    plate: Array
    albedo: Array
    normal: Array
    mask: Array
    flow: Array
    seen: Array
    turn: Array
    ball: Array


@dataclass(frozen=True)
class Pose:
    """One frame's mesh; the first ``body`` faces are the subject's, turned by ``turn[0]``, the others the ball's."""

    mesh: Mesh
    body: int
    turn: Array


def posed(seed: int, frames: int, heads: Heads | None = None) -> list[Pose]:
    """All frames: one topology, vertices moving."""
    rng = np.random.default_rng(seed)
    shape = figurine(rng) if seed % 2 else objects(rng, hard=False)
    mesh = shape if heads is None else heads.sample(rng)
    vertices = mesh.vertices - (mesh.vertices.max(0) + mesh.vertices.min(0)) / 2
    vertices = vertices / np.linalg.norm(vertices, axis=1).max()
    ball = trimesh.creation.icosphere(4)
    small = build(np.asarray(ball.vertices) * 0.16, np.asarray(ball.faces), int(Part.OBJECT_D))
    distance = 1.05 / np.sin(np.radians(FOV) / 2)
    made = []
    for k in range(frames):
        along = k - (frames - 1) / 2
        turn = euler(1.2 * along + float(seed % 5) * 10, 4.0 * np.sin(0.35 * k), 0.3 * along)
        body = Mesh(
            vertices @ turn.T + [0.006 * along, 0.01 * np.sin(0.5 * k), -distance], mesh.faces, mesh.normals @ turn.T,
            mesh.rest, mesh.part,
        )  # fmt: skip
        # The ball does not spin: nobody could see that it does.
        at = [0.05 * along, 0.25, -distance + 1.3]
        passing = Mesh(small.vertices + at, small.faces, small.normals, small.rest, small.part)
        made.append(Pose(join([body, passing]), len(body.faces), np.stack([turn, np.eye(3)])))
    return made


def rays_of(size: int) -> Array:
    """Unit rays (S*S, 3) of a square picture."""
    c = ((np.arange(size) + 0.5) / size * 2 - 1) * np.tan(np.radians(FOV) / 2)
    rays = np.stack(np.broadcast_arrays(c[None, :], -c[:, None], -1.0), -1).reshape(-1, 3)
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))


def true_flow(now: Mesh, after: Mesh, size: int, body: int) -> tuple[Array, Array, Array]:
    """Where each pixel's surface point is in the next frame (S, S, 2), whether it is seen there, and whether it is
    none of the first ``body`` faces (S, S)."""
    rays = rays_of(size)
    hit = Scene(now).hit(np.zeros_like(rays), rays)
    on = np.flatnonzero(hit["primID"] >= 0)
    corner = after.vertices[after.faces[hit["primID"][on]]]
    u, v = hit["u"][on, None], hit["v"][on, None]
    points = corner[:, 0] * (1 - u - v) + corner[:, 1] * u + corner[:, 2] * v
    half = np.tan(np.radians(FOV) / 2)
    x = (points[:, 0] / -points[:, 2] / half + 1) / 2 * size - 0.5
    y = (-points[:, 1] / -points[:, 2] / half + 1) / 2 * size - 0.5
    far = np.linalg.norm(points, axis=1)
    again = Scene(after).hit(np.zeros_like(points), points / far[:, None])
    flow, seen = np.zeros((size * size, 2), np.float32), np.zeros(size * size, bool)
    flow[on] = np.stack([x - on % size, y - on // size], 1)
    seen[on] = (np.abs(again["tfar"] - far) < 5e-3) & (x > 0) & (y > 0) & (x < size - 1) & (y < size - 1)
    ball = hit["primID"] >= body
    return flow.reshape(size, size, 2), seen.reshape(size, size), ball.reshape(size, size)


def studio(seed: int) -> Lighting:
    """A soft sky with a floor, and two lamps; no file is needed."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.linspace(1, -1, ROWS).view(1, 1, ROWS, 1).expand(1, 3, ROWS, 2 * ROWS)
    tint = torch.exp(0.2 * torch.randn(1, 3, 1, 1, generator=g))
    sky = (0.35 + 0.25 * rows) * tint
    levels = torch.stack([(sky.flatten(2) @ prefilter_matrix(ROWS, r).T).view_as(sky) for r in LEVELS], 2)
    lamp = torch.tensor([[[2.2, 2.0, 1.8], [0.6, 0.7, 0.9], [0.0, 0.0, 0.0]]])
    return Lighting(sky, levels, lamp, torch.tensor([[0, 1, 2]]))


def make(seed: int, frames: int, size: int, heads: Heads | None = None) -> Shot:
    """Photograph one shot; the same arguments give the same shot."""
    poses = posed(seed, frames, heads)
    lighting, photographer = studio(seed), Photographer()
    plates, albedos, normals, masks, gain = [], [], [], [], torch.ones(())
    for k, mesh in enumerate(pose.mesh for pose in poses):
        # The same seed each time: the light must not jump. Its few shadow samples are part of the grain.
        raw = photograph(mesh, FOV, size, np.random.default_rng(seed))
        views = _views(raw, size)
        surface = paint(views.rest, views.part, views.normal, torch.Generator().manual_seed(seed))
        radiance = photographer.photograph(views, surface, lighting, torch.full((1,), 0.5))
        if k == 0:
            gain = exposure_of(radiance, surface.mask)
        noise = torch.randn(radiance.shape, generator=torch.Generator().manual_seed(1000 * seed + k))
        seen = radiance * gain
        plate = (seen + noise * GRAIN * ((seen + 0.01) / 0.18).sqrt()).clamp_min(0) * surface.mask
        plates.append(_image(plate))
        albedos.append(_image(surface.albedo))
        normals.append(_image(surface.normal) * _image(surface.mask))
        masks.append(_image(surface.mask)[..., 0] > 0.5)
    pairs = list(pairwise(poses))
    flows, in_view, balls = zip(*(true_flow(a.mesh, b.mesh, size, a.body) for a, b in pairs), strict=True)
    turns = [b.turn @ a.turn.transpose(0, 2, 1) for a, b in pairs]
    return Shot(
        np.stack(plates), np.stack(albedos), np.stack(normals), np.stack(masks), np.stack(flows), np.stack(in_view),
        np.stack(turns), np.stack(balls),
    )  # fmt: skip


def _image(tensor: torch.Tensor) -> Array:
    return np.ascontiguousarray(tensor[0].permute(1, 2, 0).numpy())


def _views(raw: dict[str, Array], size: int) -> Views:
    """A whole view as the photographer takes it, without a training batch's crops and flips."""

    def plane(values: Array) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None]

    seen = (np.abs(raw["transfer"]).sum(-1) > 0).astype(np.float32)
    spread = (
        cv2.blur(raw["transfer"].astype(np.float32), (3, 3))
        / np.maximum(cv2.blur(seen, (3, 3)), 1e-3)[..., None]
    )
    transfer = cv2.resize(spread, (size, size), interpolation=cv2.INTER_LINEAR)
    bits = (raw["shadow"][..., None] >> np.arange(8)) & 1
    return Views(
        unit(plane(raw["normal"])), plane(raw["rest"]), torch.from_numpy(raw["part"].astype(np.int64))[None],
        plane(bits), plane(transfer), torch.from_numpy(raw["lights"].astype(np.float32))[None],
        plane(-rays_of(size).reshape(size, size, 3)),
    )  # fmt: skip


def save(shot: Shot, folder: Path) -> None:
    """Write ``plate.####.exr``, ``matte.####.png`` and ``truth.npz``."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, (plate, mask) in enumerate(zip(shot.plate, shot.mask, strict=True), 1):
        write_light(folder / f"plate.{k:04d}.exr", plate, {})
        write_png_values(folder / f"matte.{k:04d}.png", mask.astype(np.float32))
    with atomic_path(folder / "truth.npz") as temporary:
        np.savez_compressed(
            temporary, albedo=shot.albedo.astype(np.float16), normal=shot.normal.astype(np.float16), mask=shot.mask,
            flow=shot.flow, seen=shot.seen, turn=shot.turn, ball=shot.ball,
        )  # fmt: skip
