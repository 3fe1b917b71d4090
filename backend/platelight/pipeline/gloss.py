"""What shines in the plate's own light can't be brighter than the plate: black cloth reflects little.

SpecularNet gives nearly all things the f0 of plastic, and a render of black cloth, of a visor, of a crease is then gray
with reflected light, though the plate shows it black under a light that is known by now. So where what a plain dielectric would
reflect of that light is not small against what is seen, less is reflected: half of their harmonic mean, which is below both.
"""

from __future__ import annotations

from torch import Tensor

from platelight.models.networks import luminance
from platelight.shading.environment import sample
from platelight.shading.reference import facing
from platelight.shading.sampling import directional_albedo

PLAIN = 0.04  # f0 of plastic, skin, cloth; a metal's own reflection is what is seen of it, so it is asked nothing more
LEAST = 0.25  # of an f0 stays: what lay in shadow is black too


def no_brighter_than_seen(
    f0: Tensor, roughness: Tensor, normal: Tensor, plate: Tensor, light: Tensor, view: Tensor
) -> Tensor:
    """The reflectance f0 (1, 1, h, w) that the plate allows.

    Args:
        f0, roughness: (1, 1, h, w). normal: (1, 3, h, w), unit. plate: (1, 3, h, w), linear.
        light: lat-long (1, 3, H, 2H) that the plate was shot in, in its units; broad, so that lobes need not blur it.
        view: (1, 3, h, w), unit, from each pixel to the camera.
    """
    bent, facing_view = facing(normal, view)
    mirrored = 2 * (bent * view).sum(1, keepdim=True) * bent - view
    reflected = luminance(sample(light, mirrored)) * directional_albedo(
        facing_view, roughness, f0.new_tensor(PLAIN)
    )
    seen = luminance(plate.clamp_min(0))
    return f0 * (seen / (seen + reflected).clamp_min(1e-6)).clamp(LEAST, 1)


__all__ = ["no_brighter_than_seen"]
