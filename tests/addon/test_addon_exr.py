"""The extension's own EXR reader and writer against the OpenEXR library."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from platelight.images import read_plate


@pytest.fixture
def exr(addon: Callable[[str], Any]) -> Any:
    return addon("exr")


def picture(height: int = 37, width: int = 23, channels: int = 4, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = np.linspace(0, 4, height * width * channels).reshape(height, width, channels)
    return (smooth + rng.normal(0, 0.1, smooth.shape)).astype(np.float32)


def test_what_we_write_the_library_reads(exr: Any, tmp_path: Path) -> None:
    rgba, normal, depth = picture(), picture(channels=3, seed=1), picture(channels=1, seed=2)[..., 0]
    path = tmp_path / "plate.maps.exr"
    exr.write(
        path,
        {"": rgba, "normal": normal, "depth": depth, "matte": depth},
        {"note": "here", "fov": 40.0, "n": 3},
    )
    with OpenEXR.File(str(path), separate_channels=True) as file:
        channels, header = file.channels(), file.header()
        names = {"A", "B", "G", "R", "depth.Z", "matte.V", "normal.X", "normal.Y", "normal.Z"}
        assert set(channels) == names
        np.testing.assert_array_equal(channels["B"].pixels, rgba[..., 2])
        np.testing.assert_array_equal(channels["normal.Y"].pixels, normal[..., 1])
        np.testing.assert_array_equal(channels["depth.Z"].pixels, depth)
        assert (header["note"], header["fov"], header["n"]) == ("here", 40.0, 3)
    back = exr.read(path)
    np.testing.assert_array_equal(back.layers[""], rgba)
    np.testing.assert_array_equal(back.layers["normal"], normal)
    np.testing.assert_array_equal(back.layers["depth"], depth)
    assert back.attributes["note"] == "here"


def test_a_map_is_written_without_collecting_garbage(exr: Any, tmp_path: Path) -> None:
    """A collection looks at all of Blender's objects while it holds Python's lock, and the main thread stands still."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        seen.append(info["generation"])

    plane = picture(height=3000, width=8, channels=3)
    exr.write(tmp_path / "warm.exr", {"": plane}, compress=False)
    gc.collect()
    gc.callbacks.append(note)
    try:
        exr.write(tmp_path / "map.exr", {"": plane}, half=True, compress=False)
    finally:
        gc.callbacks.remove(note)
    assert seen == []
    np.testing.assert_array_equal(exr.read(tmp_path / "map.exr").layers[""], plane.astype(np.float16))


def test_half_is_clamped_to_what_half_holds(exr: Any, tmp_path: Path) -> None:
    exr.write(tmp_path / "h.exr", {"": np.full((3, 3, 3), 1e6, np.float32)}, half=True)
    assert exr.read(tmp_path / "h.exr").layers[""].max() == np.float32(65504.0)


@pytest.mark.parametrize("compress", [False, True])
def test_halves_give_the_same_file_as_floats(exr: Any, tmp_path: Path, compress: bool) -> None:
    plane = picture(channels=3)
    for name, kind in (("f", np.float32), ("h", np.float16)):
        exr.write(tmp_path / f"{name}.exr", {"": plane.astype(kind)}, half=True, compress=compress)
    assert (tmp_path / "h.exr").read_bytes() == (tmp_path / "f.exr").read_bytes()


@pytest.mark.parametrize(
    "compression", ["NO_COMPRESSION", "RLE_COMPRESSION", "ZIPS_COMPRESSION", "ZIP_COMPRESSION"]
)
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_what_the_library_writes_we_read(exr: Any, tmp_path: Path, compression: str, kind: Any) -> None:
    rgb = picture(channels=3).astype(kind)
    rgb[5:9] = 0.5  # runs, so that RLE has something to do
    path = tmp_path / "theirs.exr"
    header = {"compression": getattr(OpenEXR, compression), "type": OpenEXR.scanlineimage}
    with OpenEXR.File(header, {"RGB": rgb, "view.Diffuse.R": np.ascontiguousarray(rgb[..., 0])}) as file:
        file.write(str(path))
    layers = exr.read(path).layers
    np.testing.assert_array_equal(layers[""], rgb.astype(np.float32))
    np.testing.assert_array_equal(layers["view.Diffuse"], rgb[..., 0].astype(np.float32))


@pytest.mark.parametrize("compression", ["ZIP_COMPRESSION", "NO_COMPRESSION"])
def test_a_data_window_is_placed_in_the_display_window(exr: Any, tmp_path: Path, compression: str) -> None:
    """As the backend's command does with the same file: cropped by Nuke, or with overscan."""
    rgb = picture(height=6, width=8, channels=3) + 1
    path = tmp_path / "window.exr"
    for corner, far in (((-2, 3), (9, 9)), ((2, -1), (5, 3))):
        header = {
            "compression": getattr(OpenEXR, compression),
            "type": OpenEXR.scanlineimage,
            "dataWindow": (np.array([0, 0], np.int32), np.array([7, 5], np.int32)),
            "displayWindow": (np.array(corner, np.int32), np.array(far, np.int32)),
        }
        OpenEXR.File(header, {"RGB": rgb}).write(str(path))
        wanted = read_plate(path).pixels
        np.testing.assert_array_equal(exr.read(path).layers[""], wanted)
        data, display = exr.windows(path)
        assert (data, display) == ((0, 0, 7, 5), (*corner, *far))
        np.testing.assert_array_equal(exr.placed(rgb, data, display), wanted)
    assert exr.windows(tmp_path / "none.exr") is None


