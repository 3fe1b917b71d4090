"""MP4 for dailies, through PyAV: H.264 where its encoder is there, else MPEG-4."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
from av.codec.codec import UnknownCodecError

from platelight.images.atomic import atomic_path
from platelight.images.color import linear_to_srgb, shoulder
from platelight.images.sanitize import Pixels

ENCODERS = (("libx264", {"crf": "18", "preset": "medium"}), ("mpeg4", {"qscale": "3"}))
LONGEST = 1920


def encoder() -> tuple[str, dict[str, str]]:
    """The best encoder that this installation has, and its options."""
    for name, options in ENCODERS:
        try:
            av.codec.Codec(name, "w")
        except UnknownCodecError:
            continue
        return name, options
    raise RuntimeError("PyAV was built without an MP4 encoder")


def shown(linear: Pixels) -> Any:
    """8-bit sRGB (H, W, 3) of linear pixels, highlights rolled off, at most ``LONGEST`` wide or high, sides even."""
    height, width = linear.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    size = (max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2))
    if size != (width, height):
        linear = np.asarray(cv2.resize(linear, size, interpolation=cv2.INTER_AREA), np.float32)
    return np.rint(linear_to_srgb(np.clip(shoulder(np.maximum(linear, 0)), 0, 1)) * 255).astype(np.uint8)


def write_movie(path: str | os.PathLike[str], frames: Iterable[Any], rate: Fraction) -> int:
    """Write 8-bit sRGB pictures (H, W, 3) of one size, sides even, as MP4, whole or not at all; returns their number.

    Raises:
        InputError: the folder cannot be written.
        PlatelightError: the disk is full.
        ValueError: there are no frames, or one has another size.
    """
    name, options = encoder()
    made = 0
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream: Any = None
        for picture in frames:
            height, width = picture.shape[:2]
            if stream is None:
                stream = container.add_stream(name, rate=rate, options=options)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                # What the numbers mean: BT.709 primaries and matrix, the sRGB curve, video range.
                context = stream.codec_context
                context.color_primaries, context.color_trc, context.colorspace, context.color_range = (
                    1,
                    13,
                    1,
                    1,
                )
            elif (stream.height, stream.width) != (height, width):
                raise ValueError(
                    f"frame {made + 1} is {width}x{height}, the others {stream.width}x{stream.height}"
                )
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
            made += 1
        if stream is None:
            raise ValueError("a movie needs a frame")
        container.mux(stream.encode())
    return made
