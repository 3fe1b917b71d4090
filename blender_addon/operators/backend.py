"""Start and stop the local backend; cancel what is under way."""

from pathlib import Path
from typing import Any

import bpy

from .. import installer, mapfiles, maps, preferences, remote, wire
from ..backend_process import BackendState
from ..jobs import Reporter, Work
from ..modal import JobOperator, redraw
from ..session import session
from .common import idle, refuse

ADDON = Path(__file__).resolve().parents[1]


class PLATELIGHT_OT_start_backend(JobOperator, bpy.types.Operator):
    """Start the local backend, which runs the networks in a process of its own"""

    bl_idname = "platelight.start_backend"
    bl_label = "Start Backend"

    @classmethod
    def poll(cls, _context: Any) -> bool:
        """Not while one runs."""
        if session.backend is not None and session.backend.pid is not None:
            return refuse(cls, "The backend runs already")
        if session.other_backend:
            return refuse(cls, "A backend that was started elsewhere is running; Test Connection looks again")
        return idle(cls)

    def prepare(self, _context: Any) -> tuple[str, Work]:
        """Start the process; the job waits for it."""
        settings = preferences.settings()._replace(start_backend=True)
        process = session.backend = remote.ensure_backend(settings, session.backend)
        session.other_backend = process is None

        def work(reporter: Reporter) -> str:
            if process is None:
                return "A backend is running already."
            reporter.progress(0.0, "starting")
            process.wait_ready(settings.start_timeout, reporter.cancelled)
            remote.look(settings, reporter)
            return "The backend is running."

        return "Starting the backend", work

    def finish(self, _context: Any, value: str) -> None:
        """Say so."""
        session.say(value)


class PLATELIGHT_OT_install_backend(JobOperator, bpy.types.Operator):
    """Install or upgrade the backend into an environment of its own, outside Blender's Python; downloads about 1 GB"""

    bl_idname = "platelight.install_backend"
    bl_label = "Install Backend"

    @classmethod
    def poll(cls, _context: Any) -> bool:
        """Needs the wheel, and no backend of ours that runs from what would be replaced."""
        if installer.bundled_wheel(ADDON) is None:
            return refuse(cls, "This build of the extension carries no backend")
        if session.backend is not None and session.backend.pid is not None:
            return refuse(cls, "Stop the backend first")
        return idle(cls)

    def prepare(self, _context: Any) -> tuple[str, Work]:
        """Read the preferences; everything else is the thread's."""
        found = installer.bundled_wheel(ADDON)
        if found is None:
            raise wire.InputError(
                "This build of the extension carries no backend.", "Build it with build_addon.py."
            )
        choice = preferences.install_choice()
        offline = {"--no-index", "--no-deps"} & set(choice.options)
        if not (bpy.app.online_access or offline):
            raise wire.InputError(
                "Blender is set to stay offline.", "Allow Online Access in Preferences > System > Network."
            )
        folder = preferences.user_folder() / "backend"

        def work(reporter: Reporter) -> str:
            python = installer.find_python(choice.python)
            plan = installer.Plan(folder, *found, python, choice.device, choice.options)
            return installer.install(plan, reporter)

        return "Installing the backend", work

    def finish(self, _context: Any, value: str) -> None:
        """Say so."""
        session.say(f"Backend {value} is installed.")


class PLATELIGHT_OT_stop_backend(bpy.types.Operator):
    """Stop the backend that this Blender started"""

    bl_idname = "platelight.stop_backend"
    bl_label = "Stop Backend"

    @classmethod
    def poll(cls, _context: Any) -> bool:
        """Only our own child."""
        if session.backend is None or session.backend.poll() is BackendState.STOPPED:
            return refuse(cls, "This Blender has started no backend")
        return True

    def execute(self, _context: Any) -> set[str]:
        """Stop it, within seconds."""
        if session.job is not None:
            session.job.cancel()
        if session.backend is not None:
            session.backend.stop()
            session.backend = session.facts = None
        session.say("The backend is stopped.")
        redraw()
        return {"FINISHED"}


class PLATELIGHT_OT_clear_cache(bpy.types.Operator):
    """Delete kept maps and downloads that this file does not use, but no maps of another open Blender; undo cannot reach deleted maps"""

    bl_idname = "platelight.clear_cache"
    bl_label = "Clear Cache"

    @classmethod
    def poll(cls, _context: Any) -> bool:
        """Not under a job's feet."""
        return idle(cls)

    def execute(self, _context: Any) -> set[str]:
        """Delete them."""
        root = preferences.user_folder()
        freed, left = mapfiles.clear(root, maps.in_use()), mapfiles.used_bytes(root)
        session.cache_bytes = left
        stay = f"; {left / 1e6:.0f} MB stay, which this or another open Blender uses" if left else ""
        self.report({"INFO"}, f"Freed {freed / 1e6:.0f} MB{stay}")
        return {"FINISHED"}


class PLATELIGHT_OT_cancel(bpy.types.Operator):
    """Ask the job under way to end; what was there before stays"""

    bl_idname = "platelight.cancel"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, _context: Any) -> bool:
        """Only with a job."""
        if session.job is None or not session.job.active:
            return refuse(cls, "Nothing is under way")
        return True

    def execute(self, _context: Any) -> set[str]:
        """Request the end; the job itself ends clean."""
        if session.job is not None:
            session.job.cancel()
        redraw()
        return {"FINISHED"}


CLASSES = (
    PLATELIGHT_OT_install_backend,
    PLATELIGHT_OT_clear_cache,
    PLATELIGHT_OT_start_backend,
    PLATELIGHT_OT_stop_backend,
    PLATELIGHT_OT_cancel,
)
