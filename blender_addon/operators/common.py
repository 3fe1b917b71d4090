"""What operators share: polls that say why a button is gray, and errors told once."""

import functools
from collections.abc import Callable
from typing import Any

from ..languages import tip
from ..modal import redraw
from ..plate_properties import is_analysed, is_built
from ..properties import active_plate
from ..session import session
from ..wire import PlatelightError


def refuse(cls: Any, reason: str) -> bool:
    """Gray the button out and say why."""
    cls.poll_message_set(tip(reason))
    return False


def idle(cls: Any) -> bool:
    """Whether nothing of ours is under way."""
    return not session.busy or refuse(cls, "Another job of Platelight is under way")


def has_plate(cls: Any, context: Any) -> bool:
    """Whether there is an active plate."""
    state = getattr(context.scene, "platelight", None)
    if state is None or active_plate(state) is None:
        return refuse(cls, "Load a plate first")
    return True


def has_maps(cls: Any, context: Any) -> bool:
    """Whether the active plate has been analyzed."""
    if not has_plate(cls, context):
        return False
    return is_analysed(active_plate(context.scene.platelight)) or refuse(cls, "Analyze the plate first")


def has_scene(cls: Any, context: Any) -> bool:
    """Whether the active plate's card stands in the scene."""
    if not has_maps(cls, context):
        return False
    return is_built(active_plate(context.scene.platelight)) or refuse(cls, "Build the scene first")


def told(execute: Callable[[Any, Any], set[str]]) -> Callable[[Any, Any], set[str]]:
    """Turn a PlatelightError of an operator into its report and the panel's message."""

    @functools.wraps(execute)
    def wrapped(self: Any, context: Any) -> set[str]:
        try:
            result = execute(self, context)
            session.mended(self)
            return result
        except PlatelightError as error:
            session.fail(self, str(error))
            self.report({"ERROR"}, str(error))
            redraw()
            return {"CANCELLED"}

    return wrapped
