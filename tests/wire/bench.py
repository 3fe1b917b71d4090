"""Measure the wire on this machine: ``python tests/wire/bench.py [--model] [--only PART] [--json FILE]``.

Every ratio is taken in one run, against a bound measured beside it: raw TCP for tcp, one message for chunks, memcpy
for files, the pipeline in this process for serving. Peers are separate processes. docs/performance-server.md
holds a run's table.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import toys
import zmq
from conftest import Server
from platelight.client import samehost
from platelight.protocol import messages as m
from platelight.protocol.frames import describe
from platelight.protocol.requests import Decompose
from serving import show_batching, show_overhead
from test_abuse import Peer
from transport import MIB, SHAPE, TOTAL, best, raw_tcp, show_curve, zmq_frame

Show = Callable[[str, float, str], float]


# ---- memory and files


def copy_frame() -> float:
    """Seconds of one copy of a frame in memory."""
    source, target = np.ones(TOTAL, np.uint8), np.empty(TOTAL, np.uint8)
    np.copyto(target, source)
    return best(lambda: np.copyto(target, source), 5)


def hash_frame(algorithm: str) -> float:
    """Seconds of hashing a frame in memory."""
    data = np.random.default_rng(0).bytes(TOTAL)
    return best(lambda: hashlib.new(algorithm, data), 5)


def files_frame(folder: str, fresh: bool, times: int = 15) -> tuple[list[float], list[float]]:
    """Seconds of a frame's way into a server-named file and out of it into the reader's memory, and of copying it twice.

    Both are measured by turns. ``fresh``: every page is a new one on either side, as for the first job of a kind: a new
    file, new memory. Otherwise the same file and the same memory again.
    """
    plane = describe("plate", np.ones(SHAPE, np.float16))
    source = np.frombuffer(plane.data, np.uint8)
    path = os.path.join(folder, f"bench-{os.getpid()}")
    kept = np.ones(TOTAL, np.uint8), np.ones(TOTAL, np.uint8)

    def memory() -> tuple[np.ndarray, np.ndarray]:
        return (np.empty(TOTAL, np.uint8), np.empty(TOTAL, np.uint8)) if fresh else kept

    def there_and_back() -> None:
        if fresh or not os.path.exists(path):
            with open(path, "wb") as file:
                file.truncate(TOTAL)
        assert samehost.write_plane(path, plane.data)
        pages = samehost.map_plane(path, plane.info)
        assert pages is not None
        np.copyto(memory()[0], np.frombuffer(pages, np.uint8))
        if fresh:
            os.unlink(path)

    def copies() -> None:
        middle, target = memory()
        np.copyto(middle, source)
        np.copyto(target, middle)

    spent: tuple[list[float], list[float]] = ([], [])
    try:
        for _ in range(times):
            spent[0].append(best(there_and_back, 1))
            spent[1].append(best(copies, 1))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return spent[0][1:], spent[1][1:]


@contextlib.contextmanager
def huge_pages() -> Iterator[dict[str, str]]:
    """A tmpfs of huge pages, by what it is called; none where this process may not mount one."""
    with tempfile.TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "huge=within_size,size=1g", "none", folder]
        if os.name != "posix" or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
            yield {}
            return
        try:
            yield {"a tmpfs with huge=within_size": folder}
        finally:
            subprocess.run(["umount", folder], check=True)


def show_files(show: Show) -> None:
    """The way through files over memcpy: where temporary files lie (or ``TMPDIR``: the store's disk), and on two kinds of tmpfs."""
    with huge_pages() as huge:
        small = {"/dev/shm": "/dev/shm"} if os.path.isdir("/dev/shm") else {}
        for name, folder in {tempfile.gettempdir(): tempfile.gettempdir(), **small, **huge}.items():
            for fresh in (False, True):
                files, copies = files_frame(folder, fresh)
                kind = f"in {name}, {'fresh' if fresh else 'warm'} pages"
                show(f"files there and back {kind}", 1000 * min(files), "ms")
                for what, of in (("minima", np.min), ("medians", np.median)):
                    show(f"files / memcpy {kind}, {what} (<= 3)", float(of(files) / of(copies)), "x")


# ---- the server


def round_trip(server: Server, same_host: bool) -> float:
    """Seconds of a new 4K job of the toy, upload to the last pixel."""
    plates = [np.full(SHAPE, value, np.float16) for value in (1 + same_host, 3 + same_host)]
    spent = []
    with server.client(same_host=same_host) as client:
        client.status()
        for plate in plates:
            began = time.perf_counter()
            client.run(Decompose(fov=toys.ECHO), {"plate": plate}, timeout=300)
            spent.append(time.perf_counter() - began)
    return min(spent)


def _echo(endpoint: str) -> None:
    context = zmq.Context()
    one = context.socket(zmq.REP)
    one.bind(endpoint)
    while (said := one.recv()) != b"end":
        one.send(said)
    one.send(b"")
    context.destroy(linger=1000)


def answers_while_uploading(server: Server, plates: int = 2) -> dict[str, float]:
    """p50 and p99 in ms of status and of cancel, asked over and over while another client sends 4K plates.

    ``echo`` is what a process that only sends back takes at the same moments: the machine's share of the wait.
    """
    over = threading.Event()

    def upload() -> None:
        try:
            with server.client(same_host=False) as client:
                for value in range(plates):
                    plate = np.random.default_rng(value).random(SHAPE, dtype=np.float32).astype(np.float16)
                    client.run(Decompose(fov=toys.ECHO), {"plate": plate}, timeout=300)
        finally:
            over.set()

    def timed(peer: Peer, message: m.Message, answer: type[m.Message]) -> float:
        began = time.perf_counter()
        peer.say(message)
        peer.expect(answer)
        return 1000 * (time.perf_counter() - began)

    spent: dict[str, list[float]] = {"status": [], "cancel": [], "echo": []}
    endpoint = f"ipc://{server.folder}/echo"
    child = multiprocessing.Process(target=_echo, args=(endpoint,))
    child.start()
    peer = Peer(server).hello()
    echo = peer.context.socket(zmq.REQ)
    echo.connect(endpoint)
    sender = threading.Thread(target=upload)
    sender.start()
    plane = describe("plate", np.ones((8, 8), np.float32))
    while not over.is_set():
        spent["status"].append(timed(peer, m.Ask(1), m.Report))
        peer.say(m.Submit(1, Decompose(fov=toys.DOUBLE + 0.25), (plane.info,)))
        need = peer.expect(m.Need)
        assert isinstance(need, m.Need)
        spent["cancel"].append(timed(peer, m.Cancel(need.key), m.Failed))
        began = time.perf_counter()
        echo.send(b"x")
        echo.recv()
        spent["echo"].append(1000 * (time.perf_counter() - began))
        time.sleep(0.005)
    sender.join()
    echo.send(b"end")
    echo.recv()
    child.join()
    peer.close()
    return {
        f"{name} p{part}": float(np.percentile(values, part))
        for name, values in spent.items()
        for part in (50, 99)
    }


def decode_header() -> float:
    """Microseconds of processor time to read and validate a fetch and a submit with three planes, the mean of both."""
    planes = tuple(m.PlaneInfo(name, "f2", SHAPE, "0" * 64) for name in ("plate", "matte", "light"))
    headers = [m.encode(m.Submit(1, Decompose(), planes)), m.encode(m.Fetch("0" * 64, "0" * 64, 0))]
    spent = []
    for _ in range(20):
        began = time.process_time()
        for _ in range(200):
            for header in headers:
                m.decode_from_client(header)
        spent.append((time.process_time() - began) / 400)
    return 1e6 * min(spent)


def show_wire(show: Show) -> None:
    """The transport alone."""
    rate = TOTAL / MIB
    show("memcpy", rate / copy_frame(), "MiB/s")
    show("SHA-256, which names planes", rate / hash_frame("sha256"), "MiB/s")
    show("blake2b, for comparison", rate / hash_frame("blake2b"), "MiB/s")
    tcp = show("raw TCP", rate / raw_tcp(), "MiB/s")
    show("tcp, one message", rate / zmq_frame(TOTAL, False), "MiB/s")
    chunked = show("tcp, 1 MiB chunks under credit", rate / zmq_frame(MIB, False), "MiB/s")
    show("chunked tcp / raw TCP (>= 0.5 busy, 0.8 quiet)", chunked / tcp, "x")
    show_curve(show)
    show_files(show)
    show("header decode, processor time (<= 10)", decode_header(), "us")


def show_server(show: Show) -> None:
    """A server of toys."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder)).start()
        show("4K job through files, new", 1000 * round_trip(server, True), "ms")
        show("4K job through CURVE, new", 1000 * round_trip(server, False), "ms")
        for name, value in answers_while_uploading(server).items():
            show(f"{name} during a 4K upload (p99 <= 50)", value, "ms")
        server.stop()


def main() -> int:
    """Entry."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", action="store_true", help="also real 1080p jobs with and without a server")
    parser.add_argument("--rounds", type=int, default=10, help="real jobs of either kind (default 10)")
    parser.add_argument("--threads", type=int, help="of the networks; one where others use the machine too")
    parser.add_argument("--only", choices=("wire", "server", "model", "batch"), help="measure nothing else")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures: dict[str, float] = {}

    def show(name: str, value: float, unit: str) -> float:
        figures[f"{name}, {unit}"] = value
        print(f"{name:80} {value:10.2f} {unit}", flush=True)
        return value

    if options.only in (None, "wire"):
        show_wire(show)
    if options.only in (None, "server"):
        show_server(show)
    if options.only == "model" or (options.model and options.only is None):
        for halves in (False, True):
            show_overhead(show, halves, options.rounds, options.threads)
    if options.only == "batch":
        show_batching(show, options.threads)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
