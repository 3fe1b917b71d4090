"""What a movie's tags say of its colors: wide primaries, and the curves of high dynamic range that phones record in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from platelight.images.color import matrix_to_rec709
from platelight.images.icc import Profile
from platelight.images.sanitize import Pixels

# By the code points of ITU-T H.273: BT.2020 and Display P3.
_PRIMARIES = {
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
}
_PQ, _HLG = 16, 18
_WHITE_NITS = 203.0
"""Luminance of diffuse white in PQ, and below, its light in HLG (ITU-R BT.2408): 1 in a plate, as elsewhere."""
_WHITE_HLG = 0.265


@dataclass(frozen=True)
class Tagged(Profile):
    """A movie's tags; ``curve`` is the code point of its transfer characteristics."""

    curve: int = 0

    def light(self, encoded: Pixels) -> Pixels:
        """Encoded values through the inverse of the camera's curve (HLG), or the display's (PQ): ITU-R BT.2100, tables 4 and 5."""
        values = np.clip(encoded, 0.0, 1.0).astype(np.float64)
        if self.curve == _HLG:
            high = (np.exp((values - 0.55991073) / 0.17883277) + 0.28466892) / 12
            return np.asarray(np.where(values <= 0.5, values**2 / 3, high) / _WHITE_HLG, np.float32)
        if self.curve == _PQ:
            root = values ** (1 / 78.84375)
            nits = 1e4 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (
                1 / 0.1593017578125
            )
            return np.asarray(nits / _WHITE_NITS, np.float32)
        return super().light(encoded)


def profile_of_tags(primaries: int, curve: int) -> Profile | None:
    """The profile of a movie by its code points of ITU-T H.273; None where they say what is assumed anyway."""
    matrix = matrix_to_rec709(_PRIMARIES[primaries]) if primaries in _PRIMARIES else np.eye(3)
    found = Tagged(matrix, None, "the movie's tags", curve)
    return None if found.is_srgb and curve not in (_PQ, _HLG) else found
