"""The ``platelight`` command with a quick stand-in for the pipeline, as a process of its own: to be killed.

``STAND_IN_SECONDS`` is how long a job takes, ``real`` leaves the pipeline as it is; each job's plate is noted in
``STAND_IN_LOG`` by its hash, so that a test can count what was computed. With ``STAND_IN_ALONE`` no stage of a batch is at
work beside another.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import time
from types import ModuleType
from typing import Any

import numpy as np


def digest(plate: Any) -> str:
    return hashlib.sha256(np.asarray(plate, np.float32).tobytes()).hexdigest()[:16]


def note(request: Any, planes: Any) -> None:
    name = type(request).__name__
    if log := os.environ.get("STAND_IN_LOG"):
        with open(log, "a", encoding="ascii") as file:
            file.write(f"{name} {digest(planes['plate' if name == 'Decompose' else 'albedo'])}\n")


def run_job(request: Any, planes: Any, progress: Any, cancelled: Any, made: Any = None) -> Any:
    from platelight.protocol.errors import Cancelled, JobFailed, NoSubjectError
    from platelight.protocol.requests import Decompose

    plate = np.asarray(planes["plate" if isinstance(request, Decompose) else "albedo"], np.float32)
    note(request, planes)
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
    if not plate.any():
        raise NoSubjectError("No subject was found in the plate.", "Pass --matte full or a matte file.")
    one = np.ones(plate.shape[:2], np.float32)
    normal = np.zeros_like(plate)
    normal[..., 2] = 1.0
    light = np.full((4, 8, 3), float(plate.mean()), np.float32)
    maps = {"foreground": plate, "matte": one, "normal": normal, "albedo": plate * 0.5, "light": light}
    scalars = {"roughness": one * 0.5, "reflectivity": one * 0.04, "cavity": one, "depth": one}
    return Result({**maps, **scalars}, {"models": {"normal": "stand-in"}})


def configure(device: str, threads: int | None) -> None:
    pass


def choose_engine(name: str) -> None:
    pass


class Result:
    def __init__(self, planes: Any, meta: Any) -> None:
        self.planes, self.meta = planes, meta


if __name__ == "__main__":
    if os.environ.get("STAND_IN_SECONDS") == "real":
        from platelight.pipeline import service

        real = service.run_job

        def noted(request: Any, planes: Any, *more: Any) -> Any:
            note(request, planes)
            return real(request, planes, *more)

        service.run_job = noted
    else:
        service = ModuleType("platelight.pipeline.service")
        service.configure = configure  # type: ignore[attr-defined]
        service.choose_engine = choose_engine  # type: ignore[attr-defined]
        service.run_job = run_job
        sys.modules["platelight.pipeline.service"] = service
    if os.environ.get("STAND_IN_ALONE"):
        from platelight.commands import batch

        batch.overlapped = functools.partial(batch.overlapped, ahead=0, behind=0, threads=1)
    from platelight.cli import main

    if sys.argv[1] == "serve":  # the server's workers are processes of their own and import the job by name
        os.environ["PYTHONPATH"] = os.pathsep.join(
            [os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")]
        )
        device = sys.argv.index("--device")
        raise SystemExit(main([*sys.argv[1:device], *sys.argv[device + 2 :], "--job", "stand_in:run_job"]))
    raise SystemExit(main())
