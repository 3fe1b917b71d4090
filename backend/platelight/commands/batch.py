"""A batch of frames that can be killed and resumed: what is done is skipped, what failed is told, the rest goes on."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from platelight.commands.progress import Meter, Progress, clock, meter
from platelight.commands.records import Input, Ledger
from platelight.images import Frame
from platelight.images.atomic import write_bytes
from platelight.images.quiet import aloud
from platelight.pipeline.batch import Clock, overlapped
from platelight.protocol.errors import Cancelled, InputError, PlatelightError
from platelight.resources import give_back_large_blocks

log = logging.getLogger(__name__)
P = TypeVar("P")
W = TypeVar("W")

PARTLY = 3
"""Exit code of a batch that went on after failed frames."""


@dataclass(frozen=True)
class Loaded(Generic[P]):
    """A frame read: its pictures, (height, width), and the files that they came from."""

    value: P
    shape: tuple[int, int]
    inputs: list[Input]


@dataclass(frozen=True)
class Made(Generic[W]):
    """A frame computed: what is to be written, with shape and inputs for its record."""

    value: W
    shape: tuple[int, int]
    inputs: list[Input]


Stream = Iterator[tuple[Frame, Loaded[P] | Exception]]
Computing = Generator[tuple[Frame, "Made[W] | Exception"], None, None]


@dataclass(frozen=True)
class Work(Generic[P, W]):
    """A command's part of a batch.

    ``files`` names the files that are read for a frame, by role; ``extra`` its own settings (an animated
    light's); ``read``, ``compute`` and ``write`` are the stages, as :func:`platelight.pipeline.batch.overlapped`
    has them. Where frames need others: ``near`` names the others' files that a frame's outputs depend on too, ``plan``
    turns the frames to make into those to read, given whether ``--overwrite`` asks for them, ``stored`` gives what stands
    for reading one, ``finish`` is called when all is made.
    """

    files: Callable[[Frame], list[tuple[str, Path]]]
    read: Callable[[Frame], tuple[P, tuple[int, int]]]
    compute: Callable[[Stream[P], Meter], Computing[W]]
    write: Callable[[Frame, W], Iterable[Path]]
    extra: Callable[[Frame], dict[str, Any]] = field(default=lambda frame: {})
    near: Callable[[Frame], list[tuple[str, Path]]] = field(default=lambda frame: [])
    plan: Callable[[list[Frame], bool], list[Frame]] = field(default=lambda frames, overwrite: frames)
    stored: Callable[[Frame], Loaded[Any] | None] = field(default=lambda frame: None)
    finish: Callable[[], None] = field(default=lambda: None)


@dataclass
class Report:
    """What became of each frame."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)

    def fail(self, frame: Frame, error: PlatelightError) -> None:
        """Keep why a frame failed."""
        told = {"frame": frame.stem, "number": frame.number, "file": str(frame.path)}
        self.failed.append({**told, "code": error.code, "why": str(error)})

    def sentence(self) -> str:
        """``98 frames done, 1 skipped, 1 failed in 3:20 (0.50 frames/s).``"""
        parts = [
            f"{len(self.done)} frames done",
            f"{len(self.skipped)} skipped",
            f"{len(self.failed)} failed",
        ]
        rate = f" ({len(self.done) / self.clock.wall:.2f} frames/s)" if self.done and self.clock.wall else ""
        return ", ".join(parts) + f" in {clock(self.clock.wall)}{rate}."

    def as_json(self) -> bytes:
        """The same for programs, with the seconds that each stage was busy."""
        seconds = {name: round(getattr(self.clock, name), 3) for name in ("wall", "read", "compute", "write")}
        counts = {"done": self.done, "skipped": self.skipped, "failed": self.failed, "seconds": seconds}
        return (json.dumps(counts, indent=2, ensure_ascii=False) + "\n").encode()


def run(
    frames: list[Frame],
    parsed: argparse.Namespace,
    ledger: Ledger,
    work: Work[P, W],
    cancelled: Callable[[], bool],
) -> int:
    """Carry out a batch; returns the exit code.

    Raises:
        PlatelightError: the first failure, without ``--keep-going``; the frames before it are whole.
        Cancelled: by Ctrl-C or SIGTERM; what was computed is written.
    """
    report = Report()
    try:
        failure = _carry_out(frames, parsed, ledger, work, cancelled, report)
    finally:  # whatever ended it
        if parsed.report:
            write_bytes(parsed.report, report.as_json())
    if len(frames) > 1 and (
        parsed.progress != "auto" or sys.stderr.isatty() or report.failed or report.skipped
    ):
        print(f"platelight: {report.sentence()}", file=sys.stderr)
    if failure is not None:
        raise failure
    if report.failed:
        if report.done or report.skipped:
            return PARTLY
        # Not worth another try, if it was all the frames' own fault.
        return 2 if all(one["code"] in ("bad_input", "no_subject") for one in report.failed) else 1
    return 0


def _carry_out(
    frames: list[Frame],
    parsed: argparse.Namespace,
    ledger: Ledger,
    work: Work[P, W],
    cancelled: Callable[[], bool],
    report: Report,
) -> PlatelightError | None:
    """Make what is to be made, noting it in the report; returns what ended it early."""
    give_back_large_blocks()  # frames that wait and frames that are done lie side by side
    failure: PlatelightError | None = None
    todo, shapes = _plan(frames, parsed, ledger, work, report)
    if todo:
        ledger.sweep(frame.stem for frame in todo)
    with meter(parsed.progress, len(frames)) as display:
        for stem in report.skipped:
            display.done(stem, False)

        def read(frame: Frame) -> Loaded[P]:
            if (kept := work.stored(frame)) is not None:
                return kept
            # Looked at before they are read, so that the record of what is replaced meanwhile does not fit.
            inputs = ledger.look([pair for pair in work.files(frame) if pair[1].is_file()])
            value, shape = work.read(frame)  # tells what is missing
            return Loaded(value, shape, inputs)

        def compute(stream: Stream[P]) -> Computing[W]:
            return work.compute(
                _checked(stream, shapes, cancelled, len(report.skipped), len(frames)), display
            )

        def write(frame: Frame, made: Made[W]) -> Iterable[Path]:
            files = list(work.write(frame, made.value))
            ledger.note(frame.stem, made.inputs, work.extra(frame), made.shape, files)
            return files

        try:
            order = work.plan(todo, parsed.overwrite) if todo else []
            results = overlapped(
                order,
                read,
                compute,
                write,
                keep_going=parsed.keep_going,
                clock=report.clock,
                **({} if parsed.memory is None else {"ahead": 0, "behind": 0}),
            )
            for result in results:
                if result.error is None:
                    report.done.append(result.job.stem)
                    display.done(result.job.stem, True)
                    with aloud():
                        for path in result.made:
                            print(path, flush=True)
                    continue
                error = named(result.job, result.error, parsed.verbose)
                report.fail(result.job, error)
                if parsed.keep_going:
                    display.done(result.job.stem, True)
                    with aloud():
                        print(f"platelight: {error}", file=sys.stderr, flush=True)
                else:
                    failure = failure or error
        except Cancelled as error:
            count = len(report.done) + len(report.skipped)
            error.remedy = f"{count} of {len(frames)} frames are done." if len(frames) > 1 else error.remedy
            failure = error
    if failure is None and not report.failed:
        work.finish()
    return failure


def _plan(
    frames: list[Frame], parsed: argparse.Namespace, ledger: Ledger, work: Work[P, W], report: Report
) -> tuple[list[Frame], dict[str, tuple[int, int]]]:
    """The frames that are still to do, and the size of each shot where a finished frame tells it."""
    todo: list[Frame] = []
    shapes: dict[str, tuple[int, int]] = {}
    for frame in frames:
        record = None
        if not parsed.overwrite and ledger.path(frame.stem).is_file():
            try:
                record = ledger.done(frame.stem, work.files(frame) + work.near(frame), work.extra(frame))
            except PlatelightError:
                record = None  # the frame's own turn tells what is wrong with it
        if record is None:
            todo.append(frame)
        else:
            report.skipped.append(frame.stem)
            if frame.shot:
                shapes.setdefault(frame.shot, record.shape)
    return todo, shapes


def _checked(
    stream: Stream[P],
    shapes: dict[str, tuple[int, int]],
    cancelled: Callable[[], bool],
    before: int,
    total: int,
) -> Stream[P]:
    """Frames of one size to a shot; others fail. Ends by ``Cancelled`` when that was asked."""
    for frame, loaded in stream:
        if cancelled():
            raise Cancelled("The work was cancelled.")
        if isinstance(loaded, Loaded) and frame.shot:
            height, width = loaded.shape
            expected = shapes.setdefault(frame.shot, loaded.shape)
            if loaded.shape != expected:
                error = InputError(
                    f"{frame} is {width}×{height}, but its shot is {expected[1]}×{expected[0]}.",
                    "Give frames of one size.",
                )
                yield frame, error
                continue
        yield frame, loaded


def each(
    work: Callable[[Frame, P, Progress], W],
) -> Callable[[Stream[P], Meter], Computing[W]]:
    """The ``compute`` of a command that does its frames one by one."""

    def compute(stream: Stream[P], display: Meter) -> Computing[W]:
        for frame, loaded in stream:
            if isinstance(loaded, Exception):
                yield frame, loaded
                continue
            try:
                value = work(frame, loaded.value, display.begin(frame.stem))
            except Cancelled:
                raise
            except Exception as error:  # a frame is a job: the batch decides whether to go on
                yield frame, error
                continue
            made = Made(value, loaded.shape, loaded.inputs)
            del loaded, value
            yield frame, made
            del made  # its pixels are the writer's, and gone before the next frame's are there

    return compute


def named(frame: Frame, error: Exception, verbose: bool = False) -> PlatelightError:
    """An error with its frame named in the sentence; what is none of the family is a bug and says so."""
    if not isinstance(error, PlatelightError):
        if verbose:
            log.error("internal error", exc_info=error)
        told = PlatelightError(
            f"Internal error at {frame} ({type(error).__name__}: {error}).",
            "Run it again as 'platelight -v …' and report the traceback.",
        )
        told.code = "internal"
        return told
    if str(frame.path) not in error.sentence:
        error.sentence = f"{frame}: {error.sentence}"
    return error
