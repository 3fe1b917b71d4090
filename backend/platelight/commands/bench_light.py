"""What a change of light costs whoever waits for it: from the request to the composite's pixels, through a server on this host."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from platelight.client import Client
from platelight.client.keys import load_or_make_keys
from platelight.images.sanitize import Pixels
from platelight.pipeline.decompose import to_image, to_tensor
from platelight.protocol.errors import PlatelightError
from platelight.protocol.frames import Plane, describe
from platelight.protocol.requests import Relight, maps_of
from platelight.shading.environment import resize

TIMES = 9
PREVIEW_ROWS = 256


def described(light: Pixels) -> Plane:
    """A target light as an interactive preview sends it: at most ``PREVIEW_ROWS`` rows, and hashed.

    Its texels are then 0.7° wide, which shows in mirror images alone (tests/shading/test_preview_light.py).
    """
    if len(light) > PREVIEW_ROWS:
        light = to_image(resize(to_tensor(light, torch.device("cpu")), PREVIEW_ROWS))
    return describe("light", light)


@contextmanager
def _served(device: str, threads: int | None) -> Iterator[Client]:
    """A client of a server with folders of its own, which ends with it."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config"
        own = {"PLATELIGHT_CONFIG_DIR": str(config), "PLATELIGHT_CACHE_DIR": str(Path(folder) / "cache")}
        command = [sys.executable, "-m", "platelight.server", "--port", "0", "--spares", "0"]
        command += ["--device", device, *(("--threads", str(threads)) if threads else ())]
        with open(Path(folder) / "log", "w+", encoding="utf-8") as log:
            server = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, **own}, text=True
            )
            try:
                assert server.stdout is not None
                if not server.stdout.readline().startswith("listening on "):
                    log.seek(0)
                    raise PlatelightError(
                        f"The bench's server did not start: {log.read().strip()[-500:]}",
                        "Try 'platelight serve'.",
                    )
                keys = load_or_make_keys(folder=config)
                with Client(keys=keys, connection_file=config / "server.json") as client:
                    yield client
            finally:
                server.terminate()
                server.wait()


def change_seconds(
    planes: Mapping[str, Pixels], light: Pixels, device: str, threads: int | None
) -> dict[str, dict[str, float]]:
    """Least and median seconds of one change of light each: ``exposure``, ``rotation`` and ``hdri``.

    What an interactive preview does: maps in half floats that the server has already, hashed once, and the composite alone
    comes back. No two requests are alike, for the server would answer from its store. A new HDRI is hashed and sent.

    Raises:
        PlatelightError: the server does not start, or a job fails.
    """
    maps = {
        name: describe(name, planes[name].astype(np.float16)) for name in maps_of(Relight()) if name in planes
    }
    same = described(light)
    with _served(device, threads) as client:

        def seconds(new: Pixels | None = None, rotation: float = 0.0, exposure: float = 0.0) -> float:
            request = Relight(
                pbr_only=True, composite_only=True, rotation=rotation, exposure=exposure, halves=True
            )
            began = time.perf_counter()
            sent = same if new is None else described(new)
            client.run(request, {**maps, "light": sent})
            return time.perf_counter() - began

        seconds()
        seconds(rotation=1.0)
        spent = {
            "exposure": [seconds(exposure=0.1 * k) for k in range(1, TIMES + 1)],
            "rotation": [seconds(rotation=7.0 * k) for k in range(1, TIMES + 1)],
            "hdri": [seconds(light * np.float32(1.0 + 0.1 * k)) for k in range(1, TIMES + 1)],
        }
    return {
        name: {"least": min(values), "median": statistics.median(values)} for name, values in spent.items()
    }
