"""Making a light-stage set: the parent of the processes that run Blender.

The parent hands subjects' numbers to child processes that run Blender, one each, and keeps the store's index. What is
in the store is not made again, so a run that was stopped or killed goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from platelight.protocol.errors import InputError, PlatelightError
from platelight.training.light_stage import StageConfig
from platelight.training.light_stage_lights import rig
from platelight.training.light_stage_store import Store, shard_name
from platelight.training.light_stage_subjects import SHARES, Casting

log = logging.getLogger(__name__)
WORKER = ("-m", "platelight.training.light_stage_worker")
TRIES = 3  # of one subject, before it is left out


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def describe(config: StageConfig, casting: Casting) -> dict[str, Any]:
    """The manifest of a set: everything that its pictures depend on, and whose data they show."""
    return {
        "seed": config.seed,
        "size": config.size,
        "lamps": config.lamps,
        "samples": config.samples,
        "families": {str(f): SHARES[f] for f in casting.families},
        "sources": list(casting.sources()),
        "license": "Pictures made from CC-BY 3.0 data need its author named: see each shard's sources.",
        "versions": {name: _version(name) for name in ("platelight", "bpy", "numpy")},
        "directions": rig(config.lamps).directions.round(6).tolist(),
        "solid_angles": rig(config.lamps).solid_angles.round(8).tolist(),
    }


def _check(config: StageConfig) -> None:
    if config.subjects < 1 or config.first < 0:
        raise InputError(f"There are no {config.subjects} subjects.", "Give --subjects 1 or more.")
    for name, value, low, high in (
        ("lamps", config.lamps, 12, 512), ("size", config.size, 16, 2048), ("samples", config.samples, 1, 65536),
        ("workers", config.workers, 1, 256), ("threads", config.threads, 1, 256),
    ):  # fmt: skip
        if not low <= value <= high:
            raise InputError(f"--{name} {value} is out of range.", f"Give {low} to {high}.")
    if "bpy" not in sys.modules and _version("bpy") == "absent":
        raise InputError(
            "The light stage needs Blender's Python module bpy.",
            "Install it: pip install platelight[blender].",
        )


def _begin(store: Store, config: StageConfig) -> None:
    wanted = describe(config, Casting(config.data))
    found = store.manifest()
    if found is None:
        store.write_manifest(wanted)
        return
    if set(wanted["families"]) < set(found.get("families", ())):
        wanted["families"] = found[
            "families"
        ]  # a run without data adds objects, which are soon made, to a set of all
    for key in ("seed", "size", "lamps", "samples", "families"):
        if found.get(key) != wanted[key]:
            raise InputError(
                f"{store.url} was begun with {key} {found.get(key)}, not {wanted[key]}.",
                "Use the same options and data, or another --out.",
            )


class _Child:
    """A worker process; its answers come to ``answers`` as (child, message), and (child, None) when it has ended."""

    def __init__(
        self,
        config: StageConfig,
        url: str,
        answers: queue.Queue[tuple[_Child, dict[str, Any] | None]],
        worker: Sequence[str],
    ) -> None:
        self.index: int | None = None
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115, open as long as the child lives
        environment = {**os.environ, "OMP_NUM_THREADS": str(config.threads)}
        self.process = subprocess.Popen(
            [sys.executable, *worker],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment,
        )  # fmt: skip
        job = {
            "url": url, "data": str(config.data) if config.data else "", "seed": config.seed, "size": config.size,
            "lamps": config.lamps, "samples": config.samples, "threads": config.threads,
        }  # fmt: skip
        self._send(json.dumps(job))
        threading.Thread(target=self._listen, args=(answers,), daemon=True).start()

    def _send(self, line: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has died: the listener says so
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def _listen(self, answers: queue.Queue[tuple[_Child, dict[str, Any] | None]]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                answers.put((self, json.loads(line)))
            except json.JSONDecodeError:
                log.warning("a worker said: %s", line.rstrip())
        self.process.wait()
        answers.put((self, None))

    def work_on(self, index: int) -> None:
        self.index = index
        self._send(str(index))

    def last_words(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read()[-2000:].decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.process.returncode}"

    def close(self, kill: bool = False) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        if kill:
            self.process.kill()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()


def make_set(
    config: StageConfig, report: Callable[[str], None] = print, worker: Sequence[str] = WORKER
) -> tuple[int, list[int]]:
    """Make what is missing of a set; how many were made, and the numbers of those that failed every time.

    ``worker``: what Python is told to run as a child; see ``light_stage_worker`` for what it must answer.

    Raises:
        InputError: bad options, or a set that was begun with others.
        PlatelightError: a worker cannot work at all.
    """
    _check(config)
    url = config.url if "://" in config.url else str(Path(config.url).absolute())
    store = Store(url)
    if url.startswith("memory:"):
        raise InputError("A store in memory is seen by one process only.", "Give a folder or another URL.")
    _begin(store, config)
    there = set(store.names())
    todo = [i for i in range(config.first, config.first + config.subjects) if shard_name(i) not in there]
    tries: dict[int, int] = {}
    failed: list[int] = []
    made = 0
    answers: queue.Queue[tuple[_Child, dict[str, Any] | None]] = queue.Queue()
    children: set[_Child] = set()

    def start() -> None:
        if todo:
            child = _Child(config, url, answers, worker)
            children.add(child)
            child.work_on(todo.pop(0))

    try:
        for _ in range(min(config.workers, len(todo))):
            start()
        while children:
            child, answer = answers.get()
            if answer is not None and "error" in answer:
                raise PlatelightError(answer["error"])
            if answer is not None:
                made += 1
                there.add(shard_name(int(answer["done"])))
                store.write_index(there)
                report(" ".join(f"{key} {value}" for key, value in answer.items()))
                child.index = None
                if todo:
                    child.work_on(todo.pop(0))
                else:
                    child.close()
                continue
            children.discard(child)
            if child.index is not None:  # it died at work
                lost, words = child.index, child.last_words()
                tries[lost] = tries.get(lost, 0) + 1
                log.warning("subject %d: the worker died (%s), try %d of %d", lost, words, tries[lost], TRIES)
                (todo if tries[lost] < TRIES else failed).append(lost)
                child.close()
                start()
    finally:
        for child in children:
            child.close(kill=True)
    store.write_index(set(store.names()) | there)
    return made, sorted(failed)
