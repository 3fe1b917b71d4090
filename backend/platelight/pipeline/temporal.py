"""Maps of a shot made steady: one source light, one level of albedo, and fields averaged along the surface's motion.

What is averaged are the networks' fields, at the size at which flow is found; the plate's finer detail is its own and
stays. Each frame's result depends on the ``BEFORE`` frames before it, on the ``AFTER`` after it, and on the shot's light, on
nothing else: so any part of a shot, made at any time on any machine, has the same bytes. docs/sequences.md tells why it is so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save
from scipy import ndimage

from platelight.pipeline.temporal_flow import CALM, View, Way, carry, look, reduced, then

Pixels = npt.NDArray[np.float32]

PAST, FUTURE = 8, 6
"""Frames on each side that are averaged. Fewer of the future: full-size maps wait in memory until those are there."""
BEFORE, AFTER = PAST + CALM, FUTURE + CALM
"""Frames on each side that a frame's maps depend on: the flow of the outermost is calmed by that of those beyond."""
FLOW_SIDE = 512
"""Long side of the picture in which flow is found: about what the networks resolve."""
OUTLIER = {"normal": 0.7, "albedo": 0.5, "finish": 0.3, "depth": 0.2}
"""Distance from the frame's own value, per field, at which a neighbor's is taken for another surface's."""
TURNING = ("normal", "depth")
FINISH = ("roughness", "reflectivity", "cavity")
FLOOR = 0.01
KEYS = 7
"""Frames, evenly over the shot, whose lights make the shot's."""
DOUBT = 0.35
"""Difference of a frame's reflectance from the shot's, natural logarithm (half a stop), at which it is half believed that
the light or the camera's exposure has changed, not the networks' opinion."""
RIDGE = 6.0
"""Frames squared: holds the slope in time back where few neighbors are seen."""


@dataclass(frozen=True)
class Still:
    """What the neighbors of a frame need of it, small: ``view`` for flow, ``fields`` (h, w, C) by group at flow size in
    half floats, and the frame's own ``light`` (r, 2r, 3); ``shape`` (H, W) is the plate's.

    Groups: unit ``normal`` (3), logarithm of ``albedo`` (3), ``finish`` roughness, f0 and cavity (3), logarithm of ``depth``
    (1). The view's values are such as half floats hold too, so that one read back is the one that was stored. ``reflectance`` (3,)
    is the median logarithm of albedo over plate, NaN where the matte is too faint to tell it; ``level`` (3,) what must be
    added to the logarithm of albedo for the shot's, and ``share`` how far that was believed, see :func:`leveled`; neither
    is stored.
    """

    view: View
    fields: dict[str, npt.NDArray[Any]]
    light: Pixels
    reflectance: Pixels
    shape: tuple[int, int]
    level: Pixels = field(default_factory=lambda: np.zeros(3, np.float32))
    share: float = 0.0

    @property
    def empty(self) -> bool:
        """Whether the frame shows no subject, so that it tells its neighbors and the shot nothing."""
        return not self.view.matte.any()

    def group(self, name: str) -> Pixels:
        """A group at the shot's level."""
        values = np.asarray(self.fields[name], np.float32)
        return values + self.level if name == "albedo" else values

    def to_bytes(self) -> bytes:
        """As safetensors, half floats."""
        planes = {"gray": self.view.gray, "matte": self.view.matte, **self.fields}
        stored = {name: np.ascontiguousarray(plane, np.float16) for name, plane in planes.items()}
        data: bytes = save(
            {
                **stored,
                "light": self.light,
                "reflectance": self.reflectance,
                "shape": np.asarray(self.shape, np.int64),
            }
        )
        return data

    @staticmethod
    def from_bytes(data: bytes) -> Still:
        """Inverse of :meth:`to_bytes`. Raises SafetensorError or KeyError on other data."""
        found = load(data)
        gray, matte, light, reflectance = (
            np.asarray(found[name], np.float32) for name in ("gray", "matte", "light", "reflectance")
        )
        height, width = (int(side) for side in found["shape"])
        fields = {name: found[name] for name in OUTLIER}
        return Still(View(gray, matte), fields, light, reflectance, (height, width))


