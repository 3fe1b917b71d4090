"""What an embedded ICC profile says of a picture's colors: its primaries, and its curve where that is a plain power.

Phones write Display P3 and cameras Adobe RGB; taken for sRGB, both come out too gray. Matrix profiles of RGB are read
(ICC.1:2022, 8.3.3 and 9.2); those of other kinds, look-up tables among them, are for an OpenColorIO space.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from platelight.images.color import srgb_to_linear
from platelight.images.sanitize import Pixels

# Linear Rec.709 in XYZ as profiles hold it, adapted to D50 by Bradford: the columns of the sRGB profile.
_REC709_D50 = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
_SAME = 4e-3  # a matrix this near to none is sRGB's own, as rounded by whoever wrote the profile


@dataclass(frozen=True)
class Profile:
    """A matrix profile: ``matrix`` (3, 3) from its linear RGB to linear Rec.709; ``gamma`` of its curve, None for sRGB's."""

    matrix: npt.NDArray[np.float64]
    gamma: float | None
    name: str = "the file's ICC profile"

    @property
    def is_srgb(self) -> bool:
        """Whether it says nothing but what is assumed anyway."""
        return self.gamma is None and bool(np.allclose(self.matrix, np.eye(3), atol=_SAME))

    def to_linear(self, encoded: Pixels) -> Pixels:
        """Encoded values (H, W, 3) in [0, 1] -> linear Rec.709."""
        return np.asarray(self.light(encoded) @ self.matrix.T, np.float32)

    def light(self, encoded: Pixels) -> Pixels:
        """Encoded values through the curve."""
        return srgb_to_linear(encoded) if self.gamma is None else np.maximum(encoded, 0.0) ** self.gamma


def profile_of(data: Any) -> Profile | None:
    """The matrix profile in the bytes of an ICC profile, or None where they hold no such one."""
    held = bytes(np.asarray(data, np.uint8)) if isinstance(data, np.ndarray) else bytes(data)
    if len(held) < 132 or held[16:20] != b"RGB " or held[36:40] != b"acsp":
        return None
    try:
        tags = {
            held[at : at + 4]: held[slice(*_span(held, at))]
            for at in range(132, 132 + 12 * struct.unpack_from(">I", held, 128)[0], 12)
        }
        columns = [
            np.array(struct.unpack_from(">3i", tags[name], 8)) / 65536.0
            for name in (b"rXYZ", b"gXYZ", b"bXYZ")
        ]
        curve = tags[b"gTRC"]
        gamma = _gamma(curve)
    except (KeyError, struct.error):
        return None
    matrix = np.linalg.inv(_REC709_D50) @ np.stack(columns, axis=1)
    return Profile(matrix, gamma) if np.isfinite(matrix).all() and abs(np.linalg.det(matrix)) > 1e-3 else None


def _span(held: bytes, at: int) -> tuple[int, int]:
    first, size = struct.unpack_from(">2I", held, at + 4)
    return first, first + size


def _gamma(curve: bytes) -> float | None:
    """The power of a curve that is one, or None: tables and curves with a straight foot are nearly sRGB's."""
    if curve[:4] == b"curv" and struct.unpack_from(">I", curve, 8)[0] == 1:
        return float(struct.unpack_from(">H", curve, 12)[0]) / 256.0
    if curve[:4] == b"curv" and struct.unpack_from(">I", curve, 8)[0] == 0:
        return 1.0
    if curve[:4] == b"para" and struct.unpack_from(">H", curve, 8)[0] == 0:
        return float(struct.unpack_from(">i", curve, 12)[0]) / 65536.0
    return None


__all__ = ["Profile", "profile_of"]
