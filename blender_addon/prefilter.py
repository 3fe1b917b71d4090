"""A light filtered for the instant preview: blurred by round lobes of many widths, exactly, by spherical harmonics.

Numpy only; no bpy module use. The texels of a light are points with their solid angle, as ``platelight.shading.reference``
takes them. Each level is the light convolved with

    K(γ) = c / (1 + tan²(γ/2) / α²)²,

GGX as seen straight on, evaluated on a lat-long grid of about three rows per α. Four more tiles end at the horizon of a normal:
irradiance over π, and the light weighted by n·l / (n·l + c). The last four are the light itself, unfiltered, for lobes that are
narrower than the finest level, which are summed over its texels. Tiles lie in one picture, each with a wrapped column and a row
beyond the pole on every side, so that bilinear reading knows no seam. What the brightest texels have above the others is taken
out of the light: suns, bulbs and softboxes are evaluated in every pixel, in clusters where the lobe allows, as composed lobes are
least exact where all light comes from one place.
``shaders/glsl/platelight_relight.glsl`` reads them; ``shaders/glsl/fit_lobes.py`` composes Cook-Torrance of them.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from .exr import Pixels
from .latlong import LUMINANCE, directions, solid_angles

RATIO = 0.75
ALPHAS = tuple(0.01 * RATIO**-k for k in range(-3, 19))
"""Widths of the levels, from 0.0042, which degree 512 just resolves, to 1.77, which is almost a uniform light. Where n·v is small,
lobes are narrower across the plane of incidence than α: 0.01 (roughness 0.1) would not do."""
HORIZONS = (0.03, 0.1, 0.35)
"""The c of the tiles that end at the horizon: with c = n·v they are rough lobes at grazing angles."""
LAMPS, CLUSTERS = 1024, 128
"""Texels that are lamps, at most, and the squares of ``_SIDE`` texels that they are in: softboxes have many."""
_SIDE = 4
ROWS = 512
"""Rows of the finest level, and of the light that is filtered."""
TEXELS = (512, 256, 128, 64)
"""Rows of the light as it is: the finest for the middle of a lobe, the others for the rings about it."""
_CELLS = 3.0  # rows per α
_LEAST = 24
_NORMAL_ROWS, _NORMAL_DEGREES = 96, 96  # of the tiles that are read at the normal
_BLOCK = 16  # orders m that are worked on at once: their Legendre functions stay in the cache


@dataclass(frozen=True)
class Atlas:
    """``pixels`` (H, W, 4) float32, and for each level, then for irradiance and ``HORIZONS``, then for ``TEXELS``, ``tiles`` (n, 4):
    column and row of the inner corner, inner rows, and 0.

    ``lamps`` (4, ``LAMPS``, 4): directions of texels and their radiance times solid angle, sorted by cluster; then for up to
    ``CLUSTERS`` clusters, strongest first, their middles with the end of their texels, and their sums with their radius in rad.
    Behind the last the end is 0."""

    pixels: Pixels
    tiles: Pixels
    lamps: Pixels


def rows_of(level: int) -> int:
    """Rows of a level's grid, even."""
    rows = math.ceil(math.pi / ALPHAS[level] * _CELLS)
    return min(max(2 * math.ceil(rows / 2), _LEAST), ROWS)


def _degree(level: int) -> int:
    # The spectrum of K falls as exp(-2 α l).
    return min(math.ceil(7.0 / ALPHAS[level]) + 16, ROWS)


def lobe(cosine: Pixels, alpha: float) -> Pixels:
    """K up to its factor, of the cosine of the angle to its axis."""
    near = 1.0 + cosine
    inner = alpha * alpha * near / (alpha * alpha * near + 1.0 - cosine)
    return np.asarray(inner * inner)


