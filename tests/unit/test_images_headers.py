"""What cameras and phones put into their files: ICC profiles, EXIF of every kind, turned movies, squeezed pixels."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import OpenEXR
import OpenImageIO as oiio  # noqa: N813
import pytest
from PIL import Image
from platelight import images
from platelight.images import movie
from platelight.images.color import matrix_to_rec709, srgb_to_linear
from platelight.images.exr import read_exr
from platelight.images.icc import profile_of

# Display P3 in XYZ under D50, as phones' profiles have it, and Adobe RGB.
P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141))
P3_PRIMARIES = (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.3290)


def profile(columns: tuple[tuple[float, ...], ...], gamma: float | None = None) -> bytes:
    """A small matrix profile; without a gamma its curve is a table, as sRGB's is."""
    tags = [
        (name, b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in column)))
        for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)
    ]
    table = np.rint(srgb_to_linear(np.linspace(0, 1, 64)) * 65535).astype(">u2").tobytes()
    curve = struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0" if gamma else struct.pack(">I", 64) + table
    tags += [(name, b"curv\0\0\0\0" + curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    at, heads, body = 132 + 12 * len(tags), b"", b""
    for name, data in tags:
        heads += name + struct.pack(">2I", at + len(body), len(data))
        body += data
    header = bytearray(128)
    header[0:4], header[12:20], header[20:24] = struct.pack(">I", at + len(body)), b"mntrRGB ", b"XYZ "
    header[8:12], header[36:40] = b"\x02\x40\0\0", b"acsp"
    return bytes(header) + struct.pack(">I", len(tags)) + heads + body


def photo(path: Path, color: tuple[int, int, int] = (200, 40, 30), **saved: object) -> Path:
    Image.new("RGB", (16, 8), color).save(path, **saved)
    return path


def test_colors_are_those_of_the_profile(tmp_path: Path) -> None:
    code = np.array([200, 40, 30]) / 255
    plain = images.read_plate(photo(tmp_path / "none.png")).pixels[4, 8]
    same = images.read_plate(photo(tmp_path / "srgb.png", icc_profile=profile(SRGB)))
    np.testing.assert_array_equal(same.pixels[4, 8], plain)
    assert same.colorspace == "srgb"
    wide = images.read_plate(photo(tmp_path / "p3.png", icc_profile=profile(P3)))
    wanted = matrix_to_rec709(P3_PRIMARIES) @ srgb_to_linear(code)
    np.testing.assert_allclose(wide.pixels[4, 8], np.maximum(wanted, 0), atol=2e-3)
    assert wide.pixels[4, 8, 0] > 1.1 * plain[0]
    assert wide.colorspace == "the file's ICC profile"
    adobe = images.read_plate(photo(tmp_path / "adobe.png", (90, 90, 90), icc_profile=profile(ADOBE, 2.2)))
    np.testing.assert_allclose(adobe.pixels[4, 8], (90 / 255) ** 2.2, rtol=5e-3)
    said = images.read_plate(tmp_path / "p3.png", "srgb")
    np.testing.assert_array_equal(said.pixels[4, 8], plain)  # whoever names a space means it


@pytest.mark.parametrize(
    "damage", [b"", b"no profile", profile(P3)[:140], profile(P3).replace(b"RGB ", b"CMYK")]
)
def test_a_damaged_profile_is_none(damage: bytes) -> None:
    assert profile_of(damage) is None


def test_all_that_a_phone_says_can_be_written(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    exif[0x010F], exif[0x829A] = "Maker", 0.01
    details = exif.get_ifd(0x8769)
    details[0x9101], details[0x927C] = b"\x01\x02\x03\0", b"maker's own bytes"
    details[0xA431] = "7" * 300
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.25)  # GPSLatitude
    path = photo(tmp_path / "phone.jpg", exif=exif, icc_profile=profile(P3), quality=95)
    plate = images.read_plate(path)
    assert plate.pixels.shape == (16, 8, 3)
    light = np.full((4, 8, 3), 0.5, np.float32)
    images.write_light(tmp_path / "out.exr", light, plate.attributes)
    header = read_exr(tmp_path / "out.exr")[0].attributes
    assert header["Make"] == "Maker"
    np.testing.assert_array_equal(header["GPS:Latitude"], (52.0, 31.0, 12.25))
    assert header["Exif:BodySerialNumber"] == "7" * 300
    # What told how the photo's own pixels are to be read would turn or decode ours once more.
    assert not [key for key in header if key.startswith(("oiio:", "ICC")) or key == "Orientation"]


def test_boxes_vectors_and_large_numbers_of_an_exr_are_kept(tmp_path: Path) -> None:
    gray = {leaf: np.full((4, 4), 0.5, np.float32) for leaf in "RGB"}
    box = (np.array([0, 0], np.int32), np.array([9, 9], np.int32))
    odd = {"originalDataWindow": box, "pair": (1, 2), "worldToCamera": np.eye(4, dtype=np.float32)}
    OpenEXR.File({"type": OpenEXR.scanlineimage, **odd}, gray).write(str(tmp_path / "in.exr"))
    plate = images.read_plate(tmp_path / "in.exr")
    more = {
        "count": 1 << 40,
        "mixed": (1, 2.5),
        "four": (1.0, 2.0, 3.0, 4.0),
        "raw": b"\0\1",
        "one": np.float32(2),
    }
    images.write_light(tmp_path / "out.exr", np.ones((4, 8, 3), np.float32), {**plate.attributes, **more})
    header = read_exr(tmp_path / "out.exr")[0].attributes
    assert [corner.tolist() for corner in header["originalDataWindow"]] == [[0, 0], [9, 9]]
    np.testing.assert_array_equal(header["worldToCamera"], np.eye(4))
    assert (header["count"], header["one"]) == (float(1 << 40), 2.0)
    assert header["mixed"] == "(1, 2.5)"
    assert "raw" not in header


@pytest.mark.parametrize("straight", [False, True])
def test_color_that_alpha_multiplies_is_divided_in_tiff(tmp_path: Path, straight: bool) -> None:
    spec = oiio.ImageSpec(4, 4, 4, oiio.UINT16)
    spec["oiio:UnassociatedAlpha"] = int(straight)
    out = oiio.ImageOutput.create(str(tmp_path / "a.tif"))
    assert out.open(str(tmp_path / "a.tif"), spec)
    stored = np.full((4, 4, 4), 0.25, np.float32)
    stored[..., 3] = 0.5
    assert out.write_image(stored)
    out.close()
    seen = images.read_plate(tmp_path / "a.tif")
    # The writer multiplies nothing: what lies in the file is 0.25 both times.
    wanted = 0.25 if straight else 0.5
    np.testing.assert_allclose(seen.pixels, srgb_to_linear(np.float32(wanted)), rtol=2e-3)


def test_squeezed_pixels_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gray = {leaf: np.full((4, 4), 0.5, np.float32) for leaf in "RGB"}
    for aspect, told in ((1.0, False), (2.0, True)):
        caplog.clear()
        path = tmp_path / f"{aspect}.exr"
        OpenEXR.File({"type": OpenEXR.scanlineimage, "pixelAspectRatio": aspect}, gray).write(str(path))
        images.read_plate(path)
        assert ("Unsqueeze it first" in caplog.text) == told


def test_a_movie_shot_upright_stands_upright(tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24, options={"qscale": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        values = np.full((48, 64, 3), 20, np.uint8)
        values[:, :20] = 220  # left: it becomes the top when turned clockwise
        container.mux(stream.encode(av.VideoFrame.from_ndarray(values, format="rgb24")))
        container.mux(stream.encode())
    held = bytearray(path.read_bytes())
    assert movie.read_frame(path, 1).color.shape == (48, 64, 3)
    # The display matrix of QuickTime's track header: x' = -y, y' = x, a quarter clockwise.
    one = 1 << 16
    straight, turned = (
        struct.pack(">9i", *matrix)
        for matrix in ((one, 0, 0, 0, one, 0, 0, 0, 1 << 30), (0, one, 0, -one, 0, 0, 0, 0, 1 << 30))
    )
    at = held.index(straight, held.index(b"tkhd"))
    held[at : at + 36] = turned
    again = tmp_path / "upright.mp4"
    again.write_bytes(held)
    color = movie.read_frame(again, 1).color
    assert color.shape == (64, 48, 3)
    assert color[:16].mean() > 0.7
    assert color[24:].mean() < 0.2
