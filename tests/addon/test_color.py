"""Color through the extension: a gray and a color checker in ACEScg, as plate and as HDRI, by Blender's own configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import blender_version

pytestmark = pytest.mark.blender
CHECKER = """735244 c29682 627a9d 576c43 8580b1 67bdaa d67e2c 505ba6 c15a63 5e3c6c 9dbc40 e0a32e
383d96 469449 af363c e7c71f bb5695 0885a1 f3f3f2 c8c8c8 a0a0a0 7a7a79 555555 343434"""
"""The 24 patches of the color checker, sRGB codes; the last six are gray."""
AP1 = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)


@pytest.mark.parametrize(
    ("config", "working"),
    [("", ""), ("ocio://cg-config-v2.1.0_aces-v1.3_ocio-v2.3", ""), ("", "ACEScg"), ("", "Linear Rec.2020")],
)
def test_a_color_checker_comes_through(
    run_blender: Callable[..., Any], bpy_python: str, tmp_path: Path, config: str, working: str
) -> None:
    """By Blender's own configuration, by one of ACES whose scene-linear role is ACEScg, and in files that work in other spaces."""
    if working and int(blender_version(bpy_python).split(".")[0]) < 5:
        pytest.skip("a file's working space is of 5.0 and later")
    pytest.importorskip("OpenEXR")
    from platelight.images import exr, raster
    from platelight.images.color import matrix_to_rec709, srgb_to_linear

    codes = np.array([list(bytes.fromhex(code)) for code in CHECKER.split()], np.float32)
    truth = np.tile(srgb_to_linear(codes.reshape(4, 6, 3) / 255.0), (3, 4, 1))
    truth[8:] = srgb_to_linear(np.array(118.0 / 255.0))  # 8 bits have no 0.18
    acescg = truth @ np.linalg.inv(matrix_to_rec709(AP1)).T
    for name, header in (("plain.exr", {}), ("told.exr", {"chromaticities": AP1})):
        channels = {key: np.asarray(acescg[..., i], np.float32) for i, key in enumerate("RGB")}
        exr.write_exr(tmp_path / name, channels, header)
    layered = {f"ViewLayer.Combined.{key}": plane for key, plane in channels.items()}
    exr.write_exr(tmp_path / "layered.exr", layered, {"chromaticities": AP1})
    known = {key: np.asarray(truth[..., i], np.float32) for i, key in enumerate("RGB")}
    exr.write_exr(tmp_path / "known.exr", known, {})
    raster.write_png(tmp_path / "code.png", truth, bits=8, highlights="clip")
    files = ("plain.exr", "told.exr", "layered.exr", "code.png", "known.exr")
    environment = {"OCIO": config} if config else None
    out = run_blender("color.py", *files, working, environment=environment)
    with np.load(tmp_path / "color.npz") as stored:
        found = {name: stored[name] for name in stored.files}
    assert len(found) == 18
    assert (out["red"] == [1.0, 0.0, 0.0]) == (not config and not working)
    for name, pixels in found.items():
        wanted = truth[: pixels.shape[0], : pixels.shape[1]]
        assert pixels.size == wanted.size
        error = float((np.abs(pixels - wanted) / wanted.max(axis=-1, keepdims=True)).max())
        print(f"{name}: {100 * error:.3f} %")
        assert error <= 0.005, name
    assert out["view"] == out["view before"]
    assert "no color space named 'ACEScgg'" in out["unknown"]
    assert "ACEScg" in out["unknown"].partition("It has")[2]
    assert out["override kept"] == "OVERRIDE"
