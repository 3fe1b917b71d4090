"""What a server adds to the time of a real job: the model part of ``bench.py``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from conftest import Server
from platelight.protocol.frames import describe
from platelight.protocol.requests import Decompose

PARTS = ("hash", "to the job", "job", "from the job", "read")


def serving_overhead(folder: Path, halves: bool, rounds: int, threads: int | None) -> dict[str, list[float]]:
    """Seconds of 1080p decompositions of new plates in this process (``bare``) and through a server, by turns, both warm.

    ``served`` is the sum of ``PARTS``: the client's hash of the plate; upload, check and queue; the job in the worker;
    from its end to the client's arrays; and a touch of each of their pages. The clock is one for all processes (Linux).
    """
    plate = np.random.default_rng(0).random((1080, 1920, 3), dtype=np.float32)
    limit = [] if threads is None else ["--threads", str(threads)]
    server = Server(folder, ["--job", "timed:run", "--spares", "0", *limit]).start()
    from platelight.pipeline import service

    service.configure("cpu", threads)
    spent: dict[str, list[float]] = {name: [] for name in ("bare", "served", *PARTS)}

    def bare(request: Decompose, plate: np.ndarray) -> list[float]:
        began = time.perf_counter()
        _touch(service.run_job(request, {"plate": plate}).planes)
        return [time.perf_counter() - began]

    def served(request: Decompose, plate: np.ndarray) -> list[float]:
        marks = [time.perf_counter()]
        plane = describe("plate", plate)
        marks.append(time.perf_counter())
        planes = client.run(request, {"plate": plane}, timeout=600).planes
        back = time.perf_counter()
        _touch(planes)
        marks += [*map(float, server.toy_log.read_text().splitlines()[-1].split()), back, time.perf_counter()]
        return [marks[-1] - marks[0], *np.diff(marks)]

    with server.client() as client:
        for index in range(rounds + 1):
            request = Decompose(matte="full", halves=halves)
            turns = [(bare, ["bare"]), (served, ["served", *PARTS])]
            for work, names in turns if index % 2 else turns[::-1]:  # another load on the machine meets both
                plate = plate + np.float32(1e-3)
                for name, value in zip(names, work(request, plate), strict=True):
                    spent[name].append(value)
    server.stop()
    return {name: values[1:] for name, values in spent.items()}


def _touch(planes: Mapping[str, np.ndarray]) -> None:
    for plane in planes.values():
        plane.reshape(-1).view(np.uint8)[::4096].sum()


def show_overhead(
    show: Callable[[str, float, str], float], halves: bool, rounds: int, threads: int | None
) -> None:
    """Measure serving and show its overhead: of the fastest runs, of the medians, and what is around the job itself."""
    with tempfile.TemporaryDirectory() as folder:
        spent = serving_overhead(Path(folder), halves, rounds, threads)
    kind = "halves" if halves else "floats"
    around = np.subtract(spent["served"], spent["job"])
    for name, of in (("minimum", np.min), ("median", np.median)):
        for where in ("bare", "served"):
            show(f"1080p decompose in {kind}, {where}, {name}", float(of(spent[where])), "s")
        overhead = 100 * (of(spent["served"]) / of(spent["bare"]) - 1)
        show(f"serving overhead in {kind}, {name} (<= 10)", float(overhead), "%")
        show(f"around the job in {kind}, {name}", float(100 * of(around) / of(spent["bare"])), "%")
    for name in PARTS:
        show(f"  part of served: {name}, median", 1000 * float(np.median(spent[name])), "ms")


def show_batching(
    show: Callable[[str, float, str], float], threads: int | None, times: int = 12, count: int = 4
) -> None:
    """What plates of 256 x 256 would gain from going through a network together: the most that a batch of jobs could gain.

    One pass of ``count`` pictures against as many passes of one, by turns, at the sizes at which such a job runs NormalNet.
    """
    import torch
    from platelight.pipeline import service

    service.configure("cpu", threads)
    networks = service.networks()
    for side in (160, 256):
        pictures = torch.rand(count, 3, side, side)
        mattes = torch.ones(count, 1, side, side)
        spent: dict[str, list[float]] = {"apart": [], "together": []}
        with torch.inference_mode(), networks.half_precision():
            for _ in range(times + 1):
                began = time.perf_counter()
                for one in range(count):
                    networks.normal.predict(pictures[one : one + 1], mattes[one : one + 1])
                middle = time.perf_counter()
                networks.normal.predict(pictures, mattes)
                spent["apart"].append(middle - began)
                spent["together"].append(time.perf_counter() - middle)
        for name, of in (("minima", np.min), ("medians", np.median)):
            gain = of(spent["apart"][1:]) / of(spent["together"][1:])
            show(f"{count} plates together / apart at {side}, {name} (worth it at 1.2)", float(gain), "x")
