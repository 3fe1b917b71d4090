"""The one TIMER/ESC mixin over ``jobs.py``: the same operator is modal for people and blocks for scripts."""

from __future__ import annotations

import logging
import time
from typing import Any

import bpy

from .jobs import ENDINGS, Done, Event, Failed, Job, Progress, Work
from .session import session
from .wire import JobFailed, PlatelightError

log = logging.getLogger(__name__)
TICK = 0.03  # seconds between looks at the queue


def redraw() -> None:
    """Ask the areas that have our panels to draw again."""
    manager = bpy.context.window_manager
    for window in manager.windows if manager else ():
        for area in window.screen.areas:
            if area.type in {"VIEW_3D", "IMAGE_EDITOR"}:
                area.tag_redraw()


class JobOperator:
    """Mixin for operators whose work runs in a thread.

    A subclass gives ``prepare``, which reads everything it needs from Blender on the main thread and returns
    the work, and ``finish``, which puts the value back. Between the two anything may have been deleted,
    undone or reloaded: what ``finish`` writes to must be found again by name. Both have to be short; what is not belongs into the work,
    which asks the main thread by ``Reporter.on_main`` for what only it may do.
    """

    _job: Job | None = None
    _timer: Any = None

    def prepare(self, context: Any) -> tuple[str, Work]:
        """Return a title and the function to run in the thread.

        Raises:
            PlatelightError: what stands in the way.
        """
        raise NotImplementedError

    def finish(self, context: Any, value: Any) -> None:
        """Put the result into Blender, on the main thread.

        Raises:
            PlatelightError: the result has no place any more.
        """
        raise NotImplementedError

    def _fail(self, error: PlatelightError) -> set[str]:
        session.fail(self, str(error))
        self.report({"ERROR"}, str(error))  # type: ignore[attr-defined]
        redraw()
        return {"CANCELLED"}

    def _begin(self, context: Any) -> Job:
        if session.busy:
            raise PlatelightError("Another job of Platelight is under way.", "Wait for it or cancel it.")
        title, work = self.prepare(context)
        job = Job(title, work)
        session.job = job
        session.say("")
        job.start()
        return job

    def _end(self, context: Any, event: Event) -> set[str]:
        """Take the last event of the job."""
        session.job = None
        if isinstance(event, Failed):
            return self._fail(event.error)
        if not isinstance(event, Done):
            session.say("Cancelled.")
            self.report({"WARNING"}, "Cancelled")  # type: ignore[attr-defined]
            redraw()
            return {"CANCELLED"}
        try:
            self.finish(context, event.value)
        except PlatelightError as error:
            return self._fail(error)
        except Exception as error:  # the job boundary: anything else is a bug, told as one
            log.exception("the result could not be kept")
            return self._fail(
                JobFailed(f"The result could not be kept: {error}.", "The log has the details.")
            )
        redraw()
        return {"FINISHED"}

    def execute(self, context: Any) -> set[str]:
        """Run and wait: what scripts and background mode get."""
        try:
            job = self._begin(context)
        except PlatelightError as error:
            return self._fail(error)
        told: list[Any] = [0.0, ""]

        def tell(event: Event) -> None:
            if isinstance(event, Progress):
                if session.on_progress is not None:
                    session.on_progress(job.title, event.fraction, event.text)
                if event.text != told[1] or time.monotonic() - told[0] > 5.0:
                    log.info("%s %3.0f %% %s", job.title, 100 * event.fraction, event.text)
                    told[:] = [time.monotonic(), event.text]

        try:
            event = job.wait(tell)
        except KeyboardInterrupt:
            job.cancel()
            event = job.wait()
        return self._end(context, event)

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Run as a modal job, or block where there is no window."""
        if bpy.app.background or context.window is None:
            return self.execute(context)
        try:
            self._job = self._begin(context)
        except PlatelightError as error:
            return self._fail(error)
        self._timer = session.add_timer(context, TICK)
        context.window_manager.modal_handler_add(self)
        redraw()  # buttons are gray from here on, also where a script or a shortcut started it
        return {"RUNNING_MODAL"}

    def modal(self, context: Any, event: Any) -> set[str]:
        """Drain the queue on our timer; ESC only asks, the job ends clean."""
        job = self._job
        if job is None or session.job is not job:  # the session was closed under us
            self._drop_timer()
            return {"CANCELLED"}
        if event.type == "ESC" and event.value == "PRESS":
            job.cancel()
            redraw()
            return {"RUNNING_MODAL"}
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        events = job.step()
        last = next((item for item in events if isinstance(item, ENDINGS)), None)
        if last is None:
            if events:
                redraw()
            return {"PASS_THROUGH"}
        self._drop_timer()
        return self._end(context, last)

    def cancel(self, _context: Any) -> None:
        """Blender ends the operator itself: a file is being loaded, or Blender quits."""
        if self._job is not None:
            self._job.cancel()
            if session.job is self._job:
                session.job = None
        self._drop_timer()

    def _drop_timer(self) -> None:
        session.drop_timer(self._timer)
        self._timer = None
