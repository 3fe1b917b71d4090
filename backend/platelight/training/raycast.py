"""Photograph subjects with a ray caster (Embree): geometry buffers from which a trainer lights pictures at will.

What is stored per view, in camera space (+X right, +Y up, +Z to the camera):

========== ===================== ==========================================================================
normal      (S, S, 3) float16     shading normal, zero outside the subject
rest        (S, S, 3) float16     rest coordinates, for paint and relief
part        (S, S) uint8          ``subjects.Part``
shadow      (S, S) uint8          bit k is set where the k-th light direction is seen
lights      (8, 3) float16        those directions
transfer    (T, T, 9) float16     visibility-weighted cosine in spherical harmonics: diffuse = sum(transfer * L)/pi,
                                  with L the radiance's coefficients (precomputed radiance transfer,
                                  Sloan, Kautz, Snyder 2002, order 2); T is S/2, S/3 where S is 384
fov         ()                    horizontal field of view in degrees
========== ===================== ==========================================================================
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh

from platelight.training.bodies import Bodies, folder_of
from platelight.training.figurines import figurine
from platelight.training.sculpts import sculpt
from platelight.training.statues import ROUGH, statue
from platelight.training.subjects import Heads, Mesh, euler, objects

Array = npt.NDArray[Any]
LIGHTS = 8
SHARD = 64
FORMAT = 1
COARSE = 128  # rows of transfer, about: what is seen of the sky is smooth, and most of a view's rays go there


def sh_basis(d: Array) -> Array:
    """Real spherical harmonics to order 2 at unit directions (..., 3) -> (..., 9)."""
    x, y, z = d[..., 0], d[..., 1], d[..., 2]
    one = np.ones_like(x)
    return np.stack(
        [0.282095 * one, 0.488603 * y, 0.488603 * z, 0.488603 * x, 1.092548 * x * y, 1.092548 * y * z,
         0.315392 * (3 * z * z - 1), 1.092548 * x * z, 0.546274 * (x * x - y * y)], -1)  # fmt: skip


def cosine_directions(normals: Array, count: int, rng: np.random.Generator) -> Array:
    """Cosine-distributed stratified directions (P, count, 3) about normals (P, 3)."""
    side = int(np.sqrt(count))
    u, v = np.meshgrid((np.arange(side) + 0.5) / side, (np.arange(side) + 0.5) / side)
    jitter = rng.uniform(-0.5, 0.5, (2, len(normals), side * side)) / side
    radius = np.sqrt(np.clip(u.ravel() + jitter[0], 0, 1))
    phi = 2 * np.pi * (v.ravel() + jitter[1])
    local = np.stack([radius * np.cos(phi), radius * np.sin(phi), np.sqrt(np.clip(1 - radius**2, 0, 1))], -1)
    helper = np.where(np.abs(normals[:, :1]) < 0.9, np.array([[1.0, 0, 0]]), np.array([[0, 1.0, 0]]))
    t = np.cross(helper, normals)
    t /= np.linalg.norm(t, axis=1, keepdims=True)
    b = np.cross(normals, t)
    frame = np.stack([t, b, normals], 1)
    return np.asarray(local @ frame)


class Scene:
    """An Embree scene of one mesh; rays are (R, 3) float32."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.scene = rtcore_scene.EmbreeScene()
        self.triangles = TriangleMesh(self.scene, mesh.vertices[mesh.faces].astype(np.float32))

    def hit(self, origin: Array, direction: Array) -> dict[str, Array]:
        result: dict[str, Array] = self.scene.run(
            np.ascontiguousarray(origin, np.float32), np.ascontiguousarray(direction, np.float32), output=True
        )
        return result

    def visible(self, origin: Array, direction: Array) -> Array:
        """True where a ray escapes."""
        hit = self.scene.run(
            np.ascontiguousarray(origin, np.float32),
            np.ascontiguousarray(direction, np.float32),
            query="OCCLUDED",
        )
        return np.asarray(hit != 0)


class Kind(StrEnum):
    """Families of subjects, which differ in how the stage turns and frames them."""

    HEAD = "head"
    FIGURINE = "figurine"
    OBJECT = "object"
    BODY = "body"


