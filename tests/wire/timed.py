"""The pipeline as a server's job that notes when it began and ended, so that the bench can tell it from what is around it.

It makes nothing ahead while idle: that would take the machine from the run beside which it is measured.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from platelight.pipeline import service
from platelight.protocol.requests import Request

configure = service.configure


def run(
    request: Request, planes: dict[str, np.ndarray[Any, Any]], progress: Callable[[float, str], None],
    cancelled: Callable[[], bool], made: Callable[[str, np.ndarray[Any, Any]], None],
) -> service.JobResult:  # fmt: skip
    began = time.perf_counter()
    result = service.run_job(request, planes, progress, cancelled, made)
    with open(os.environ["PLATELIGHT_TOY_LOG"], "a", encoding="ascii") as file:
        file.write(f"{began} {time.perf_counter()}\n")
    return result
