"""What the instant preview is made of, by the graphics card or by the backend: keys of light and maps, and what reads them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import bpy

from . import light, maps
from .jobs import ENDINGS, Done, Failed, Job
from .session import session
from .wire import PlatelightError

CHANNELS = {"normal": 3, "albedo": 3, "cavity": 1, "roughness": 1, "reflectivity": 1, "matte_map": 1}


def light_key(scene: Any) -> Hashable:
    """What the filtered light is made of; not what is applied as it is drawn."""
    state = scene.platelight
    if state.light_from == "PLATE":
        image = light.lender(state).source_light
        return "PLATE", state.light_plate, image.name, image.filepath, maps.current_frame(light.lender(state))
    if state.light_from == "SCENE":
        image = state.baked_light
        return ("SCENE", image.name, image.get("platelight_bake", 0)) if image is not None else ("SCENE",)
    return "HDRI", bpy.path.abspath(state.hdri)


def maps_key(plate: Any) -> Hashable:
    """What the plate's textures are made of."""
    pictures = (getattr(plate, name) for name in CHANNELS)
    files = tuple(image and (image.name, image.filepath, image.is_dirty) for image in pictures)
    return plate.uid, maps.current_frame(plate), files


class Loader:
    """One thing that is read in a thread: the newest key wins."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.key: Hashable = None  # of what is loaded, or could not be
        self._asked: Hashable = None
        self._job: Job | None = None

    def step(self, key: Hashable, make: Any, take: Any) -> bool:
        """Begin or go on; True when something new was taken."""
        if self._job is None:
            if key == self.key:
                return False
            self._asked = key
            try:
                work = make()
            except PlatelightError as error:
                self.key = key
                session.say(str(error), error=True)
                return True
            self._job = Job(self.title, work)
            self._job.start()
        last = next((event for event in self._job.step() if isinstance(event, ENDINGS)), None)
        if last is None:
            return False
        self._job, self.key = None, self._asked
        if isinstance(last, Done):
            take(last.value)
        elif isinstance(last, Failed):
            session.say(str(last.error), error=True)
        return True

    @property
    def busy(self) -> bool:
        """Whether the thread is at work."""
        return self._job is not None

    def close(self) -> None:
        """Let go; the thread ends by itself."""
        if self._job is not None:
            self._job.cancel()
            self._job = None
