"""What lives as long as Blender runs and is not saved: the job in progress, the backend that we started,
the last message. No bpy module use; panels draw from here, operators write here, on the main thread only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .backend_process import BackendProcess
from .jobs import Job
from .movies import MovieReader


class Facts(NamedTuple):
    """What a backend says of itself: the devices of its workers, and the bytes of memory that it takes with them."""

    devices: tuple[str, ...]
    memory: int


def _name(operator: Any) -> str:
    return type(operator).__name__.removeprefix("PLATELIGHT_OT_")


@dataclass
class Session:
    """Runtime state of the extension in one Blender process."""

    job: Job | None = None
    rendering: bool = False
    series: tuple[int, int, int] | None = None  # of a range that is relit: the frame, its number, how many
    backend: BackendProcess | None = None
    movies: MovieReader | None = None
    facts: Facts | None = None  # of the backend that was last talked to
    other_backend: bool = False  # one that we did not start answered when it was last looked for
    cache_bytes: int | None = None  # None: to be measured
    message: str = ""
    is_error: bool = False
    where: str = ""  # the operator that failed
    on_progress: Callable[[str, float, str], None] | None = None  # for scripts: title, fraction, words
    timers: list[tuple[Any, Any]] = field(default_factory=list)  # (window manager, timer)
    undoing: list[Callable[[], None]] = field(
        default_factory=list
    )  # put back what a render in progress changed

    @property
    def busy(self) -> bool:
        """Whether analysing, refining or rendering is under way."""
        return self.rendering or (self.job is not None and self.job.active)

    def say(self, message: str, *, error: bool = False) -> None:
        """Keep a sentence for the panel to show."""
        self.message, self.is_error, self.where = message, error, ""

    def fail(self, operator: Any, message: str) -> None:
        """Keep why an operator failed, for the panel and beside its button."""
        self.message, self.is_error = message, True
        self.where = _name(operator)

    def mended(self, operator: Any) -> None:
        """Forget why an operator failed, as it did not this time."""
        if self.is_error and self.where == _name(operator):
            self.say("")

    def add_timer(self, context: Any, seconds: float) -> Any:
        """A timer of the context's window, which ``close`` removes if nobody else did."""
        manager = context.window_manager
        timer = manager.event_timer_add(seconds, window=context.window)
        self.timers.append((manager, timer))
        return timer

    def drop_timer(self, timer: Any) -> None:
        """Remove one of ours, if it is still there."""
        for index, (manager, kept) in enumerate(self.timers):
            if kept is timer:
                del self.timers[index]
                manager.event_timer_remove(timer)
                return

    def abandon(self, message: str = "") -> None:
        """Let go of what is under way: it is asked to end, what it changed is put back, nobody waits for it."""
        busy = self.busy
        if self.job is not None:
            self.job.cancel()
            self.job = None
        self.rendering, self.series = False, None
        while self.undoing:
            self.undoing.pop()()
        while self.timers:  # one left at exit hangs the interpreter
            manager, timer = self.timers.pop()
            manager.event_timer_remove(timer)
        self.say(message if busy else "")

    def close(self) -> None:
        """End everything, within bounded time."""
        job = self.job
        self.abandon()
        if job is not None:
            job.join(2.0)
        if self.movies is not None:
            self.movies.close()
            self.movies = None
        if self.backend is not None:
            self.backend.stop()
            self.backend = None
        self.facts = None
        self.say("")


session = Session()
