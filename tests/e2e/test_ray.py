"""A shot over two local Ray nodes, of which a worker and then a whole node are killed: the bytes are those of one machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from platelight import cli, images
from platelight.commands.options import Parser
from platelight.farm.ray.chunks import chunks, ranges
from platelight.farm.ray.run import connect
from platelight.images import parse_frames
from platelight.protocol.errors import InputError
from test_cli_batch import contents, finished

FRAMES = 24
LINE = "relight shot.####.exr --light sky.exr --matte full --temporal on -o"
LAZY = """
import sys, types
class Lazy(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        import stand_in
        return getattr(stand_in, name)
sys.modules["platelight.pipeline.service"] = Lazy("platelight.pipeline.service")
"""
"""A ``sitecustomize`` by which Ray's workers get the quick stand-in for the pipeline."""


@pytest.fixture
def shot(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(1, FRAMES + 1):
        images.write_light(tmp_path / f"shot.{number:04d}.exr", rng.uniform(0.1, 0.7, (24, 32, 3)), {})
    images.write_light(tmp_path / "sky.exr", np.full((8, 16, 3), 2.0, np.float32), {})
    return tmp_path


def test_chunks_hold_every_frame_once(shot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shot)
    parser: Parser = cli.build_parser()
    parsed = parser.parse_args([*LINE.split(), "out", "--frames", "1-10,15-20"])
    found = chunks(parsed, 7)
    assert [(one.frames, one.shot, one.count) for one in found] == [
        ("1-7", "1-10,15-20", 7), ("8-10,15-18", "1-10,15-20", 7), ("19-20", "1-10,15-20", 2),
    ]  # fmt: skip
    fitted = found[1].fitted(parsed)
    assert (fitted.frames, fitted.shot, fitted.plates) == ("8-10,15-18", "1-10,15-20", ["shot.####.exr"])
    whole = chunks(parser.parse_args([*LINE.split(), "out"]), 50)
    assert [(one.frames, one.shot) for one in whole] == [("1-24", "1-24")]
    stills = chunks(
        parser.parse_args(["relight", "shot.0001.exr", "shot.0002.exr", "--light", "sky.exr", "-o", "out"]), 1
    )
    assert [(one.plates, one.frames) for one in stills] == [
        (("shot.0001.exr",), None),
        (("shot.0002.exr",), None),
    ]
    assert parse_frames(ranges([1, 2, 3, 7, 9, 10])) == [1, 2, 3, 7, 9, 10]


def test_a_public_or_open_cluster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", sys)  # never called: the address is looked at first
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    for address in ("8.8.8.8:6379", "render1:6379", "10.0.0.5"):
        with pytest.raises(InputError, match="not a private address"):
            connect(address)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(InputError, match="RAY_AUTH_MODE=token"):
        connect("10.0.0.5:6379")


class Nodes:
    """Ray nodes as processes of their own, told apart by a mark in their environment."""

    def __init__(self, folder: Path) -> None:
        here = Path(__file__).parent
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(LAZY)
        (folder / "token").write_text("0123456789abcdef" * 4)
        path = os.pathsep.join([str(folder / "site"), str(here), os.environ.get("PYTHONPATH", "")])
        self.environment = {
            **os.environ, "PYTHONPATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
            "RAY_TMPDIR": f"/tmp/plray{os.getpid()}", "STAND_IN_SECONDS": "0.1", "STAND_IN_LOG": str(folder / "jobs.log"),
            "RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "3",
        }  # fmt: skip
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"

    def start(self, name: str, *options: str) -> None:
        """Start a node; returns when it has joined."""
        line = ["start", "--node-ip-address", "127.0.0.1", "--num-cpus", "1", "--num-gpus", "0",
                "--object-store-memory", "80000000", "--disable-usage-stats", *options]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", *line],
            env={**self.environment, "PLATELIGHT_NODE": f"{self.folder}/{name}"},
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def pids(self, name: str, command: bytes = b"") -> list[int]:
        """Processes of a node whose command line begins so."""
        mark, found = f"PLATELIGHT_NODE={self.folder}/{name}".encode(), []
        for entry in Path("/proc").iterdir():
            try:
                marked = entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0")
                if marked and (entry / "cmdline").read_bytes().startswith(command):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def kill(self, name: str, command: bytes = b"") -> int:
        """SIGKILL to them; returns how many there were."""
        found = self.pids(name, command)
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        return len(found)


@pytest.fixture
def nodes(shot: Path) -> Iterator[Nodes]:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'platelight[cluster]'")
    if not Path("/proc").is_dir():
        pytest.skip("nodes are found by /proc")
    found = Nodes(shot)
    try:
        found.start(
            "head", "--head", "--port", found.address.rpartition(":")[2], "--include-dashboard", "false"
        )
        found.start("second", "--address", found.address)
        yield found
    finally:
        found.kill("second")
        found.kill("head")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_worker_and_a_node_die_and_nothing_is_missing(shot: Path, nodes: Nodes) -> None:
    assert finished(shot, f"{LINE} whole", log="whole.log")[0] == 0
    farm = f"farm ray --address {nodes.address} --chunk 4 {LINE} farmed --report report.json"
    driver = subprocess.Popen(
        [sys.executable, "-m", "platelight.cli", *farm.split()],
        cwd=shot, env=nodes.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    log, deadline = shot / "jobs.log", time.monotonic() + 600

    def wait_for(jobs: int) -> None:
        while not (log.exists() and len(log.read_text().splitlines()) >= jobs):
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    wait_for(4)
    assert nodes.kill("head", b"ray::Worker") == 1
    wait_for(len(log.read_text().splitlines()) + 6)
    assert nodes.kill("second") >= 2  # the raylet and what it started
    out, err = driver.communicate(timeout=600)
    assert driver.returncode == 0, out + err
    assert "its worker died" in err

    def outputs(folder: Path) -> dict[str, str]:
        return {name: digest for name, digest in contents(folder).items() if "safetensors" not in name}

    assert outputs(shot / "farmed") == outputs(shot / "whole")
    stranger = subprocess.run(
        [sys.executable, "-m", "platelight.cli", *farm.split()],
        cwd=shot, env={**nodes.environment, "RAY_AUTH_TOKEN_PATH": str(shot / "sky.exr")},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert stranger.returncode != 0
