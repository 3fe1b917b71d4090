"""Diffuse shading as far as normals can be trusted: its mean over what a normal might be.

A normal that is off by twenty degrees, as those of photographs are on average, puts the shadow's edge where it is not, and at
full contrast. What is expected of a pixel is the mean of its shading over the normals that are possible there. Spread about the
inferred one as a Gaussian on the sphere, they damp the degree l of irradiance by exp(-l (l + 1) σ² / 2) (Ramamoorthi, Hanrahan
2001 for irradiance in spherical harmonics; the diffusion kernel for the damping). Irradiance is linear in light, so the light
is fitted to a diffuse pass as a few distant lamps, whatever rendered it: an HDRI, lamps, Cycles.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import nnls
from torch import Tensor
from torch.nn import functional as F

from platelight.shading.environment import directions, even_directions, sample

Doubles = npt.NDArray[np.float64]

DOUBT = 17.0
"""σ in degrees: normals of photographs are 20 to 22° off in the mean, which is 1.25 σ of a Gaussian of 16 to 18°."""
SIDE = 48
"""Long side of the raster that the light is fitted on."""
ROWS = 32
LAMPS = 128
FEW = 32  # pixels: fewer tell nothing
HELD = 1e-4  # weight of no light at all against that of all pixels
DEGREES = 24  # the last harmonics: with σ of 10° the next are damped to a hundredth


@functools.cache
def _series() -> npt.NDArray[np.float64]:
    """Legendre series of the clamped cosine, (DEGREES + 1,)."""
    at, weight = np.polynomial.legendre.leggauss(64)  # type: ignore[no-untyped-call]
    at, weight = (at + 1) / 2, weight / 2  # the half where it is not 0
    values = np.polynomial.legendre.legvander(at, DEGREES)  # type: ignore[no-untyped-call]
    degree = np.arange(DEGREES + 1)
    return np.asarray((2 * degree + 1) / 2 * ((weight * at) @ values), np.float64)


def soft_cosine(cosine: Tensor, sigma: float = DOUBT) -> Tensor:
    """The clamped cosine between a lamp and a normal that is known to σ degrees only, of the cosine to its mean."""
    degree = np.arange(DEGREES + 1)
    damped = _series() * np.exp(-degree * (degree + 1) * math.radians(sigma) ** 2 / 2)
    terms = np.polynomial.legendre.legvander(cosine.double().cpu().numpy(), DEGREES)  # type: ignore[no-untyped-call]
    found = terms @ damped
    return torch.from_numpy(np.maximum(found, 0.0)).to(cosine)


@functools.cache
def _lamps() -> tuple[Tensor, Doubles]:
    """Directions (LAMPS, 3), and what doubt adds to the cosine of each for a lat-long of normals (ROWS * 2 ROWS, LAMPS)."""
    lamps = even_directions(LAMPS)
    cosine = directions(ROWS).reshape(-1, 3) @ lamps.T
    return lamps, (soft_cosine(cosine) - cosine.clamp_min(0)).double().numpy()


def softening(diffuse: Tensor, paint: Tensor, normal: Tensor, matte: Tensor) -> Tensor:
    """What doubt adds to irradiance over π, a lat-long (1, 3, ROWS, 2 ROWS) of normals; nothing where the subject is too small.

    Args:
        diffuse: (1, 3, h, w), linear radiance of paint (1, 3, h, w) lit. normal: (1, 3, h, w). matte: (1, 1, h, w). Best small:
            no longer than ``SIDE``.
    """
    solid = matte[0, 0] > 0.9
    nothing = diffuse.new_zeros(1, 3, ROWS, 2 * ROWS)
    if int(solid.sum()) < FEW:
        return nothing
    lamps, change = _lamps()
    facing = F.normalize(normal, dim=1)[0][:, solid].T.cpu()
    cosine = (facing @ lamps.T).clamp_min(0).double().numpy()
    seen, painted = (image[0][:, solid].double().cpu().numpy() for image in (diffuse, paint))
    found = np.stack([change @ _powers(cosine * painted[c][:, None], seen[c]) for c in range(3)])
    return torch.from_numpy(found.reshape(nothing.shape)).to(nothing)


def _powers(system: Doubles, seen: Doubles) -> Doubles:
    """Irradiance of each lamp over π, (LAMPS,), which lights the system (P, LAMPS) as it is seen (P,)."""
    square = system.T @ system
    level = float(np.trace(square)) / LAMPS
    if level <= 0.0 or not seen.any():
        return np.zeros(LAMPS)
    # The same problem as that of all pixels, with as many rows as lamps.
    root = np.linalg.cholesky(square + HELD * level * np.eye(LAMPS))
    try:
        found, _ = nnls(root.T, np.linalg.solve(root, system.T @ seen))
    except RuntimeError:  # it did not settle: better no doubt than no picture
        return np.zeros(LAMPS)
    return np.asarray(found, np.float64)


def softened(diffuse: Tensor, paint: Tensor, normal: Tensor, change: Tensor) -> Tensor:
    """A diffuse pass (1, 3, H, W) in doubt, by the change of :func:`softening`; never negative."""
    return (diffuse + paint * sample(change, normal)).clamp_min(0.0)
