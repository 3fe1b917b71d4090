"""Color in and out of linear Rec.709/D65: the exact sRGB curve, any OCIO space, EXR chromaticities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from platelight.images import ocio
from platelight.images.ocio import LINEAR
from platelight.images.sanitize import Pixels
from platelight.protocol.errors import InputError

SHOULDER = 0.8
"""Linear value where the highlight shoulder of PNG output begins."""

REC709_PRIMARIES = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def srgb_to_linear(encoded: npt.NDArray[Any]) -> Pixels:
    """Decode the piecewise curve of IEC 61966-2-1; any shape, values in [0, 1] (beyond is extrapolated)."""
    value = np.asarray(encoded, dtype=np.float32)
    high = np.power((np.maximum(value, 0.0) + np.float32(0.055)) / np.float32(1.055), np.float32(2.4))
    return np.where(value <= 0.04045, value / np.float32(12.92), high).astype(np.float32, copy=False)


def linear_to_srgb(linear: npt.NDArray[Any]) -> Pixels:
    """Encode with the piecewise curve of IEC 61966-2-1; any shape, values in [0, 1]."""
    value = np.asarray(linear, dtype=np.float32)
    high = np.float32(1.055) * np.power(np.maximum(value, 0.0), np.float32(1 / 2.4)) - np.float32(0.055)
    return np.where(value <= 0.0031308, value * np.float32(12.92), high).astype(np.float32, copy=False)


def shoulder(linear: npt.NDArray[Any], start: float = SHOULDER) -> Pixels:
    """Roll highlights off into [0, 1): identity up to ``start``, then an exponential with equal slope.

    ``start + (1 − start)·(1 − exp(−(x − start)/(1 − start)))``, per channel. It keeps detail in
    highlights that a clip would lose and leaves everything below ``start`` exactly as it was.
    """
    value = np.asarray(linear, dtype=np.float32)
    room = np.float32(1.0 - start)
    rolled = start - room * np.expm1(-(np.maximum(value, start) - start) / room)
    return np.where(value <= start, value, rolled).astype(np.float32, copy=False)


def to_linear(pixels: npt.NDArray[Any], colorspace: str) -> Pixels:
    """Convert (H, W, 3) from ``colorspace`` to linear Rec.709.

    Args:
        pixels: encoded values; integers already scaled to [0, 1].
        colorspace: ``linear``, ``srgb``, or any name, alias or role of the OpenColorIO configuration in force
            (:mod:`.ocio`; ``ACEScg``, ``ARRI LogC4``, … of the usual one).

    Raises:
        InputError: it knows no such color space, or cannot be used.
    """
    name = colorspace.strip()
    if name.lower() in ("linear", LINEAR.lower()):
        return np.asarray(pixels, dtype=np.float32)
    if name.lower() == "srgb":
        return srgb_to_linear(pixels)
    # The processor works in place on a packed buffer, so it must have a copy of its own.
    work = np.array(pixels, dtype=np.float32, order="C", copy=True)
    ocio.decoder(name).applyRGB(work)
    return work


def depends_on_configuration(*names: str | None) -> bool:
    """Whether any of these color spaces is looked up in the OpenColorIO configuration."""
    own = ("auto", "linear", "srgb", LINEAR.lower())
    return any(name is not None and name.strip().lower() not in own for name in names)


def linear_space(name: str) -> tuple[npt.NDArray[np.float64], tuple[float, ...]]:
    """A linear color space for output: the 3×3 matrix to it from linear Rec.709, and its chromaticities for an EXR.

    The chromaticities are those of its primaries as seen under D65, to which OpenColorIO adapts: :func:`matrix_to_rec709`
    gives the inverse of the matrix.

    Raises:
        InputError: no such space, or not a linear one.
    """
    if name.strip().lower() in ("linear", LINEAR.lower()):
        return np.eye(3), REC709_PRIMARIES
    matrix = ocio.matrix_from_rec709(name.strip())
    xyz = _to_xyz(REC709_PRIMARIES)[0] @ np.linalg.inv(matrix)
    places = (xyz[:2] / xyz.sum(axis=0)).T.ravel()
    return matrix, (*places.tolist(), *REC709_PRIMARIES[6:])


def matrix_to_rec709(chromaticities: Sequence[float]) -> npt.NDArray[np.float64]:
    """3×3 matrix from linear RGB with the given primaries to linear Rec.709, white adapted by Bradford.

    Args:
        chromaticities: x and y of red, green, blue and white, as the EXR attribute of that name.

    Raises:
        InputError: the primaries span no gamut.
    """
    try:
        source, white = _to_xyz(chromaticities)
        target, target_white = _to_xyz(REC709_PRIMARIES)
        cone = (_BRADFORD @ target_white) / (_BRADFORD @ white)
        adapt = np.linalg.inv(_BRADFORD) @ np.diag(cone) @ _BRADFORD
        matrix = np.linalg.inv(target) @ adapt @ source
    except (np.linalg.LinAlgError, ZeroDivisionError) as error:
        raise InputError(
            "The chromaticities in the file span no gamut.", "Name the space by --colorspace."
        ) from error
    return np.asarray(matrix, dtype=np.float64)


def _to_xyz(chromaticities: Sequence[float]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    points = np.asarray(chromaticities, dtype=np.float64).reshape(4, 2)
    xyz: npt.NDArray[np.float64] = np.array([[x / y, 1.0, (1.0 - x - y) / y] for x, y in points.tolist()])
    primaries, white = xyz[:3].T, xyz[3]
    scaled: npt.NDArray[np.float64] = primaries * np.linalg.solve(primaries, white)
    return scaled, white
