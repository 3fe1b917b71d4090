"""The pipeline behind ``run_job``: what comes out is finite, of the plate's size, and true to its definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from platelight.models.networks import RenderNet
from platelight.pipeline import service
from platelight.pipeline.room import Room
from platelight.protocol.errors import Cancelled, InputError, NoSubjectError
from platelight.protocol.lamps import Lamp
from platelight.protocol.requests import Decompose, Refine, Relight, maps_of
from platelight.shading.environment import directions

SMALL = 96


def ball(size: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Plate, matte and normals of a lit ball before a gray wall."""
    c = (np.arange(size) + 0.5) / size * 2.4 - 1.2
    x, y = np.meshgrid(c, -c)
    inside = x * x + y * y < 1
    normal = np.stack([x, y, np.sqrt(np.clip(1 - x * x - y * y, 0, 1))], -1) * inside[..., None]
    shade = np.clip(normal @ np.array([0.5, 0.6, 0.62]), 0, 1) * 0.8 + 0.15
    plate = np.where(inside[..., None], shade[..., None] * np.array([0.5, 0.4, 0.3]), 0.3)
    return plate.astype(np.float32), inside.astype(np.float32), normal.astype(np.float32)


@pytest.fixture(scope="module")
def maps() -> dict[str, np.ndarray]:
    plate, matte, _ = ball()
    result = service.run_job(Decompose(matte="given", working_size=SMALL), {"plate": plate, "matte": matte})
    return {**result.planes, "plate": plate}


def sky(level: float = 1.0) -> np.ndarray:
    return np.full((16, 32, 3), level, np.float32)


def test_decompose_gives_all_maps_at_the_plates_size(maps: dict[str, np.ndarray]) -> None:
    for name in ("foreground", "matte", "normal", "albedo", "roughness", "reflectivity", "cavity", "depth"):
        assert maps[name].shape[:2] == (80, 80), name
        assert np.isfinite(maps[name]).all(), name
    assert maps["light"].shape[1] == 2 * maps["light"].shape[0]
    np.testing.assert_allclose(np.linalg.norm(maps["normal"], axis=-1), 1, atol=1e-3)
    assert maps["depth"].min() > 0


@pytest.mark.parametrize("radiance", [50.0, 5000.0])
def test_a_lamp_in_the_picture_darkens_nothing_else(radiance: float) -> None:
    (plate, matte, _), (shining, _, _) = ball(), ball()
    shining[38:41, 38:41] = radiance  # on less than a hundredth of the subject
    with_it, without = (
        service.run_job(Decompose(matte="given", working_size=SMALL), {"plate": one, "matte": matte}).planes
        for one in (shining, plate)
    )
    elsewhere = matte > 0.9
    elsewhere[28:52, 28:52] = False
    assert 0.6 < np.median(with_it["albedo"][elsewhere] / without["albedo"][elsewhere]) < 1.5
    cosine = (with_it["normal"] * without["normal"]).sum(-1)[elsewhere]
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean() < 6


def test_cavities_are_refined_as_cycles_lit_them(maps: dict[str, np.ndarray]) -> None:
    """A Refine is told of the cavity map: its passes are of paint with cavities."""
    assert "cavity" in maps_of(Refine())
    lit = service.run_job(Relight(pbr_only=True), {**maps, "light": sky()}).planes
    given = {**maps, "diffuse": lit["diffuse"], "specular": lit["specular"]}
    refined = service.run_job(Refine(working_size=SMALL, backdrop="none"), given).planes["relit"]
    same = service.run_job(Relight(working_size=SMALL, backdrop="none"), {**maps, "light": sky()}).planes[
        "relit"
    ]
    np.testing.assert_allclose(refined, same, atol=2e-3)


def test_normals_point_the_right_way(maps: dict[str, np.ndarray]) -> None:
    _, matte, truth = ball()
    inside = matte > 0
    cosine = (maps["normal"] * truth).sum(-1)[inside]
    error = math.degrees(float(np.arccos(np.clip(cosine, -1, 1)).mean()))
    assert error < 20, f"{error:.1f} degrees"
    assert np.corrcoef(maps["normal"][..., 0][inside], truth[..., 0][inside])[0, 1] > 0.8
    assert np.corrcoef(maps["normal"][..., 1][inside], truth[..., 1][inside])[0, 1] > 0.8


