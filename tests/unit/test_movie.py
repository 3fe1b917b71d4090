"""Movies in and out."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from platelight.images import expand, movie
from platelight.images.broadcast import profile_of_tags
from platelight.images.exr import read_exr, write_exr
from platelight.images.movie_out import encoder, shown, write_movie
from platelight.images.plate import plate_of
from platelight.protocol.errors import InputError

RATE = Fraction(24000, 1001)


def picture(k: int) -> np.ndarray:
    values = np.full((48, 64, 3), 60, np.uint8)
    values[32:48, 4 * k : 4 * k + 20] = (200, 90, 40)
    values[:16] = 8 * k
    return values


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mov"
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata["timecode"] = "01:00:59:22"
        container.metadata["reel_name"] = "A001"
        stream = container.add_stream("mpeg4", rate=RATE, options={"qscale": "1", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(k), format="rgb24")))
        container.mux(stream.encode())
    return path


def test_frames_by_number_forward_and_back(clip: Path) -> None:
    assert movie.count(clip) == 12
    frames = expand([str(clip)], "2-11x3")
    assert [frame.stem for frame in frames] == ["clip.0002", "clip.0005", "clip.0008", "clip.0011"]
    for number in (1, 2, 3, 9, 12, 4, 5, 1):
        raster = movie.read_frame(clip, number)
        assert not raster.linear
        np.testing.assert_allclose(raster.color[6, 32] * 255, 8 * (number - 1), atol=6)
        inside = raster.color[37:43, 4 * (number - 1) + 7 : 4 * (number - 1) + 13].mean((0, 1)) * 255
        np.testing.assert_allclose(inside, (200, 90, 40), atol=8)


def test_a_trimmed_movie_begins_at_its_first_shown_frame(tmp_path: Path) -> None:
    """As phones trim: the frames from the key frame on are there, and an edit list leaves the first of them out."""
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    with av.open(str(whole), "w") as container:
        stream = container.add_stream("mpeg4", rate=24, options={"qscale": "1", "g": "12"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(k), format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None and packet.pts is not None and packet.time_base is not None:
                ahead = round(5 / 24 / packet.time_base)
                packet.stream, packet.pts, packet.dts = stream, packet.pts - ahead, packet.dts - ahead
                target.mux(packet)
    assert movie.count(cut) == 7
    for number in (1, 7):
        values = movie.read_frame(cut, number).color
        np.testing.assert_allclose(values[6, 32] * 255, 8 * (number + 4), atol=6)


@pytest.mark.parametrize(("curve", "code"), [(18, 0.75), (16, 0.58069)])
def test_high_dynamic_range_is_read_by_the_movies_tags(tmp_path: Path, curve: int, code: float) -> None:
    """Diffuse white is 75 % in HLG and 58 % in PQ (ITU-R BT.2408, table 1)."""
    path = tmp_path / "phone.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("prores_ks", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv422p10le"
        gray = np.full((48, 64, 3), round(code * 65535), np.uint16)
        frame = av.VideoFrame.from_ndarray(gray, format="rgb48le").reformat(format="yuv422p10le")
        frame.color_primaries, frame.color_trc, frame.colorspace = 9, curve, 9
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    plate = plate_of(movie.read_frame(path, 1), "phone.mov")
    assert plate.colorspace == "the movie's tags"
    np.testing.assert_allclose(plate.pixels[24, 32], 1.0, rtol=0.03)
    assert plate_of(movie.read_frame(path, 1), "phone.mov", "srgb").colorspace == "srgb"


def test_wide_primaries_are_narrowed() -> None:
    found = profile_of_tags(9, 1)
    assert found is not None
    red = found.to_linear(np.array([[[1.0, 0.0, 0.0]]], np.float32))[0, 0]
    np.testing.assert_allclose(red, (1.6605, -0.1246, -0.0182), atol=2e-3)  # ITU-R BT.2087
    assert profile_of_tags(1, 1) is None
    assert profile_of_tags(2, 2) is None


def test_rate_and_timecode_reach_exr_headers(clip: Path, tmp_path: Path) -> None:
    attributes = movie.read_frame(clip, 4).attributes
    write_exr(tmp_path / "out.exr", {"R": np.zeros((4, 4), np.float32)}, attributes)
    header = read_exr(tmp_path / "out.exr")[0].attributes
    assert header["framesPerSecond"] == RATE
    stamp = header["timeCode"]
    assert (stamp.hours, stamp.minutes, stamp.seconds, stamp.frame) == (1, 1, 0, 1)
    assert header["platelight:movieFrame"] == 4


def test_drop_frame_skips_two_numbers_a_minute() -> None:
    def after(text: str, frames: int, rate: Fraction) -> tuple[int, int, int, int]:
        code = movie.advanced(text, frames, rate)
        return code.hours, code.minutes, code.seconds, code.frame

    ntsc = Fraction(30000, 1001)
    assert after("00:00:59;29", 1, ntsc) == (0, 1, 0, 2)
    assert after("00:09:59;29", 1, ntsc) == (0, 10, 0, 0)
    assert after("00:00:00;00", 17982, ntsc) == (0, 10, 0, 0)
    assert after("00:00:00;00", 107892, ntsc) == (1, 0, 0, 0)
    assert after("00:00:59:29", 1, ntsc) == (0, 1, 0, 0)
    assert after("23:59:59:23", 1, Fraction(24)) == (0, 0, 0, 0)
    assert movie.advanced("not a code", 1, ntsc) is None


def test_bad_movies_are_named(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "text.mp4").write_text("no movie")
    with pytest.raises(InputError, match=r"text\.mp4 is not a movie"):
        movie.count(tmp_path / "text.mp4")
    with pytest.raises(InputError, match=r"no frame 13.*the frames 1 to 12"):
        expand([str(clip)], "10-13")


def test_written_movies_read_back(tmp_path: Path) -> None:
    assert encoder()[0] in ("libx264", "mpeg4")
    linear = [np.full((50, 61, 3), 0.05 * k, np.float32) for k in range(1, 6)]
    assert write_movie(tmp_path / "out.mp4", [shown(one) for one in linear], RATE) == 5
    made = movie.Movie(tmp_path / "out.mp4")
    assert (len(made), made.rate) == (5, RATE)
    made.close()
    for k, one in enumerate(linear, 1):
        np.testing.assert_allclose(movie.read_frame(tmp_path / "out.mp4", k).color * 255, shown(one), atol=4)
    with pytest.raises(ValueError, match="needs a frame"):
        write_movie(tmp_path / "none.mp4", [], RATE)
    with pytest.raises(ValueError, match="frame 2 is"):
        write_movie(tmp_path / "two.mp4", [shown(linear[0]), shown(np.zeros((20, 20, 3), np.float32))], RATE)
    assert not list(tmp_path.glob("*.part.*"))
    assert not (tmp_path / "two.mp4").exists()
