"""Rasters of a subject as arrays, and what the form explains of them (:mod:`platelight.models.form`)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from platelight.models import form
from platelight.models.networks import luminance
from platelight.pipeline.depth import Middle, surface_normals
from platelight.pipeline.resample import resize

SURFACE = 0.7  # how far normals are made those of a surface; docs/training.md has the figures by which it was chosen

Array = npt.NDArray[np.float64]
Inside = npt.NDArray[np.bool_]


def array_of(field: Tensor) -> Array:
    """(1, C, h, w) -> (h, w, C) or (h, w)."""
    array = field[0].permute(1, 2, 0).double().cpu().numpy()
    return array[..., 0] if array.shape[-1] == 1 else array


def trust_in(plate: Tensor) -> Array:
    """How far a normalized plate (1, 3, h, w) can be trusted, (h, w)."""
    return array_of(form.trust_of(luminance(plate.clamp_min(0))))


def facing(normal: Tensor, size: tuple[int, int]) -> Array:
    """Unit normals (1, 3, H, W) at another size, (h, w, 3)."""
    return array_of(F.normalize(resize(normal, size), dim=1))


def fit(values: Array, trust: Array, normal: Array) -> Array:
    """The cubic (16,) of normals (N, 3) that explains most of the values (N,) best."""
    given = (torch.from_numpy(one)[None] for one in (values, trust, normal))
    weights: Array = form.fit(*given)[0].numpy()
    return weights


def of_a_surface(normal: Tensor, matte: Tensor, fov: float, middle: Middle = (0.0, 0.0)) -> Tensor:
    """Unit normals (1, 3, h, w) made those of a surface for the most part.

    Each pixel's normal is read by itself, but normals of a surface are tied: along any closed path their slopes sum to none
    (Horn and Brooks, *The Variational Approach to Shape from Shading*, 1986). What cannot be so is an error of the networks.

    Args:
        matte: (1, 1, h, w). fov: horizontal field of view of this picture in degrees.
        middle: where the frame's middle lies, as for :func:`.depth.surface_normals`.
    """
    found, given = surface_normals(
        np.asarray(array_of(normal), np.float32), np.asarray(array_of(matte), np.float32), fov, middle
    )
    change = torch.from_numpy(found - given).permute(2, 0, 1)[None].to(normal)
    return F.normalize(normal + SURFACE * resize(change, (normal.shape[-2], normal.shape[-1])), dim=1)


def explained(weights: Array, normal: Array) -> Array:
    """The values of a cubic at normals (N, 3), (N,)."""
    values: Array = (form.cubic(torch.from_numpy(normal)) @ torch.from_numpy(weights)).numpy()
    return values


def smooth(values: Array, inside: Inside, sigma: float) -> Array:
    """Values of the pixels inside, as a smooth field (h, w); ``sigma`` is a share of the raster's long side."""
    field, sigma = np.zeros(inside.shape), sigma * max(inside.shape)
    field[inside] = values
    found: Array = gaussian_filter(field, sigma) / np.maximum(
        gaussian_filter(inside.astype(np.float64), sigma), 1e-3
    )
    return found
