"""Bad files: one sentence each, exit code 2."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from platelight import images
from platelight.images.apart import decoding_apart
from platelight.protocol.errors import InputError


def save_exr(path: Path, channels: dict[str, Any], **header: Any) -> Path:
    OpenEXR.File({"type": OpenEXR.scanlineimage, **header}, channels).write(str(path))
    return path


def noise(height: int = 64, width: int = 64) -> Any:
    return np.random.default_rng(0).uniform(0, 1, (height, width)).astype(np.float32)


def truncated(path: Path) -> Path:
    data = save_exr(path, {leaf: noise() for leaf in "RGB"}).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def header_bomb(path: Path) -> Path:
    data = bytearray(save_exr(path, {leaf: noise(4, 4) for leaf in "RGB"}).read_bytes())
    for attribute in (b"dataWindow\x00box2i\x00", b"displayWindow\x00box2i\x00"):
        at = data.index(attribute) + len(attribute) + 4
        data[at : at + 16] = np.array([0, 0, 30000, 30000], "<i4").tobytes()
    path.write_bytes(bytes(data))
    return path


def flipped(path: Path) -> Path:
    ramp = np.tile(
        np.linspace(0, 1, 64, dtype=np.float32), (64, 1)
    )  # noise would lie there as it is, without a checksum
    data = bytearray(save_exr(path, dict.fromkeys("RGB", ramp)).read_bytes())
    data[-len(data) // 4] ^= 0x40
    path.write_bytes(data)
    return path


def deep(path: Path) -> Path:
    samples = np.empty((4, 5), dtype=object)
    for index in np.ndindex(samples.shape):
        samples[index] = np.arange(1 + index[0], dtype=np.float32)
    header = {"type": OpenEXR.deepscanline, "compression": OpenEXR.ZIPS_COMPRESSION}
    OpenEXR.File(header, {leaf: samples.copy() for leaf in "RGBAZ"}).write(str(path))
    return path


def parts(path: Path, **channels: str) -> Path:
    """A multi-part file: the channels of each part by its name."""
    made = [
        OpenEXR.Part({"type": OpenEXR.scanlineimage}, dict.fromkeys(names.split(), noise()), part)
        for part, names in channels.items()
    ]
    OpenEXR.File(made).write(str(path))
    return path


def text(path: Path) -> Path:
    path.write_text("not a picture")
    return path


def alpha_png(path: Path, alpha: float, value: float) -> Path:
    images.write_png_values(path, np.full((4, 4, 3), value), alpha=np.full((4, 4), alpha))
    return path


def renamed(path: Path, name: Path) -> Path:
    return path.rename(name)


CASES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing.png": (lambda p: p, "{p}: no such file. Check the path."),
    "missing.exr": (lambda p: p, "{p}: no such file. Check the path."),
    "text.png": (text, "{p} is not an image that can be read. Give an EXR, PNG, TIFF or JPEG file."),
    "text.exr": (text, "{p} is not a readable EXR file. Render or export it again."),
    "truncated.exr": (
        truncated,
        "{p} is a damaged or truncated EXR file: it decodes to no part. Render or export it again.",
    ),
    "flipped.exr": (
        flipped,
        "{p} is a damaged or truncated EXR file: it decodes to no part. Render or export it again.",
    ),
    "deep.exr": (deep, "{p} holds no flat image channels. Deep files must be flattened first."),
    "parts.exr": (
        lambda p: parts(p, depth="Z", motion="N.X N.Y"),
        "{p} holds no color channels (only N.X, N.Y, Z). Give a file with R, G and B.",
    ),
    os.fsdecode(b"\xff.exr"): (
        lambda p: renamed(save_exr(p.with_name("a.exr"), dict.fromkeys("RGB", noise())), p),
        "{p}: the name is not UTF-8. Rename the file.",
    ),
    os.fsdecode(b"\xff.png"): (
        lambda p: renamed(alpha_png(p.with_name("a.png"), 1.0, 0.5), p),
        "{p}: the name is not UTF-8. Rename the file.",
    ),
    "bomb.exr": (header_bomb, "{p} claims a size of 30001×30001 pixels. Render or export it again."),
    "alpha.exr": (
        lambda p: save_exr(p, {"A": noise()}),
        "{p} holds only an alpha channel. Give a picture with color.",
    ),
    "depth.exr": (
        lambda p: save_exr(p, {"Z": noise()}),
        "{p} holds no color channels (only Z). Give a file with R, G and B.",
    ),
    "black.png": (
        lambda p: alpha_png(p, 0.5, 0.0),
        "{p} holds only an alpha channel; its color is black. Give a picture with color.",
    ),
    "clear.png": (
        lambda p: alpha_png(p, 0.0, 0.0),
        "{p} is fully transparent. Give a plate with an opaque subject.",
    ),
}


@pytest.mark.parametrize("where", [nullcontext, decoding_apart], ids=["here", "apart"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_plate_is_refused_with_its_sentence(
    name: str,
    where: Callable[[], AbstractContextManager[None]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    make, sentence = CASES[name]
    path = make(tmp_path / name)
    with where(), pytest.raises(InputError) as caught:
        images.read_plate(path)
    assert str(caught.value) == sentence.format(p=path)
    assert caught.value.exit_code == 2
    said = capfd.readouterr()
    assert said.out + said.err == "", "the library's own words must not reach the terminal"


def test_color_is_found_in_any_part(tmp_path: Path) -> None:
    path = parts(tmp_path / "two.exr", depth="Z", beauty="R G B")
    np.testing.assert_array_equal(images.read_plate(path).pixels, np.repeat(noise()[..., None], 3, axis=-1))


def test_pixels_no_network_may_see_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """NaN, infinities, negative, and more than half holds: replaced, and told in one sentence."""
    pixels = noise()
    pixels[0, :6] = np.nan, np.inf, -np.inf, -1.0, 65504.0, 65520.0
    path = save_exr(tmp_path / "bad.exr", dict.fromkeys("RGB", pixels))
    read = images.read_plate(path).pixels[0, :6, 0]
    np.testing.assert_array_equal(read, np.array([0, 65504, 0, 0, 65504, 65504], np.float32))
    assert caplog.messages == [f"{path}: 1 NaN, 2 infinite, 1 negative, 1 huge pixel values were replaced."]


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        images.read_plate(tmp_path)


def test_square_light_is_refused(tmp_path: Path) -> None:
    path = save_exr(tmp_path / "l.exr", {leaf: noise() for leaf in "RGB"})
    with pytest.raises(InputError) as caught:
        images.read_light(path)
    assert str(caught.value) == (
        f"{path} is 64×64, but a lat-long HDRI is twice as wide as high. Give an equirectangular panorama."
    )


def test_matte_of_another_shape_and_empty_matte_are_refused(tmp_path: Path) -> None:
    images.write_png_values(tmp_path / "m.png", np.ones((4, 8)))
    with pytest.raises(InputError, match="is 8×4 but the plate is 8×8"):
        images.read_matte(tmp_path / "m.png", (8, 8))
    images.write_png_values(tmp_path / "z.png", np.zeros((8, 8)))
    with pytest.raises(InputError, match="is an empty matte"):
        images.read_matte(tmp_path / "z.png", (8, 8))
    assert not images.read_matte(
        tmp_path / "z.png", (8, 8), empty=True
    ).any()  # a frame that its subject has left


def test_a_plate_is_not_a_maps_file(tmp_path: Path) -> None:
    path = save_exr(tmp_path / "p.exr", {leaf: noise() for leaf in "RGB"})
    with pytest.raises(InputError, match=r"is not a Platelight maps file: it lacks matte\.V"):
        images.read_maps(path)


def test_mutants_of_an_exr_never_do_worse_than_a_sentence(tmp_path: Path) -> None:
    good = save_exr(tmp_path / "g.exr", {leaf: noise(24, 24) for leaf in "RGB"}).read_bytes()
    rng = np.random.default_rng(3)
    refused = 0
    for index in range(120):
        data = bytearray(good)
        for _ in range(int(rng.integers(1, 6))):
            data[int(rng.integers(4, len(data)))] = int(rng.integers(0, 256))
        path = tmp_path / f"{index}.exr"
        path.write_bytes(bytes(data))
        try:
            plate = images.read_plate(path)
        except InputError:
            refused += 1
        else:
            assert np.isfinite(plate.pixels).all()
    assert refused > 20