def flow_size(shape: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of flow for a plate of (H, W)."""
    scale = min(1.0, FLOW_SIDE / max(shape))
    return max(16, round(shape[0] * scale)), max(16, round(shape[1] * scale))


def key_places(count: int) -> list[int]:
    """Which of a shot's ``count`` frames make its light."""
    return list(dict.fromkeys(np.linspace(0, count - 1, KEYS).round().astype(int).tolist()))


@dataclass(frozen=True)
class Shot:
    """What all frames of a shot share: ``light`` (h, 2h, 3) and ``reflectance`` (3,), the logarithm of albedo over
    plate, NaN where no key frame tells it."""

    light: Pixels
    reflectance: Pixels


def shot_of(frames: Sequence[Still]) -> Shot:
    """The light and the reflectance of a shot, from its key frames: the mean of the lights' shapes at the mean logarithm
    of their strengths, and the mean reflectance, in which each counts the less the farther it is from the median."""
    strengths = np.array([max(float(one.light.mean(dtype=np.float64)), 1e-9) for one in frames])
    shapes = np.stack([one.light / strength for one, strength in zip(frames, strengths, strict=True)])
    off = np.abs(shapes - np.median(shapes, axis=0)).mean((1, 2, 3), dtype=np.float64)
    level = np.log(strengths)
    strength = np.exp(_robust(level, np.abs(level - np.median(level))))
    each = np.stack([one.reflectance for one in frames])
    each = each[np.isfinite(each).all(1)]
    reflectance = np.full(3, np.nan)
    if len(each):
        reflectance = _robust(each, np.abs(each - np.median(each, axis=0)).mean(1, dtype=np.float64))
    return Shot(np.asarray(_robust(shapes, off) * strength, np.float32), np.asarray(reflectance, np.float32))


def _robust(values: npt.NDArray[Any], off: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The mean along the first axis, weighted by the distances ``off`` from the median."""
    weights = 1.0 / (1.0 + (off / (2.0 * max(float(np.mean(off)), 1e-6))) ** 4)
    return np.asarray(np.tensordot(weights / weights.sum(), values, 1))


def leveled(frame: Still, shot: Shot) -> Still:
    """Tie a frame's albedo to the level of its shot.

    A plate fixes the product of albedo and light only, and the networks split it a little differently each time. Under
    one light a subject's median of plate over albedo hardly changes, so what a frame's differs from the shot's by is
    theirs. A difference beyond ``DOUBT`` is taken for a change of the light, or of the camera's exposure, and is left.
    """
    more = np.asarray(shot.reflectance - frame.reflectance, np.float32)
    if not np.isfinite(more).all():
        return frame
    share = 1 / (1 + (np.abs(more).max() / np.float32(DOUBT)) ** 4)
    return replace(frame, level=more * share, share=float(share))


def still(maps: Mapping[str, Pixels]) -> Still:
    """Reduce a frame's maps, as decompose gives them, with ``light``."""
    matte = maps["matte"]
    shape = (matte.shape[0], matte.shape[1])
    size = flow_size(shape)
    cover = reduced(matte, size)
    weight = np.maximum(cover, np.float32(1e-4))[..., None]
    # Off the subject there is nothing, which would be carried over its rim: there it goes on as at the nearest place.
    off = (cover <= 0.05) & (cover.max() > 0.05)
    nearest = ndimage.distance_transform_edt(off, return_distances=False, return_indices=True)

    def over_subject(values: Pixels) -> Pixels:
        values = values[..., None] if values.ndim == 2 else values
        mean = np.atleast_3d(reduced(values * matte[..., None], size)) / weight
        return np.asarray(mean[tuple(nearest)], np.float32)

    normal = over_subject(maps["normal"])
    fields = {
        "normal": normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), np.float32(1e-6)),
        "albedo": over_subject(np.log(maps["albedo"] + np.float32(FLOOR))),
        "finish": over_subject(np.stack([maps[name] for name in FINISH], -1)),
        "depth": over_subject(np.log(np.maximum(maps["depth"], np.float32(1e-3)))),
    }
    view = look(maps["foreground"], matte, size)
    part = (np.log(maps["albedo"] + np.float32(FLOOR)) - np.log(maps["foreground"] + np.float32(FLOOR)))[
        matte > 0.5
    ]
    part = part[:: max(1, len(part) // 100_000)]
    reflectance = np.median(part, axis=0) if len(part) else np.full(3, np.nan)

    def rounded(plane: Pixels) -> Pixels:
        return plane.astype(np.float16).astype(np.float32)

    return Still(
        View(rounded(view.gray), rounded(view.matte)), {name: plane.astype(np.float16) for name, plane in fields.items()},
        np.asarray(maps["light"], np.float32), np.asarray(reflectance, np.float32), shape,
    )  # fmt: skip


def ways_from(steps: Sequence[Way]) -> list[Way]:
    """The ways from a frame to each of its neighbors on one side, from the steps between them, nearest first."""
    found: list[Way] = []
    for step in steps:
        found.append(then(found[-1], step) if found else step)
    return found


def averaged(frame: Still, neighbors: Sequence[tuple[int, Still, Way]]) -> dict[str, Pixels]:
    """Fields of a frame averaged with those of its neighbors, carried along their ways.

    Args:
        frame: the frame itself.
        neighbors: distance in frames (negative in the past), fields, and the way from the frame to them.

    Returns:
        The groups of ``Still.fields``, at flow size.
    """
    names = list(frame.fields)
    widths = [frame.fields[name].shape[2] for name in names]
    one = np.ones((*frame.view.gray.shape, 1))
    # Hann: no frame enters with a jump.
    hann = [_hann(distance) for distance, _, _ in neighbors]
    # Levels come from plates; where lamp or iris flicker, the plate does along the flow: that is not albedo's. Of a frame
    # whose level was not believed, as under a flash, albedo is the networks' own, and has nothing of the plate's gain.
    gains = [np.float32(way.gain * min(frame.share, other.share)) for _, other, way in neighbors]
    # A neighbor that cannot be followed, as beyond a cut, says nothing of them.
    cover = frame.view.matte.astype(np.float64) + 1e-6
    said = [
        near * float(np.average(way.trust, weights=cover))
        for near, (_, _, way) in zip(hann, neighbors, strict=True)
    ]
    usual = np.float32(sum(one * gain for one, gain in zip(said, gains, strict=True)) / (1 + sum(said)))
    own = {name: frame.group(name) + (usual if name == "albedo" else 0) for name in names}
    # Sums of weight, weight * d, weight * d^2, weight * value, weight * d * value over distances d in time.
    sums = {name: [one.copy(), 0 * one, 0 * one, own[name].astype(np.float64), 0 * frame.group(name)]
            for name in names}  # fmt: skip
    for near, gain, (distance, other, way) in zip(hann, gains, neighbors, strict=True):
        there = [other.group(name) + (usual - gain if name == "albedo" else 0) for name in names]
        stack = carry(np.asarray(np.concatenate(there, 2), np.float32), way.flow)
        for name, values in zip(names, np.split(stack, np.cumsum(widths)[:-1], axis=2), strict=True):
            off = np.linalg.norm(values - own[name], axis=-1) / OUTLIER[name]
            weight = (near * way.trust / (1.0 + off**4))[..., None].astype(np.float64)
            terms = (
                weight,
                weight * distance,
                weight * distance**2,
                weight * values,
                weight * distance * values,
            )
            for total, term in zip(sums[name], terms, strict=True):
                total += term
    found = {name: _at_present(sums[name], name in TURNING) for name in names}
    found["normal"] /= np.maximum(np.linalg.norm(found["normal"], axis=-1, keepdims=True), np.float32(1e-6))
    return found


def _hann(distance: int) -> np.float32:
    return np.float32(0.5 + 0.5 * np.cos(np.pi * distance / ((FUTURE if distance > 0 else PAST) + 1)))


def _at_present(sums: Sequence[npt.NDArray[np.float64]], turning: bool) -> Pixels:
    """The mean; for what turns with the surface the value now of the best straight line in time, for where more of
    the past than of the future is seen, or less, the mean would lag."""
    s0, s1, s2, x0, x1 = sums
    if not turning:
        return np.asarray(x0 / s0, np.float32)
    s2 = s2 + RIDGE
    return np.asarray((s2 * x0 - s1 * x1) / (s0 * s2 - s1 * s1), np.float32)


def steadied(
    maps: Mapping[str, npt.NDArray[Any]], frame: Still, steady: Mapping[str, Pixels], light: Pixels
) -> dict[str, npt.NDArray[Any]]:
    """Full-size maps with what averaging changed: their own detail, the steady fields' forms, the shot's light.

    Maps in may be halves; those that are steadied come out as floats, the others as they are.
    """

    def own(name: str) -> Pixels:
        return np.asarray(maps[name], np.float32)

    matte = own("matte")
    shape = (matte.shape[0], matte.shape[1])
    size = (frame.view.gray.shape[0], frame.view.gray.shape[1])
    solid = np.clip(matte / np.float32(0.05), 0, 1)[..., None]

    def change(name: str) -> Pixels:
        delta = np.asarray(steady[name] - frame.fields[name], np.float32)
        if size != shape:
            # The subject's change goes on beyond its edge, or upsampling would mix in that of the backdrop.
            cover = np.maximum(frame.view.matte, np.float32(1e-3))
            spread = cv2.blur(delta * cover[..., None], (5, 5))
            spread = np.atleast_3d(spread) / cv2.blur(cover, (5, 5))[..., None]
            inside = frame.view.matte[..., None] > 0.5
            filled = np.where(inside, delta, spread)
            delta = np.asarray(cv2.resize(filled, shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
        return np.asarray(np.atleast_3d(delta) * solid, np.float32)

    normal = own("normal") + change("normal")
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), np.float32(1e-6))
    albedo = np.log(own("albedo") + np.float32(FLOOR)) + change("albedo")
    albedo = np.clip(np.exp(albedo) - np.float32(FLOOR), 0, 1) * np.minimum(solid, 1)
    finish = np.stack([own(name) for name in FINISH], -1) + change("finish")
    made = {
        "normal": normal, "albedo": albedo, "roughness": np.clip(finish[..., 0], 0.02, 1),
        "reflectivity": np.clip(finish[..., 1], 0, 1), "cavity": np.maximum(finish[..., 2], 0),
        "depth": own("depth") * np.exp(change("depth")[..., 0]), "light": light,
    }  # fmt: skip
    return {**maps, **{name: np.ascontiguousarray(plane, np.float32) for name, plane in made.items()}}