@functools.cache
def spectra() -> np.ndarray:
    """Legendre coefficients (n, degrees) of all tiles; the first of each is 1."""
    nodes, weights = np.polynomial.legendre.leggauss(20)
    pieces = 200
    t = ((np.arange(pieces)[:, None] + 0.5 * (nodes + 1.0)) / pieces).ravel()
    angle = math.pi * t**3  # most nodes where the narrow lobes are
    weights = np.tile(weights, pieces) * t * t * np.sin(angle)
    x = np.cos(angle)
    above = np.maximum(x, 0.0)
    kernels = np.stack(
        [lobe(x, alpha) for alpha in ALPHAS] + [above] + [above / (above + c) for c in HORIZONS]
    )
    kernels *= weights
    out = np.empty((len(kernels), ROWS))
    before, now = np.zeros_like(x), np.ones_like(x)
    for degree in range(ROWS):
        out[:, degree] = kernels @ now
        before, now = now, ((2 * degree + 1) * x * now - degree * before) / (degree + 1)
    return out / out[:, :1]


@functools.cache
def grids() -> tuple[tuple[int, int, np.ndarray], ...]:
    """Rows, degrees and factors (degrees,) of every tile.

    Reading a grid bilinearly flattens it by sinc² of half a cell's phase on average; the factors undo that.
    """
    out = []
    for index, spectrum in enumerate(spectra()):
        at_normal = index >= len(ALPHAS)
        rows = _NORMAL_ROWS if at_normal else rows_of(index)
        degrees = _NORMAL_DEGREES if at_normal else _degree(index)
        phase = np.minimum(np.arange(degrees) / (2.0 * rows), 0.5)  # over π
        out.append((rows, degrees, spectrum[:degrees] / np.sinc(phase) ** 2))
    return tuple(out)


def fitted(light: Pixels, height: int = ROWS) -> Pixels:
    """The light with ``height`` rows and the same integral over the sphere: smaller, or its texels repeated."""
    old = light.shape[0]
    if old == height:
        return light
    old_rows = -np.cos(np.arange(old + 1) / old * math.pi)
    new_rows = -np.cos(np.arange(height + 1) / height * math.pi)
    old_columns, new_columns = np.arange(2 * old + 1) / (2 * old), np.arange(2 * height + 1) / (2 * height)
    narrow = np.einsum("xc,yck->yxk", _overlap(old_columns, new_columns), light, optimize=True)
    return np.einsum("yr,rxk->yxk", _overlap(old_rows, new_rows), narrow, optimize=True)