def place(mesh: Mesh, kind: Kind, rng: np.random.Generator, shown: float | None = None) -> tuple[Mesh, float]:
    """Turn, scale and move a subject in front of a camera at the origin that looks along -Z; returns the fov.

    ``shown``: radius about the origin of what is to be seen of a body, in the mesh's units.
    """
    fov = float(np.exp(rng.uniform(np.log(12), np.log(60))))
    if kind is Kind.HEAD:
        yaw = rng.normal() * 35 if rng.random() < 0.9 else rng.uniform(-180, 180)
        turn = euler(float(yaw), float(rng.normal() * 12), float(rng.normal() * 8))
        center = np.array([0, rng.uniform(-8, 3), 0])
        radius = rng.uniform(11, 22)
    elif kind is Kind.BODY and shown is not None:
        yaw = rng.normal() * 40 if rng.random() < 0.85 else rng.uniform(-180, 180)
        turn = euler(float(yaw), float(rng.normal() * 9), float(rng.normal() * 5))
        center, radius = np.zeros(3), shown * rng.uniform(0.8, 1.1)
    else:
        turn = np.eye(3)
        if kind is Kind.FIGURINE:
            turn = euler(rng.uniform(-180, 180), rng.normal() * 16 + 8, rng.normal() * 12)
        center = (mesh.vertices.max(0) + mesh.vertices.min(0)) / 2
        radius = np.linalg.norm(mesh.vertices - center, axis=1).max() * rng.uniform(0.62, 1.0)
    distance = 1.0 / np.sin(np.radians(fov) / 2) * rng.uniform(0.95, 1.2)
    move = np.array([rng.normal() * 0.08, rng.normal() * 0.08, -distance])
    vertices = (mesh.vertices - center) @ turn.T / radius + move
    return Mesh(vertices, mesh.faces, mesh.normals @ turn.T, mesh.rest, mesh.part), fov


def light_directions(rng: np.random.Generator) -> Array:
    """Eight directions towards lights (8, 3), over the sphere but rarely from straight behind."""
    d = rng.normal(size=(LIGHTS * 4, 3))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    keep = rng.random(len(d)) < np.clip(0.75 + 0.5 * d[:, 2] + 0.2 * d[:, 1], 0.08, 1.0)
    return np.asarray(np.concatenate([d[keep], d])[:LIGHTS])


