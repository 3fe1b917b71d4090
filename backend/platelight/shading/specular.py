"""The specular half of a light: its lamps and the tables of :mod:`.tables`, level by level as they are asked for."""

from __future__ import annotations

import functools
from collections import OrderedDict
from dataclasses import dataclass
from threading import RLock

import torch
from torch import Tensor

from platelight.shading import environment, lamps, lobes, parallel, polar, tables
from platelight.shading.store import Store

_KEPT = 1
_STARTS = [0]
for _level in range(lobes.LEVELS):
    _rows, _columns = tables.shape(_level)
    _STARTS.append(_STARTS[-1] + _rows * (_columns + 1))


@dataclass(frozen=True, eq=False)
class Rest:
    """A light ``(1, 3, h, 2h)`` without its lamps, which all turns of it share.

    ``small`` is what :func:`lamps.take` leaves, read by wide levels; narrow ones read ``fine``, of twice as many rows.
    """

    env: Tensor
    lamps: lamps.Lamps
    small: Tensor

    @classmethod
    def of(cls, env: Tensor) -> Rest:
        """Of a light, whose lamps are found."""
        small, found = lamps.take(env, lobes.FINE // 2)
        return cls(env, found, small)

    @functools.cached_property
    def fine(self) -> Tensor:
        """Made when first read."""
        return lamps.without(environment.resize(self.env, lobes.FINE // 2), self.lamps)


class Specular:
    """Tables of one light, differentiable with respect to it where it asks for gradients.

    Wide levels hold the weak lamps too; narrow ones, whose grids are too coarse for a sun, leave them to be evaluated
    pixel by pixel, with :func:`lamp_share`. Most plates have no roughness below 0.25, so levels are made when first used. Thread-safe.
    """

    def __init__(self, rest: Rest, degrees: float = 0.0, kept: tuple[Store, str] | None = None) -> None:
        """Of a light turned by ``degrees``; ``kept``: where tables are kept, and the light's name there."""
        self.rest, self._degrees, self._kept = rest, degrees, kept
        self.lamps = rest.lamps.rotated(degrees) if degrees else rest.lamps
        self._lock = RLock()
        self._turned: OrderedDict[float, Specular] = OrderedDict()
        self._spectra: dict[bool, Tensor] = {}
        self._coarse: dict[int, Tensor] = {}
        self._raw: dict[tuple[int, bool], Tensor] = {}
        self._tables: dict[int, Tensor] = {}
        self._held = (0, 0)
        self._store: Tensor | None = None

    @classmethod
    def of(cls, env: Tensor, kept: tuple[Store, str] | None = None) -> Specular:
        """Of a light ``(1, 3, h, 2h)``, whose lamps are taken out first."""
        return cls(Rest.of(env), kept=kept)

    def rotated(self, degrees: float) -> Specular:
        """Of the light turned by ``degrees`` more: the same lamps and texels, other tables. The last one is kept."""
        total = (self._degrees + degrees) % 360.0
        if total == self._degrees:
            return self
        if self.rest.env.requires_grad:
            return Specular(self.rest, total)
        with self._lock, torch.inference_mode(False), torch.no_grad():
            found = self._turned.pop(total, None)
            found = found or Specular(self.rest, total, self._kept)
            self._turned[total] = found
            while len(self._turned) > _KEPT:
                self._turned.popitem(last=False)
            return found

    def rows(self, first: int, last: int) -> Tensor:
        """Tables of the levels ``first`` to ``last``, one after another: ``(R, 24)``."""
        with self._lock:
            if self.rest.env.requires_grad:
                return torch.cat([self._table(k) for k in range(first, last + 1)])
            # Out of inference mode, so that kept tables serve a caller who wants gradients of the maps.
            with torch.inference_mode(False), torch.no_grad():
                self._hold(first, last)
                missing = [k for k in range(first, last + 1) if k not in self._tables]
                places = {k: self._stored(k, k) for k in missing}
                self._make({k: place for k, place in places.items() if not self._load(k, place)})
                self._tables.update(places)
                return self._stored(first, last)

    def _hold(self, first: int, last: int) -> None:
        """Have one piece of memory with room for levels, and for all between them and those that are made."""
        if self._store is not None and self._held[0] <= first and last <= self._held[1]:
            return
        if self._tables:
            first, last = min(first, self._held[0]), max(last, self._held[1])
        self._held = first, last
        self._store = self.rest.small.new_empty(_STARTS[last + 1] - _STARTS[first], tables.WIDTH)
        for level, table in self._tables.items():
            self._tables[level] = self._stored(level, level).copy_(table)

    def _stored(self, first: int, last: int) -> Tensor:
        assert self._store is not None
        begin = _STARTS[self._held[0]]
        return self._store[_STARTS[first] - begin : _STARTS[last + 1] - begin]

    def ready(self) -> bool:
        """Make the kernel of one wide level in use that this process has none of; False where it has all."""
        made = lobes.kernel.cache_info().misses
        with self._lock:
            used = sorted(self._tables)
        for level in used:
            if level < lobes.NARROW:
                lobes.kernel(level, self.rest.small.device, self.rest.small.dtype)
                if lobes.kernel.cache_info().misses > made:
                    return True
        return False

    def _name(self, level: int) -> str:
        """A table's name on disk, empty where it is not kept. Turned lights, of which there are many, keep what is dear."""
        if self._kept is None or (self._degrees and level < lobes.NARROW):
            return ""
        return f"{self._kept[1]}-{self._degrees:g}-{level}"

    def _load(self, level: int, place: Tensor) -> bool:
        """Whether a table was on disk; it is in its place then."""
        name = self._name(level)
        found = self._kept[0].load(name, place.device) if self._kept and name else None
        if found is not None:
            place.copy_(found["table"])
        return found is not None

    def _make(self, places: dict[int, Tensor]) -> None:
        """Sum tables up and have them kept. Wide levels know nothing of each other, so threads share them."""
        wide = [k for k in places if k < lobes.NARROW]
        self._coarsen(wide)

        def fill(level: int) -> None:
            tables.fill(places[level], level, self._known(level, level >= lobes.NARROW))

        parallel.each(fill, wide, self.rest.small.device)
        for level in places:
            if level >= lobes.NARROW:
                fill(level)
            if self._kept and (name := self._name(level)):
                self._kept[0].save(name, {"table": places[level]})
        self._coarse.clear()

    def _table(self, level: int) -> Tensor:
        if level not in self._tables:
            self._tables[level] = tables.table(level, self._known(level, level >= lobes.NARROW))
        return self._tables[level]

    def _known(self, level: int, bare: bool) -> Tensor:
        """The raw level; ``bare`` leaves the lamps out. Kept where a narrower level is made of it."""
        if (level, bare) in self._raw:
            return self._raw[level, bare]
        wider = self._known(lobes.wider(level), True) if level >= lobes.NARROW else None
        _, rings, frequencies = lobes.size(level)
        coarse = None if bare else self._coarse.get(rings)
        if coarse is None:
            coarse = polar.coarsen(self._spectrum(bare, lobes.NARROW - 1), rings, frequencies)
        found = tables.raw(level, coarse, wider)
        if bare and level <= lobes.wider(lobes.LEVELS - 1):
            self._raw[level, bare] = found
        return found

    def _coarsen(self, levels: list[int]) -> None:
        """The spectrum on the rings of wide levels, most of which have the same."""
        most: dict[int, int] = {}
        for level in levels:
            _, rings, frequencies = lobes.size(level)
            most[rings] = max(most.get(rings, 0), frequencies)
        for rings, frequencies in most.items():
            self._coarse[rings] = polar.coarsen(self._spectrum(False, max(levels)), rings, frequencies)

    def _spectrum(self, bare: bool, last: int) -> Tensor:
        """What narrow levels start from (``bare`` of lamps), or wide ones up to the ``last``: of as many frequencies as these need."""
        light, last = (self.rest.fine, lobes.LEVELS - 1) if bare else (self.rest.small, last)
        frequencies = lobes.size(last)[2]
        known = self._spectra.get(bare)
        if known is None or known.shape[1] < frequencies:
            rings = 2 * environment.check(light)
            known = polar.spectrum(light, rings, frequencies, self._degrees)
            if not bare:
                dirs, power = (t[0, self.lamps.strong :] for t in (self.lamps.dirs, self.lamps.power))
                if len(dirs):
                    known = known + polar.points(dirs, power, rings, frequencies)
            self._spectra[bare] = known
        return known


def lamp_share(roughness: Tensor) -> Tensor:
    """How much of the weak lamps the tables lack: 0 for wide levels, 1 for narrow ones, between them in between."""
    return (tables.place(roughness) - (lobes.NARROW - 1.0)).clamp(0.0, 1.0)
