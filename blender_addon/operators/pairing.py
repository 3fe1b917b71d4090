"""A backend on another computer: exchange public keys with it, ask whether it answers."""

from typing import Any

import bpy

from .. import preferences, remote, wire
from ..jobs import Reporter, Work
from ..modal import JobOperator
from ..session import session
from .common import idle, refuse, told


def _endpoint(cls: Any) -> bool:
    return bool(preferences.settings().endpoint) or refuse(cls, "Set the endpoint first")


class PLATELIGHT_OT_copy_key(bpy.types.Operator):
    """Copy the command that lets this computer in, with its public key, to be run where the backend is"""

    bl_idname = "platelight.copy_key"
    bl_label = "Copy This Computer's Key"

    @told
    def execute(self, context: Any) -> set[str]:
        """Fill the clipboard."""
        command = f"platelight pair allow '{wire.public_key()}' NAME"
        context.window_manager.clipboard = command
        self.report({"INFO"}, f"Run where the backend is: {command}")
        return {"FINISHED"}


class PLATELIGHT_OT_pair(bpy.types.Operator):
    """Keep the public key of the backend at the endpoint: nothing is sent to any other one from then on"""

    bl_idname = "platelight.pair"
    bl_label = "Pair With Backend"

    key: bpy.props.StringProperty(
        name="Backend's Key",
        description="Public key of 40 characters, as 'platelight pair' prints it where the backend is",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, _context: Any) -> bool:
        """Needs an address."""
        return _endpoint(cls)

    def invoke(self, context: Any, _event: Any) -> Any:
        """Ask for the key."""
        return context.window_manager.invoke_props_dialog(self, width=500)

    @told
    def execute(self, _context: Any) -> set[str]:
        """Keep the key."""
        endpoint = preferences.settings().endpoint
        wire.trust(endpoint, self.key)
        self.report({"INFO"}, f"The key of {endpoint} is kept")
        return {"FINISHED"}


class PLATELIGHT_OT_forget_backend(bpy.types.Operator):
    """Forget the public key of the backend at the endpoint"""

    bl_idname = "platelight.forget_backend"
    bl_label = "Forget Backend"

    @classmethod
    def poll(cls, _context: Any) -> bool:
        """Needs an address."""
        return _endpoint(cls)

    @told
    def execute(self, _context: Any) -> set[str]:
        """Forget it."""
        endpoint = preferences.settings().endpoint
        if not wire.distrust(endpoint):
            raise wire.InputError(f"No key of {endpoint} is kept here.", "There is nothing to forget.")
        self.report({"INFO"}, f"The key of {endpoint} is forgotten")
        return {"FINISHED"}


class PLATELIGHT_OT_test_backend(JobOperator, bpy.types.Operator):
    """Ask the backend of these preferences whether it answers and lets this computer in; starts none"""

    bl_idname = "platelight.test_backend"
    bl_label = "Test Connection"

    @classmethod
    def poll(cls, _context: Any) -> bool:
        """Not beside a job."""
        return idle(cls)

    def prepare(self, _context: Any) -> tuple[str, Work]:
        """Copy the address."""
        settings = preferences.settings()
        session.other_backend = False  # until it answers

        def work(reporter: Reporter) -> str:
            reporter.progress(0.0, "connecting")
            remote.look(settings, reporter)
            return settings.endpoint or "this computer"

        return "Testing the connection", work

    def finish(self, _context: Any, value: str) -> None:
        """Say so."""
        session.other_backend = session.backend is None
        session.say(f"The backend at {value} answers and lets this computer in.")
        self.report({"INFO"}, session.message)


CLASSES = (
    PLATELIGHT_OT_copy_key,
    PLATELIGHT_OT_pair,
    PLATELIGHT_OT_forget_backend,
    PLATELIGHT_OT_test_backend,
)
