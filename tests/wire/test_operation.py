"""Running a server: its configuration, status, metrics, logs, stops, devices, and letting others in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.process import BaseProcess
from pathlib import Path

import msgspec
import numpy as np
import pytest
import toys
from conftest import Server, configured, wait_for
from platelight import cli
from platelight.client import Client, KeyPair, load_or_make_keys
from platelight.client.keys import check_key
from platelight.protocol.errors import AccessDenied, Busy, InputError
from platelight.protocol.requests import Decompose
from platelight.server import pool
from platelight.server.config import ServeConfig, build_config, read_config
from platelight.server.devices import Device, found, parse_devices, pin
from prometheus_client.parser import text_string_to_metric_families
from test_life import Background

PLANE = {"plate": np.ones((20, 30, 3), np.float32)}


# ---- configuration


def test_a_file_configures_and_options_override(make_server: Callable[..., Server], tmp_path: Path) -> None:
    path = tmp_path / "serve.toml"
    path.write_text('devices = ["cpu", "abacus"]\nspares = 0\nmax_queue = 3\n[limits]\nmax_side = 64\n')
    server = make_server("--config", str(path), "--device", "cpu")
    with server.client() as client:
        client.run(Decompose(fov=toys.DOUBLE), PLANE, timeout=30)
        assert [worker.device for worker in client.status().workers] == ["cpu"]
        assert client.connect().welcome.limits.max_side == 64


BAD_FILES = {
    "no TOML": ("devices = [", "{p} is no TOML file: "),
    "not UTF-8": (b"\xff\xfe", "{p} is no TOML file: "),
    "unknown field": (
        "port = 5", "{p}: The server's configuration cannot be used: Object contains unknown field `port`. "
    ),
    "out of range": (
        "max_queue = 0",
        "{p}: The server's configuration cannot be used: Expected `int` >= 1 - at `$.max_queue`. ",
    ),
    "wrong type": (
        "store = 5", "{p}: The server's configuration cannot be used: expected text, got int - at `$.store`. "
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "sentence"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_configuration_files(tmp_path: Path, content: str | bytes, sentence: str) -> None:
    path = tmp_path / "serve.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as error:
        read_config(path)
    assert str(error.value).startswith(sentence.format(p=path))


def test_the_documented_file_holds_the_defaults() -> None:
    """``docs/deploy.md`` names every field, with the value that it has anyway."""
    text = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")
    fields = msgspec.toml.decode(text.split("```toml\n")[1].split("```")[0])
    assert build_config(fields) == ServeConfig()
    unset = {"threads", "store", "connection_file", "worker_memory_gib", "memory_gib", "job"}
    assert set(fields) | unset == set(ServeConfig.__struct_fields__)


def test_a_missing_configuration_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--config", str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path / 'absent'} cannot be read: No such file or directory. Check the path.\n"
    )


def test_devices() -> None:
    cpu, cores, cuda = parse_devices(("cpu", "cpu:0-2+5", "cuda:1"))
    assert (cpu.torch, cpu.cores) == ("cpu", frozenset())
    assert (cores.torch, cores.cores) == ("cpu", {0, 1, 2, 5})
    assert (cuda.torch, cuda.cores) == ("cuda:1", frozenset())
    assert pin(cpu) is None
    for names, sentence in (
        (("cpu", "cpu"), "A device is named twice."),
        (("cpu:0-1", "cpu:1"), "The cores of 'cpu:1' are in another device's set too."),
        (("cuda:x",), "'cuda:x' is no device."),
        (("../cpu",), "'../cpu' is no device."),
    ):
        with pytest.raises(InputError) as error:
            parse_devices(names)
        assert error.value.sentence == sentence
    with pytest.raises(InputError, match="cannot be had"):
        pin(parse_devices(("cpu:9999",))[0])
    with pytest.raises(InputError):
        build_config({"devices": []})


@pytest.mark.parametrize(
    ("cuda", "mps", "name"),
    [
        ("works", "", "cuda"),
        ("", "works", "mps"),
        ("no kernel image is available", "", "cpu"),
        ("no kernel image is available", "works", "mps"),
        ("", "", "cpu"),
    ],
)
def test_automatic_is_the_best_that_is_found(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cuda: str, mps: str, name: str
) -> None:
    says = {"cuda": cuda, "mps": mps}

    def ones(_size: int, device: str) -> np.ndarray:
        if says[device] != "works":
            raise RuntimeError(f"{says[device]}\nand more")
        return np.ones(1)

    torch = types.SimpleNamespace(
        ones=ones,
        cuda=types.SimpleNamespace(is_available=lambda: bool(cuda)),
        backends=types.SimpleNamespace(mps=types.SimpleNamespace(is_available=lambda: bool(mps))),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    (device,) = parse_devices(("auto",))
    assert (found(device).name, found(device).torch) == (name, name)
    assert ("the cuda device is passed over: no kernel image is available" in caplog.messages) == (
        "no" in cuda
    )
    monkeypatch.setitem(sys.modules, "torch", None)  # what is named is not looked at
    for device in parse_devices(("cpu:0-1", "cuda:1")):
        assert found(device) == device


def test_a_server_tells_what_automatic_is_and_leaves_torch_to_its_workers(
    make_server: Callable[..., Server],
) -> None:
    import torch

    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    server = make_server("--device", "auto", "--spares", "0")
    with server.client() as client:
        client.run(Decompose(fov=toys.DOUBLE), PLANE, timeout=60)
        (worker,) = client.status().workers
    assert worker.device == expected
    assert f"ready on {expected} after" in server.log
    if Path("/proc/self/maps").exists():
        assert "libtorch" in Path(f"/proc/{worker.pid}/maps").read_text()
        assert "libtorch" not in Path(f"/proc/{server.pid}/maps").read_text()


def test_several_devices_share_one_queue(make_server: Callable[..., Server]) -> None:
    core = min(os.sched_getaffinity(0))
    server = make_server("--device", "cpu", "--device", f"cpu:{core}", "--spares", "0")
    jobs = []
    with server.client() as one, server.client() as two, server.client() as three:
        wait_for(lambda: [worker.state for worker in three.status().workers] == ["idle", "idle"])
        for index, client in enumerate((one, two)):
            jobs.append(Background(client, toys.SLOW, {"plate": PLANE["plate"] + index}))
        wait_for(lambda: len(server.runs()) == 2)
        assert len(set(server.runs())) == 2  # at the same time
        report = three.status()
        assert {(worker.device, worker.state) for worker in report.workers} == {
            ("cpu", "busy"), (f"cpu:{core}", "busy"),
        }  # fmt: skip
        pinned = next(worker for worker in report.workers if worker.device != "cpu")
        assert os.sched_getaffinity(pinned.pid) == {core}
        for job in jobs:
            assert job.join().error is None


def test_one_device_that_cannot_be_had_leaves_the_others(make_server: Callable[..., Server]) -> None:
    server = make_server("--device", "abacus", "--device", "cpu")
    with server.client() as client:
        client.run(Decompose(fov=toys.DOUBLE), PLANE, timeout=30)
    # A worker of its own process says so, sooner or later than the other one works.
    wait_for(lambda: "The device abacus is not available: it has no beads." in server.log)


# ---- stops


def test_drain_finishes_what_runs_and_hands_back_the_rest(make_server: Callable[..., Server]) -> None:
    server = make_server("--drain", "20")
    with server.client() as one, server.client() as two, server.client() as three:
        first = Background(one, toys.SLOW)
        wait_for(lambda: server.runs())
        second = Background(two, toys.COUNT)
        wait_for(lambda: any(stage.startswith("queued") for stage in second.stages))
        three.connect()
        os.kill(server.pid, signal.SIGTERM)
        wait_for(lambda: three.status().draining)
        third = Background(three, toys.DOUBLE)
        wait_for(lambda: "waiting for the server" in third.stages)  # told to wait, not refused
        assert first.join().error is None
        assert server.process is not None
        assert server.process.wait(10) == 0
        assert len(server.runs(toys.SLOW)) == 1
        assert server.runs(toys.COUNT) == []
        server.start()
        assert second.join().error is None
        assert third.join().error is None
    assert len(server.runs(toys.SLOW)) == len(server.runs(toys.COUNT)) == 1


def test_a_second_signal_ends_a_drain(make_server: Callable[..., Server]) -> None:
    server = make_server("--drain", "60")
    with server.client() as client:
        job = Background(client, toys.SLOW)
        wait_for(lambda: server.runs())
        os.kill(server.pid, signal.SIGTERM)
        wait_for(lambda: "stopping; 1 jobs run" in server.log)
        os.kill(server.pid, signal.SIGTERM)
        assert server.process is not None
        assert server.process.wait(5) == 0
        server.start()
        assert job.join().error is None
    assert len(server.runs()) == 2


def test_a_server_ends_with_the_program_that_holds_its_input(tmp_path: Path) -> None:
    server = Server(tmp_path, environment={"PLATELIGHT_END_WITH_STDIN": "1"}, stdin=subprocess.PIPE).start()
    try:
        with server.client() as client:  # workers start, and have another input
            client.run(Decompose(fov=toys.DOUBLE), PLANE, timeout=30)
        assert server.process is not None
        assert server.process.stdin is not None
        server.process.stdin.close()
        assert server.process.wait(10) == 0
    finally:
        server.stop()
    assert not (tmp_path / "config" / "server.json").exists()


# ---- status, metrics, logs


def ask(server: Server, *arguments: str) -> int:
    with configured(server.folder / "config"):
        return cli.main(list(arguments))


def test_status_command(make_server: Callable[..., Server], capsys: pytest.CaptureFixture[str]) -> None:
    server = make_server()
    with server.client(same_host=False) as client:
        client.run(Decompose(fov=toys.DOUBLE), PLANE, timeout=30)
        assert ask(server, "status") == 0
        text = capsys.readouterr().out
        assert "0 waiting, 0 running" in text
        assert "1 submitted, 1 runs, 1 done" in text
        assert ask(server, "status", "--json", "--server", "local") == 0
        report = json.loads(capsys.readouterr().out)
        assert report["totals"]["bytes_in"] == report["totals"]["bytes_out"] == PLANE["plate"].nbytes
        assert ask(server, "status", "--prometheus") == 0
    families = {family.name: family for family in text_string_to_metric_families(capsys.readouterr().out)}
    assert families["platelight_done"].type == "counter"
    assert families["platelight_done"].samples[0].value == 1
    by_state = {s.labels["state"]: s.value for s in families["platelight_jobs"].samples}
    assert by_state["done"] == 1
    assert families["platelight_worker_memory_bytes"].samples
    assert ask(server, "status", "--watch", "0") == 2
    assert capsys.readouterr().err == "platelight: --watch 0 is no number of seconds. Give 0.1 or more.\n"


def test_status_without_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with configured(tmp_path / "config"):
        assert cli.main(["status"]) == 2
    assert capsys.readouterr().err == (
        f"platelight: No server has written a connection file at {tmp_path / 'config' / 'server.json'}. "
        "Start one with: platelight serve\n"
    )


def test_logs_name_jobs_and_hold_no_pixels(make_server: Callable[..., Server]) -> None:
    server = make_server("--log-format", "json")
    with server.client() as client:
        key = client.run(Decompose(fov=toys.DOUBLE), PLANE, timeout=30).key
    server.stop()
    records = [json.loads(line) for line in server.log.splitlines()]
    of_job = [(one["process"].split()[0], one["message"]) for one in records if one.get("job") == key]
    assert of_job[0] == ("broker", "queued behind 0")
    assert of_job[1] == ("worker", "started (lease 1)")
    assert all(len(line) < 1000 for line in server.log.splitlines())


# ---- letting others in


def test_pairing(
    make_server: Callable[..., Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What two people do: each runs a command on each side, and both know each other; then one is forgotten."""
    server = make_server()
    theirs = tmp_path / "theirs"
    with configured(theirs):
        key = load_or_make_keys().public
        assert cli.main(["pair"]) == 0
    assert f"platelight pair allow '{key}' NAME" in capsys.readouterr().out
    assert ask(server, "pair", "allow", key, "desk of Ada") == 0
    answer = capsys.readouterr().out
    server_key = answer.rstrip().rsplit("'", 2)[1]
    with configured(theirs):
        assert cli.main(["pair", "trust", server.endpoint, server_key]) == 0
        client = Client(server.endpoint)
        client.connect()
    with client:
        client.run(Decompose(fov=toys.DOUBLE), PLANE, timeout=30)
        assert ask(server, "pair") == 0
        assert f"let in: {key} desk of Ada" in capsys.readouterr().out
        assert ask(server, "pair", "forget", "desk of Ada") == 0
        with pytest.raises(AccessDenied, match="no longer knows this client's key"):  # connected as it is
            client.run(Decompose(fov=toys.DOUBLE), PLANE, timeout=30)
    assert (server.folder / "config" / "allowed_clients").stat().st_mode & 0o777 == 0o600
    with configured(theirs):
        assert cli.main(["pair", "forget", server.endpoint]) == 0
        assert cli.main(["pair", "forget", server.endpoint]) == 2
    assert "is neither a client nor a server known here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["allow", "short"], "'short' is no public key. A key is 40 characters,"),
        (["allow", "é" * 40], f"'{'é' * 40}' is no public key."),
        (["allow", "~" * 40], f"'{'~' * 40}' is no public key."),
        (["allow", "0" * 40, "a\nb"], "'a\\nb' is no name for a client. Use one line of text."),
        (["trust", "host", "0" * 40], "'host' is no endpoint. Write tcp://127.0.0.1:5599."),
        (["trust", "tcp://h:1", "short"], "'short' is no public key."),
    ],
)
def test_bad_pairing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    with configured(tmp_path / "config"):
        assert cli.main(["pair", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"platelight: {sentence}")


def test_a_key_that_looks_like_an_option(tmp_path: Path) -> None:
    key = "-" + load_or_make_keys(folder=tmp_path / "k").public[1:]
    with configured(tmp_path / "config"):
        assert cli.main(["pair", "allow", check_key(key), "Ada"]) == 0
        assert (tmp_path / "config" / "allowed_clients").read_text().splitlines()[1] == f"{key} Ada"


def test_too_many_connections_of_one_client(shared_server: Server) -> None:
    clients = [shared_server.client() for _ in range(65)]
    try:
        for client in clients[:64]:
            client.connect()
        with pytest.raises(Busy) as error:
            clients[64].connect()
        assert error.value.sentence == "The server has as many connections as it takes."
    finally:
        for client in clients:
            client.close()


def test_two_starts_at_once_make_one_key_pair(tmp_path: Path) -> None:
    pairs: list[KeyPair] = []
    threads = [
        threading.Thread(target=lambda: pairs.append(load_or_make_keys(folder=tmp_path / "k")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(pairs)) == 1


def test_a_stop_before_a_worker_has_started_is_clean() -> None:
    waiting: Future[BaseProcess] = Future()
    entry = pool._Process("one-1", pool._Place(Device("cpu", "cpu")), waiting)
    assert entry.process is None
    assert entry.exit_code is None
    waiting.cancel()
    assert entry.process is None
    assert entry.exit_code == 1
