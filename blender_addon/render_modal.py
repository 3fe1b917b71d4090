"""The mixin of operators that render: blocking for scripts, Blender's own modal render for people."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import bpy

from . import wire
from .modal import TICK, redraw
from .session import session


class RenderOperator:
    """A subclass gives ``setup``, a context manager that has the scene render into a file, and ``take``."""

    _setup: AbstractContextManager[Any] | None = None
    _handlers: list[tuple[Any, Callable[..., None]]]

    def setup(self, context: Any, target: Path) -> AbstractContextManager[Any]:
        """Settings of this render, to be put back at its end.

        Raises:
            PlatelightError: what stands in the way.
        """
        raise NotImplementedError

    def take(self, context: Any, path: Path) -> str:
        """Read the file that was rendered, keep it, and return a sentence for the panel.

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
                bpy.ops.render.render(write_still=True, scene=context.scene.name)
            return self._finish(context)
        except wire.PlatelightError as error:
            return self._fail(str(error))
        finally:
            self._folder.cleanup()

    def invoke(self, context: Any, _event: Any) -> set[str]:
        """Render in Blender's own way, without blocking."""
        if bpy.app.background or context.window is None:
            return self.execute(context)
        try:
            self._setup = self._begin(context)
        except wire.PlatelightError as error:
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
        manager = context.window_manager
        timer = manager.event_timer_add(TICK, window=context.window)
        session.timers.append((manager, timer))
        manager.modal_handler_add(self)
        bpy.ops.render.render("INVOKE_DEFAULT", write_still=True, scene=context.scene.name)
        return {"RUNNING_MODAL"}

    def _marker(self, outcome: str) -> Callable[..., None]:
        def mark(*_args: Any) -> None:
            self._outcome = outcome

        return mark

    def modal(self, context: Any, event: Any) -> set[str]:
        """Wait for the render's own end; ESC is the render's to take."""
        if event.type != "TIMER" or not self._outcome:
            return {"PASS_THROUGH"}
        self.cancel(context)
        try:
            if self._outcome == "cancelled":
                session.say("Cancelled.")
                return {"CANCELLED"}
            return self._finish(context)
        except wire.PlatelightError as error:
            return self._fail(str(error))
        finally:
            self._folder.cleanup()
            redraw()

    def cancel(self, _context: Any) -> None:
        """Put settings, handlers and the timer back."""
        session.rendering = False
        session.drop_timers()
        for handlers, function in self._handlers:
            if function in handlers:
                handlers.remove(function)
        self._handlers = []
        if self._setup is not None:
            self._setup.__exit__(None, None, None)
            self._setup = None

    def _fail(self, message: str) -> set[str]:
        session.say(message, error=True)
        self.report({"ERROR"}, message)  # type: ignore[attr-defined]
        return {"CANCELLED"}

    def _finish(self, context: Any) -> set[str]:
        if not self._file.is_file():
            raise wire.JobFailed("The render wrote no file.", "Look at Blender's console.")
        session.say(self.take(context, self._file))
        return {"FINISHED"}
