"""The driver of a Ray cluster against a cluster of this file's, so that it is tested where Ray is not installed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from platelight.farm.ray import run
from platelight.farm.ray.chunks import Chunk
from platelight.farm.ray.run import Farm
from platelight.farm.ray.worker import Done
from platelight.protocol.errors import PlatelightError


class RayError(Exception):
    pass


class ActorUnschedulableError(RayError):
    pass


class RayTaskError(RayError):
    cause = "no such weights"


class Cluster:
    """As much of ``ray`` as the driver asks: two nodes, and ``answer(frames, node, call)`` for what a chunk gives there."""

    def __init__(self, answer: Callable[[str, str, int], Any]) -> None:
        self.answer, self.calls, self.started = answer, 0, 0
        self.alive = ["a", "b"]
        self.exceptions = SimpleNamespace(
            RayError=RayError, RayTaskError=RayTaskError, ActorUnschedulableError=ActorUnschedulableError
        )
        strategy = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node)
        self.util = SimpleNamespace(scheduling_strategies=strategy)

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": node, "Alive": True, "Resources": {"CPU": 4}} for node in self.alive]

    def remote(self, **options: Any) -> Callable[[Any], Any]:
        def work(node: str) -> Any:
            self.started += 1
            return SimpleNamespace(
                work=SimpleNamespace(remote=lambda target, given: (given.frames, node, object()))
            )

        actor = SimpleNamespace(
            options=lambda scheduling_strategy: SimpleNamespace(
                remote=lambda *given: work(scheduling_strategy)
            )
        )
        return lambda worker: actor

    def wait(self, references: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return references[:1], references[1:]

    def get(self, reference: Any) -> Any:
        self.calls += 1
        found = self.answer(reference[0], reference[1], self.calls)
        if isinstance(found, Exception):
            raise found
        return found


def worked(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, chunks: int = 4
) -> list[tuple[str | None, int]]:
    """Each chunk that ended, with its code."""
    monkeypatch.setattr(run, "LOOK_AGAIN", 0.0)
    todo = [Chunk(("shot.####.exr",), f"{k}-{k}", "1-9", 1) for k in range(1, chunks + 1)]
    parsed = argparse.Namespace(
        threads=None, progress="auto", frames=None, shot=None, plates=["shot.####.exr"]
    )
    done = Farm(cluster, 3, "/").run("relight", parsed, todo)
    return sorted((chunk.frames, one.code) for chunk, one in done)


def test_every_chunk_is_done_once_on_both_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = set()

    def answer(frames: str, node: str, call: int) -> Done:
        nodes.add(node)
        return Done(3 if frames == "2-2" else 0, {}, "")

    cluster = Cluster(answer)
    assert worked(cluster, monkeypatch) == [("1-1", 0), ("2-2", 3), ("3-3", 0), ("4-4", 0)]
    assert (nodes, cluster.started, cluster.calls) == ({"a", "b"}, 2, 4)


def test_a_dead_worker_is_replaced_and_its_chunk_done(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(lambda frames, node, call: RayError("killed") if call == 1 else Done(0, {}, ""))
    assert worked(cluster, monkeypatch) == [(f"{k}-{k}", 0) for k in range(1, 5)]
    assert (cluster.started, cluster.calls) == (3, 5)


def test_a_node_that_left_costs_no_try(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(frames: str, node: str, call: int) -> Any:
        if node == "b":
            cluster.alive = ["a"]
            return ActorUnschedulableError("gone")
        return Done(0, {}, "")

    cluster = Cluster(answer)
    assert worked(cluster, monkeypatch) == [(f"{k}-{k}", 0) for k in range(1, 5)]


def test_a_chunk_that_fails_too_often_ends_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Cluster(lambda frames, node, call: Done(1 if frames == "2-2" else 0, {}, "The disk is full.\n"))
    with pytest.raises(PlatelightError, match="The frames 2-2 failed 3 times"):
        worked(cluster, monkeypatch)
    assert capsys.readouterr().err.count("platelight: 2-2: The disk is full.") == 3


def test_a_machine_that_cannot_work_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PlatelightError, match=r"cannot work \(no such weights\)"):
        worked(Cluster(lambda frames, node, call: RayTaskError()), monkeypatch)
