"""Frames of a command line, one after the other: what is done is skipped, what failed is told. No bpy module use."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from . import wire
from .exr_write import write_atomically

if TYPE_CHECKING:
    from platelight.commands.records import Ledger

PARTLY, CANCELLED = 3, 130
"""Exit codes, as the ``platelight`` command has them: some frames failed; Ctrl-C or SIGTERM."""


@dataclass(frozen=True)
class Job:
    """One frame: the files that its result depends on, by role, its own settings, and what it writes."""

    stem: str
    number: int | None
    files: Sequence[tuple[str, Path]]
    outputs: Sequence[Path]
    settings: dict[str, Any] = field(default_factory=dict)


class Options(Protocol):
    """What of the parsed command line matters here."""

    keep_going: bool
    overwrite: bool
    report: str | None
    progress: str


def run(jobs: Sequence[Job], make: Callable[[Job], None], ledger: Ledger, options: Options) -> int:
    """Make every frame that has not been made from the same inputs with the same settings; returns the exit code.

    ``make`` raises PlatelightError, or RuntimeError with an operator's sentence.
    """
    done: list[str] = []
    skipped: list[str] = []
    failed: list[dict[str, Any]] = []
    began, code = time.monotonic(), 0
    with _asked_to_stop() as stopped:
        for job in jobs:
            if stopped():
                code = CANCELLED
                break
            if not options.overwrite and ledger.done(job.stem, job.files, job.settings):
                skipped.append(job.stem)
                continue
            try:
                inputs = ledger.look(job.files)
                make(job)
                ledger.note(job.stem, inputs, job.settings, (0, 0), [p for p in job.outputs if p.is_file()])
            except (RuntimeError, wire.PlatelightError) as error:
                why = str(error).removeprefix("Error: ").strip()
                why = why if job.stem in why or len(jobs) == 1 else f"{job.stem}: {why}"
                failed.append({"frame": job.stem, "number": job.number, "why": why})
                print(why, file=sys.stderr, flush=True)
                if not options.keep_going:
                    code = 2
                    break
            else:
                done.append(job.stem)
                for path in job.outputs:
                    print(path, flush=True)
            count = len(done) + len(skipped) + len(failed)
            _tell(options.progress, job.stem, count, len(jobs), len(done), time.monotonic() - began)
    if options.report:
        said = {"done": done, "skipped": skipped, "failed": failed}
        text = json.dumps({**said, "seconds": {"wall": round(time.monotonic() - began, 3)}}, indent=2)
        write_atomically(options.report, text.encode() + b"\n")
    if code:
        return code
    if failed:
        return PARTLY if done or skipped else 1
    return 0


def _tell(way: str, stem: str, count: int, total: int, made: int, seconds: float) -> None:
    rate = made / seconds if seconds > 0 else 0.0
    left = (total - count) / rate if rate else 0.0
    words = f"{rate:.2f} frames/s, {int(left) // 60}:{int(left) % 60:02d} left"
    if way == "openjd":
        print(
            f"openjd_progress: {100 * count / total:.1f}\nopenjd_status: {stem} done, {words}",
            flush=True,
        )
    elif way == "lines":
        print(f"{count}/{total} {stem} {words}", file=sys.stderr, flush=True)


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Yield whether Ctrl-C or SIGTERM came: the frame under way is finished first. A second Ctrl-C interrupts."""
    asked = threading.Event()

    def handler(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, previous in before.items():
            signal.signal(number, previous if previous is not None else signal.SIG_DFL)
