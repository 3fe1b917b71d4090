"""Depth from normals against closed forms under a perspective camera: plane, sphere, step, separate parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from platelight.pipeline import depth as depth_module
from platelight.pipeline.decompose import fov_of, middle_of, view_through
from platelight.pipeline.depth import integrate_normals, surface_normals
from platelight.pipeline.resample import Window
from platelight.shading.reference import view_directions
from scipy import ndimage
from torch.nn import functional as F


def rays(height: int, width: int, fov: float) -> np.ndarray:
    """Directions (x, y, −1) through pixel centers."""
    focal = 0.5 * width / np.tan(np.radians(fov) / 2)
    ys, xs = np.mgrid[0:height, 0:width]
    x, y = (xs + 0.5 - width / 2) / focal, -(ys + 0.5 - height / 2) / focal
    return np.stack([x, y, -np.ones_like(x)], axis=-1)


def sphere(height: int, width: int, fov: float, center: tuple[float, float, float], radius: float):  # type: ignore[no-untyped-def]
    ray, c = rays(height, width, fov), np.array(center)
    a, b, d = (ray**2).sum(-1), -2 * (ray @ c), (c**2).sum() - radius**2
    root = b**2 - 4 * a * d
    depth = (-b - np.sqrt(np.maximum(root, 0))) / (2 * a)
    normal = (ray * depth[..., None] - c) / radius
    facing = -(normal * ray).sum(-1) / np.sqrt(a)
    matte = ((root > 0) & (facing > 0.1)).astype(np.float32)
    return (normal * matte[..., None]).astype(np.float32), matte, depth


def relative_error(depth: np.ndarray, truth: np.ndarray, matte: np.ndarray) -> float:
    inside = matte > 0.5
    scale = np.median(truth[inside]) / np.median(depth[inside])
    return float((np.abs(depth * scale / truth - 1)[inside]).mean())


@pytest.mark.parametrize("fov", [20.0, 60.0])
def test_slanted_plane_in_perspective(fov: float) -> None:
    normal = np.array([0.4, -0.3, 0.0])
    normal[2] = np.sqrt(1 - (normal**2).sum())
    truth = -3.0 * normal[2] / (rays(120, 160, fov) @ normal)  # the plane through (0, 0, −3)
    depth = integrate_normals(
        np.tile(normal.astype(np.float32), (120, 160, 1)), np.ones((120, 160), np.float32), fov
    )
    assert relative_error(depth, truth, np.ones_like(depth)) < 2e-3
    assert np.median(depth) == pytest.approx(1.0, abs=1e-3)
    assert depth[:, -1].mean() > depth[:, 0].mean(), "it faces right, so it recedes to the right"


@pytest.mark.parametrize("size", [(150, 200), (720, 960)])
def test_sphere_off_center_in_perspective(size: tuple[int, int]) -> None:
    normal, matte, truth = sphere(*size, 50.0, (0.3, 0.2, -4.0), 1.0)
    depth = integrate_normals(normal, matte, 50.0)
    assert relative_error(depth, truth, matte) < 0.006, "of a radius that is a quarter of the distance"
    assert depth.min() > 0
    assert np.median(depth[matte > 0.5]) == pytest.approx(1.0, abs=0.01)
    middle = tuple(np.argwhere(matte > 0.5).mean(axis=0).astype(int))
    assert depth[middle] < 0.9 * depth[matte > 0.5].max(), "bulges to the camera"


def test_a_step_stays_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flat half beside a ramp: they meet in the middle and part above and below, where plain least squares smears."""
    size, fov, tilt = 128, 5.0, 0.4
    ray = rays(size, size, fov)
    flat, ramp = np.array([0.0, 0.0, 1.0]), np.array([0.0, np.sin(tilt), np.cos(tilt)])
    ramp_depth = -10.0 * ramp[2] / (ray @ ramp)  # the planes meet in the middle row, at distance 10
    right = np.arange(size)[None, :] >= size // 2
    truth = np.where(right, ramp_depth, 10.0)
    normal = np.where(right[..., None], ramp, flat).astype(np.float32) * np.ones((size, 1, 1), np.float32)
    matte = np.ones((size, size), np.float32)
    ours = relative_error(integrate_normals(normal, matte, fov), truth, matte)
    monkeypatch.setattr(depth_module, "SHARPNESS", 0.0)
    plain = relative_error(integrate_normals(normal, matte, fov), truth, matte)
    assert ours < 0.65 * plain


