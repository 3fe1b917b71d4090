"""The longest stall of the main thread during a 4K job: it looks at the job every few milliseconds, as the window
manager does, and at nothing else. The backend's answer is made up; reading, writing and handing over are real."""

from __future__ import annotations

import threading
import time
from typing import Any

import blender_kit as kit
import bpy
import numpy as np

import blender_addon
from blender_addon import maps, plate_properties, remote
from blender_addon.jobs import ENDINGS, Done, Job
from blender_addon.operators.analyse import PLATELIGHT_OT_analyse
from blender_addon.operators.refine import PLATELIGHT_OT_refine
from blender_addon.session import session


def idled(thread: int) -> float:
    """Seconds that a thread of this process was ready but other programs had the cores; Linux tells, others 0."""
    try:
        with open(f"/proc/self/task/{thread}/schedstat", encoding="ascii") as stream:
            return int(stream.read().split()[1]) / 1e9
    except OSError:  # another system, or the thread has ended
        return 0.0


WIDTH, HEIGHT = 3840, 2160
TICK = 0.01
blender_addon.register()
bpy.ops.wm.read_factory_settings(use_empty=True)
state = bpy.context.scene.platelight


def answer(
    _settings: Any, _process: Any, request: Any, planes: dict[str, Any], reporter: Any
) -> remote.Answer:
    """What the backend would send, at the plate's size."""
    reporter.progress(0.5, "thinking")
    shape = planes["plate" if "plate" in planes else "normal"].shape[:2]
    one, three = np.full(shape, 0.5, np.float32), np.full((*shape, 3), 0.5, np.float32)
    if type(request).__name__ == "Decompose":
        singles = dict.fromkeys(("matte", "roughness", "reflectivity", "cavity", "depth"), one)
        triples = dict.fromkeys(("foreground", "normal", "albedo"), three)
        kinds = dict.fromkeys([*singles, *triples], np.float16 if request.halves else np.float32)
        kinds["depth"] = np.float32
        made = {name: plane.astype(kinds[name]) for name, plane in {**singles, **triples}.items()}
        return remote.Answer({**made, "light": np.ones((32, 64, 3), np.float32)}, {})
    sent.append({name: plane.dtype.str for name, plane in planes.items()})
    return remote.Answer({"relit": np.full((*shape, 4), 0.5, np.float32)}, {})


sent: list[dict[str, str]] = []
remote.ask = answer
remote.ensure_backend = lambda _settings, _process: None


class Run:
    """An operator's own prepare and finish, without Blender around them."""

    whole_range = neutral = False
    filepath = ""

    def __init__(self, operator: Any) -> None:
        self._operator = operator

    def measure(self) -> dict[str, float]:
        """Longest stall in milliseconds: as the clock saw it, as the main thread worked, and as this process held it.

        The last is the clock less what main thread and job waited for a core: it has the job's holding of Python's lock
        in it, but of other programs nothing.
        """
        gaps, busy, held = [], [], []

        def timed(function: Any) -> Any:
            clock, work = time.perf_counter(), time.thread_time()
            value = function()
            gaps.append(time.perf_counter() - clock)
            busy.append(time.thread_time() - work)
            return value

        title, work = timed(lambda: self._operator.prepare(self, bpy.context))
        job = session.job = Job(title, work)
        job.start()
        threads = (threading.get_native_id(), job._thread.native_id or 0)
        last = None
        while last is None:
            late = [idled(thread) for thread in threads]
            clock, worked = time.perf_counter(), time.thread_time()
            last = next((event for event in job.step() if isinstance(event, ENDINGS)), None)
            time.sleep(TICK)
            gaps.append(time.perf_counter() - clock - TICK)
            busy.append(time.thread_time() - worked)
            waits = [max(0.0, idled(thread) - before) for thread, before in zip(threads, late, strict=True)]
            held.append(gaps[-1] - sum(waits))
        session.job = None
        assert isinstance(last, Done), last
        timed(lambda: self._operator.finish(self, bpy.context, last.value))
        return {
            "clock": 1000 * max(gaps),
            "work": 1000 * max(busy),
            "held": 1000 * max(held),
            "ticks": len(gaps),
        }


plate = state.plates.add()
plate.uid = plate.name = "shot"
plate.width, plate.height = WIDTH, HEIGHT
maps.put_map(plate, "plate", np.full((HEIGHT, WIDTH, 3), 0.2, np.float32))
out = {"analyze": Run(PLATELIGHT_OT_analyse).measure(), "again": Run(PLATELIGHT_OT_analyse).measure()}
out["analyzed"] = plate_properties.is_analysed(plate)
half = np.full((HEIGHT, WIDTH, 3), 0.25, np.float32)
maps.put_map(plate, "diffuse_pass", half)
maps.put_map(plate, "specular_pass", half)
bpy.ops.platelight.set_light(filepath=kit.studio_light())
state.backdrop = "plate"
out["refine"] = Run(PLATELIGHT_OT_refine).measure()
# One of the maps was painted on: only then the main thread copies, into memory that the thread has touched.
painted = plate.albedo
painted.pixels[0] = 0.75
out["dirty"] = painted.is_dirty
# The better of two: a system that is taking back the memory of what ran before makes a copy of 130 MB ten times slower.
both = [Run(PLATELIGHT_OT_refine).measure() for _ in range(2)]
out["painted"] = min(both, key=lambda one: max(one["work"], one["held"]))
# As the files of maps are; what was painted on, and the plate, are floats.
out["sent"] = sent[:2]
out["result"] = list(maps.map_pixels(plate, "result", 4).shape)
blender_addon.unregister()
kit.result(out)