def test_bad_pixels_are_counted_and_replaced() -> None:
    plate, matte, _ = ball()
    plate[40, 40] = np.nan
    plate[41, 41] = np.inf
    plate[42, 42] = -1
    result = service.run_job(Decompose(matte="given", working_size=SMALL), {"plate": plate, "matte": matte})
    assert result.meta["replaced"] == {"nan": 1, "inf": 1, "negative": 1, "huge": 0}
    assert all(np.isfinite(plane).all() for plane in result.planes.values())


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (33, 65)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    plate = np.full((*size, 3), 0.2, np.float32)
    result = service.run_job(Decompose(matte="full", working_size=64), {"plate": plate})
    assert result.planes["normal"].shape == (*size, 3)
    assert all(np.isfinite(plane).all() for plane in result.planes.values())


def test_black_plate_is_survived() -> None:
    result = service.run_job(
        Decompose(matte="full", working_size=64), {"plate": np.zeros((40, 40, 3), np.float32)}
    )
    assert all(np.isfinite(plane).all() for plane in result.planes.values())


def test_empty_matte_is_a_sentence() -> None:
    plate, matte, _ = ball()
    with pytest.raises(NoSubjectError, match="matte is empty"):
        service.run_job(Decompose(matte="given"), {"plate": plate, "matte": matte * 0})


def test_missing_plane_is_a_sentence(maps: dict[str, np.ndarray]) -> None:
    with pytest.raises(InputError, match="plate is missing"):
        service.run_job(Decompose(), {})
    with pytest.raises(InputError, match="map albedo is missing"):
        service.run_job(Relight(), {**{k: v for k, v in maps.items() if k != "albedo"}, "light": sky()})
    with pytest.raises(InputError, match="not a 2:1 lat-long"):
        service.run_job(Relight(), {**maps, "light": np.ones((16, 16, 3), np.float32)})


def test_cancel_is_heeded() -> None:
    plate, matte, _ = ball()
    with pytest.raises(Cancelled):
        service.run_job(Decompose(matte="given"), {"plate": plate, "matte": matte}, cancelled=lambda: True)


def test_progress_rises_to_one(maps: dict[str, np.ndarray]) -> None:
    seen: list[float] = []
    service.run_job(
        Relight(pbr_only=True), {**maps, "light": sky()}, lambda fraction, _: seen.append(fraction)
    )
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize("halves", [False, True])
def test_maps_are_given_away_as_soon_as_they_are_there(halves: bool) -> None:
    plate, matte, _ = ball()
    heard: list[str] = []
    given: dict[str, np.ndarray] = {}
    values: dict[str, np.ndarray] = {}

    def made(name: str, plane: np.ndarray) -> None:
        heard.append(name)
        given[name], values[name] = plane, plane.copy()

    request = Decompose(matte="given", working_size=SMALL, halves=halves)
    planes = {"plate": plate, "matte": matte}
    result = service.run_job(request, planes, lambda _, stage: heard.append(f"stage {stage}"), made=made)
    assert set(heard[heard.index("stage depth") :]) == {"stage depth", "stage done", "depth", "light"}
    assert list(given) == list(result.planes)
    for name, plane in result.planes.items():
        assert plane is given[name]
        np.testing.assert_array_equal(plane, values[name])  # not changed after it was given away


