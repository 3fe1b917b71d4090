"""Mattes against synthetic truth, on a real photograph, and refusals."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from platelight.images.color import srgb_to_linear
from platelight.models import packaged
from platelight.pipeline import matting, segmentation
from platelight.pipeline.room import UNBOUNDED
from platelight.pipeline.segmentation import Coarse
from platelight.protocol.errors import NoSubjectError, PlatelightError


def composite(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A shaded disc with a soft rim over a plain backdrop: plate, alpha and true foreground."""
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = np.hypot(ys - height * 0.5, xs - width * 0.55)
    alpha = np.clip((height * 0.3 - distance) / 3.0 + 0.5, 0, 1).astype(np.float32)
    front = np.stack([0.7 - 0.3 * ys / height, 0.25 + 0.2 * xs / width, np.full_like(ys, 0.1)], axis=-1)
    back = np.array([0.05, 0.1, 0.45], np.float32) + np.random.default_rng(0).normal(
        0, 0.003, (height, width, 3)
    )
    plate = alpha[..., None] * front + (1 - alpha[..., None]) * back
    return np.clip(plate, 0, None).astype(np.float32), alpha, front.astype(np.float32)


@pytest.mark.parametrize("size", [(240, 320), (720, 1280)])
def test_soft_disc_on_a_backdrop(size: tuple[int, int]) -> None:
    plate, truth, front = composite(*size)
    alpha, foreground = matting.estimate_matte(plate)
    assert np.abs(alpha - truth).mean() < 0.004
    edge = (truth > 0.3) & (truth < 0.9)
    assert np.abs(alpha - truth)[edge].mean() < 0.12
    # The backdrop's blue must be out of the rim: nearer to the true color than the plate is.
    ours, naive = np.abs(foreground - front)[edge].mean(), np.abs(plate - front)[edge].mean()
    assert ours < 0.5 * naive
    inside = alpha >= 1.0
    np.testing.assert_array_equal(foreground[inside], plate[inside])


def test_astronaut_is_one_person() -> None:
    plate = srgb_to_linear(skimage.data.astronaut().astype(np.float32) / 255)
    coarse = segmentation.find_subject(matting.display_encoded(plate))
    assert coarse.method == "selfie segmentation"
    alpha, foreground = matting.estimate_matte(plate)
    assert alpha.shape == (512, 512)
    assert foreground.shape == (512, 512, 3)
    assert np.isfinite(foreground).all()
    assert alpha[100:160, 200:250].min() > 0.99, "the face"
    assert alpha[300:360, 60:300].min() > 0.99, "the suit"
    assert alpha[5:150, 20:100].max() < 0.01, "the flag"
    assert alpha[20:200, 370:500].max() < 0.05, "the shuttle"
    soft = ((alpha > 0.05) & (alpha < 0.95)).mean()
    assert 0.001 < soft < 0.05, "an edge, and no haze"


def test_a_scrap_of_wall_between_sleeve_and_table_is_not_the_astronaut() -> None:
    """From afar the network takes it for her; windows about the corners tell it from her."""
    picture = skimage.data.astronaut().astype(np.float32) / 255
    alpha, _ = matting.estimate_matte(srgb_to_linear(picture))[:2]
    scrap = np.s_[290:335, 359:367]
    assert segmentation.person_probability(picture)[scrap].mean() > 0.5
    assert alpha[scrap].mean() < 0.35
    assert alpha[400:500, 330:460].mean() > 0.98  # the helmet that she holds is kept


