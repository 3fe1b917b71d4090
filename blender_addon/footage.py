"""Pictures by frame: a still, a run of numbered files, or a movie; for plates, mattes and backdrops alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np

from . import color, exr, images, mapfiles, movies
from .exr import Pixels
from .mapfiles import Source
from .session import session
from .wire import InputError


def is_movie(path: Path) -> bool:
    """Whether a file is a movie, by its name."""
    return path.suffix.lower() in bpy.path.extensions_movie


def is_run(path: Path) -> bool:
    """Whether a file is one of several that differ by their number only, or names them by ``####``."""
    if "#" in path.name:
        return True
    first, last = mapfiles.neighbors(path)
    return first or last


def file_of(path: Path, frame: int | None) -> Path:
    """The file that shows ``frame``: ``path`` itself where it is a still."""
    if frame is None or not is_run(path):
        return path
    if "#" in path.name:
        count = path.name.count("#")
        return path.with_name(path.name.replace("#" * count, f"{frame:0{count}d}"))
    return mapfiles.frame_path(path, frame)


def source(path: Path, frame: int | None, space: str = "auto", offset: int = 0) -> Source:
    """Where the pixels of a frame are; linear EXR and movies are read in the job's thread.

    Args:
        frame: frame of the scene, or None for a still (of a movie, its first frame).
        space: ``auto`` or a name of Blender's color spaces.
        offset: added to ``frame`` for the file's number, or the movie's frame from 1.

    Raises:
        InputError: no such file.
    """
    number = None if frame is None else frame + offset
    if is_movie(path):
        if not path.is_file():
            raise InputError(f"{path} is not a file.", "Choose a movie that exists.")
        reader = reading()
        at = 1 if number is None else number
        return Source(f"{path.name} {at}", load=lambda: _movie_pixels(reader, path, at, space))
    file = file_of(path, number)
    if not file.is_file():
        raise InputError(f"{file} is not a file.", "Set the frames, or choose another file.")
    space = color.said_space(file) if space == "auto" else space
    if file.suffix.lower() == ".exr" and color.is_read_as_is(space):
        with file.open("rb") as stream:
            if exr.is_readable(stream.read(1 << 16)):
                return Source(file.name, load=lambda: images.stacked(images.exr_picture(file)))
    return Source(
        file.name, load=lambda: images.stacked(images.load_picture(str(file), space)), loads_on_main=True
    )


def reading() -> movies.MovieReader:
    """The reader of movies, which lives until the extension is switched off; it starts with its first frame."""
    if session.movies is None:
        session.movies = movies.MovieReader(movies.command(bpy.app.binary_path))
    return session.movies


def _movie_pixels(reader: movies.MovieReader, path: Path, frame: int, space: str) -> Pixels:
    found = reader.read(path, frame, space)
    pixels = found.codes
    if pixels.dtype == np.uint8:
        pixels = pixels.astype(np.float32) / np.float32(255.0)
        is_float = False
    else:
        is_float = True
    return images.stacked(images.decoded(pixels, is_float, found.space, found.has_alpha, str(path)))


def open_movie(path: Path, space: str) -> tuple[Any, int]:
    """A Blender image over a movie, and its number of frames; only the header is read.

    Raises:
        InputError: no movie that Blender reads.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file.", "Choose a movie that exists.")
    try:
        image = bpy.data.images.load(str(path), check_existing=False)
    except RuntimeError as error:
        raise InputError(f"{path} is not a movie that Blender can read.", "Export it again.") from error
    if image.source != "MOVIE" or 0 in image.size or image.frame_duration < 1:
        bpy.data.images.remove(image)
        raise InputError(f"{path} is not a movie that Blender can read.", "Export it again.")
    if space != "auto":
        color.set_space(image, space)
    return image, int(image.frame_duration)
