"""Color in and out: the exact curve, OCIO spaces, chromaticities, the highlight shoulder, sanitizing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from platelight.images import exr, maps, plate, raster
from platelight.images.color import linear_to_srgb, matrix_to_rec709, shoulder, srgb_to_linear, to_linear
from platelight.images.sanitize import LIGHT_MAX, Counts, sanitize
from platelight.protocol.errors import InputError

CHECKER = """735244 c29682 627a9d 576c43 8580b1 67bdaa d67e2c 505ba6 c15a63 5e3c6c 9dbc40 e0a32e
383d96 469449 af363c e7c71f bb5695 0885a1 f3f3f2 c8c8c8 a0a0a0 7a7a79 555555 343434"""
"""The 24 patches of the color checker, sRGB codes; the last six are gray."""
AP1 = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)


def test_srgb_is_piecewise_and_not_a_power() -> None:
    assert float(srgb_to_linear(np.array(0.04))) == pytest.approx(0.04 / 12.92, rel=1e-6)
    assert float(srgb_to_linear(np.array(0.5))) == pytest.approx(0.21404114, rel=1e-6)
    codes = np.linspace(0, 1, 1001)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(codes)), codes, atol=2e-6)


def test_shoulder_keeps_the_low_part_and_never_reaches_one() -> None:
    low = np.linspace(0, 0.8, 50, dtype=np.float32)
    np.testing.assert_array_equal(shoulder(low), low)
    high = shoulder(np.array([0.81, 1.0, 1.5, 2.0], dtype=np.float32))
    assert (np.diff(high) > 0).all()
    assert high.max() < 1.0
    slope = (float(shoulder(np.array(0.801))) - 0.8) / 0.001
    assert slope == pytest.approx(1.0, abs=0.02)


def test_ocio_name_agrees_with_the_chromaticities_of_the_same_space() -> None:
    rng = np.random.default_rng(0)
    acescg = rng.uniform(0.1, 1.0, (5, 7, 3)).astype(np.float32)
    by_ocio = to_linear(acescg, "ACEScg")
    by_matrix = acescg @ matrix_to_rec709(AP1).T
    np.testing.assert_allclose(by_ocio, by_matrix, atol=2e-3)
    assert not np.allclose(by_ocio, acescg, atol=0.01)


def test_srgb_through_ocio_is_our_srgb() -> None:
    values = np.random.default_rng(1).uniform(0, 1, (4, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(to_linear(values, "sRGB - Texture"), srgb_to_linear(values), atol=1e-4)


def test_a_color_checker_comes_through_each_path(tmp_path: Path) -> None:
    codes = np.array([list(bytes.fromhex(code)) for code in CHECKER.split()], np.float32)
    patches = srgb_to_linear(codes.reshape(4, 6, 3) / 255.0)
    assert float(np.ptp(patches[3], axis=-1).max()) < 0.01

    def stored(name: str, pixels: np.ndarray, **attributes: object) -> Path:
        exr.write_exr(
            tmp_path / name, {key: exr.half(pixels[..., i]) for i, key in enumerate("RGB")}, attributes
        )
        return tmp_path / name

    acescg = patches @ np.linalg.inv(matrix_to_rec709(AP1)).T
    light = np.tile(patches, (3, 4, 1))
    raster.write_png(tmp_path / "a.png", patches, bits=16, highlights="clip")
    maps.write_light(tmp_path / "a.light.exr", light, {})
    by_path = {
        "half floats": plate.read_plate(stored("a.exr", patches)).pixels,
        "ACEScg by its chromaticities": plate.read_plate(stored("b.exr", acescg, chromaticities=AP1)).pixels,
        "ACEScg by name": plate.read_plate(stored("c.exr", acescg), "ACEScg").pixels,
        "an ACEScg light": plate.read_light(stored("d.exr", np.tile(acescg, (3, 4, 1))), "ACEScg")[:4, :6],
        "a light written and read": plate.read_light(tmp_path / "a.light.exr")[:4, :6],
        "PNG of 16 bits": plate.read_plate(tmp_path / "a.png").pixels,
    }
    for name, found in by_path.items():
        brightest = patches.max(axis=-1, keepdims=True)
        assert float((np.abs(found - patches) / brightest).max()) <= 0.005, name


def test_unknown_space_is_a_sentence() -> None:
    with pytest.raises(InputError, match="no color space named 'Kodachrome'"):
        to_linear(np.zeros((1, 1, 3), np.float32), "Kodachrome")


def test_sanitize_counts_pixels_by_reason_and_replaces_them() -> None:
    pixels = np.full((4, 5, 3), 0.5, np.float32)
    pixels[0, 0, 0] = np.nan
    pixels[0, 1] = np.inf
    pixels[0, 2, 2] = -np.inf
    pixels[1, 0] = -0.25
    pixels[1, 1, 1] = 1e6
    clean, counts = sanitize(pixels)
    assert counts == Counts(nan=1, inf=2, negative=1, huge=1)
    assert np.isfinite(clean).all()
    assert clean.min() == 0.0
    assert clean.max() == 65504.0
    assert clean[3, 3, 0] == np.float32(0.5)
    assert "1 NaN, 2 infinite, 1 negative, 1 huge" in counts.sentence("a.exr")


def test_a_light_keeps_what_a_plate_may_not_hold() -> None:
    pixels = np.array([[4e5, np.inf, -np.inf, 1e20, np.nan]], np.float32)
    clean, counts = sanitize(pixels, LIGHT_MAX)
    np.testing.assert_array_equal(clean, np.array([[4e5, 65504.0, 0.0, LIGHT_MAX, 0.0]], np.float32))
    assert counts == Counts(nan=1, inf=2, huge=1)


def test_sanitize_leaves_clean_pixels_alone() -> None:
    pixels = np.random.default_rng(2).uniform(0, 100, (3, 3)).astype(np.float32)
    clean, counts = sanitize(pixels)
    np.testing.assert_array_equal(clean, pixels)
    assert counts.total == 0
    assert counts.sentence("a.exr") == ""