def degrees(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> float:
    cosine = (a * b).sum(-1)[inside] / np.maximum(
        np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1), 1e-9
    )[inside]
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())


def test_normals_of_a_surface_stay_and_of_none_become_one() -> None:
    """A ball's normals, and with a twist added that no surface has: it is taken away, and nothing else."""
    normal, matte, _ = sphere(150, 150, 30.0, (0.1, 0.0, -4.0), 0.8)
    found, given = surface_normals(normal, matte, 30.0)
    inside = np.abs(given).sum(-1) > 0
    assert found.shape == given.shape == (150, 150, 3)
    assert inside.sum() > 0.95 * (matte > 0.5).sum()
    assert degrees(found, given, inside) < 1.5
    ys, xs = np.mgrid[:150, :150] / 75.0 - 1.0
    twist = np.dstack([0.5 * ys, 0.5 * xs, 0 * xs])  # in x and y up: a rotation about the line of sight
    twisted = normal + (twist * matte[..., None]).astype(np.float32)
    twisted /= np.maximum(np.linalg.norm(twisted, axis=-1, keepdims=True), 1e-6)
    wrong = degrees(twisted, given, inside)
    assert wrong > 5
    again, _ = surface_normals(twisted.astype(np.float32), matte, 30.0)
    assert degrees(again, given, inside) < 0.5 * wrong


def test_a_crease_keeps_its_two_sides() -> None:
    left = np.array([-0.6, 0.0, 0.8], np.float32)
    normal = np.where(np.arange(120)[None, :, None] < 60, left, left * [-1, 1, 1]).astype(np.float32)
    normal = np.broadcast_to(normal, (90, 120, 3)).copy()
    found, given = surface_normals(normal, np.ones((90, 120), np.float32), 20.0)
    assert np.abs(found - given).max(axis=-1)[:, [0, 30, 57, 62, 90, 119]].max() < 0.05


def test_no_surface_has_no_normals() -> None:
    found, given = surface_normals(np.zeros((8, 9, 3), np.float32), np.zeros((8, 9), np.float32), 30.0)
    assert found.shape == given.shape == (8, 9, 3)
    assert not found.any()
    one, _ = surface_normals(np.array([[[0, 0, 1]]], np.float32), np.ones((1, 1), np.float32), 30.0)
    assert one[0, 0] == pytest.approx([0, 0, 1], abs=1e-6)


def test_parts_that_do_not_touch_and_the_outside() -> None:
    normal = np.zeros((60, 100, 3), np.float32)
    normal[..., 2] = 1.0
    matte = np.zeros((60, 100), np.float32)
    matte[10:50, 5:40] = 1.0
    matte[10:50, 60:95] = 1.0
    depth = integrate_normals(normal, matte, 40.0)
    assert np.isfinite(depth).all()
    assert depth.min() > 0
    np.testing.assert_allclose(depth, 1.0, atol=0.02)


def test_nothing_to_integrate_and_one_pixel() -> None:
    empty = integrate_normals(np.zeros((8, 9, 3), np.float32), np.ones((8, 9), np.float32), 40.0)
    np.testing.assert_array_equal(empty, 1.0)
    one = integrate_normals(np.array([[[0, 0, 1]]], np.float32), np.ones((1, 1), np.float32), 40.0)
    np.testing.assert_allclose(one, 1.0)


