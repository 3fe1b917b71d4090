"""The specular half of a light: its lamps and the tables of :mod:`.tables`, level by level as they are asked for."""

from __future__ import annotations

from collections import OrderedDict
from threading import RLock

import torch
from torch import Tensor

from platelight.shading import environment, lamps, lobes, parallel, polar, tables
from platelight.shading.store import Store

TOP = lobes.FINE // 2
"""Rows of the light that narrow levels read; wide ones read half."""
_KEPT = 1
_STARTS = [0]
for _level in range(lobes.LEVELS):
    _rows, _columns = tables.shape(_level)
    _STARTS.append(_STARTS[-1] + _rows * (_columns + 1))


class Specular:
    """Tables of one light ``(1, 3, h, 2h)``, differentiable with respect to it where it asks for gradients.

    Wide levels hold the weak lamps too; narrow ones, whose grids are too coarse for a sun, leave them to be evaluated
    pixel by pixel, with :func:`lamp_share`. Most plates have no roughness below 0.25, so levels are made when first used. Thread-safe.
    """

    def __init__(
        self,
        rest: Tensor,
        lamps_: lamps.Lamps,
        degrees: float = 0.0,
        kept: tuple[Store, str] | None = None,
        small: Tensor | None = None,
    ) -> None:
        """Of what :func:`lamps.take` makes of a light, turned by ``degrees``; ``lamps_`` are turned already.

        ``kept``: where tables are kept, and the light's name there. ``small``: the light as wide levels read it, if known.
        """
        self.rest, self.lamps, self._degrees, self._kept = rest, lamps_, degrees, kept
        self._lock = RLock()
        self._small = small
        self._turned: OrderedDict[float, Specular] = OrderedDict()
        self._spectra: dict[bool, Tensor] = {}
        self._coarse: dict[int, Tensor] = {}
        self._raw: dict[tuple[int, bool], Tensor] = {}
        self._tables: dict[int, Tensor] = {}
        self._store: Tensor | None = None

    @classmethod
    def of(cls, env: Tensor, kept: tuple[Store, str] | None = None) -> Specular:
        """Of a light ``(1, 3, h, 2h)``, whose lamps are taken out first."""
        return cls(*lamps.take(environment.resize(env, TOP)), kept=kept)

    def rotated(self, degrees: float) -> Specular:
        """Of the light turned by ``degrees`` more: the same lamps and texels, other tables. The last one is kept."""
        total = (self._degrees + degrees) % 360.0
        if total == self._degrees:
            return self
        if self.rest.requires_grad:
            return Specular(self.rest, self.lamps.rotated(degrees), total)
        with self._lock, torch.inference_mode(False), torch.no_grad():
            found = self._turned.pop(total, None)
            found = found or Specular(
                self.rest, self.lamps.rotated(degrees), total, self._kept, self._reduced()
            )
            self._turned[total] = found
            while len(self._turned) > _KEPT:
                self._turned.popitem(last=False)
            return found

    def rows(self, first: int, last: int) -> Tensor:
        """Tables of the levels ``first`` to ``last``, one after another: ``(R, 24)``."""
        with self._lock:
            if self.rest.requires_grad:
                return torch.cat([self._table(k) for k in range(first, last + 1)])
            # Out of inference mode, so that kept tables serve a caller who wants gradients of the maps.
            with torch.inference_mode(False), torch.no_grad():
                if self._store is None:
                    # Memory that is never written to is never taken.
                    self._store = self.rest.new_empty(_STARTS[-1], tables.WIDTH)
                missing = [k for k in range(first, last + 1) if k not in self._tables]
                places = {k: self._store[_STARTS[k] : _STARTS[k + 1]] for k in missing}
                self._make({k: place for k, place in places.items() if not self._load(k, place)})
                self._tables.update(places)
                return self._store[_STARTS[first] : _STARTS[last + 1]]

    def ready(self) -> bool:
        """Make the kernel of one wide level in use that this process has none of; False where it has all."""
        made = lobes.kernel.cache_info().misses
        with self._lock:
            used = sorted(self._tables)
        for level in used:
            if level < lobes.NARROW:
                lobes.kernel(level, self.rest.device, self.rest.dtype)
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

        parallel.each(fill, wide, self.rest.device)
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
            coarse = polar.coarsen(self._spectrum(bare), rings, frequencies)
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
            self._coarse[rings] = polar.coarsen(self._spectrum(False), rings, frequencies)

    def _reduced(self) -> Tensor:
        """The light as wide levels read it; turns share it."""
        if self._small is None:
            self._small = environment.resize(self.rest, TOP // 2)
        return self._small

    def _spectrum(self, bare: bool) -> Tensor:
        if bare not in self._spectra:
            light, last = (self.rest, lobes.LEVELS - 1) if bare else (self._reduced(), lobes.NARROW - 1)
            rings, frequencies = 2 * environment.check(light), lobes.size(last)[2]
            found = polar.spectrum(light, rings, frequencies, self._degrees)
            if not bare:
                dirs, power = (t[0, self.lamps.strong :] for t in (self.lamps.dirs, self.lamps.power))
                found = found + polar.points(dirs, power, rings, frequencies)
            self._spectra[bare] = found
        return self._spectra[bare]


def lamp_share(roughness: Tensor) -> Tensor:
    """How much of the weak lamps the tables lack: 0 for wide levels, 1 for narrow ones, between them in between."""
    return (tables.place(roughness) - (lobes.NARROW - 1.0)).clamp(0.0, 1.0)
