"""What the refiner keeps of the physical render: exposure, and the color of the whole.

Albedo has no absolute scale in a photograph, and the cast of a subject's paint against that of the light is settled once, when
the plate is taken apart. A refiner that was left free washed photographs out: it makes them grayer as a whole, where made
pictures and the light stage do not tell. So it may change contrast and the color of places, not of the whole.
"""

from __future__ import annotations

import torch
from torch import Tensor

from platelight.models.networks import MIDDLE, luminance

BRIGHTEST = 4 * MIDDLE  # of pictures whose mean is MIDDLE; no more of a glint or of a bright rim counts
LEAST = 1e-8


def tally(image: Tensor, matte: Tensor) -> Tensor:
    """Sums (N, 6) over a subject of a linear picture (N, 3, H, W) of a mean of ``MIDDLE``: of its channels, and of their square roots.

    They add up over bands of rows. Square roots weigh as the eye does: a glint that the refiner dims is not the whole's color. Nor
    is a rim that the sun lights the whole's exposure: all else would be lifted for what the refiner takes from it.
    """
    seen = image.clamp(0, BRIGHTEST)
    roots = (seen + LEAST).sqrt()  # whose gradient is finite at black
    return (torch.cat([seen, roots], 1) * matte).flatten(2).double().sum(2)


def tone(given: Tensor, changed: Tensor) -> Tensor:
    """The factors (N, 3, 1, 1) that bring a changed picture back to the given one's luminance and color, from their tallies (N, 6)."""
    # A channel without light has no color to keep.
    least = given[:, 3:].mean(1, keepdim=True).clamp_min(1e-9) * 1e-3
    color = ((given[:, 3:] + least) / (changed[:, 3:] + least)).square()
    level = luminance(given[:, :3]) / luminance(color * changed[:, :3]).clamp_min(1e-12)
    return (color * level)[..., None, None].float()
