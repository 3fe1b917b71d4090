"""How a batch tells where it is: a bar on a terminal, lines in a log, or what Open Job Description workers read."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from platelight.images.quiet import aloud

Progress = Callable[[float, str], None]


class Meter(Protocol):
    """One batch's display."""

    def begin(self, label: str) -> Progress:
        """A frame's work begins; returns what is called with its fraction and stage."""

    def done(self, label: str, computed: bool) -> None:
        """A frame is over; ``computed`` when it took its time, false for skipped ones."""


class Pace:
    """Frames a second of those computed, and the time that the rest will take."""

    def __init__(self, total: int) -> None:
        self.total, self.over, self.computed = total, 0, 0
        self.began = time.monotonic()

    def count(self, computed: bool) -> None:
        """One more frame is over."""
        self.over += 1
        self.computed += computed

    def __str__(self) -> str:
        elapsed = time.monotonic() - self.began
        if not self.computed:
            return ""
        rate = self.computed / max(elapsed, 1e-6)
        return f"{rate:.2f} frames/s, {clock((self.total - self.over) / rate)} left"


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


class Silent:
    """No display."""

    def begin(self, label: str) -> Progress:
        return lambda fraction, stage: None

    def done(self, label: str, computed: bool) -> None:
        pass


class Lines:
    """A line on stderr as each frame ends."""

    def __init__(self, total: int) -> None:
        self.pace = Pace(total)

    def begin(self, label: str) -> Progress:
        return lambda fraction, stage: None

    def done(self, label: str, computed: bool) -> None:
        self.pace.count(computed)
        with aloud():
            said = f"{self.pace.over}/{self.pace.total} {label}{'' if computed else ' skipped'} {self.pace}"
            print(said.rstrip(), file=sys.stderr, flush=True)


class OpenJD:
    """``openjd_progress`` and ``openjd_status`` lines on stdout, as Open Job Description workers read them."""

    def __init__(self, total: int) -> None:
        self.pace = Pace(total)

    def _say(self, fraction: float, status: str) -> None:
        with aloud():
            print(f"openjd_progress: {100 * (self.pace.over + fraction) / max(self.pace.total, 1):.1f}")
            print(f"openjd_status: {status}", flush=True)

    def begin(self, label: str) -> Progress:
        return lambda fraction, stage: self._say(min(fraction, 1.0), f"{label} {stage}")

    def done(self, label: str, computed: bool) -> None:
        self.pace.count(computed)
        self._say(0.0, f"{label} {'done' if computed else 'skipped'} {self.pace}".rstrip())


@contextlib.contextmanager
def meter(kind: str, total: int) -> Iterator[Meter]:
    """The display asked for: ``auto`` (a bar where stderr is a terminal, else nothing), ``lines``, ``openjd``."""
    if kind == "lines":
        yield Lines(total)
        return
    if kind == "openjd":
        yield OpenJD(total)
        return
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Silent()
        return
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"),
               TextColumn("{task.fields[pace]}"))  # fmt: skip
    with Bar(*columns, console=console) as live:
        task, pace = live.add_task("", total=total, pace=""), Pace(total)

        class OnTerminal:
            def begin(self, label: str) -> Progress:
                def progress(fraction: float, stage: str) -> None:
                    live.update(
                        task, completed=pace.over + min(1.0, fraction), description=f"{label}  {stage}"
                    )

                progress(0.0, "reading")
                return progress

            def done(self, label: str, computed: bool) -> None:
                pace.count(computed)
                live.update(task, completed=pace.over, pace=str(pace))

        yield OnTerminal()