def split_lamps(light: Pixels) -> tuple[Pixels, Pixels]:
    """``lamps``, and the light without them."""
    height = light.shape[0]
    luminance = (light @ LUMINANCE).ravel()
    count = min(LAMPS, luminance.size - 1)
    brightest = np.argpartition(luminance, -count - 1)[-count - 1 :]
    brightest = brightest[np.argsort(luminance[brightest])]
    level, chosen = luminance[brightest[0]], brightest[1:]
    chosen = chosen[luminance[chosen] > 1.0001 * level]
    share = 1.0 - level / luminance[chosen]
    angles = solid_angles(height)[chosen // (2 * height)]
    power = light.reshape(-1, 3)[chosen] * share[:, None] * angles
    row, column = chosen // (2 * height) // _SIDE, chosen % (2 * height) // _SIDE
    _, cluster = np.unique(row * height + column, return_inverse=True)
    strength = np.bincount(cluster, power @ LUMINANCE)
    ranked = np.argsort(-strength, kind="stable")
    rank = np.argsort(ranked)
    kept = min(CLUSTERS, len(strength))
    cluster = rank[cluster]
    order = np.argsort(cluster, kind="stable")
    order = order[cluster[order] < kept]
    chosen, cluster, power, angles = chosen[order], cluster[order], power[order], angles[order]
    rest = light.reshape(-1, 3).copy()
    rest[chosen] -= power / angles
    lamps = np.zeros((4, LAMPS, 4), np.float32)
    ways = directions(height).reshape(-1, 3)[chosen]
    lamps[0, : len(chosen), :3], lamps[1, : len(chosen), :3] = ways, power
    for index in range(kept):
        members = np.flatnonzero(cluster == index)
        middle = (power[members] @ LUMINANCE) @ ways[members]
        middle /= np.linalg.norm(middle)
        radius = np.linalg.norm(ways[members] - middle, axis=1).max()
        lamps[2, index] = *middle, members[-1] + 1
        lamps[3, index] = *power[members].sum(axis=0), radius
    return lamps, rest.reshape(light.shape)


def _overlap(old: np.ndarray, new: np.ndarray) -> Pixels:
    low, high = np.maximum(new[:-1, None], old[None, :-1]), np.minimum(new[1:, None], old[None, 1:])
    share = np.maximum(high - low, 0.0)
    return (share / share.sum(axis=1, keepdims=True)).astype(np.float32)


def _legendre(first: int, count: int, degrees: int, rows: int) -> np.ndarray:
    """Orthonormal P of orders ``first`` to ``first + count - 1`` at the upper half of a grid: (count, degrees - first, rows / 2).

    Zero where the degree is below the order.
    """
    angle = (np.arange(rows // 2) + 0.5) / rows * math.pi
    x, sine = np.cos(angle), np.sin(angle)
    orders = np.arange(first, first + count)
    steps = np.arange(1, first + count)
    logs = np.concatenate([[0.0], np.cumsum(0.5 * np.log((2 * steps + 1) / (2 * steps)))])[orders]
    with np.errstate(under="ignore"):
        start = np.exp(logs[:, None] + orders[:, None] * np.log(sine)) / math.sqrt(4.0 * math.pi)
        out = np.zeros((count, degrees - first, rows // 2), np.float32)
        before, now = np.zeros_like(start), np.zeros_like(start)
        for degree in range(first, degrees):
            known = orders < degree
            n = int(known.sum())
            m2, l2 = orders[:n, None].astype(np.float64) ** 2, float(degree * degree)
            if n:
                a = np.sqrt((4.0 * l2 - 1.0) / (l2 - m2))
                b = np.sqrt(((degree - 1.0) ** 2 - m2) / (4.0 * (degree - 1.0) ** 2 - 1.0))
                following = a * (x * now[:n] - b * before[:n])
                before[:n], now[:n] = now[:n], following
            if n < count:
                now[n] = start[n]
            out[: n + 1, degree - first] = now[: n + 1]
    return out


def _halves(rings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and difference of a picture's upper half and its mirrored lower one, rows first."""
    half = rings.shape[0] // 2
    upper, lower = rings[:half], rings[half:][::-1]
    return upper + lower, upper - lower


def harmonics(light: Pixels) -> np.ndarray:
    """Coefficients (orders, degrees, 3), complex, of a light (h, 2h, 3), whose texels are points."""
    rows, degrees = light.shape[0], ROWS
    rings = np.fft.rfft(light * solid_angles(rows)[..., None], axis=1)  # (rows, rows + 1, 3)
    columns = 2 * rows
    out = np.zeros((degrees, degrees, 3), np.complex64)
    for first in range(0, degrees, _BLOCK):
        orders = np.arange(first, min(first + _BLOCK, degrees))
        # Points have all frequencies: those beyond the columns repeat.
        folded = orders % columns
        ring = np.where(
            (folded <= rows)[:, None, None],
            rings[:, np.minimum(folded, rows)].transpose(1, 0, 2),
            rings[:, np.minimum(columns - folded, rows)].conj().transpose(1, 0, 2),
        )
        # Column centers are half a texel from the edge, whose longitude is that of frequency zero.
        ring = ring * np.exp(-1j * math.pi * orders / columns)[:, None, None]
        functions = _legendre(first, len(orders), degrees, rows)
        for i in range(len(orders)):
            even, odd = _halves(ring[i])
            # P is even about the equator where degree and order have the same parity.
            for parity, part in ((0, even), (1, odd)):
                begin = i + parity
                p = functions[i, begin::2]
                both = np.concatenate([part.real, part.imag], axis=1).astype(np.float32)
                sums = p @ both
                out[orders[i], orders[i] + parity :: 2] = sums[:, :3] + 1j * sums[:, 3:]
    return out


def _synthesis(coefficients: np.ndarray, rows: int, factors: np.ndarray) -> Pixels:
    """Pictures (n, rows, 2 rows, 3) of harmonics times factors (n, degrees): the functions are made once for all n."""
    (count, degrees), columns = factors.shape, 2 * rows
    spectrum = np.zeros((rows, columns, 3 * count), np.complex64)
    for first in range(0, degrees, _BLOCK):
        orders = min(_BLOCK, degrees - first)
        functions = _legendre(first, orders, degrees, rows)
        for i in range(orders):
            m = first + i
            scaled = (coefficients[m, m:degrees, None] * factors[:, m:].T[..., None]).reshape(degrees - m, -1)
            both = np.concatenate([scaled.real, scaled.imag], axis=1).astype(np.float32)
            even, odd = functions[i, i::2].T @ both[::2], functions[i, i + 1 :: 2].T @ both[1::2]
            ring = np.concatenate([even + odd, (even - odd)[::-1]])
            ring = (ring[:, : 3 * count] + 1j * ring[:, 3 * count :]) * np.exp(1j * math.pi * m / columns)
            spectrum[:, m % columns] += ring if m == 0 else 2.0 * ring
    pictures = (np.fft.ifft(spectrum, axis=1) * columns).real.reshape(rows, columns, count, 3)
    return np.ascontiguousarray(pictures.transpose(2, 0, 1, 3), np.float32)


def padded(tile: Pixels) -> Pixels:
    """A tile with a column of the other side and a row from beyond the pole all around it."""
    rows = tile.shape[0]
    across = np.concatenate([np.roll(tile[:1], rows, axis=1), tile, np.roll(tile[-1:], rows, axis=1)])
    return np.concatenate([across[:, -1:], across, across[:, :1]], axis=1)


@functools.cache
def layout() -> tuple[tuple[int, int], Pixels]:
    """Height and width of the picture, and its ``tiles``: shelves as high as their first tile."""
    width = 2 * ROWS + 2
    heights = [rows for rows, _, _ in grids()] + list(TEXELS)
    tiles = np.zeros((len(heights), 4), np.float32)
    x = y = shelf = 0
    for index in sorted(range(len(tiles)), key=lambda k: -heights[k]):
        rows = heights[index]
        if x + 2 * rows + 2 > width:
            x, y, shelf = 0, y + shelf, 0
        tiles[index] = x + 1, y + 1, rows, 0
        x, shelf = x + 2 * rows + 2, max(shelf, rows + 2)
    return (y + shelf, width), tiles


def prefilter(light: Pixels) -> Atlas:
    """Filter a light (h, 2h, 3) of linear radiance; about two seconds of one core at 512 rows."""
    # Lamps are texels of the light's own where it is smaller: repeated, they would be too many.
    lamps, rest = split_lamps(fitted(light) if light.shape[0] > ROWS else light)
    rest = fitted(rest)
    coefficients = harmonics(rest)
    (height, width), tiles = layout()
    pixels = np.ones((height, width, 4), np.float32)

    def put(index: int, picture: Pixels) -> None:
        x, y, rows = tiles[index, :3].astype(int)
        pixels[y - 1 : y + rows + 1, x - 1 : x + 2 * rows + 1, :3] = padded(np.maximum(picture, 0.0))

    for rows in sorted({rows for rows, _, _ in grids()}):
        same = [index for index, grid in enumerate(grids()) if grid[0] == rows]
        factors = np.zeros((len(same), max(grids()[index][1] for index in same)))
        for line, index in zip(factors, same, strict=True):
            line[: grids()[index][1]] = grids()[index][2]
        for index, picture in zip(same, _synthesis(coefficients, rows, factors), strict=True):
            put(index, picture)
    for index, rows in enumerate(TEXELS, len(grids())):
        rest = fitted(rest, rows)
        put(index, rest)
    return Atlas(pixels, tiles, lamps)
