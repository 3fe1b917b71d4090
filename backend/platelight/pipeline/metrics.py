"""The measures that every figure in this project's documents is made with, defined once.

All of them look inside the matte only (above 0.5), per picture; a suite's figure is the mean over its pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]

PEAK_PERCENTILE = 99.5
"""What counts as white in a photograph of a suite: the brightest half percent are glints."""


@dataclass(frozen=True)
class NormalError:
    """Angles between predicted and true normals in degrees: mean, median, and shares (0 to 1) below limits."""

    mean: float
    median: float
    under_11: float
    under_22: float
    under_30: float


@dataclass(frozen=True)
class AlbedoError:
    """Scale-invariant mean squared error, and the same in decibels."""

    mse: float
    psnr: float


@dataclass(frozen=True)
class RelitError:
    """Decibels and structural similarity after one best scale."""

    psnr: float
    ssim: float


def angles(predicted: Array, truth: Array) -> npt.NDArray[np.float64]:
    """Angles in degrees between vectors (..., 3) of any length; 90 where the prediction is the zero vector."""
    a, b = predicted.astype(np.float64), truth.astype(np.float64)
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosine = (a * b).sum(axis=-1) / np.maximum(lengths, 1e-12)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def normal_error(predicted: Array, truth: Array, matte: Array) -> NormalError:
    """Angular errors over the pixels of the matte where the truth is known, i.e. not (0, 0, 0).

    The limits are 11.25°, 22.5° and 30°. Arrays are (H, W, 3), camera space; ``matte`` is (H, W).
    """
    known = (matte > 0.5) & (np.linalg.norm(truth, axis=-1) > 0.5)
    off = angles(predicted[known], truth[known])
    return NormalError(
        float(off.mean()),
        float(np.median(off)),
        float((off < 11.25).mean()),
        float((off < 22.5).mean()),
        float((off < 30.0).mean()),
    )


def best_scale(predicted: Array, truth: Array) -> float:
    """The s that minimizes ``‖s·predicted − truth‖²`` over all values; 0 for a black prediction."""
    p, t = predicted.astype(np.float64), truth.astype(np.float64)
    energy = float((p * p).sum())
    return float((p * t).sum()) / energy if energy > 0 else 0.0


def albedo_error(predicted: Array, truth: Array, matte: Array) -> AlbedoError:
    """Scale-invariant MSE and PSNR of linear albedo (H, W, 3).

    One least-squares scale per picture for all three channels; squared error averaged over the pixels of the
    matte and the channels; peak 1, since the suites store albedo with its maximum at 1.
    """
    inside = matte > 0.5
    p, t = predicted[inside].astype(np.float64), truth[inside].astype(np.float64)
    mse = float(((best_scale(p, t) * p - t) ** 2).mean())
    return AlbedoError(mse, decibels(mse))


def relit_error(predicted: Array, truth: Array, matte: Array) -> RelitError:
    """PSNR and SSIM of a relit picture (H, W, 3), linear, after one least-squares scale.

    Both pictures are divided by the truth's 99.5th percentile inside the matte, which so is the peak. SSIM is
    that of Wang et al. 2004 (Gaussian of sigma 1.5) of the pictures with black outside the matte, per channel,
    averaged inside it.
    """
    from skimage.metrics import structural_similarity

    inside = matte > 0.5
    peak = max(float(np.percentile(truth[inside], PEAK_PERCENTILE)), 1e-12)
    scale = best_scale(predicted[inside], truth[inside])
    ours, theirs = predicted.astype(np.float64) * scale / peak, truth.astype(np.float64) / peak
    psnr = decibels(float(((ours - theirs)[inside] ** 2).mean()))
    if min(inside.shape) < 11:  # SSIM's window does not fit
        return RelitError(psnr, float("nan"))
    cut = inside[..., None]
    _, similarity = structural_similarity(  # type: ignore[no-untyped-call]
        ours * cut,
        theirs * cut,
        channel_axis=-1,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return RelitError(psnr, float(similarity[inside].mean()))


def finish_error(predicted: Array, truth: Array, matte: Array) -> float:
    """Mean absolute error of a one-channel map (H, W), roughness or the square root of f0, inside the matte."""
    return float(np.abs(predicted.astype(np.float64) - truth)[matte > 0.5].mean())


def gray_ball(light: Array, side: int = 32) -> npt.NDArray[np.float64]:
    """Irradiance (P, 3) of the visible half of a matte ball, ``side`` pixels wide, under a lat-long (h, 2h, 3).

    The sum over all texels of radiance, solid angle and cosine; the ball looks at the camera, +Z of the lat-long.
    """
    from platelight.shading.environment import directions, solid_angles

    rows = light.shape[0]
    ways = directions(rows).reshape(-1, 3).double().numpy()
    power = light.reshape(-1, 3).astype(np.float64) * solid_angles(rows).reshape(-1, 1).double().numpy()
    c = (np.arange(side) + 0.5) / side * 2 - 1
    x, y = np.meshgrid(c, -c)
    inside = x * x + y * y < 1
    normals = np.stack([x, y, np.sqrt(np.maximum(1 - x * x - y * y, 0))], -1)[inside]
    return np.asarray(np.maximum(normals @ ways.T, 0) @ power)


def light_error(predicted: Array, truth: Array) -> float:
    """Relative error of a gray ball lit by an inferred light (lat-long, any size) against the same under the true one.

    Mean absolute difference over the ball's mean, after one best scale: a plate tells light up to its albedo's scale.
    """
    ours, theirs = gray_ball(predicted), gray_ball(truth)
    return float(np.abs(ours * best_scale(ours, theirs) - theirs).mean() / max(theirs.mean(), 1e-12))


def decibels(mse: float) -> float:
    """PSNR of a mean squared error for peak 1; 100 dB stands for none, NaN stays."""
    return -10.0 * math.log10(max(1e-10, mse)) if mse == mse else mse
