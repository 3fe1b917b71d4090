"""Movie files through PyAV: frames as plates, with the frame rate, timecode and tags that EXR headers keep."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import OpenEXR
from av.error import FFmpegError

from platelight.images.broadcast import profile_of_tags
from platelight.images.raster import Raster
from platelight.protocol.errors import InputError

OPEN_AT_ONCE = 4
DROP_FRAME_RATES = {Fraction(30000, 1001): 30, Fraction(60000, 1001): 60}


class Movie:
    """One open movie, decoded forward; a frame behind the last one starts again from the key frame before it.

    Frames are numbered from 1 in the order in which they are shown. Not for use by two threads at once.

    Raises:
        InputError: no such file, or no movie that can be decoded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.container = av.open(str(path))
        except (FFmpegError, OSError) as error:
            raise InputError(f"{path} is not a movie that can be read.", "Export it again.") from error
        if not self.container.streams.video:
            self.container.close()
            raise InputError(f"{path} holds no picture.", "Give a movie with a video track.")
        self.stream = self.container.streams.video[0]
        self.stream.thread_type = "AUTO"
        self.rate = Fraction(self.stream.average_rate or self.stream.guessed_rate or 24)
        try:
            # Showing times of all frames, without decoding: frames are then found by number in any container.
            packets = self.container.demux(self.stream)
            # A trimmed movie holds frames before its first one, which are decoded and not shown.
            self.times = sorted(
                {packet.pts for packet in packets if packet.pts is not None and not packet.is_discard}
            )
        except FFmpegError as error:
            raise InputError(f"{path} is a damaged movie.", "Export it again.") from error
        if not self.times:
            raise InputError(f"{path} holds no frames.", "Export it again.")
        self.next = 0
        self.frames: Iterator[av.VideoFrame] | None = None

    def __len__(self) -> int:
        return len(self.times)

    def close(self) -> None:
        """Let go of the file."""
        self.container.close()

    def frame(self, number: int) -> av.VideoFrame:
        """Decode one frame.

        Raises:
            InputError: there is no such frame, or it is damaged.
        """
        if not 1 <= number <= len(self.times):
            raise InputError(
                f"{self.path} has no frame {number}: it has the frames 1 to {len(self.times)}.",
                "Check --frames.",
            )
        wanted = self.times[number - 1]
        try:
            if self.frames is None or number != self.next:
                self.container.seek(wanted, stream=self.stream, backward=True)
                self.frames = self.container.decode(self.stream)
            for frame in self.frames:
                if frame.pts is not None and frame.pts >= wanted:
                    if frame.pts > wanted:
                        break
                    self.next = number + 1
                    return frame
        except FFmpegError as error:
            self.frames = None
            raise InputError(f"{self.path}: frame {number} is damaged.", "Export it again.") from error
        self.frames = None
        raise InputError(f"{self.path}: frame {number} could not be decoded.", "Export it again.")

    def attributes(self, number: int) -> dict[str, Any]:
        """Header attributes of a frame: ``framesPerSecond``, ``timeCode`` where the file has one, and its tags."""
        tags = {**self.container.metadata, **self.stream.metadata}
        found: dict[str, Any] = {
            "framesPerSecond": self.rate,
            "platelight:movie": self.path.name,
            "platelight:movieFrame": number,
        }
        if self.stream.sample_aspect_ratio not in (None, 0, 1):
            found["pixelAspectRatio"] = float(self.stream.sample_aspect_ratio)
        # Times of making and encoders' names change with every export and say nothing of the picture.
        dropped = (
            "timecode",
            "encoder",
            "creation_time",
            "major_brand",
            "minor_version",
            "compatible_brands",
        )
        found.update({f"movie:{key}": value for key, value in tags.items() if key not in dropped})
        timecode = tags.get("timecode") or self._data_timecode()
        if timecode and (stamp := advanced(timecode, number - 1, self.rate)):
            found["timeCode"] = stamp
        return found

    def _data_timecode(self) -> str | None:
        # QuickTime keeps it in a data track of its own.
        return next(
            (
                stream.metadata["timecode"]
                for stream in self.container.streams
                if "timecode" in stream.metadata
            ),
            None,
        )


def advanced(text: str, frames: int, rate: Fraction) -> Any:
    """The EXR time code of ``hh:mm:ss:ff`` and so many frames later; ``;`` before the frames means drop-frame.

    Returns None where the text is no time code.
    """
    pieces = text.replace(";", ":").replace(".", ":").split(":")
    if len(pieces) != 4 or not all(piece.isdigit() for piece in pieces):
        return None
    hours, minutes, seconds, count = (int(piece) for piece in pieces)
    nominal = DROP_FRAME_RATES.get(rate, max(1, round(rate)))
    drop = ";" in text and rate in DROP_FRAME_RATES
    skipped = nominal // 15 if drop else 0  # numbers left out each minute but every tenth
    minute = hours * 60 + minutes
    total = (minute * 60 + seconds) * nominal + count - skipped * (minute - minute // 10) + frames
    if drop:
        per_ten = nominal * 600 - 9 * skipped
        tens, rest = divmod(total, per_ten)
        extra = 9 * skipped * tens
        if rest >= nominal * 60:
            extra += skipped * (1 + (rest - nominal * 60) // (nominal * 60 - skipped))
        total += extra
    total, count = divmod(total, nominal)
    total, seconds = divmod(total, 60)
    hours, minutes = divmod(total, 60)
    return OpenEXR.TimeCode(
        hours % 24, minutes, seconds, count, drop, *[0] * 13
    )  # no color frame, no user bits


_open: OrderedDict[Path, Movie] = OrderedDict()
_lock = threading.Lock()


def count(path: Path) -> int:
    """The number of frames. Raises InputError."""
    with _lock:
        return len(_movie(path))


def read_frame(path: str | os.PathLike[str], number: int) -> Raster:
    """One frame (from 1) as values in [0, 1], as encoded: 8 bits a channel from 8-bit movies, else 16.

    Raises:
        InputError: not a movie, no such frame, or damaged.
    """
    with _lock:  # frames are decoded in order: one movie is one thread's work
        movie = _movie(Path(path))
        frame = movie.frame(number)
        deep = any(component.bits > 8 for component in frame.format.components)
        # The movie's own matrix and range; swscale's default would take all for BT.601.
        values: npt.NDArray[Any] = frame.to_ndarray(
            format="rgb48le" if deep else "rgb24", src_colorspace=_matrix(frame)
        )
        attributes = movie.attributes(number)
        # Phones store what was shot upright lying on its side, and say how it is to be turned.
        values = np.rot90(values, round(frame.rotation / 90) % 4)
    color = values.astype(np.float32) / np.float32(65535.0 if deep else 255.0)
    return Raster(
        color, None, False, attributes, profile_of_tags(int(frame.color_primaries), int(frame.color_trc))
    )


def _matrix(frame: av.VideoFrame) -> Any:
    """The YCbCr matrix that the file says, or by the usual rule: BT.709 from 720 lines on."""
    said = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}.get(int(frame.colorspace))  # AVColorSpace to swscale's
    return said or (1 if frame.height >= 720 else 5)


def _movie(path: Path) -> Movie:
    if path not in _open:
        _open[path] = Movie(path)
        while len(_open) > OPEN_AT_ONCE:
            _open.popitem(last=False)[1].close()
    _open.move_to_end(path)
    return _open[path]
