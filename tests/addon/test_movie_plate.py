"""Movies and movie clips as plates; mattes that follow the frame."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

LEVELS = [15 * k for k in range(1, 13)]


def linear(code: float) -> float:
    return float(((code / 255 + 0.055) / 1.055) ** 2.4)


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    """Twelve gray frames."""
    av = pytest.importorskip("av")
    path = tmp_path / "clip.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24, options={"qscale": "1", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in LEVELS:
            picture = np.full((48, 64, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.blender
def test_a_movie_is_a_plate(run_blender: Callable[..., Any], movie: Path) -> None:
    seen = run_blender("movie.py", movie)
    assert seen["range"] == [2, 4, 64, 48, "MOVIE"]
    assert seen["before"]  # no second Blender before a frame is needed
    assert [each["plate"] for each in seen["movie"]] == pytest.approx(
        [linear(LEVELS[frame - 1]) for frame in (2, 3, 4)], rel=0.05
    )
    assert [each["matte"] for each in seen["movie"]] == pytest.approx([0.2, 0.3, 0.4], rel=1e-3)
    assert seen["files"] == 3
    assert seen["mattes"] == pytest.approx([0.4, 0.25, linear(LEVELS[7])], rel=0.05)
    assert "has no frame 23, it has 12" in seen["no frame"]
    assert "has frames 1 to 12" in seen["no range"]
    assert "text.mov is not a movie" in seen["no movie"]
    assert seen["plates after refusals"] == 1
    assert seen["clip"] == [1001, 1012, True]
    assert seen["clip level"] == pytest.approx(linear(LEVELS[3]), rel=0.05)
    assert seen["painted"] == [8, 6, pytest.approx(0.3, abs=1e-3)]
    assert seen["run"] == [2, 4]
    assert "This file has no nobody." in seen["gone"]
    assert seen["reader ended"]


def test_a_reader_that_dies_is_a_sentence(addon: Callable[[str], Any], tmp_path: Path) -> None:
    movies = addon("movies")
    path = tmp_path / "a.mov"
    path.touch()
    code = textwrap.dedent(
        """
        import sys
        print("PLATELIGHT {}", flush=True)
        sys.stdin.readline()
        """
    )
    reader = movies.MovieReader([sys.executable, "-c", code])
    with pytest.raises(movies.InputError, match="could not be decoded"):
        reader.read(path, 1)
    with pytest.raises(movies.InputError, match="is not a file"):
        reader.read(tmp_path / "none.mov", 1)
    reader.close()
