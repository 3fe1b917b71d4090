"""Arithmetic on lat-long lights: directions, irradiance, the sun in them, strength from a gray card.

No bpy module use. A light is (h, 2h, 3) float32, linear Rec.709, in the project's convention: the center column is
where the camera looks, +X (screen right) at three quarters of the width, the top row is up. Directions are unit
vectors (..., 3) in the frame of the camera's heading: +X right, +Y up, -Z forward.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .exr import Pixels
from .wire import InputError

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
_SUN_CONTRAST = 8.0  # a sun is at least this many times brighter than the median direction
_SUN_LEVEL = 0.2  # share of the peak, above its surroundings, down to which a pixel belongs to the sun
_SUN_REACH = math.radians(25.0)
_WITHIN = 3  # samples along each side of a pixel when a light is turned
_BAND = 64
_SUNS = 64


@dataclass(frozen=True)
class Sun:
    """A distant lamp: ``direction`` towards it, ``irradiance`` (3,) at normal incidence, ``angle`` across in radians."""

    direction: tuple[float, float, float]
    irradiance: tuple[float, float, float]
    angle: float


def directions(height: int, rows: slice = slice(None)) -> Pixels:
    """Unit directions (h, 2h, 3) of the centers of a light's pixels, or of some of its rows."""
    azimuth = ((np.arange(2 * height) + 0.5) / (2 * height) - 0.5) * 2 * math.pi
    elevation = (0.5 - (np.arange(height)[rows] + 0.5) / height) * math.pi
    a, e = np.meshgrid(azimuth, elevation)
    return np.stack([np.sin(a) * np.cos(e), np.sin(e), -np.cos(a) * np.cos(e)], -1).astype(np.float32)


def solid_angles(height: int) -> Pixels:
    """Solid angle (h, 1) of one pixel of each row in steradians; the whole map sums to 4 pi."""
    edges = np.sin((0.5 - np.arange(height + 1) / height) * math.pi)
    return ((edges[:-1] - edges[1:]) * math.pi / height)[:, None].astype(np.float32)


def irradiance(light: Pixels, normals: Pixels) -> Pixels:
    """Irradiance (N, 3) that a light sends to surfaces with ``normals`` (N, 3), by the plain sum over its pixels."""
    height = light.shape[0]
    cosine = np.maximum(normals @ directions(height).reshape(-1, 3).T, 0.0)
    return np.asarray(cosine @ (light * solid_angles(height)[..., None]).reshape(-1, 3), np.float32)


