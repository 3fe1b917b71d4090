"""What lives as long as Blender runs and is not saved: the job in progress, the backend that we started,
the last message. No bpy module use; panels draw from here, operators write here, on the main thread only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .backend_process import BackendProcess
from .jobs import Job
from .movies import MovieReader


@dataclass
class Session:
    """Runtime state of the extension in one Blender process."""

    job: Job | None = None
    rendering: bool = False
    backend: BackendProcess | None = None
    movies: MovieReader | None = None
    other_backend: bool = False  # one that we did not start answered when it was last looked for
    cache_bytes: int | None = None  # None: to be measured
    message: str = ""
    is_error: bool = False
    on_progress: Callable[[str, float, str], None] | None = None  # for scripts: title, fraction, words
    timers: list[tuple[Any, Any]] = field(default_factory=list)  # (window manager, timer)

    @property
    def busy(self) -> bool:
        """Whether analysing, refining or rendering is under way."""
        return self.rendering or (self.job is not None and self.job.active)

    def say(self, message: str, *, error: bool = False) -> None:
        """Keep a sentence for the panel to show."""
        self.message, self.is_error = message, error

    def drop_timers(self) -> None:
        """Remove every timer: one left at exit hangs the interpreter."""
        while self.timers:
            manager, timer = self.timers.pop()
            manager.event_timer_remove(timer)

    def close(self) -> None:
        """End everything, within bounded time."""
        if self.job is not None and self.job.active:
            self.job.cancel()
            self.job.join(2.0)
        self.job = None
        self.rendering = False
        self.drop_timers()
        if self.movies is not None:
            self.movies.close()
            self.movies = None
        if self.backend is not None:
            self.backend.stop()
            self.backend = None
        self.say("")


session = Session()
