"""What maps say where there is no subject: around it, and in the frames of a shot that it has left."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]

GROWN = ("normal", "albedo", "roughness", "reflectivity", "cavity")
NEUTRAL: tuple[tuple[float, ...], ...] = ((0.0, 0.0, 1.0), (0.0, 0.0, 0.0), (1.0,), (0.04,), (1.0,))
"""Of each of them: it faces the camera, is black, rough, a dielectric, and has no creases."""
LIGHT_ROWS = 32


def without_subject(height: int, width: int) -> dict[str, Pixels]:
    """The maps of a plate in which there is nothing to take apart, by name: all (H, W) or (H, W, 3), float32.

    Matte and foreground are 0, depth is 1, ``light`` (h, 2h, 3) is black: such a plate does not tell it.
    """
    maps = {
        name: np.full((height, width, len(neutral)), neutral, np.float32).squeeze(
            2 if len(neutral) == 1 else ()
        )
        for name, neutral in zip(GROWN, NEUTRAL, strict=True)
    }
    nothing = np.zeros((height, width), np.float32)
    maps |= {"matte": nothing, "foreground": np.zeros((height, width, 3), np.float32)}
    return maps | {"depth": nothing + 1, "light": np.zeros((LIGHT_ROWS, 2 * LIGHT_ROWS, 3), np.float32)}
