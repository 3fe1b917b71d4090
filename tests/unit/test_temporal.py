"""Steadying: flow, trust and averages on pictures whose motion is known."""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from platelight.commands.temporal import wanted
from platelight.images import Frame
from platelight.pipeline.temporal import (
    DOUBT,
    FUTURE,
    KEYS,
    PAST,
    Shot,
    Still,
    averaged,
    key_places,
    leveled,
    shot_of,
    steadied,
    still,
    ways_from,
)
from platelight.pipeline.temporal_flow import View, Way, all_calmed, both_ways, carry, is_cut, then

SIZE = (72, 96)
Maps = dict[str, np.ndarray]


def texture(seed: int, shape: tuple[int, int]) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0.05, 0.8, (*shape, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.clip((soft - soft.mean()) * 4 + 0.4, 0.03, 0.9)


def maps(k: int, square: bool = False, level: float = 1.0) -> Maps:
    """A wall that drifts 1.5 pixels a frame; with ``square`` another surface passes before it the other way."""
    wall = texture(0, (SIZE[0], SIZE[1] + 64))
    x = 40.0 - 1.5 * k
    shift = np.array([[1, 0, -x], [0, 1, 0]], np.float32)
    plate = cv2.warpAffine(wall, shift, SIZE[::-1], flags=cv2.INTER_LINEAR)
    albedo = np.clip(plate * level, 0, 1)
    normal = np.zeros_like(plate)
    normal[..., 2] = 1
    rough = np.full(SIZE, 0.5, np.float32)
    if square:
        left = 60 - 4 * k
        plate[20:50, left : left + 24] = texture(1, (30, 24)) * 0.4
        albedo[20:50, left : left + 24] = 0.9
        rough[20:50, left : left + 24] = 0.1
    one = np.ones(SIZE, np.float32)
    return {
        "plate": plate, "foreground": plate, "matte": one, "normal": normal, "albedo": albedo, "roughness": rough,
        "reflectivity": one * 0.04, "cavity": one, "depth": one, "light": np.ones((8, 16, 3), np.float32),
    }  # fmt: skip


def result(shot: list[Maps], here: int) -> Maps:
    raw = [still(one) for one in shot]
    common = shot_of(raw)
    stills = [leveled(one, common) for one in raw]
    views = [one.view for one in stills]
    steps = all_calmed(views, [both_ways(a, b) for a, b in itertools.pairwise(views)])
    ahead = ways_from([forth for forth, _ in steps[here : here + FUTURE]])
    behind = ways_from([back for _, back in reversed(steps[max(0, here - PAST) : here])])
    around = [(k + 1, stills[here + k + 1], way) for k, way in enumerate(ahead)]
    around += [(-k - 1, stills[here - k - 1], way) for k, way in enumerate(behind)]
    return steadied(shot[here], stills[here], averaged(stills[here], around), common.light)


def test_flow_finds_the_drift_and_carries_back() -> None:
    first, second = (still(maps(k)).view for k in (3, 4))
    forth, back = both_ways(first, second)
    inner = (slice(8, -8), slice(12, -12))
    np.testing.assert_allclose(forth.flow[inner].mean((0, 1)), (1.5, 0), atol=0.15)
    np.testing.assert_allclose(back.flow[inner].mean((0, 1)), (-1.5, 0), atol=0.15)
    assert forth.trust[inner].mean() > 0.9
    moved = carry(second.gray, forth.flow)[inner]
    assert (
        np.abs(moved - first.gray[inner]).mean() < np.abs(second.gray[inner] - first.gray[inner]).mean() / 4
    )


def test_what_is_hidden_is_not_trusted() -> None:
    first, second = (still(maps(k, square=True)).view for k in (3, 4))
    forth, _ = both_ways(first, second)
    hidden = (slice(24, 46), slice(60 - 16 + 2, 60 - 12 - 1))  # wall that the square covers next
    assert forth.trust[20:50, 60 - 16 : 60 - 12].mean() < 0.35, forth.trust[hidden]
    assert forth.trust[56:68, 20:70].mean() > 0.9


def test_flow_that_no_picture_tells_is_calmed() -> None:
    """A plain wall of which flow is found with an error that is another in each step."""
    rng = np.random.default_rng(0)
    plain = View(np.full(SIZE, -1.0, np.float32), np.ones(SIZE, np.float32))
    true = np.array([1.5, 0.0], np.float32)

    def found(way: np.ndarray) -> Way:
        wobble = cv2.GaussianBlur(rng.normal(0, 1, (*SIZE, 2)).astype(np.float32), (0, 0), 2)
        return Way((way + 0.6 * wobble / wobble.std()).astype(np.float32), np.ones(SIZE, np.float32))

    steps = [(found(true), found(-true)) for _ in range(7)]
    calm = all_calmed([plain] * 8, steps)
    inner = (slice(8, -8), slice(12, -12))
    for side, way in enumerate((true, -true)):
        off = [np.std(pair[3][side].flow[inner] - way) for pair in (steps, calm)]
        assert off[1] < off[0] / 1.8
        # What is left changes less from step to step.
        jumps = [np.std(pair[4][side].flow[inner] - pair[3][side].flow[inner]) for pair in (steps, calm)]
        assert jumps[1] < jumps[0] / 2.5


def test_a_camera_that_shakes_is_followed_step_by_step() -> None:
    wall = texture(0, (SIZE[0], SIZE[1] + 64))
    places = [30, 33, 31, 34, 33, 29, 32, 30]
    one = np.ones(SIZE, np.float32)
    views = [View(np.log(wall[:, x : x + SIZE[1]].mean(-1) + 2e-3), one) for x in places]
    steps = all_calmed(views, [both_ways(a, b) for a, b in itertools.pairwise(views)])
    inner = (slice(8, -8), slice(16, -16))
    for k, (forth, back) in enumerate(steps):
        moved = places[k] - places[k + 1]
        np.testing.assert_allclose(forth.flow[inner].mean((0, 1)), (moved, 0), atol=0.2)
        np.testing.assert_allclose(back.flow[inner].mean((0, 1)), (-moved, 0), atol=0.2)


def test_a_way_is_as_trusted_as_its_worst_step() -> None:
    flow = np.zeros((*SIZE, 2), np.float32)
    way = Way(flow, np.full(SIZE, 0.8, np.float32))
    for trust in (0.9, 0.7, 0.8):
        way = then(way, Way(flow, np.full(SIZE, trust, np.float32)))
    np.testing.assert_allclose(way.trust, 0.7)


def test_flicker_is_averaged_and_detail_kept() -> None:
    shot = [maps(k, level=1.15 if k % 2 else 0.87) for k in range(13)]
    inner = (slice(8, -8), slice(16, -16))
    levels = [np.log(result(shot, k)["albedo"] / shot[k]["plate"])[inner] for k in (6, 7)]
    assert abs(float(np.mean(levels[1] - levels[0]))) < np.log(1.15 / 0.87) / 10
    assert max(float(level.std()) for level in levels) < 0.02  # the texture is the plate's own


def test_the_shot_has_one_light_whatever_one_frame_says() -> None:
    rng = np.random.default_rng(0)
    true = np.exp(rng.normal(0, 1, (16, 32, 3))).astype(np.float32)
    lights = [true * np.float32(np.exp(0.1 * z)) for z in (-1, 1, -0.5, 0.5, 0, 0.2)]
    misread = np.roll(true, 16, 1) * 8
    frame = still(maps(0))
    stills = [
        replace(frame, light=light, reflectance=np.full(3, light.mean())) for light in (*lights, misread)
    ]
    light = shot_of(stills).light
    assert np.abs(light / true - 1).mean() < 0.05
    assert np.abs(np.mean([*lights, misread], axis=0) / true - 1).max() > 0.5  # what a plain mean would do
    assert key_places(200) == [0, 33, 66, 100, 133, 166, 199]
    assert key_places(3) == [0, 1, 2]
    assert len(key_places(2000)) == KEYS


def test_albedo_is_of_one_level_along_the_shot() -> None:
    """A wrong split between light and albedo, that drifts slowly, goes; a light that really changes stays with it."""
    # Twenty frames are more than averaging reaches over: at 2 % a frame it alone would leave the drift.
    shot = [maps(k) for k in range(20)]
    for k, one in enumerate(shot):
        drift = np.float32(np.exp(0.02 * (k - 9.5)))
        one["albedo"], one["light"] = one["albedo"] / drift, np.full((8, 16, 3), drift)
    inner = (slice(8, -8), slice(16, -16))
    light = shot_of([still(one) for one in shot]).light
    for k in (0, 13):
        made = result(shot, k)
        assert (made["light"] == light).all()
        off = np.log(made["albedo"][inner] / shot[k]["plate"][inner])
        assert abs(float(np.median(off))) < 0.02, k
    frame = still(shot[0])
    far = Shot(frame.light, frame.reflectance + 4 * np.float32(DOUBT))
    assert np.abs(leveled(frame, far).level).max() < 0.01 * 4
    half = Shot(frame.light, frame.reflectance + np.float32(DOUBT))
    np.testing.assert_allclose(leveled(frame, half).level, DOUBT / 2, rtol=1e-4)


@pytest.mark.parametrize(
    "stops",
    [[0] * 10 + [1.5] + [0] * 10, [0] * 10 + [1.0] + [0] * 10, [-0.3 * k for k in range(21)]],
    ids=["flash", "weak flash", "fade"],
)
def test_light_that_changes_stays_out_of_albedo(stops: list[float]) -> None:
    """Albedo that does not follow the plate is not divided by what the plate does."""
    shot = [maps(k) for k in range(21)]
    for one, stop in zip(shot, stops, strict=True):
        one["plate"] = one["foreground"] = one["plate"] * np.float32(2.0**stop)
    inner = (slice(8, -8), slice(16, -16))
    for k in (2, 6, 9, 10, 11, 14, 18):
        off = np.log2(result(shot, k)["albedo"][inner] / shot[k]["albedo"][inner])
        assert abs(float(off.mean())) < 0.08, k


def test_frames_too_faint_to_tell_a_reflectance_tell_none() -> None:
    shot = [maps(k, level=0.5) for k in range(KEYS)]
    sure = shot_of([still(one) for one in shot])
    for one in shot[:3]:
        one["matte"] = one["matte"] * np.float32(0.4)
    stills = [still(one) for one in shot]
    np.testing.assert_allclose(shot_of(stills).reflectance, sure.reflectance, atol=1e-3)
    faint = leveled(stills[0], sure)
    assert faint.share == 0
    assert not faint.level.any()
    nothing = shot_of(stills[:3])
    assert np.isnan(nothing.reflectance).all()
    assert leveled(stills[5], nothing) is stills[5]
    assert np.isnan(Still.from_bytes(stills[0].to_bytes()).reflectance).all()
    assert all(np.isfinite(group).all() for group in averaged(faint, []).values())


def test_no_ghost_of_what_passes() -> None:
    shot = [maps(k, square=True) for k in range(13)]
    made = result(shot, 6)
    for name in ("roughness", "albedo"):
        change = np.abs(made[name] - shot[6][name])[8:-8, 12:-12]
        assert change.mean() < 0.02, name
        assert np.percentile(change, 99) < 0.12, name


def test_turning_normals_do_not_lag_at_an_end() -> None:
    view = View(np.zeros(SIZE, np.float32), np.ones(SIZE, np.float32))
    tilt = np.radians(3.0)

    def at(k: int) -> Still:
        normal = np.broadcast_to(np.array([np.sin(tilt * k), 0, np.cos(tilt * k)], np.float32), (*SIZE, 3))
        zero = np.zeros((*SIZE, 1), np.float32)
        fields = {
            "normal": normal,
            "albedo": np.repeat(zero, 3, 2),
            "finish": np.repeat(zero, 2, 2),
            "depth": zero,
        }
        return Still(view, fields, np.ones((2, 4, 3), np.float32), np.zeros(3, np.float32), SIZE)

    stay = Way(np.zeros((*SIZE, 2), np.float32), np.ones(SIZE, np.float32))
    found = averaged(at(0), [(k, at(k), stay) for k in range(1, FUTURE + 1)])["normal"][0, 0]
    assert np.degrees(np.arctan2(found[0], found[2])) < 3.0  # the plain mean would be at about 7


def test_what_is_stored_comes_back() -> None:
    small = still(maps(2))
    again = Still.from_bytes(small.to_bytes())
    assert again.shape == small.shape
    for name, field in small.fields.items():
        np.testing.assert_array_equal(again.fields[name], field)
    np.testing.assert_array_equal(again.view.gray, small.view.gray)
    np.testing.assert_array_equal(again.light, small.light)
    np.testing.assert_array_equal(again.reflectance, small.reflectance)


def test_a_cut_is_seen_and_its_gain_is_not_taken_along() -> None:
    """Beyond a cut the light is another: neither levels nor fields of the frames before it change."""
    before, after = maps(0), maps(1)
    bright = texture(5, SIZE)
    after = {**after, "plate": bright, "foreground": bright, "albedo": bright}
    one, next_, other = (still(each) for each in (before, maps(1), after))
    assert not is_cut(one.view, both_ways(one.view, next_.view))
    assert is_cut(one.view, both_ways(one.view, other.view))
    blind = Way(np.zeros((*SIZE, 2), np.float32), np.zeros(SIZE, np.float32), 1.0)
    alone = averaged(one, [])
    found = averaged(one, [(distance, other, blind) for distance in (1, 2, 3)])
    for name, values in alone.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5, err_msg=name)


