"""The maps of a subject on their way to a light, band by band, and what of them stays when the light changes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from platelight.pipeline.lights import lights_of
from platelight.pipeline.resample import Window
from platelight.pipeline.room import BAND, Large, Room, clean, tensor_of, unit
from platelight.protocol.errors import InputError
from platelight.protocol.requests import Place
from platelight.shading import store
from platelight.shading.integrate import (
    Picture,
    PrefilteredLight,
    pictures,
    prefilter,
    relit,
    view_directions,
)

Map = npt.NDArray[Any]  # float32, or float16 where memory is bounded
MOST = 0.8
"""Share of a band above which picking the subject's pixels out costs more than shading all."""


@dataclass(frozen=True)
class Maps:
    """Maps of one size on their way to a device, band by band, cleaned of what no network may see."""

    planes: dict[str, Map]
    device: torch.device
    bands: list[tuple[int, int]]

    @staticmethod
    def of(planes: dict[str, Map], device: torch.device, room: Room, wanted: tuple[str, ...]) -> Maps:
        """Checked maps, those of the names ``wanted``.

        Raises:
            InputError: one is missing or differs in size.
        """
        found = {name: planes[name] for name in wanted if name in planes}
        for name in wanted:
            if name not in found and name != "cavity":  # older maps have none
                raise InputError(f"The map {name} is missing.", "Give all maps of one decomposition.")
        for name, image in found.items():
            if image.shape[:2] != found["matte"].shape[:2]:
                raise InputError(
                    f"The map {name} has another size than the matte.", "Give all maps of one decomposition."
                )
        height, width = planes["matte"].shape[:2]
        room.half(height, width)  # refuses at once what cannot be done
        return Maps(found, device, room.bands(height, width, device))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.planes["matte"].shape[:2]
        return height, width

    def rows(self, name: str, top: int, bottom: int, columns: slice = slice(None)) -> Tensor:
        """Rows of a map, (1, C, bottom - top, W)."""
        image = tensor_of(self.planes[name][top:bottom, columns], self.device)
        # Halves are off one in length by enough to miss a narrow highlight, and so is what was resized elsewhere.
        return unit(torch.nan_to_num(image, posinf=0.0, neginf=0.0)) if name == "normal" else clean(image)

    def paint(self, top: int, bottom: int) -> Tensor:
        """Rows of what light falls on, (1, 3, bottom - top, W): albedo times cavity, at most 1."""
        albedo = self.rows("albedo", top, bottom)
        return (albedo * self.rows("cavity", top, bottom)).clamp_(0, 1) if "cavity" in self.planes else albedo

    def whole(self) -> dict[str, Tensor]:
        """All maps (1, C, H, W), as they are lit: the albedo has its cavities."""
        height = self.size[0]
        others = (name for name in self.planes if name not in ("albedo", "cavity"))
        return {"albedo": self.paint(0, height), **{name: self.rows(name, 0, height) for name in others}}

    def cut(self, name: str, window: Window, bands: list[tuple[int, int]]) -> Large:
        """A map's part in a window."""
        columns, top = slice(window.left, window.left + window.width), window.top
        channels = 1 if self.planes[name].ndim == 2 else self.planes[name].shape[2]
        return Large(
            lambda a, b: self.rows(name, top + a, top + b, columns),
            (1, channels, window.height, window.width), bands,
        )  # fmt: skip


@dataclass(frozen=True)
class Band:
    """Rows of a picture that a light shades where the matte is.

    Attributes:
        matte: ``(1, 1, rows, W)``.
        picture: the subject's pixels in one row, or all where ``inside`` is None; None where there is no subject.
        inside: where in the band those pixels are, flat.
    """

    matte: Tensor
    picture: Picture | None
    inside: Tensor | None

    @classmethod
    def of(cls, maps: Maps, fov: float, top: int, bottom: int, share: Tensor | None = None) -> Band:
        """Of rows of maps, seen by a camera with a horizontal field of view in degrees; only where ``share`` is, if given."""
        matte = maps.rows("matte", top, bottom)
        matte = matte if share is None else matte * share
        inside = torch.nonzero(matte.flatten() > 0.0).flatten()
        if not len(inside):
            return cls(matte, None, None)
        images = [maps.rows("normal", top, bottom), maps.paint(top, bottom)]
        images += [maps.rows(name, top, bottom) for name in ("roughness", "reflectivity")]
        images.append(view_directions(*maps.size, fov, rows=(top, bottom)).to(maps.device)[None])
        whole = len(inside) > MOST * matte.numel()
        if not whole:
            images = [image.flatten(2)[:, :, None, inside] for image in images]
        normal, albedo, roughness, f0, view = images
        picture = pictures(normal, albedo, roughness, f0, view, layered=True)[0]
        return cls(matte, picture, None if whole else inside)

    def kept(self) -> Band:
        """The same for a light that changes; see :meth:`Picture.kept`."""
        return replace(self, picture=self.picture.kept() if self.picture else None)

    def under(self, light: PrefilteredLight, summed: bool = False) -> tuple[Tensor, ...]:
        """Diffuse and specular ``(1, 3, rows, W)``, or their sum alone; black where there is no subject."""
        count = 1 if summed else 2
        out = self.matte.new_zeros(1, 3 * count, *self.matte.shape[-2:])
        if self.picture is not None:
            shading = relit(light, self.picture)
            found = shading.total if summed else torch.cat((shading.diffuse, shading.specular), 1)
            if self.inside is None:
                out = found * (self.matte > 0.0)
            else:
                # What indexing does, in a fifth of the time.
                out.flatten(2).scatter_(2, self.inside.expand(1, 3 * count, -1), found.flatten(2))
        return (out,) if summed else (out[:, :3], out[:, 3:])