@pytest.mark.parametrize("size", [(90, 130), (64, 64), (9, 200)])
def test_windows_about_the_corners_join_without_a_seam(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, columns = np.mgrid[: size[0], : size[1]]
    smooth = (0.6 + 0.3 * np.sin(rows / 9.0) * np.cos(columns / 11.0)).astype(np.float32)
    monkeypatch.setattr(segmentation, "person_probability", lambda window: window[..., 0])
    encoded = np.repeat(smooth[..., None], 3, -1)
    found = segmentation._from_four_corners(encoded, smooth)
    np.testing.assert_allclose(found, smooth, atol=1e-3)
    assert (segmentation._from_four_corners(encoded * 0, smooth) <= 0.51 * smooth.max()).all()


def test_a_person_in_shadow_before_a_wall_as_dark_is_whole() -> None:
    encoded = skimage.data.astronaut().astype(np.float32) / 255
    alpha = matting.estimate_matte(srgb_to_linear(encoded))[0][..., None]
    encoded = encoded * alpha + 0.03 * (1 - alpha)
    encoded[:75] = 0.03 + 0.02 * encoded[:75]  # her hair is as dark as the wall
    coarse = segmentation.find_subject(encoded)
    assert coarse.method == "selfie segmentation"
    hair = alpha[:75, :, 0] > 0.9
    assert coarse.probability[:75][hair].mean() > 0.9
    # A thing before the same wall is still told by its color.
    thing, truth, _ = composite(240, 320)
    assert segmentation.find_subject(matting.display_encoded(thing)).method == "plain backdrop"
    assert truth.max() == 1.0


def test_a_dark_plate_gives_the_same_matte() -> None:
    plate = srgb_to_linear(skimage.data.astronaut().astype(np.float32) / 255)
    bright, dark = matting.estimate_matte(plate)[0], matting.estimate_matte(plate * 0.02)[0]
    assert np.abs(bright - dark).mean() < 0.01


def test_the_same_plate_gives_the_same_matte_twice() -> None:
    plate = srgb_to_linear(skimage.data.coffee()[:, :, :3].astype(np.float32) / 255)
    np.testing.assert_array_equal(matting.estimate_matte(plate)[0], matting.estimate_matte(plate)[0])


def no_subjects() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    ramp = np.tile(np.linspace(0, 1, 160, dtype=np.float32)[None, :, None], (120, 1, 3))
    return {
        "black": np.zeros((64, 64, 3), np.float32),
        "flat": np.full((120, 160, 3), 0.3, np.float32),
        "noise": rng.uniform(0, 1, (120, 160, 3)).astype(np.float32),
        "gradient": ramp,
        "gravel": np.repeat(srgb_to_linear(skimage.data.gravel() / 255.0)[..., None], 3, axis=-1),
        "one pixel": np.ones((1, 1, 3), np.float32),
        "one row": np.ones((1, 50, 3), np.float32),
    }


@pytest.mark.parametrize("name", sorted(no_subjects()))
def test_no_subject_is_a_sentence(name: str) -> None:
    with pytest.raises(NoSubjectError) as caught:
        matting.estimate_matte(no_subjects()[name])
    assert str(caught.value) == "No subject was found in the plate. Pass --matte full or a matte file."
    assert caught.value.exit_code == 2


def test_foreground_at_full_resolution_recomposes_the_plate() -> None:
    plate, alpha, front = composite(900, 1600)
    foreground = matting.estimate_foreground(plate, alpha)
    edge = (alpha > 0.3) & (alpha < 1.0)
    assert np.abs(foreground - front)[edge].mean() < 0.04


@pytest.mark.parametrize("size", [(240, 320), (40, 1100)])
def test_a_window_behind_the_rim_leaves_no_halo(size: tuple[int, int]) -> None:
    """Plates are linear, and what is outdoors is many times white."""
    _, alpha, front = composite(*size)
    plate = alpha[..., None] * front + (1 - alpha[..., None]) * np.float32(8.0)
    foreground = matting.estimate_foreground(plate.astype(np.float32), alpha)
    edge = (alpha > 0.3) & (alpha < 0.9)
    assert np.abs(foreground - front)[edge].mean() < 0.05


def test_a_gap_that_the_network_sees_stays_open_and_one_that_it_doubts_is_filled() -> None:
    body = np.zeros((100, 100), bool)
    body[20:80, 20:80] = True
    holes = np.zeros_like(body)
    holes[30:36, 30:36] = holes[60:66, 60:66] = True
    probability = np.where(body, 0.98, 0.02).astype(np.float32)
    probability[30:36, 30:36], probability[60:66, 60:66] = 0.03, 0.4
    filled = segmentation._doubted(holes, probability)
    assert not filled[30:36, 30:36].any()
    assert filled[60:66, 60:66].all()


def test_hard_and_full_mattes_leave_the_plate() -> None:
    plate = composite(60, 80)[0]
    np.testing.assert_array_equal(matting.estimate_foreground(plate, np.ones((60, 80), np.float32)), plate)


@pytest.mark.parametrize("name", sorted(packaged.SHA256))
def test_damaged_weights_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert packaged.is_whole(name)
    (tmp_path / f"{name}.tflite").write_bytes(packaged.path_of(name).read_bytes()[:-1] + b"x")
    monkeypatch.setattr(packaged, "FOLDER", tmp_path)
    packaged._interpreter.cache_clear()
    try:
        with pytest.raises(PlatelightError, match="missing or damaged"):
            packaged.run(name, np.zeros((8, 8, 3), np.float32))
    finally:
        packaged._interpreter.cache_clear()


def test_an_outline_follows_colors_within_reach_of_the_network() -> None:
    """A corner that the network cut off comes back, a rim of backdrop goes, and what runs on to the frame stays out."""
    rng = np.random.default_rng(3)
    picture = np.full((200, 240, 3), (0.2, 0.5, 0.3), np.float32)
    truth = np.zeros((200, 240), bool)
    truth[60:160, 60:180] = True
    picture[truth] = (0.8, 0.4, 0.3)
    picture[100:130, 180:] = (0.8, 0.4, 0.3)  # something alike behind the subject, beyond the frame
    picture += rng.normal(0, 0.02, picture.shape).astype(np.float32)
    guess = truth.astype(np.float32)
    guess[60:69, 170:180] = 0.1  # the corner
    guess[90:150, 56:60] = 0.6  # the rim
    found = segmentation._along_colors(picture.clip(0, 1), guess) > 0.5
    assert found[61:68, 171:179].mean() > 0.95
    assert found[95:145, 56:59].mean() < 0.05
    assert found[102:128, 184:].mean() < 0.05
    assert (found != truth)[:, :182].mean() < 0.005


def test_dark_hair_before_a_dark_street_stays_where_the_network_is_sure() -> None:
    picture = np.full((160, 160, 3), 0.1, np.float32)
    picture[60:, 40:120] = (0.7, 0.5, 0.4)
    sure = np.zeros((160, 160), np.float32)
    sure[40:, 40:120] = 0.95  # the hair has the backdrop's color
    assert (segmentation._along_colors(picture, sure) > 0.5)[44:58, 44:116].all()


def test_a_person_close_to_the_camera_is_one_in_every_frame() -> None:
    """Of a drifting shot, where the network hesitates most."""
    picture = (np.asarray(skimage.data.astronaut(), np.float32) / 255) ** 2.2
    for frame in (167, 168):
        move = np.array([[4.5, 0, 0.2 * frame - 192], [0, 4.5, -21.6]], np.float32)
        plate = cv2.warpAffine(picture, move, (1920, 1080), borderMode=cv2.BORDER_REFLECT)
        grain = np.random.default_rng(frame).normal(0, 0.01, plate.shape)
        encoded = matting.display_encoded(np.maximum(plate + grain, 0).astype(np.float32))
        assert segmentation._decisive(segmentation.person_probability(encoded))


def test_a_cup_is_no_person() -> None:
    encoded = np.asarray(skimage.data.coffee(), np.float32) / 255
    assert not segmentation._decisive(segmentation.person_probability(encoded))


def test_grain_hardly_boils_where_subject_and_wall_are_nearly_of_one_color(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two frames of a dark disc before a wall that is hardly darker, with a fine light strand across the edge."""
    y, x = np.mgrid[:960, :1280]
    disc = ((x - 640) ** 2 + (y - 480) ** 2 < 300**2).astype(np.float32)
    clean = (0.03 + 0.02 * cv2.GaussianBlur(disc, (0, 0), 1.5))[..., None] * np.ones(3, np.float32)
    strand = (np.abs(y - 480) < 2) & (x > 900) & (x < 960)
    clean[strand] = 0.3
    coarse = Coarse(cv2.GaussianBlur(disc, (0, 0), 4.0), "selfie segmentation")

    def frames() -> list[np.ndarray]:
        noise = np.random.default_rng(0).normal(0.0, 0.004, (2, *clean.shape))
        return [
            matting._solve_alpha((clean + n).astype(np.float32), coarse, 1.0, UNBOUNDED)[0] for n in noise
        ]

    def boil(pair: list[np.ndarray]) -> float:
        return float(np.sqrt(((pair[0] - pair[1]) ** 2).mean()))

    calm = frames()
    monkeypatch.setattr(matting, "GRAIN", 0.0)
    raw = frames()
    assert boil(calm) < 0.8 * boil(raw)
    assert abs(calm[0][strand].mean() - raw[0][strand].mean()) < 0.05


def test_a_hard_matte_keeps_the_backdrop_out() -> None:
    """Reduced, the foreground's rim would have the wall's color in it."""
    y, x = np.mgrid[:120, :160]
    alpha = ((x - 80) ** 2 + (y - 60) ** 2 < 40**2).astype(np.float32)
    plate = np.where(alpha[..., None] > 0, np.float32([0.2, 0.1, 0.05]), np.float32(1.0)).astype(np.float32)
    front = matting.estimate_foreground(plate, alpha)
    near = cv2.dilate(alpha, np.ones((5, 5), np.uint8)) > 0
    np.testing.assert_allclose(front[near], np.broadcast_to([0.2, 0.1, 0.05], front[near].shape), atol=0.02)
    assert matting.estimate_foreground(plate, np.ones_like(alpha)) is not plate
    np.testing.assert_array_equal(matting.estimate_foreground(plate, np.ones_like(alpha)), plate)