def test_noise_never_breaks_it() -> None:
    noise = np.random.default_rng(0).normal(size=(90, 70, 3)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=-1, keepdims=True)
    depth = integrate_normals(noise, np.ones((90, 70), np.float32), 40.0)
    assert np.isfinite(depth).all()
    assert depth.min() > 0


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="normal is"):
        integrate_normals(np.zeros((4, 4, 3), np.float32), np.zeros((4, 5), np.float32), 40.0)
    with pytest.raises(ValueError, match="fov"):
        integrate_normals(np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.float32), 0.0)


def test_rays_of_a_window_are_those_of_its_frame() -> None:
    frame, window = (48, 64), Window(top=6, left=2, height=24, width=20)
    whole = view_directions(*frame, 70.0)[None]
    torch.testing.assert_close(view_through(window, frame, 70.0, (24, 20)), window.cut(whole))
    half = view_through(window, frame, 70.0, (12, 10))
    torch.testing.assert_close(half, F.avg_pool2d(window.cut(whole), 2), atol=2e-3, rtol=0)
    assert middle_of(Window(0, 0, *frame), frame) == (0.0, 0.0)


def test_a_sphere_beside_the_middle_is_a_surface_as_its_frame_sees_it() -> None:
    """Its own normals are a surface's only under its own rays."""
    fov, frame = 80.0, (128, 192)
    view = view_directions(*frame, fov).double().numpy()
    ray = -np.moveaxis(view, 0, -1)
    ray /= -ray[..., 2:]
    middle = np.array([-0.55, 0.0, -1.0])
    a, b = (ray * ray).sum(-1), ray @ middle
    q = b * b - a * (middle @ middle - 0.04)
    hit = q > 0
    rows, columns = np.nonzero(hit)
    window = Window(rows.min(), columns.min(), rows.max() - rows.min() + 1, columns.max() - columns.min() + 1)
    normal = ray * ((b - np.sqrt(np.maximum(q, 0))) / a)[..., None] - middle
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    part = np.s_[window.top : window.top + window.height, window.left : window.left + window.width]
    given, matte = (normal * hit[..., None])[part].astype(np.float32), hit[part].astype(np.float32)
    assert window.left + window.width < 64  # wholly in the left third

    def off(where: tuple[float, float]) -> float:
        found, level = surface_normals(given, matte, fov_of(window, frame[1], fov), where)
        inside = (np.abs(level).sum(-1) > 0) & (ndimage.distance_transform_edt(matte) > 4)
        return float(np.degrees(np.arccos((found * level).sum(-1)[inside].clip(-1, 1))).mean())

    assert off(middle_of(window, frame)) < 0.4 * off((0.0, 0.0))


def test_a_small_subject_has_as_fine_a_depth_as_a_large_one() -> None:
    """A ball with a bump, 60 pixels wide in a frame of 960: the raster is its own, not the frame's."""
    height, width, radius = 540, 960, 30.0
    y, x = np.mgrid[:height, :width].astype(np.float64)
    u, v = (x + 0.5 - 700) / radius, (150 - y - 0.5) / radius
    matte = (u**2 + v**2 < 0.9).astype(np.float32)
    bump = 0.25 * np.exp(-((u - 0.2) ** 2 + v**2) / 0.02)
    relief = np.sqrt(np.clip(1 - u**2 - v**2, 0.05, 1)) + bump
    slope_y, slope_x = np.gradient(relief, 1 / radius)
    normal = np.dstack([-slope_x, slope_y, np.ones_like(relief)])
    normal = (normal / np.linalg.norm(normal, axis=-1, keepdims=True)).astype(np.float32)
    # A narrow frame, so that rays are nearly parallel and slopes those of the relief.
    depth = integrate_normals(normal, matte, 2.0)
    inside = matte > 0.5
    pixel = 2 * np.tan(np.radians(1.0)) / width
    found, wanted = -np.log(depth[inside]) / (pixel * radius), relief[inside]
    error = (found - found.mean()) - (wanted - wanted.mean())
    assert np.sqrt((error**2).mean()) < 0.05
    assert (depth[:, 0] == depth[:, 600]).all()  # outside, the nearest goes on