def reduced(light: Pixels, height: int) -> Pixels:
    """Halve a light until it is at most ``height`` rows high."""
    while light.shape[0] > height and light.shape[0] % 2 == 0:
        light = light.reshape(light.shape[0] // 2, 2, light.shape[1] // 2, 2, 3).mean(axis=(1, 3))
    return light


def card_strength(light: Pixels, plate: Pixels, paint: Pixels, normal: Pixels, matte: Pixels) -> float:
    """The factor on ``light`` under which a diffuse card reads as it does on the plate.

    The plate itself is the card: where the matte is solid, plate = factor * paint * irradiance(normal) / pi. The
    median over the subject leaves highlights and cast shadows out.

    Args:
        light: (h, 2h, 3). plate, paint, normal: (H, W, 3), paint being albedo times cavity. matte: (H, W).

    Raises:
        InputError: nothing solid to measure on, or the light is black.
    """
    rows, columns = np.nonzero(matte > 0.95)
    if not len(rows):
        raise InputError("The matte has no solid pixel.", "Analyze the plate again with another matte.")
    chosen = np.random.default_rng(0).permutation(len(rows))[:4096]
    rows, columns = rows[chosen], columns[chosen]
    under = paint[rows, columns] * irradiance(reduced(light, 64), normal[rows, columns]) / math.pi @ LUMINANCE
    seen = plate[rows, columns] @ LUMINANCE
    lit = under > 1e-6
    if lit.mean() < 0.25:
        raise InputError("The plate's inferred light is black.", "Analyze the plate again.")
    return float(np.median(seen[lit] / under[lit]))


def split_sun(light: Pixels) -> tuple[Sun, Pixels]:
    """Take the brightest compact source out of a light; what is left and the lamp together send the same energy.

    Raises:
        InputError: nothing in the light stands out as a sun does.
    """
    height = light.shape[0]
    luminance = light @ LUMINANCE
    weight = np.broadcast_to(solid_angles(height), luminance.shape)
    way = directions(height)
    peak = np.unravel_index(int(np.argmax(luminance)), luminance.shape)
    if float(luminance[peak]) < _SUN_CONTRAST * float(np.median(luminance)):
        raise InputError("No sun stands out in this light.", "Leave Sun as Lamp off.")
    near = np.arccos(np.clip(way @ way[peak], -1.0, 1.0))
    ring = (near > _SUN_REACH) & (near < 2 * _SUN_REACH)
    around = float(np.median(luminance[ring]))
    core = (near <= _SUN_REACH) & (luminance > around + _SUN_LEVEL * (luminance[peak] - around))
    reach = float(near[core].max()) + math.pi / height
    skirt = (near > reach) & (near < 2 * reach + math.pi / height)
    level = np.median(light[skirt], axis=0)
    disk = near <= reach
    rest = np.where(disk[..., None], np.minimum(light, level), light).astype(np.float32)
    removed = (light - rest) * weight[..., None]
    energy = removed.reshape(-1, 3).sum(axis=0, dtype=np.float64)
    power = removed @ LUMINANCE
    toward = (way * power[..., None]).reshape(-1, 3).sum(axis=0, dtype=np.float64)
    toward /= np.linalg.norm(toward)
    off = np.arccos(np.clip(way @ toward.astype(np.float32), -1.0, 1.0))
    # A uniform disk of radius R has a mean squared distance from its center of R^2 / 2.
    radius = math.sqrt(2.0 * float((power * off * off).sum() / power.sum()))
    x, y, z = (float(v) for v in toward)
    r, g, b = (float(v) for v in energy)
    return Sun((x, y, z), (r, g, b), max(2.0 * radius, math.radians(0.1))), rest


def turned(light: Pixels, axes: Pixels, rotation: float) -> Pixels:
    """The light as a camera sees it that is pitched or rolled.

    Each pixel is the mean of ``_WITHIN``² samples, weighted by solid angle, as in ``platelight.shading.environment.seen_from``. What the
    brightest pixels have above the others is moved as points that keep their energy: by one sample, a sun of one pixel would shine
    several times stronger or weaker, and flicker as it turns. In bands of rows, for memory.

    Args:
        axes: (3, 3), the camera's axes as columns in the frame of its heading.
        rotation: degrees; positive moves what is seen to the right.
    """
    height = light.shape[0]
    fine = _WITHIN * height
    weights = solid_angles(fine)[..., None]
    bright, excess = _standing_out(light)
    light = light.copy()
    light.reshape(-1, 3)[bright] -= excess
    out = np.empty((height, 2 * height, 3), np.float32)
    for top in range(0, height, _BAND):
        rows = slice(_WITHIN * top, _WITHIN * min(height, top + _BAND))
        share = weights[rows]
        seen = _sampled(light, directions(fine, rows) @ axes.T.astype(np.float32), rotation) * share
        sums = seen.reshape(-1, _WITHIN, 2 * height, _WITHIN, 3).sum(axis=(1, 3))
        out[top : top + _BAND] = sums / (_WITHIN * share.reshape(-1, _WITHIN).sum(axis=1))[:, None, None]
    energy = excess * solid_angles(height)[bright // (2 * height)]
    ways = _about(directions(height).reshape(-1, 3)[bright], rotation) @ axes.astype(np.float32)
    pixels, angles = out.reshape(-1, 3), solid_angles(height)
    for row, column, share in _around(ways, height, 0.0):
        np.add.at(pixels, row * 2 * height + column, energy * share / angles[row])
    return out


def _standing_out(light: Pixels) -> tuple[np.ndarray, Pixels]:
    """Indices of the brightest pixels, and what they have (N, 3) above the brightest of the others."""
    luminance = (light @ LUMINANCE).ravel()
    brightest = np.argpartition(luminance, -_SUNS - 1)[-_SUNS - 1 :]
    level = luminance[brightest].min()
    bright = brightest[luminance[brightest] > level]
    share = 1.0 - level / luminance[bright]
    return bright, np.asarray(light.reshape(-1, 3)[bright] * share[:, None], np.float32)


def _about(way: Pixels, rotation: float) -> Pixels:
    """Directions (N, 3) turned about the vertical; positive degrees move them to the right."""
    c, s = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    x, y, z = way.T
    return np.stack([x * c - z * s, y, z * c + x * s], -1)


def _around(way: Pixels, height: int, rotation: float) -> Iterator[tuple[np.ndarray, np.ndarray, Pixels]]:
    """The four pixels around directions (..., 3) in a light that ``rotation`` degrees have turned: row, column, share (..., 1)."""
    azimuth = np.arctan2(way[..., 0], -way[..., 2]) - math.radians(rotation)
    elevation = np.arcsin(np.clip(way[..., 1], -1.0, 1.0))
    x = ((azimuth / (2 * math.pi) + 0.5) * 2 * height - 0.5) % (2 * height)
    y = np.clip((0.5 - elevation / math.pi) * height - 0.5, 0, height - 1)
    x0, y0 = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    x1, y1 = (x0 + 1) % (2 * height), np.minimum(y0 + 1, height - 1)
    x0 %= 2 * height
    yield y0, x0, (1 - fx) * (1 - fy)
    yield y0, x1, fx * (1 - fy)
    yield y1, x0, (1 - fx) * fy
    yield y1, x1, fx * fy


def _sampled(light: Pixels, way: Pixels, rotation: float) -> Pixels:
    """The light in directions (..., 3), bilinear, after it was turned by ``rotation`` degrees."""
    return sum(light[row, column] * share for row, column, share in _around(way, light.shape[0], rotation))