def test_physical_render_is_linear_in_light(maps: dict[str, np.ndarray]) -> None:
    one = service.run_job(Relight(pbr_only=True), {**maps, "light": sky(1.0)}).planes
    two = service.run_job(Relight(pbr_only=True, exposure=1.0), {**maps, "light": sky(1.0)}).planes
    np.testing.assert_allclose(two["pbr"], one["pbr"] * 2, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(one["pbr"], one["diffuse"] + one["specular"], rtol=1e-4, atol=1e-6)


def test_a_sun_beyond_half_floats_lights_as_brightly_as_it_is(maps: dict[str, np.ndarray]) -> None:
    light = sky(0.0)
    light[4, 10] = 1e4
    weak = service.run_job(Relight(pbr_only=True), {**maps, "light": light}).planes["pbr"]
    strong = service.run_job(Relight(pbr_only=True), {**maps, "light": light * 100}).planes["pbr"]
    assert weak.max() > 1.0
    np.testing.assert_allclose(strong, weak * 100, rtol=1e-3, atol=1e-2)


def test_a_uniform_sky_shows_no_more_than_it_holds(maps: dict[str, np.ndarray]) -> None:
    planes = service.run_job(Relight(pbr_only=True), {**maps, "light": sky(1.0)}).planes
    assert float(planes["pbr"].max()) <= 1.02


def test_rotation_by_a_full_turn_changes_nothing(maps: dict[str, np.ndarray]) -> None:
    light = sky()
    light[4:8, 20:24] = 30
    still = service.run_job(Relight(pbr_only=True), {**maps, "light": light}).planes["pbr"]
    turned = service.run_job(Relight(pbr_only=True, rotation=360.0), {**maps, "light": light}).planes["pbr"]
    other = service.run_job(Relight(pbr_only=True, rotation=180.0), {**maps, "light": light}).planes["pbr"]
    np.testing.assert_allclose(turned, still, rtol=1e-4, atol=1e-5)
    assert np.abs(other - still).mean() > 0.05 * still.mean()


def test_backdrops(maps: dict[str, np.ndarray]) -> None:
    planes = {**maps, "light": sky(0.7)}
    outside = maps["matte"] == 0
    plate = service.run_job(Relight(backdrop="plate", pbr_only=True), planes).planes["relit"]
    np.testing.assert_allclose(plate[outside][:, :3], maps["plate"][outside], atol=1e-4)
    assert (plate[..., 3] == 1).all()
    light = service.run_job(Relight(backdrop="light", pbr_only=True), planes).planes["relit"]
    np.testing.assert_allclose(light[outside][:, :3], 0.7, atol=1e-3)
    none = service.run_job(Relight(pbr_only=True), planes).planes["relit"]
    assert (none[outside] == 0).all()
    given = np.full((80, 80, 3), 0.11, np.float32)
    own = service.run_job(Relight(backdrop="given", pbr_only=True), {**planes, "backdrop": given}).planes[
        "relit"
    ]
    np.testing.assert_allclose(own[outside][:, :3], 0.11, atol=1e-5)
    with pytest.raises(InputError, match="backdrop is missing"):
        service.run_job(Relight(backdrop="given", pbr_only=True), planes)


def test_a_light_behind_is_read_only_where_it_is_seen(
    maps: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    light = sky()
    light[2:9, 10:30] = np.random.default_rng(1).random((7, 20, 3))
    whole = {**maps, "matte": np.ones_like(maps["matte"])}
    for planes in ({**maps, "light": light}, {**whole, "light": light}):
        found = []
        for most in (-1.0, 1.0):  # all rays; those that are seen
            monkeypatch.setattr("platelight.pipeline.relight.MOST", most)
            found.append(service.run_job(Relight(backdrop="light", pbr_only=True), planes).planes["relit"])
        np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_a_preview_is_the_composite_of_the_whole_render(maps: dict[str, np.ndarray]) -> None:
    planes = {**maps, "light": sky(0.7)}
    for backdrop in ("none", "plate"):
        whole = service.run_job(Relight(pbr_only=True, backdrop=backdrop), planes).planes
        alone = service.run_job(Relight(pbr_only=True, composite_only=True, backdrop=backdrop), planes).planes
        assert set(alone) == {"relit"}
        assert set(whole) == {"diffuse", "specular", "pbr", "relit"}
        np.testing.assert_array_equal(alone["relit"], whole["relit"])


@pytest.mark.parametrize(
    "name", ["matte", "normal", "albedo", "roughness", "reflectivity", "cavity", "light"]
)
def test_what_is_kept_of_a_preview_goes_when_its_values_change(
    maps: dict[str, np.ndarray], name: str
) -> None:
    light = sky()
    light[3, 20] = 60
    planes = {**{k: v.copy() for k, v in maps.items()}, "light": light}
    request = Relight(pbr_only=True, composite_only=True)
    before = service.run_job(request, planes).planes["relit"]
    assert service._kept._maps
    if name == "normal":
        planes[name][..., 0] *= -1.0  # in the same array
    else:
        planes[name] *= 0.7
    got = service.run_job(request, planes).planes["relit"]
    service._kept.clear()
    np.testing.assert_array_equal(got, service.run_job(request, planes).planes["relit"])
    assert np.abs(got - before).max() > 1e-4


def test_a_preview_keeps_nothing_where_memory_is_short(
    maps: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    planes = {**maps, "light": sky()}
    request = Relight(pbr_only=True)
    service._kept.clear()
    for short in (Room(lean=True), Room(1 << 32)):
        monkeypatch.setattr(service, "_room", short)
        service.run_job(request, planes)
        assert not service._kept._maps
    monkeypatch.setattr(service, "_room", Room())
    monkeypatch.setattr(service._kept, "LIMIT", 80 * 80 - 1)
    service.run_job(request, planes)
    assert not service._kept._maps
    monkeypatch.undo()
    service.run_job(request, planes)
    assert service._kept._maps


def test_refiner_at_no_strength_returns_the_passes(maps: dict[str, np.ndarray]) -> None:
    diffuse, specular = maps["albedo"] * 0.5, np.full_like(maps["albedo"], 0.02)
    planes = {**maps, "diffuse": diffuse, "specular": specular, "light": sky()}
    relit = service.run_job(Refine(strength=0.0, working_size=SMALL), planes).planes["relit"]
    np.testing.assert_allclose(
        relit[..., :3], (diffuse + specular) * maps["matte"][..., None], rtol=2e-3, atol=1e-4
    )
    full = service.run_job(Refine(strength=1.0, working_size=SMALL), planes).planes["relit"]
    assert np.isfinite(full).all()
    alone = service.run_job(Refine(composite_only=True, working_size=SMALL), planes).planes
    assert set(alone) == {"relit"}
    np.testing.assert_array_equal(alone["relit"], full)


def test_refining_begins_with_shading_in_doubt(
    maps: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that changes nothing shows it: under one lamp the shade's edge is softer, and no darker at the same exposure."""
    monkeypatch.setattr(RenderNet, "predict", lambda self, p, m, n, a, d, s: d + s)
    ways = directions(32).numpy()
    lamp = np.exp(200 * (ways @ np.array([0.8, 0.3, 0.5]) / np.sqrt(0.98) - 1)) * 50
    planes = {**maps, "light": np.repeat(lamp[..., None], 3, 2).astype(np.float32)}
    result = service.run_job(Relight(working_size=SMALL), planes).planes
    solid = maps["matte"] > 0.99
    soft, sharp = result["relit"][solid][:, :3], result["pbr"][solid]
    assert soft.mean() == pytest.approx(sharp.mean(), rel=0.05)
    shade = sharp.mean(1) < 0.05 * sharp.mean()
    assert shade.sum() > 20
    assert soft[shade].mean() > 2 * sharp[shade].mean()
    assert np.isfinite(soft).all()
    none = service.run_job(Relight(working_size=SMALL, strength=0.0), planes).planes["relit"][solid][:, :3]
    np.testing.assert_allclose(none, sharp, rtol=2e-3, atol=1e-4)


def test_only_the_maps_that_a_request_reads_are_needed(maps: dict[str, np.ndarray]) -> None:
    assert {"cavity", "depth", "roughness", "reflectivity"} < set(maps)
    passes = {"diffuse": maps["albedo"] * 0.5, "specular": np.full_like(maps["albedo"], 0.02)}
    for request in (Refine(working_size=SMALL), Relight(pbr_only=True)):
        scene = {"light": sky(), **(passes if isinstance(request, Refine) else {})}
        read = {name: maps[name] for name in maps_of(request)}
        assert len(read) < len(set(maps) - {"plate", "light"})
        expected = service.run_job(request, {**maps, **scene}).planes["relit"]
        np.testing.assert_array_equal(service.run_job(request, {**read, **scene}).planes["relit"], expected)
        for name in set(read) - {"cavity"}:
            with pytest.raises(InputError, match=rf"^The map {name} is missing\. Give all maps"):
                service.run_job(
                    request, {key: map_ for key, map_ in {**read, **scene}.items() if key != name}
                )
    assert "depth" in maps_of(Relight(shadows="on"))
    assert "depth" in maps_of(Relight(lamps=(Lamp("sun", 1.0),)))


def test_refiner_keeps_the_exposure_of_the_render(maps: dict[str, np.ndarray]) -> None:
    planes = {**maps, "light": sky()}
    result = service.run_job(Relight(working_size=SMALL), planes).planes
    cover = maps["matte"][..., None]
    assert (result["relit"][..., :3]).sum() == pytest.approx(float((result["pbr"] * cover).sum()), rel=0.1)


def test_halves_do_not_dim_narrow_highlights() -> None:
    """A half's normal is off one in length by 1/2000: at a roughness of 0.1 that is a highlight's width."""
    side = 48
    lean = np.linspace(-0.05, 0.05, side)
    normal = np.dstack([*np.meshgrid(0.3 + lean, -0.2 + lean), np.ones((side, side))])
    normal = (normal / np.linalg.norm(normal, axis=-1, keepdims=True)).astype(np.float32)
    one = np.ones((side, side), np.float32)
    planes = {
        "matte": one,
        "albedo": np.dstack([0 * one] * 3),
        "roughness": 0.1 * one,
        "reflectivity": 0.5 * one,
    }
    scene = {**planes, "foreground": planes["albedo"], "depth": one, "light": sky(0.0)}
    middle = normal[side // 2, side // 2]
    mirrored = 2 * middle[2] * middle - np.array([0, 0, 1])
    sun = Lamp(kind="sun", power=3.0, direction=tuple((-mirrored).tolist()), angle=0.53)
    request = Relight(pbr_only=True, lamps=(sun,), fov=1.0)
    whole, rounded = (
        service.run_job(request, {**scene, "normal": normal.astype(kind)}).planes["specular"][..., 0]
        for kind in (np.float32, np.float16)
    )
    bright = whole > 0.3 * whole.max()
    assert bright.sum() > 20
    assert rounded[bright].mean() == pytest.approx(whole[bright].mean(), rel=0.03)
    assert rounded[bright].min() > 0.5 * whole[bright].min()


def test_a_light_in_candela_is_refined_as_one_of_one(maps: dict[str, np.ndarray]) -> None:
    dim, bright = (
        service.run_job(Refine(working_size=SMALL), {**maps, **passes}).planes["relit"]
        for passes in (
            {
                name: np.full_like(maps["albedo"], 0.3 * scale) * maps["albedo"]
                for name in ("diffuse", "specular")
            }
            for scale in (1.0, 2.0**17)
        )
    )
    inside = maps["matte"] > 0.9
    dim, bright = dim[inside][:, :3], bright[inside][:, :3]
    np.testing.assert_allclose(bright / 2.0**17, dim, rtol=0.02, atol=1e-4)


def test_no_halo_around_a_soft_rim() -> None:
    """A ball of one paint whose rim is soft: neither its albedo nor the refiner takes thin pixels for dark ones."""
    c = (np.arange(192) + 0.5) / 192 * 2.4 - 1.2
    x, y = np.meshgrid(c, -c)
    matte = np.clip((1 - np.hypot(x, y)) / 0.08, 0, 1).astype(np.float32)
    plate = np.full((192, 192, 3), (0.3, 0.25, 0.2), np.float32)
    plate *= (0.6 + 0.4 * y)[..., None].astype(np.float32)
    maps = service.run_job(Decompose(matte="given"), {"plate": plate, "matte": matte}).planes
    light = np.full((16, 32, 3), 1.0, np.float32)
    relit = service.run_job(
        Relight(), {**{k: v for k, v in maps.items() if k != "light"}, "light": light}
    ).planes
    factors = {
        "albedo": maps["albedo"].mean(-1) / np.maximum(plate.mean(-1), 1e-3),
        "refiner": relit["relit"][..., :3].mean(-1) / np.maximum(relit["pbr"].mean(-1) * matte, 1e-4),
    }
    thin, beside = (matte > 0.05) & (matte < 0.3), (matte > 0.95) & (np.hypot(x, y) > 0.8)
    for name, factor in factors.items():
        assert np.median(factor[thin]) < 1.3 * np.median(factor[beside]), name
