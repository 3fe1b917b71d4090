"""Counts of what the server does, and rates over the last minute."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from platelight.protocol.messages import Rates, Totals

_WINDOW = 60.0
_SMOOTH = 0.2


@dataclass
class Meter:
    """What the broker counts as it goes. ``tick`` keeps samples for the rates."""

    submitted: int = 0
    executions: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    refused: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    job_seconds: float = 0.0  # a running mean
    _samples: deque[tuple[float, int, int, int]] = field(default_factory=deque)

    def finished(self, seconds: float) -> None:
        """Count a job that is done."""
        self.job_seconds += (seconds - self.job_seconds) * (_SMOOTH if self.done else 1.0)
        self.done += 1

    def tick(self, now: float) -> None:
        """Take a sample when the last one is a second old."""
        if not self._samples or now - self._samples[-1][0] >= 1.0:
            self._samples.append((now, self.done, self.bytes_in, self.bytes_out))
            while now - self._samples[0][0] > _WINDOW:
                self._samples.popleft()

    def totals(self, workers_lost: int) -> Totals:
        """Return the counts."""
        return Totals(
            self.submitted, self.executions, self.done, self.failed, self.cancelled, self.refused, workers_lost,
            self.bytes_in, self.bytes_out,
        )  # fmt: skip

    def rates(self) -> Rates:
        """Return the means over the last minute, or since the start if that is shorter."""
        self.tick(time.monotonic())
        since, done, came, went = self._samples[0]
        span = max(1.0, time.monotonic() - since)
        return Rates(
            60.0 * (self.done - done) / span,
            (self.bytes_in - came) / span,
            (self.bytes_out - went) / span,
            self.job_seconds,
        )
