"""The light that a plate was shot in, fitted to what the plate shows once paint and form are known.

IllumNet answers from the whole picture, broadly; plate over albedo is the irradiance that each normal saw. Irradiance is
linear in light, so the light is had by non-negative least squares over lobes, held to IllumNet's where no normal looks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import nnls
from torch import Tensor
from torch.nn import functional as F

from platelight.models.networks import LUMINANCE
from platelight.shading.environment import directions, even_directions, solid_angles

Doubles = npt.NDArray[np.float64]

SIDE = 48  # of the raster that is fitted
LOBES, SHARPNESS = 48, 12.0  # of von Mises and Fisher, evenly over the sphere: half as bright 20 degrees off
EVEN = 0.1  # of the light's mean is added to it first: where it says that no light comes from, little might
HELD = 0.003  # weight of the inferred light, whole, against that of all pixels
ALIKE = 0.1  # the same of what luminance says, for each color: paint that is wrong would tint the light in patches
PAINTED, LIT = 0.1, 0.1  # albedo, and share of the median plate, below which a pixel counts less
FEW = 32  # pixels: fewer tell nothing


def fitted(light: Tensor, plate: Tensor, matte: Tensor, normal: Tensor, albedo: Tensor) -> Tensor:
    """The inferred light changed so that it lights the albedo as the plate is lit.

    Args:
        light: lat-long (1, 3, h, 2h), in the plate's units.
        plate: (1, 3, H, W) linear radiance. matte: (1, 1, H, W). normal: (1, 3, H, W), unit. albedo: (1, 3, H, W).

    Returns:
        (1, 3, h, 2h); the light itself where the subject is too small to tell.
    """
    solid = _raster(matte)[0, 0] > 0.9
    if int(solid.sum()) < FEW:
        return light
    facing = F.normalize(_raster(normal), dim=1)[0][:, solid].T
    seen, paint = (_raster(image.clamp_min(0))[0][:, solid].T for image in (plate, albedo))
    rows = light.shape[-2]
    area = solid_angles(rows).reshape(-1, 1)
    ways = directions(rows).reshape(-1, 3)
    texels = light[0].flatten(1).T.cpu()
    texels = texels + EVEN * (texels * area).sum(0) / area.sum()
    kernel = torch.exp(SHARPNESS * (ways @ even_directions(LOBES).T - 1))
    share = (kernel / kernel.sum(1, keepdim=True)).double().numpy()
    cosine = (facing.cpu() @ ways.T).clamp_min(0).double().numpy() / np.pi
    power = (texels * area).double().numpy()
    weights = torch.tensor(LUMINANCE, dtype=torch.float64).numpy()
    shown, painted = (image.double().cpu().numpy() for image in (seen, paint))
    alike = _gains(shown @ weights, painted @ weights, cosine, share, power @ weights, np.ones(LOBES), HELD)
    found = [
        share @ _gains(shown[:, c], painted[:, c], cosine, share, power[:, c], alike, ALIKE) for c in range(3)
    ]
    changed = texels.double().numpy() * np.stack(found, 1)
    return torch.from_numpy(changed.T.reshape(light.shape)).to(light)


def _gains(
    seen: Doubles,
    paint: Doubles,
    cosine: Doubles,
    share: Doubles,
    power: Doubles,
    expected: Doubles,
    held: float,
) -> Doubles:
    """What each lobe of one channel's light is multiplied by, (LOBES,): as expected but for a scale, held to that."""
    received = seen / np.maximum(paint, 0.03)
    trust = np.clip(paint / PAINTED, 0, 1) * np.clip(seen / max(LIT * float(np.median(seen)), 1e-9), 0.05, 1)
    lobes = share * power[:, None]
    given = cosine @ lobes
    whole = given @ expected
    usual = float(np.median(whole))
    if usual <= 0 or not (trust * received).any():
        return expected
    level = float((trust * received * whole).sum() / (trust * whole * whole).sum())
    # Both in units of the usual irradiance, the light at the plate's level, whatever the exposure.
    weight = np.sqrt(trust / trust.sum())[:, None] / usual
    hold = np.sqrt(held * lobes.sum(0) / lobes.sum())
    system = np.concatenate([given * weight, np.diag(hold)])
    gains, _ = nnls(system, np.concatenate([received / level * weight[:, 0], hold * expected]))
    return np.asarray(gains * level)


def _raster(image: Tensor) -> Tensor:
    """(N, C, H, W) reduced to a long side of ``SIDE`` at most, by area."""
    scale = SIDE / max(image.shape[-2:])
    if scale >= 1:
        return image
    return F.interpolate(image, size=[max(1, round(scale * side)) for side in image.shape[-2:]], mode="area")