@dataclass(frozen=True)
class Target:
    """The lights that a picture is put under, linear radiance ``(N, 3, h, 2h)``; filtered when first needed."""

    radiance: Tensor

    @classmethod
    def of(cls, planes: dict[str, Map], places: Sequence[Place], device: torch.device) -> Target:
        """Of planes; see :func:`lights_of`."""
        return cls(lights_of(planes, places, device))

    @functools.cached_property
    def _filtered(self) -> PrefilteredLight:
        return prefilter(self.radiance, store.default())

    def turned(self, rotation: float, exposure: float) -> PrefilteredLight:
        """By degrees and stops, which filter nothing again."""
        return self._filtered.rotated(rotation).exposed(exposure)


class Kept:
    """The bands of the last picture and the last light, for the next that differs in one of them. Thread-safe.

    Both are known again by their content, of which a copy is kept: they may be new arrays, or the same with other values.
    What is larger than previews have is not kept.
    """

    LIMIT = BAND
    """Pixels of a picture: with its copy it takes at most 130 MB."""
    LIGHT = 1 << 25
    """Bytes of lights."""
    USED = ("matte", "normal", "albedo", "roughness", "reflectivity", "cavity")

    def __init__(self) -> None:
        self._lock = Lock()
        self._key: tuple[object, ...] = ()
        self._maps: dict[str, Map] = {}
        self._bands: tuple[Band, ...] = ()
        self._target_key: tuple[object, ...] = ()
        self._lights: dict[str, Map] = {}
        self._target: Target | None = None

    def target(self, planes: dict[str, Map], places: Sequence[Place], device: torch.device) -> Target:
        """As :meth:`Target.of`."""
        lights = {name: planes[name] for name in planes if name == "light" or name.startswith("light_")}
        key = (tuple(places), str(device), tuple(lights))
        with self._lock:
            if self._target is not None and key == self._target_key and _alike(self._lights, lights):
                return self._target
            found = Target.of(planes, places, device)
            self._target_key, self._lights, self._target = (), {}, None
            if sum(light.nbytes for light in lights.values()) <= self.LIGHT:
                self._target_key, self._target = key, found
                self._lights = {name: light.copy() for name, light in lights.items()}
            return found

    def bands(self, maps: Maps, fov: float) -> Sequence[Band] | None:
        """A picture's bands, kept; None for one that is too large."""
        if maps.size[0] * maps.size[1] > self.LIMIT:
            return None
        used = {name: maps.planes[name] for name in self.USED if name in maps.planes}
        key = (fov, str(maps.device), tuple(maps.bands), tuple(used))
        with self._lock:
            if key != self._key or not _alike(self._maps, used):
                self._key, self._maps, self._bands = (), {}, ()
                self._bands = tuple(Band.of(maps, fov, top, bottom).kept() for top, bottom in maps.bands)
                self._maps = {name: plane.copy() for name, plane in used.items()}
                self._key = key
            return self._bands

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._key, self._maps, self._bands = (), {}, ()
            self._target_key, self._lights, self._target = (), {}, None


def _alike(some: dict[str, Map], others: dict[str, Map]) -> bool:
    """Whether arrays of floats of the same names hold the same bits; NaN is like itself."""

    def same(one: Map, other: Map) -> bool:
        bits = np.dtype(f"i{one.dtype.itemsize}")
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and np.array_equal(one.view(bits), other.view(bits))

    return all(same(one, others[name]) for name, one in some.items())
