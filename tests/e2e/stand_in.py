"""The ``platelight`` command with a quick stand-in for the pipeline, as a process of its own: to be killed.

``STAND_IN_SECONDS`` is how long a job takes; each job's plate is noted in ``STAND_IN_LOG`` by its hash, so that a
test can count what was computed.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from types import ModuleType
from typing import Any

import numpy as np


def run_job(request: Any, planes: Any, progress: Any, cancelled: Any) -> Any:
    from platelight.protocol.errors import Cancelled, JobFailed
    from platelight.protocol.requests import Decompose

    plate = np.asarray(planes["plate" if isinstance(request, Decompose) else "albedo"], np.float32)
    if log := os.environ.get("STAND_IN_LOG"):
        with open(log, "a", encoding="ascii") as file:
            file.write(f"{type(request).__name__} {hashlib.sha256(plate.tobytes()).hexdigest()[:16]}\n")
    until = time.monotonic() + float(os.environ.get("STAND_IN_SECONDS", "0.0"))
    while time.monotonic() < until:
        time.sleep(0.005)
        if cancelled():
            raise Cancelled("The job was cancelled.")
    progress(1.0, "done")
    if not isinstance(request, Decompose):
        shown = planes["albedo"] * planes["light"].mean() * 2.0**request.exposure
        relit = np.dstack([shown, planes["matte"]])
        return Result({"diffuse": shown, "specular": shown * 0, "pbr": shown, "relit": relit}, {})
    if plate.max() > 100:
        raise JobFailed("The subject is on fire.", "Put it out.")
    one = np.ones(plate.shape[:2], np.float32)
    normal = np.zeros_like(plate)
    normal[..., 2] = 1.0
    light = np.full((4, 8, 3), float(plate.mean()), np.float32)
    maps = {"foreground": plate, "matte": one, "normal": normal, "albedo": plate * 0.5, "light": light}
    scalars = {"roughness": one * 0.5, "reflectivity": one * 0.04, "cavity": one, "depth": one}
    return Result({**maps, **scalars}, {"models": {"normal": "stand-in"}})


def configure(device: str, threads: int | None) -> None:
    pass


class Result:
    def __init__(self, planes: Any, meta: Any) -> None:
        self.planes, self.meta = planes, meta


if __name__ == "__main__":
    service = ModuleType("platelight.pipeline.service")
    service.configure = configure  # type: ignore[attr-defined]
    service.run_job = run_job  # type: ignore[attr-defined]
    sys.modules["platelight.pipeline.service"] = service
    from platelight.cli import main

    if sys.argv[1] == "serve":  # the server's workers are processes of their own and import the job by name
        os.environ["PYTHONPATH"] = os.pathsep.join(
            [os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")]
        )
        device = sys.argv.index("--device")
        raise SystemExit(main([*sys.argv[1:device], *sys.argv[device + 2 :], "--job", "stand_in:run_job"]))
    raise SystemExit(main())
