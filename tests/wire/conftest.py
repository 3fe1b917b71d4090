"""Servers of toy jobs, each with a config folder of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import zmq
from platelight.client import Client, KeyPair
from platelight.resources import resident_memory

HERE = Path(__file__).parent


@dataclass
class Server:
    """A server process that can be killed and started again."""

    folder: Path
    options: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    endpoint: str = "tcp://127.0.0.1:0"
    process: subprocess.Popen[str] | None = None
    stdin: int | None = None

    @property
    def toy_log(self) -> Path:
        return self.folder / "toys.txt"

    def start(self) -> Server:
        environment = dict(os.environ, PLATELIGHT_CONFIG_DIR=str(self.folder / "config"))
        environment["PYTHONPATH"] = os.pathsep.join([str(HERE), environment.get("PYTHONPATH", "")])
        environment["PLATELIGHT_TOY_LOG"] = str(self.toy_log)
        environment.update(self.environment)
        command = [
            sys.executable,
            "-m",
            "platelight.server",
            "--endpoint",
            self.endpoint,
            "--job",
            "toys:run",
            *self.options,
        ]
        with open(self.folder / "server.log", "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                command, stdin=self.stdin, stdout=subprocess.PIPE, stderr=log, env=environment, text=True
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), self.log
        self.endpoint = line.split()[-1]
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def memory(self) -> int:
        """Resident memory of the broker in bytes."""
        return resident_memory(self.pid)

    @property
    def blobs(self) -> Path:
        return self.folder / "config" / "store" / "blobs"

    def client(self, **options: object) -> Client:
        with configured(self.folder / "config"):
            return Client(connection_file=self.folder / "config" / "server.json", **options)  # type: ignore[arg-type]

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def runs(self, fov: float | None = None) -> list[int]:
        """Process ids of the executions so far."""
        if not self.toy_log.exists():
            return []
        lines = [line.split() for line in self.toy_log.read_text().splitlines()]
        return [int(pid) for kind, pid in lines if fov is None or int(float(kind)) == int(fov)]

    def frames(self) -> list[tuple[float, int]]:
        """The full ``fov`` and process id of the executions so far."""
        if not self.toy_log.exists():
            return []
        lines = [line.split() for line in self.toy_log.read_text().splitlines()]
        return [(float(kind), int(pid)) for kind, pid in lines]

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text(encoding="utf-8")


@contextlib.contextmanager
def configured(folder: Path) -> Iterator[None]:
    """Point the config folder elsewhere for a moment."""
    before = os.environ.get("PLATELIGHT_CONFIG_DIR")
    os.environ["PLATELIGHT_CONFIG_DIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PLATELIGHT_CONFIG_DIR"]
        else:
            os.environ["PLATELIGHT_CONFIG_DIR"] = before


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until something holds; fails when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """True while a process runs (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    # The file is gone before it is opened, or the process while it is read.
    except (FileNotFoundError, ProcessLookupError):
        return False


def guest_of(server: Server, name: str = "guest") -> KeyPair:
    """Make a key pair that the server lets in."""
    public, secret = zmq.curve_keypair()
    listing = server.folder / "config" / "allowed_clients"
    listing.touch(mode=0o600)
    with open(listing, "a", encoding="utf-8") as file:
        file.write(f"{public.decode()} {name}\n")
    return KeyPair(public.decode(), secret.decode())


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers; all are ended after the test."""
    servers: list[Server] = []

    def make(*options: str, **environment: str) -> Server:
        folder = tmp_path / f"server{len(servers)}"
        folder.mkdir()
        server = Server(folder, list(options), environment)
        servers.append(server)
        return server.start()

    yield make
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests of a module that do it no harm."""
    server = Server(tmp_path_factory.mktemp("shared")).start()
    yield server
    assert server.stop() == 0
