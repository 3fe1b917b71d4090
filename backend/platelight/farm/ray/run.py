"""``platelight farm ray [OPTIONS] relight|decompose …``: chunks of frames over the devices of a Ray cluster.

One actor a device; a chunk whose actor or node dies goes back to the queue, a new actor is started where the node still
lives, and nodes that join are used. What was written is skipped by its records, so nothing is done twice but what was
in flight, and the bytes are those of the command on one machine.
"""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from platelight.commands.batch import PARTLY, Report
from platelight.commands.options import Parser, positive
from platelight.farm.ray.chunks import Chunk, chunks
from platelight.farm.ray.worker import Done, Worker, identity
from platelight.images.atomic import write_bytes
from platelight.protocol.errors import InputError, PlatelightError

log = logging.getLogger(__name__)

COMMANDS = ("decompose", "relight")
NOT_BEGUN = Done(-1, {}, "")
AGAIN = (1, 130)
"""Exit codes that are worth another try: a full disk may have been emptied, a machine was told to stop."""
LOOK_AGAIN = 5.0
"""Seconds between two looks at which nodes there are."""


def build_parser() -> Parser:
    """Options of the cluster; the command's own follow."""
    parser = Parser(prog="platelight farm ray", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument(
        "--address", metavar="IP:PORT", help="the cluster's head; without it, a cluster on this machine"
    )
    parser.add_argument("--chunk", metavar="N", type=positive, default=50, help="frames of one piece of work")
    parser.add_argument(
        "--retries", metavar="N", type=positive, default=3, help="tries of a chunk that fails or dies"
    )
    parser.add_argument(
        "rest", nargs=argparse.REMAINDER, metavar="COMMAND …", help="decompose or relight, as alone"
    )
    return parser


@dataclass
class Slot:
    """A device of a node: its actor, and the chunk that it works on by the reference of its result."""

    node: str
    gpu: bool
    actor: Any = None
    chunk: Chunk | None = None
    rests: float = 0.0


@dataclass
class Farm:
    """The cluster as the driver sees it."""

    ray: Any
    retries: int
    folder: str
    slots: list[Slot] = field(default_factory=list)
    running: dict[Any, Slot] = field(default_factory=dict)
    tries: dict[Chunk, int] = field(default_factory=dict)
    looked: float = -LOOK_AGAIN

    def look(self) -> None:
        """Find the slots of nodes that joined, and forget those of nodes that are gone."""
        if time.monotonic() - self.looked < LOOK_AGAIN:
            return
        self.looked = time.monotonic()
        nodes = {node["NodeID"]: node["Resources"] for node in self.ray.nodes() if node["Alive"]}
        self.slots = [slot for slot in self.slots if slot.node in nodes or slot.chunk is not None]
        known = {slot.node for slot in self.slots}
        for node, resources in nodes.items():
            if node not in known and resources.get("CPU", 0) >= 1:
                gpus = int(resources.get("GPU", 0))
                self.slots += [Slot(node, gpus > 0) for _ in range(max(gpus, 1))]

    def start(self, slot: Slot, threads: int | None) -> None:
        """Start the actor of a slot, held to its node; the first failure of a call tells that it could not."""
        strategy = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(slot.node, soft=False)
        actor = self.ray.remote(num_cpus=1, num_gpus=int(slot.gpu), max_restarts=0)(Worker)
        device = "cuda" if slot.gpu else "cpu"
        slot.actor = actor.options(scheduling_strategy=strategy).remote(
            device, threads, self.folder, identity()
        )

    def run(self, target: str, parsed: argparse.Namespace, todo: Sequence[Chunk]) -> list[tuple[Chunk, Done]]:
        """Work all chunks; returns what became of each.

        Raises:
            PlatelightError: a chunk failed or died too often, no node is left, or one has other weights.
        """
        queue, finished = deque(todo), []
        alone = time.monotonic()
        while queue or self.running:
            self.look()
            now = time.monotonic()
            for slot in [slot for slot in self.slots if slot.chunk is None and slot.rests <= now]:
                if not queue:
                    break
                if slot.actor is None:
                    self.start(slot, parsed.threads)
                slot.chunk = queue.popleft()
                self.running[slot.actor.work.remote(target, slot.chunk.fitted(parsed))] = slot
            if not self.running:
                if time.monotonic() - alone > 60:
                    raise PlatelightError(
                        "No machine of the Ray cluster is left.", "Start one and run it again."
                    )
                time.sleep(1.0)
                continue
            alone = time.monotonic()
            ready, _ = self.ray.wait(list(self.running), num_returns=1, timeout=LOOK_AGAIN)
            for reference in ready:
                slot = self.running.pop(reference)
                chunk, slot.chunk = slot.chunk, None
                assert chunk is not None
                done = self._result(reference, slot)
                if done is NOT_BEGUN:
                    queue.appendleft(chunk)
                elif done is None or done.code in AGAIN:
                    self._again(chunk, done, queue)
                else:
                    finished.append((chunk, done))
                    _tell(parsed, chunk, done, sum(c.count for c, _ in finished), sum(c.count for c in todo))
        return finished

    def _result(self, reference: Any, slot: Slot) -> Done | None:
        """What a chunk gave, or None where its actor or node died: that slot gets a new actor when it is needed."""
        try:
            done: Done = self.ray.get(reference)
            return done
        except self.ray.exceptions.RayTaskError as error:
            raise PlatelightError(
                f"A machine of the Ray cluster cannot work ({error.cause}).",
                "Install the same Platelight there and share the folders.",
            ) from error
        except self.ray.exceptions.RayError as error:
            log.info("a worker is gone: %s", error)
            # Whether its node is gone too, Ray knows a little later.
            slot.actor, slot.rests, self.looked = None, time.monotonic() + LOOK_AGAIN, -LOOK_AGAIN
            if isinstance(error, self.ray.exceptions.ActorUnschedulableError):
                self.slots.remove(slot)
                return NOT_BEGUN
            return None

    def _again(self, chunk: Chunk, done: Done | None, queue: deque[Chunk]) -> None:
        self.tries[chunk] = self.tries.get(chunk, 0) + 1
        why = (
            done.words.strip().splitlines()[-1]
            if done is not None and done.words.strip()
            else "its worker died"
        )
        print(f"platelight: {chunk.frames or chunk.plates[0]}: {why}", file=sys.stderr, flush=True)
        if self.tries[chunk] >= self.retries:
            raise PlatelightError(
                f"The frames {chunk.frames or ', '.join(chunk.plates)} failed {self.retries} times.",
                "See the messages above; what is done stays done.",
            )
        queue.appendleft(chunk)


def _tell(parsed: argparse.Namespace, chunk: Chunk, done: Done, count: int, total: int) -> None:
    if done.words and done.code:
        print(done.words, end="", file=sys.stderr)
    if parsed.progress == "openjd":
        print(f"openjd_progress: {100 * count / total:.1f}", flush=True)
    else:
        print(f"{count}/{total} {chunk.frames or ' '.join(chunk.plates)}", file=sys.stderr, flush=True)


def connect(address: str | None) -> Any:
    """The connected ``ray`` module.

    Raises:
        InputError: Ray is not installed, the address is public, or the cluster would answer without a token.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError("Ray is not installed.", "pip install 'platelight[cluster]'.") from error
    if address is not None:
        host, _, port = address.rpartition(":")
        try:
            private = ipaddress.ip_address(host.strip("[]")).is_private and port.isdigit()
        except ValueError:
            private = False
        if not private:
            raise InputError(
                f"{address} is not a private address.", "Give IP:PORT of the head in your own network."
            )
        if os.environ.get("RAY_AUTH_MODE") != "token":
            raise InputError(
                "Token authentication is off: who reaches a Ray cluster without it can run anything there.",
                "Set RAY_AUTH_MODE=token here and where the nodes start; see docs/farm.md.",
            )
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    own: dict[str, Any] = {} if address else {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    ray.init(address=address or "local", log_to_driver=False, logging_level=logging.WARNING, **own)
    return ray


def main(argv: Sequence[str]) -> int:
    """Entry of ``platelight farm ray``; returns the exit code of the command as a whole."""
    from platelight import cli

    options = build_parser().parse_args(argv)
    if not options.rest or options.rest[0] not in COMMANDS:
        raise InputError(
            "There is nothing to farm out.", "Add 'relight …' or 'decompose …' with its options."
        )
    parsed = cli.build_parser().parse_args(options.rest)
    if parsed.server:
        raise InputError("--server and Ray are two ways to one end.", "Leave one of them out.")
    began = time.monotonic()
    parsed.ocio = parsed.ocio or os.environ.get("OCIO")  # nodes have an environment of their own
    todo = chunks(parsed, options.chunk)
    ray = connect(options.address)
    try:
        farm = Farm(ray, options.retries, str(Path.cwd()))
        results = farm.run(cli.COMMANDS[parsed.command], parsed, todo)
    finally:
        ray.shutdown()
    report = Report()
    for _, done in results:
        report.done += done.report.get("done", [])
        report.skipped += done.report.get("skipped", [])
        report.failed += done.report.get("failed", [])
    report.clock.wall = time.monotonic() - began
    if parsed.report:
        write_bytes(parsed.report, report.as_json())
    print(f"platelight: {report.sentence()}", file=sys.stderr)
    codes = {done.code for _, done in results} - {0}
    if not codes:
        return 0
    return PARTLY if report.done or report.skipped else max(codes)
