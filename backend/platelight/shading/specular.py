"""The specular half of a light: its lamps and the tables of :mod:`.tables`, level by level as they are asked for."""

from __future__ import annotations

from collections import OrderedDict
from threading import RLock

import torch
from torch import Tensor

from platelight.shading import environment, lamps, lobes, polar, tables
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
        self, rest: Tensor, lamps_: lamps.Lamps, degrees: float = 0.0, kept: tuple[Store, str] | None = None
    ) -> None:
        """Of what :func:`lamps.take` makes of a light, turned by ``degrees``; ``lamps_`` are turned already.

        ``kept``: where tables are kept, and the light's name there.
        """
        self.rest, self.lamps, self._degrees, self._kept = rest, lamps_, degrees, kept
        self._lock = RLock()
        self._turned: OrderedDict[float, Specular] = OrderedDict()
        self._spectra: dict[bool, Tensor] = {}
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
            found = found or Specular(self.rest, self.lamps.rotated(degrees), total, self._kept)
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
                for k in range(first, last + 1):
                    if k not in self._tables:
                        self._tables[k] = self._store[_STARTS[k] : _STARTS[k + 1]]
                        self._tables[k].copy_(self._found(k))
                return self._store[_STARTS[first] : _STARTS[last + 1]]

    def _found(self, level: int) -> Tensor:
        """The table of a level, from disk where it is kept. Turned lights, of which there are many, keep what is dear."""
        if self._kept is None or (self._degrees and level < lobes.NARROW):
            return tables.table(level, self._known(level, level >= lobes.NARROW))
        store, name = self._kept
        name = f"{name}-{self._degrees:g}-{level}"
        read = store.load(name, self.rest.device)
        if read is not None:
            return read["table"]
        made = tables.table(level, self._known(level, level >= lobes.NARROW))
        store.save(name, {"table": made})
        return made

    def _table(self, level: int) -> Tensor:
        if level not in self._tables:
            self._tables[level] = tables.table(level, self._known(level, level >= lobes.NARROW))
        return self._tables[level]

    def _known(self, level: int, bare: bool) -> Tensor:
        """The raw level; ``bare`` leaves the lamps out. Kept where a narrower level is made of it."""
        if (level, bare) in self._raw:
            return self._raw[level, bare]
        wider = self._known(lobes.wider(level), True) if level >= lobes.NARROW else None
        found = tables.raw(level, self._spectrum(bare), wider)
        if bare and level <= lobes.wider(lobes.LEVELS - 1):
            self._raw[level, bare] = found
        return found

    def _spectrum(self, bare: bool) -> Tensor:
        if bare not in self._spectra:
            rows, last = (TOP, lobes.LEVELS - 1) if bare else (TOP // 2, lobes.NARROW - 1)
            frequencies = lobes.size(last)[2]
            found = polar.spectrum(environment.resize(self.rest, rows), 2 * rows, frequencies, self._degrees)
            if not bare:
                dirs, power = (t[0, self.lamps.strong :] for t in (self.lamps.dirs, self.lamps.power))
                found = found + polar.points(dirs, power, 2 * rows, frequencies)
            self._spectra[bare] = found
        return self._spectra[bare]


def lamp_share(roughness: Tensor) -> Tensor:
    """How much of the weak lamps the tables lack: 0 for wide levels, 1 for narrow ones, between them in between."""
    return (tables.place(roughness) - (lobes.NARROW - 1.0)).clamp(0.0, 1.0)