def test_multi_part_files_name_layers_by_part(exr: Any, tmp_path: Path) -> None:
    rgb = picture(channels=3)
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    parts = [
        OpenEXR.Part({**header, "name": "beauty"}, {"RGB": rgb}),
        OpenEXR.Part({**header, "name": "other"}, {"RGB": rgb * 2}),
    ]
    with OpenEXR.File(parts) as file:
        file.write(str(tmp_path / "parts.exr"))
    layers = exr.read(tmp_path / "parts.exr").layers
    np.testing.assert_array_equal(layers["beauty"], rgb)
    np.testing.assert_array_equal(layers["other"], rgb * 2)


def test_views_of_parts_stand_in_the_names_of_layers(exr: Any, tmp_path: Path) -> None:
    """As Blender 5 writes several views; before it their names are in the channels'."""
    rgb = picture(channels=3)
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    parts = [
        OpenEXR.Part(
            {**header, "name": f"ViewLayer.Combined-{view}", "view": view},
            {f"ViewLayer.Combined.{c}": rgb[..., k].copy() * level for k, c in enumerate("RGB")},
        )
        for view, level in (("near", 1.0), ("far", 2.0))
    ]
    with OpenEXR.File(parts) as file:
        file.write(str(tmp_path / "views.exr"))
    layers = exr.read(tmp_path / "views.exr").layers
    np.testing.assert_array_equal(layers["ViewLayer.Combined.near"], rgb)
    np.testing.assert_array_equal(layers["ViewLayer.Combined.far"], rgb * 2)


def test_damage_is_a_sentence_that_names_the_file(exr: Any, tmp_path: Path) -> None:
    path = tmp_path / "whole.exr"
    exr.write(path, {"": picture()})
    whole = path.read_bytes()
    rng = np.random.default_rng(3)
    cut = tmp_path / "cut.exr"
    for length in rng.integers(8, len(whole) - 1, 40):
        cut.write_bytes(whole[: int(length)])
        with pytest.raises(exr.InputError, match=r"cut\.exr"):
            exr.read(cut)
    cut.write_bytes(b"not a picture at all")
    with pytest.raises(exr.InputError, match="not an OpenEXR file"):
        exr.read(cut)


@pytest.mark.parametrize("compress", [False, True])
def test_a_file_without_its_table_is_read(exr: Any, tmp_path: Path, compress: bool) -> None:
    """As Blender 5.2 packs a picture that was painted on."""
    path, plane = tmp_path / "painted.exr", picture(channels=3)
    exr.write(path, {"": plane}, compress=compress)
    data = bytearray(path.read_bytes())
    _, at = exr._header(data, 8)
    rows = 16 if compress else 1
    end = at + 8 * -(-len(plane) // rows)
    assert any(data[at:end])
    data[at:end] = bytes(end - at)
    np.testing.assert_array_equal(exr.parse(bytes(data), path).layers[""], plane)
    with pytest.raises(exr.InputError, match="not a complete"):
        exr.parse(bytes(data[:-100]), path)


def test_lossy_and_tiled_files_are_refused(exr: Any, tmp_path: Path) -> None:
    header = {"compression": OpenEXR.PIZ_COMPRESSION, "type": OpenEXR.scanlineimage}
    with OpenEXR.File(header, {"RGB": picture(channels=3)}) as file:
        file.write(str(tmp_path / "piz.exr"))
    with pytest.raises(exr.InputError, match="compression"):
        exr.read(tmp_path / "piz.exr")


def test_a_failed_write_leaves_the_old_file_and_no_other(exr: Any, tmp_path: Path) -> None:
    path = tmp_path / "kept.exr"
    exr.write(path, {"": picture()})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="one size"):
        exr.write(path, {"": picture(), "normal": picture(5, 5, 3)})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.exr"]
    (tmp_path / "file").write_text("")
    with pytest.raises(exr.InputError, match="cannot be written"):
        exr.write(tmp_path / "file" / "x.exr", {"": picture()})


def test_halves_are_read_as_they_are_kept_where_that_is_asked_for(exr: Any, tmp_path: Path) -> None:
    plane, path = picture(channels=3), tmp_path / "albedo.exr"
    exr.write(path, {"": plane}, half=True, compress=False)
    kept, widened = (exr.parse(path.read_bytes(), path, widen=widen).layers[""] for widen in (False, True))
    assert (kept.dtype, widened.dtype) == (np.float16, np.float32)
    np.testing.assert_array_equal(kept, plane.astype(np.float16))
    np.testing.assert_array_equal(widened, kept)
    exr.write(path, {"": plane}, compress=False)
    assert exr.parse(path.read_bytes(), path, widen=False).layers[""].dtype == np.float32