def photograph(mesh: Mesh, fov: float, size: int, rng: np.random.Generator) -> dict[str, Array]:
    """Cast a placed subject into the buffers of this module's table."""
    scene = Scene(mesh)
    half = np.tan(np.radians(fov) / 2)
    c = ((np.arange(size) + 0.5) / size * 2 - 1) * half
    rays = np.stack(np.broadcast_arrays(c[None, :], -c[:, None], -1.0), -1).reshape(-1, 3)
    rays = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    hit = scene.hit(np.zeros_like(rays), rays)
    seen = np.flatnonzero(hit["primID"] >= 0)
    face = hit["primID"][seen]
    u, v = hit["u"][seen, None], hit["v"][seen, None]
    w = 1 - u - v
    corner = mesh.normals[face]
    normal = corner[:, 0] * w + corner[:, 1] * u + corner[:, 2] * v
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    facing = hit["Ng"][seen].astype(np.float64)
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-12)
    facing *= -np.sign((facing * rays[seen]).sum(1, keepdims=True))
    normal *= np.where(
        (normal * facing).sum(1, keepdims=True) < 0, -1.0, 1.0
    )  # thin sheets are seen from both sides
    corners = mesh.rest[mesh.faces[face]]
    rest = corners[:, 0] * w + corners[:, 1] * u + corners[:, 2] * v
    origin = rays[seen] * hit["tfar"][seen, None] + facing * 2e-3
    lights = light_directions(rng)
    shadow = np.zeros(size * size, np.uint8)
    for k, direction in enumerate(lights):
        clear = scene.visible(origin, np.broadcast_to(direction, origin.shape))
        shadow[seen] |= (clear.astype(np.uint8) << k).astype(np.uint8)
    step = max(2, round(size / COARSE))
    rows = -(-size // step)
    row, column = np.divmod(seen, size)
    first = (row % step == step // 2) & (column % step == step // 2)
    transfer = np.zeros((rows * rows, 9), np.float32)
    if first.any():
        directions = cosine_directions(normal[first], 64, rng)
        clear = scene.visible(np.repeat(origin[first], directions.shape[1], 0), directions.reshape(-1, 3))
        basis = sh_basis(directions) * clear.reshape(*directions.shape[:2], 1)
        transfer[(row[first] // step) * rows + column[first] // step] = basis.mean(1)

    def image(values: Array, dtype: type) -> Array:
        out: Array = np.zeros((size * size, *values.shape[1:]), dtype)
        out[seen] = values
        return out.reshape(size, size, *values.shape[1:])

    return {
        "normal": image(normal, np.float16), "rest": image(rest, np.float16), "part": image(mesh.part[face], np.uint8),
        "shadow": shadow.reshape(size, size), "lights": lights.astype(np.float16),
        "transfer": transfer.reshape(rows, rows, 9).astype(np.float16), "fov": np.asarray(fov, np.float32),
    }  # fmt: skip


@dataclass(frozen=True)
class Mix:
    """Shares of heads, figurines, carved or folded things and hard-edged objects; the rest are smooth objects.

    ``bodies`` is the share of all views that show a dressed person instead, where their data is; of the others ``statues``
    is the share of persons made of stone, and ``rough`` that of rocks and draped cloth.
    """

    heads: float = 0.27
    figurines: float = 0.28
    sculpts: float = 0.25
    hard: float = 0.08
    bodies: float = 0.16
    statues: float = 0.0
    rough: float = 0.0


VIEWS_A_SUBJECT = 2  # a subject takes longer to make than to photograph


def _statue(
    rng: np.random.Generator, heads: Heads | None, bodies: Bodies | None
) -> tuple[Kind, Mesh, float | None]:
    if heads is not None and (bodies is None or rng.random() < 0.5):
        kind, mesh, shown = Kind.HEAD, heads.sample(rng), None
        size = 15.0
    else:
        assert bodies is not None
        mesh, size = bodies.sample(rng)
        kind, shown = Kind.BODY, size
    made, flattened = statue(mesh, size, rng)
    return (Kind.OBJECT, made, None) if flattened else (kind, made, shown)


@lru_cache(maxsize=1)
def _lasting(
    number: int, heads: Heads | None, mix: Mix, bodies: Bodies | None
) -> tuple[Kind, Mesh, float | None] | float:
    """The subject that consecutive views share, and how much of it is to be shown; else the draw by which each makes its own."""
    # Drawn by a generator of its own, so that without bodies a seed gives what it gave before there were any.
    person = np.random.default_rng([number, 1])
    if bodies is not None and person.random() < mix.bodies:
        return Kind.BODY, *bodies.sample(person)
    other = np.random.default_rng([number, 2])
    chosen = float(other.random())
    if chosen < mix.statues and (heads is not None or bodies is not None):
        return _statue(other, heads, bodies)
    if mix.statues <= chosen < mix.statues + mix.rough:
        return Kind.OBJECT, ROUGH[int(other.integers(len(ROUGH)))](other), None
    maker = np.random.default_rng(number)
    share = float(maker.random())
    if share < mix.heads and heads is not None:
        return Kind.HEAD, heads.sample(maker), None
    if share < mix.heads + mix.figurines:
        return Kind.FIGURINE, figurine(maker), None
    return share


def make_view(
    seed: int, heads: Heads | None, size: int, mix: Mix, bodies: Bodies | None = None
) -> dict[str, Array]:
    """One view from one seed; consecutive seeds share a subject."""
    rng = np.random.default_rng([seed])
    made = _lasting(seed // VIEWS_A_SUBJECT, heads, mix, bodies)
    if not isinstance(made, float):
        kind, mesh, shown = made
    else:
        kind, shown = Kind.OBJECT, None
        carved = made < mix.heads + mix.figurines + mix.sculpts
        mesh = sculpt(rng) if carved else objects(rng, hard=made > 1 - mix.hard)
    return photograph(*place(mesh, kind, rng, shown), size, rng)


def make_bank(
    out: Path,
    data: Path,
    views: int,
    seed: int,
    size: int,
    first: int = 0,
    mix: Mix | None = None,
    report: Callable[[str], None] = print,
) -> None:
    """Write shards of 64 views to ``out``; shards already there are kept, so a stopped run goes on where it was."""
    mix = mix or Mix()
    heads = Heads(data / "head_ict_facekit") if mix.heads > 0 else None
    people = folder_of(data) if mix.bodies > 0 else None
    bodies = Bodies(people) if people is not None else None
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    for shard in range(first, first + (views + SHARD - 1) // SHARD):
        folder = out / f"shard-{shard:05d}"
        if folder.is_dir():
            continue
        made = [
            make_view(seed * 1_000_003 + shard * SHARD + k, heads, size, mix, bodies) for k in range(SHARD)
        ]
        partial = out / f".shard-{shard:05d}.{os.getpid()}"
        partial.mkdir(exist_ok=True)
        for name in made[0]:
            np.save(partial / f"{name}.npy", np.stack([view[name] for view in made]))
        manifest = {
            "format": FORMAT,
            "seed": seed,
            "shard": shard,
            "size": size,
            "mix": asdict(mix),
            "sources": ["ICT-FaceKit (MIT)", *["MPFB2 (CC0)"] * (bodies is not None), "procedural"],
        }
        (partial / "manifest.json").write_text(json.dumps(manifest))
        os.replace(partial, folder)
        report(f"shard {shard}: {time.monotonic() - started:.0f} s")
