"""Files in and out: plates of many kinds, maps, lights, mattes, and atomic writing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import OpenEXR
import OpenImageIO as oiio  # noqa: N813
import pytest
from platelight import images
from platelight.images import raster
from platelight.images.atomic import atomic_path
from platelight.images.color import srgb_to_linear
from platelight.images.exr import read_exr
from platelight.protocol.errors import InputError, PlatelightError

RNG = np.random.default_rng(0)


def save_exr(path: Path, channels: dict[str, Any], **header: Any) -> Path:
    OpenEXR.File({"type": OpenEXR.scanlineimage, **header}, channels).write(str(path))
    return path


def rgb(height: int = 6, width: int = 8) -> np.ndarray[Any, np.dtype[np.float32]]:
    return RNG.uniform(0.05, 2.0, (height, width, 3)).astype(np.float32)


def channels_of(pixels: np.ndarray[Any, Any], prefix: str = "") -> dict[str, Any]:
    return {prefix + leaf: np.ascontiguousarray(pixels[..., index]) for index, leaf in enumerate("RGB")}


def test_exr_is_linear_and_keeps_its_header(tmp_path: Path) -> None:
    pixels = rgb()
    path = save_exr(tmp_path / "a.exr", channels_of(pixels), cameraModel="ALEXA", focalLength=35.0)
    plate = images.read_plate(path)
    np.testing.assert_array_equal(plate.pixels, pixels)
    assert plate.alpha is None
    assert plate.attributes["cameraModel"] == "ALEXA"
    assert plate.attributes["focalLength"] == 35.0
    assert plate.colorspace == "linear"


def test_premultiplied_exr_becomes_straight(tmp_path: Path) -> None:
    pixels = rgb()
    alpha = RNG.uniform(0.2, 1.0, pixels.shape[:2]).astype(np.float32)
    alpha[0, 0] = 0.0
    channels = {**channels_of(pixels * alpha[..., None]), "A": alpha}
    plate = images.read_plate(save_exr(tmp_path / "a.exr", channels))
    assert plate.alpha is not None
    np.testing.assert_array_equal(plate.alpha, alpha)
    solid = alpha > 0
    np.testing.assert_allclose(plate.pixels[solid], pixels[solid], rtol=1e-5)


def test_data_window_is_placed_in_the_display_window(tmp_path: Path) -> None:
    pixels = rgb(4, 5)
    windows: dict[str, Any] = {
        "dataWindow": (np.array([-1, 2], np.int32), np.array([3, 5], np.int32)),
        "displayWindow": (np.array([0, 0], np.int32), np.array([7, 5], np.int32)),
    }
    plate = images.read_plate(save_exr(tmp_path / "a.exr", channels_of(pixels), **windows))
    assert plate.pixels.shape == (6, 8, 3)
    np.testing.assert_array_equal(plate.pixels[2:, :4], pixels[:, 1:])
    assert not plate.pixels[:2].any()
    assert not plate.pixels[:, 4:].any()


def test_layered_exr_takes_the_beauty(tmp_path: Path) -> None:
    beauty, other = rgb(), rgb()
    channels = {**channels_of(other, "aaa."), **channels_of(beauty, "ViewLayer.Combined.")}
    np.testing.assert_array_equal(images.read_plate(save_exr(tmp_path / "a.exr", channels)).pixels, beauty)


def test_chromaticities_are_respected(tmp_path: Path) -> None:
    ap0 = (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767)
    pixels = rgb()
    plain = images.read_plate(save_exr(tmp_path / "a.exr", channels_of(pixels), chromaticities=ap0))
    named = images.read_plate(save_exr(tmp_path / "b.exr", channels_of(pixels)), colorspace="ACES2065-1")
    np.testing.assert_allclose(plain.pixels, named.pixels, atol=5e-3)


def test_png_is_srgb_and_both_depths_round_trip(tmp_path: Path) -> None:
    pixels = RNG.uniform(0, 0.8, (9, 7, 3)).astype(np.float32)
    for bits, tolerance in ((8, 8e-3), (16, 3e-5)):
        path = tmp_path / f"{bits}.png"
        images.write_png(path, pixels, bits=bits)
        plate = images.read_plate(path)
        assert plate.colorspace == "srgb"
        np.testing.assert_allclose(plate.pixels, pixels, atol=tolerance)


def test_a_png_made_in_bands_is_the_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    color = np.random.default_rng(0).uniform(-0.2, 1.6, (31, 20, 3)).astype(np.float32)
    alpha = color[..., 0].clip(0.0, 1.0)

    def write(folder: Path) -> list[bytes]:
        folder.mkdir()
        files = [folder / f"{k}.png" for k in range(4)]
        images.write_png(files[0], color, alpha=alpha, bits=16)
        images.write_png(files[1], color * alpha[..., None], alpha=alpha, premultiplied=True)
        images.write_normal_png(files[2], color, directx=True)
        images.write_png_values(files[3], alpha, alpha=alpha)
        return [file.read_bytes() for file in files]

    whole = write(tmp_path / "whole")
    monkeypatch.setattr(raster, "_BAND", 60)
    assert write(tmp_path / "bands") == whole


def test_png_alpha_is_straight(tmp_path: Path) -> None:
    values = np.full((3, 3, 3), 0.5, np.float32)
    images.write_png_values(tmp_path / "a.png", values, alpha=np.full((3, 3), 0.25, np.float32), bits=16)
    plate = images.read_plate(tmp_path / "a.png")
    assert plate.alpha is not None
    np.testing.assert_allclose(plate.alpha, 0.25, atol=1e-4)
    np.testing.assert_allclose(plate.pixels, float(srgb_to_linear(np.array(0.5))), atol=1e-4)


def test_grey_becomes_three_channels_and_one_pixel_is_enough(tmp_path: Path) -> None:
    images.write_png_values(tmp_path / "gray.png", np.full((1, 1), 1.0, np.float32))
    assert images.read_plate(tmp_path / "gray.png").pixels.tolist() == [[[1.0, 1.0, 1.0]]]
    y = RNG.uniform(0, 1, (1, 1)).astype(np.float32)
    plate = images.read_plate(save_exr(tmp_path / "gray.exr", {"Y": y}))
    assert plate.pixels.shape == (1, 1, 3)
    assert plate.pixels[0, 0, 2] == y[0, 0]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    from PIL import Image

    picture = Image.new("RGB", (8, 4), (0, 0, 0))
    picture.paste((255, 255, 255), (0, 0, 4, 4))  # left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned 90° clockwise: left becomes top
    picture.save(tmp_path / "phone.jpg", exif=exif, quality=95)
    pixels = images.read_plate(tmp_path / "phone.jpg").pixels
    assert pixels.shape[:2] == (8, 4)
    assert pixels[:3].mean() > 0.9
    assert pixels[5:].mean() < 0.1


def test_bad_pixels_are_counted_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pixels = rgb()
    pixels[0, 0], pixels[1, 1], pixels[2, 2] = np.nan, np.inf, -1.0
    plate = images.read_plate(save_exr(tmp_path / "a.exr", channels_of(pixels)))
    assert (plate.counts.nan, plate.counts.inf, plate.counts.negative) == (1, 1, 1)
    assert np.isfinite(plate.pixels).all()
    assert "1 NaN, 1 infinite, 1 negative pixel values were replaced" in caplog.text


def test_maps_round_trip_with_layers_and_header(tmp_path: Path) -> None:
    size = (6, 8)
    normal = RNG.normal(size=(*size, 3)).astype(np.float32)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    planes = {
        "plate": rgb(),
        "normal": normal,
        "albedo": RNG.uniform(0, 1, (*size, 3)).astype(np.float32),
        **{
            name: RNG.uniform(0, 1, size).astype(np.float32)
            for name in ("matte", "roughness", "reflectivity", "cavity")
        },
        "depth": RNG.uniform(1, 1000, size).astype(np.float32),
    }
    code = OpenEXR.TimeCode(1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    source = save_exr(tmp_path / "src.exr", channels_of(planes["plate"]), timeCode=code, cameraModel="ALEXA")
    attributes = {
        **images.read_plate(source).attributes,
        "platelight:models": "normal=abc",
        "platelight:fov": "40",
    }
    images.write_maps(tmp_path / "a.maps.exr", planes, attributes)
    stored = read_exr(tmp_path / "a.maps.exr")[0]
    layers = (
        "R G B A albedo.R albedo.G albedo.B normal.X normal.Y normal.Z roughness.V reflectivity.V cavity.V"
    )
    assert set(stored.channels) == {*layers.split(), "depth.Z", "matte.V"}
    assert {key for key, value in stored.channels.items() if value.dtype == np.float32} == {"depth.Z"}
    back, header = images.read_maps(tmp_path / "a.maps.exr")
    np.testing.assert_array_equal(back["depth"], planes["depth"])
    for name, plane in planes.items():
        np.testing.assert_allclose(back[name], plane, rtol=1e-3, atol=1e-3)
    assert header["cameraModel"] == "ALEXA"
    assert header["platelight:models"] == "normal=abc"
    assert header["timeCode"].hours == 1
    assert header["timeCode"].frame == 4


def test_relit_and_light_layers(tmp_path: Path) -> None:
    relit = RNG.uniform(0, 1e6, (4, 4, 4)).astype(np.float32)  # beyond half: must not become infinite
    planes = {"relit": relit, "pbr": rgb(4, 4), "diffuse": rgb(4, 4), "specular": rgb(4, 4)}
    images.write_relit(tmp_path / "a.relit.exr", planes, {})
    stored = read_exr(tmp_path / "a.relit.exr")[0].channels
    assert set(stored) == {"R", "G", "B", "A"} | {
        f"{n}.{c}" for n in ("pbr", "diffuse", "specular") for c in "RGB"
    }
    assert np.isfinite(stored["R"]).all()
    images.write_light(tmp_path / "a.light.exr", rgb(4, 8), {})
    assert images.read_light(tmp_path / "a.light.exr").shape == (4, 8, 3)


def test_nearly_two_to_one_light_is_resampled_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save_exr(tmp_path / "l.exr", channels_of(np.full((32, 66, 3), 2.0, np.float32)))
    light = images.read_light(path)
    assert light.shape == (33, 66, 3)
    np.testing.assert_allclose(light, 2.0, rtol=1e-6)
    assert "not quite 2:1" in caplog.text


def test_a_sun_beyond_half_floats_is_kept_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pixels = np.ones((8, 16, 3), np.float32)
    pixels[2, 5] = 397312.0  # that of a clear sky of Poly Haven's, which sends two thirds of all light
    path = tmp_path / "sun.hdr"
    assert cv2.imwrite(os.fspath(path), pixels)
    np.testing.assert_allclose(images.read_light(path), pixels, rtol=0.01)
    assert "replaced" not in caplog.text
    assert images.read_plate(path).pixels.max() == 65504.0  # what a plate's maps can be stored as


def test_matte_is_raw_values_and_resized(tmp_path: Path) -> None:
    matte = np.zeros((8, 8), np.float32)
    matte[:, 4:] = 0.5
    images.write_png_values(tmp_path / "m.png", matte, bits=16)
    read = images.read_matte(tmp_path / "m.png", (8, 8))
    np.testing.assert_allclose(read, matte, atol=1e-4)  # no sRGB decode
    assert images.read_matte(tmp_path / "m.png", (16, 16)).shape == (16, 16)


def test_normal_png_conventions(tmp_path: Path) -> None:
    normal = np.zeros((2, 2, 3), np.float32)
    normal[..., 1], normal[..., 2] = 0.6, 0.8
    images.write_normal_png(tmp_path / "gl.png", normal, bits=16)
    images.write_normal_png(tmp_path / "dx.png", normal, directx=True, bits=16)
    values = [
        images.read_plate(tmp_path / f"{n}.png", colorspace="linear").pixels[0, 0] for n in ("gl", "dx")
    ]
    np.testing.assert_allclose(values[0], [0.5, 0.8, 0.9], atol=1e-4)
    np.testing.assert_allclose(values[1], [0.5, 0.2, 0.9], atol=1e-4)


def test_failure_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    script = f"""
    import resource, signal, numpy as np
    from platelight import images
    from platelight.protocol.errors import InputError, PlatelightError
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
    noise = np.random.default_rng(0).uniform(0, 1, (200, 200, 3)).astype(np.float32)
    for write in (lambda: images.write_light({str(tmp_path / "a.light.exr")!r}, noise, {{}}),
                  lambda: images.write_png({str(tmp_path / "a.png")!r}, noise)):
        try:
            write()
        except PlatelightError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("could not be written") == 2, done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_kill_while_writing_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.light.exr"
    images.write_light(path, np.full((4, 8, 3), 3.0, np.float32), {})
    before = path.read_bytes()
    script = f"""
    import os, signal
    import numpy as np
    from platelight.images import write_light
    os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)  # data written, not yet renamed
    write_light({str(path)!r}, np.zeros((400, 800, 3), np.float32), {{}})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert done.returncode == -9
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2  # the killed writer's hidden temporary, and the old file
    assert [entry.name for entry in tmp_path.glob("*.light.exr") if not entry.name.startswith(".")] == [
        "a.light.exr"
    ]


def test_unwritable_folder_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PlatelightError, match="cannot be written") as caught:
        images.write_png(tmp_path / "file" / "a.png", np.zeros((2, 2, 3), np.float32))
    assert caught.value.exit_code == 2


def test_the_beauty_is_found_among_other_parts_and_layers(tmp_path: Path) -> None:
    wanted, other = rgb(), rgb()
    for file, parts in {
        "parts.exr": [("albedo", channels_of(other)), ("rgba.left", channels_of(wanted))],
        "layers.exr": [
            ("a", channels_of(other, "albedo.")),
            ("b", channels_of(wanted, "ViewLayer.Combined.")),
        ],
    }.items():
        made = [OpenEXR.Part({"type": OpenEXR.scanlineimage}, channels, name) for name, channels in parts]
        OpenEXR.File(made).write(str(tmp_path / file))
        np.testing.assert_allclose(images.read_plate(tmp_path / file).pixels, wanted)


def test_alpha_that_is_no_matte_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    color, one = rgb(), np.ones((6, 8), np.float32)
    part = save_exr(
        tmp_path / "stabilized.exr", {**channels_of(color), "A": one},
        dataWindow=((1, 1), (8, 6)), displayWindow=((0, 0), (9, 7)),
    )  # fmt: skip
    plate = images.read_plate(part)
    assert plate.pixels.shape == (8, 10, 3)
    assert plate.alpha is None
    plate = images.read_plate(save_exr(tmp_path / "none.exr", {**channels_of(color), "A": one * 0}))
    assert plate.alpha is None
    np.testing.assert_allclose(plate.pixels, color)
    assert "its alpha is 0 everywhere" in caplog.text
    black = save_exr(tmp_path / "left.exr", {**channels_of(color * 0), "A": one * 0})
    with pytest.raises(InputError, match="fully transparent"):
        images.read_plate(black)
    left = images.read_plate(black, empty=True)
    assert left.alpha is not None
    assert not left.alpha.any()


def test_maps_come_back_from_a_smaller_data_window(tmp_path: Path) -> None:
    planes = {
        name: np.full((12, 20, *((3,) if len(names) == 3 else ())), 0.5, np.float32)
        for name, names in images.maps.MAP_CHANNELS.items()
    }
    images.write_maps(tmp_path / "a.maps.exr", planes, {})
    (part,) = read_exr(tmp_path / "a.maps.exr")
    path = save_exr(
        tmp_path / "cropped.maps.exr",
        part.channels,
        dataWindow=((5, 4), (24, 15)),
        displayWindow=((0, 0), (29, 19)),
    )
    read, _ = images.read_maps(path)
    assert {plane.shape[:2] for plane in read.values()} == {(20, 30)}
    assert (read["normal"][4:16, 5:25] == 0.5).all()
    assert (read["normal"][0, 0] == [0, 0, 1]).all()
    assert [float(read[name][0, 0]) for name in ("matte", "roughness", "cavity", "depth")] == [0, 1, 1, 1]


def test_logarithmic_pictures_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = oiio.ImageSpec(8, 6, 3, oiio.UINT16)
    spec["oiio:ColorSpace"] = "KodakLog"
    out = oiio.ImageOutput.create(str(tmp_path / "scan.dpx"))
    out.open(str(tmp_path / "scan.dpx"), spec)
    out.write_image(rgb() / 2)
    out.close()
    images.read_plate(tmp_path / "scan.dpx")
    assert "says that it is kodaklog" in caplog.text
    caplog.clear()
    images.read_plate(tmp_path / "scan.dpx", "srgb")
    assert not caplog.text
