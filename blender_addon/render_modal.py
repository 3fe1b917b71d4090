"""The mixin of operators that render: blocking for scripts, Blender's own modal render for people."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import bpy

from . import wire
from .jobs import ENDINGS, Done, Failed, Job
from .modal import TICK, redraw
from .session import session

log = logging.getLogger(__name__)


class RenderOperator:
    """A subclass gives ``setup``, a context manager that has the scene render into a file; ``digest``, the function that
    reads the file in a thread; and ``take``, which keeps what it read."""

    _setup: AbstractContextManager[Any] | None = None
    _folder: tempfile.TemporaryDirectory[str] | None = None
    _job: Job | None = None
    _timer: Any = None
    scene_name: str = ""  # another scene than the context's, if ``setup`` says so
    _handlers: list[tuple[Any, Callable[..., None]]]

    def setup(self, context: Any, target: Path) -> AbstractContextManager[Any]:
        """Settings of this render, to be put back at its end.

        Raises:
            PlatelightError: what stands in the way.
        """
        raise NotImplementedError

    def digest(self, context: Any) -> Callable[[Path], Any]:
        """The function that reads the rendered file; it runs in a thread and may not touch Blender.

        Raises:
            PlatelightError: the result has no place any more.
        """
        raise NotImplementedError

    def take(self, context: Any, value: Any) -> str:
        """Keep what ``digest`` read, and return a sentence for the panel.

        Raises:
            PlatelightError: the result has no place any more.
        """
        raise NotImplementedError

    def _begin(self, context: Any) -> AbstractContextManager[Any]:
        self._folder = tempfile.TemporaryDirectory(prefix="platelight-", ignore_cleanup_errors=True)
        self._file = Path(self._folder.name) / "passes.exr"
        return self.setup(context, self._file)

    def execute(self, context: Any) -> set[str]:
        """Render and wait."""
        try:
            with self._begin(context):
                bpy.ops.render.render(write_still=True, scene=self.scene_name or context.scene.name)
            session.say(self.take(context, self._digest(context)(self._file)))
            return {"FINISHED"}
        except wire.PlatelightError as error:
            return self._fail(str(error))
        finally:
            self._folder.cleanup()

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Render in Blender's own way, without blocking."""
        if bpy.app.background or context.window is None:
            return self.execute(context)
        try:
            if bpy.app.is_job_running("RENDER"):
                raise wire.InputError("Blender renders something else.", "Wait until that has ended.")
            self._setup = self._begin(context)
        except wire.PlatelightError as error:
            if self._folder is not None:
                self._folder.cleanup()
            return self._fail(str(error))
        self._outcome = ""
        self._setup.__enter__()
        self._handlers = [
            (bpy.app.handlers.render_complete, self._marker("complete")),
            (bpy.app.handlers.render_cancel, self._marker("cancelled")),
        ]
        for handlers, function in self._handlers:
            handlers.append(function)
        session.rendering = True
        session.undoing.append(self._restore)
        self._timer = session.add_timer(context, TICK)
        view = bpy.context.preferences.view
        shown = view.render_display_type
        if session.series is not None:  # a window for each frame of a range would be in the way
            view.render_display_type = "NONE"
        try:
            started = bpy.ops.render.render(
                "INVOKE_DEFAULT", write_still=True, scene=self.scene_name or context.scene.name
            )
        except RuntimeError as error:  # Blender's own refusal
            return self._over(self._fail(f"Blender does not render: {error}"))
        finally:
            view.render_display_type = shown
        if "CANCELLED" in started:
            return self._over(
                self._fail("Blender did not begin to render. Wait until its other jobs have ended.")
            )
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def _marker(self, outcome: str) -> Callable[..., None]:
        def mark(*_args: Any) -> None:
            self._outcome = outcome

        return mark

    def modal(self, context: Any, event: Any) -> set[str]:
        """Wait for the render's own end, which takes ESC, and for the thread that reads its file."""
        if not session.rendering:  # the session was closed under us
            return self._over({"CANCELLED"})
        if event.type != "TIMER" or not self._outcome:
            return {"PASS_THROUGH"}
        if self._job is None and bpy.app.is_job_running("RENDER"):
            # It has told its end, and still holds the scene, for which the next render would wait in vain.
            return {"PASS_THROUGH"}
        try:
            if self._job is None:
                self._restore()
                if self._outcome == "cancelled":
                    session.say("Cancelled.")
                    return self._over({"CANCELLED"})
                digest, path = self._digest(context), self._file
                self._job = session.job = Job("Reading the render", lambda _reporter: digest(path))
                self._job.start()
                return {"PASS_THROUGH"}
            last = next((item for item in self._job.step() if isinstance(item, ENDINGS)), None)
            if last is None:
                return {"PASS_THROUGH"}
            if isinstance(last, Failed):
                raise last.error
            if not isinstance(last, Done):
                session.say("Cancelled.")
                return self._over({"CANCELLED"})
            session.say(self.take(context, last.value))
            return self._over({"FINISHED"})
        except wire.PlatelightError as error:
            return self._over(self._fail(str(error)))
        except Exception as error:  # the boundary: anything else is a bug, told as one
            log.exception("the render could not be kept")
            return self._over(self._fail(f"The render could not be kept: {error}. The log has the details."))

    def _over(self, result: set[str]) -> set[str]:
        self.cancel(None)
        redraw()
        return result

    def cancel(self, _context: Any) -> None:
        """Put everything back: the end of the operator, or Blender ends it itself."""
        self._restore()
        if self._job is not None:
            self._job.cancel()
            if session.job is self._job:
                session.job = None
            self._job = None
        session.rendering = False
        if self._restore in session.undoing:
            session.undoing.remove(self._restore)
        session.drop_timer(self._timer)
        self._timer = None
        self._folder.cleanup()

    def _restore(self) -> None:
        for handlers, function in self._handlers:
            if function in handlers:
                handlers.remove(function)
        self._handlers = []
        if self._setup is not None:
            self._setup.__exit__(None, None, None)
            self._setup = None

    def _fail(self, message: str) -> set[str]:
        session.fail(self, message)
        self.report({"ERROR"}, message)  # type: ignore[attr-defined]
        return {"CANCELLED"}

    def _digest(self, context: Any) -> Callable[[Path], Any]:
        if not self._file.is_file():
            raise wire.JobFailed("The render wrote no file.", "Look at Blender's console.")
        return self.digest(context)