def test_single_pictures_that_look_like_a_shot_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """A shell that expands ``shot.*.exr`` itself gives single pictures, which nothing steadies."""
    given = argparse.Namespace(temporal="auto", shot=None)
    frames = [Frame(Path(f"shot.{number:04d}.exr")) for number in range(1001, 1005)]
    assert not wanted(given, frames)
    assert "Steady them as a shot: shot.####.exr." in caplog.text
    caplog.clear()
    assert not wanted(given, [Frame(Path("face.exr")), Frame(Path("hand2.exr")), Frame(Path("hand3.exr"))])
    assert not caplog.text


def test_nothing_is_carried_over_the_rim() -> None:
    """What moves by parts of a pixel has at its edge what it has in its middle."""
    shot = []
    for k in range(9):
        one = maps(k)
        matte = np.zeros(SIZE, np.float32)
        left = 30 + 0.4 * k
        columns = np.arange(SIZE[1])
        matte[20:50] = np.clip(columns + 1 - left, 0, 1) * np.clip(left + 24 - columns, 0, 1)
        flat = np.repeat(np.where(matte[..., None] > 0, np.float32(0.1), np.float32(0)), 3, axis=2)
        one.update(
            matte=matte,
            foreground=flat * (1 + 0.3 * texture(3, SIZE)),
            albedo=flat,
            roughness=np.float32(0.6) * (matte > 0),
        )
        shot.append(one)
    found = result(shot, 4)
    rim = (shot[4]["matte"] > 0.5) & (cv2.erode(shot[4]["matte"], np.ones((5, 5), np.uint8)) < 0.5)
    assert np.abs(np.log2(found["albedo"][rim] / 0.1)).max() < 0.05
    assert np.abs(found["roughness"][rim] - 0.6).max() < 0.01
