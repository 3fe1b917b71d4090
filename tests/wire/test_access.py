"""Who gets in, who is told what, and how fast."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import toys
import zmq
from conftest import Server, configured
from platelight.client import Client, KeyPair, load_or_make_keys, read_connection
from platelight.client.keys import remember_server, write_private
from platelight.client.link import Link
from platelight.protocol import version
from platelight.protocol.errors import (
    AccessDenied,
    ConnectionFailed,
    InputError,
    InsecureKeys,
    UnknownJob,
    VersionSkew,
)
from platelight.protocol.messages import Hello, Watch, encode
from platelight.protocol.requests import Decompose
from platelight.protocol.version import PROTOCOL_VERSION
from platelight.server.gate import check_endpoint, read_allowed

pytestmark = pytest.mark.alone


def new_keys() -> KeyPair:
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "config"
    with configured(folder):
        yield folder


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def refused_within(client: Client, error: type[Exception], seconds: float = 3.0) -> Exception:
    began = time.monotonic()
    with client, pytest.raises(error) as caught:
        client.run(Decompose(fov=toys.DOUBLE), {"plate": np.zeros((2, 2), np.float32)})
    assert time.monotonic() - began < seconds
    return caught.value


def test_no_server(config: Path) -> None:
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    error = refused_within(Client(endpoint, new_keys(), server_key=new_keys().public), ConnectionFailed)
    assert str(error).startswith(f"No server answers at {endpoint}.")


def test_no_connection_file(config: Path) -> None:
    assert "platelight serve" in str(refused_within(Client(), ConnectionFailed))


def test_an_endpoint_nobody_knows(config: Path) -> None:
    assert "is known here" in str(refused_within(Client("tcp://127.0.0.1:5"), ConnectionFailed))


@pytest.mark.parametrize("endpoint", ["nonsense", "tcp://", "http://127.0.0.1:80"])
def test_no_address(config: Path, endpoint: str) -> None:
    refused_within(Client(endpoint, new_keys(), server_key=new_keys().public), ConnectionFailed)


def test_something_that_is_no_platelight_server(config: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        endpoint = f"tcp://127.0.0.1:{deaf.getsockname()[1]}"
        refused_within(Client(endpoint, new_keys(), server_key=new_keys().public), ConnectionFailed)


def test_unknown_client_key(shared_server: Server) -> None:
    info = read_connection(shared_server.folder / "config" / "server.json")
    error = refused_within(Client(info.endpoint, new_keys(), server_key=info.server_key), AccessDenied)
    assert "does not know this client's key" in str(error)
    assert "refused an unknown key" in shared_server.log


def test_wrong_server_key(shared_server: Server) -> None:
    with configured(shared_server.folder / "config"):
        client = Client(shared_server.endpoint, server_key=new_keys().public)
    assert "not the server whose key" in str(refused_within(client, AccessDenied))


def test_no_curve_never_reaches_a_handler(shared_server: Server) -> None:
    context = zmq.Context()
    plain = context.socket(zmq.DEALER)
    plain.connect(shared_server.endpoint)
    plain.send(encode(Hello((1,), "plain", ("raw",))))
    assert plain.poll(1000) == 0
    with shared_server.client() as client:
        assert client.status().clients == 1
    context.destroy(linger=0)


def test_a_listed_key_gets_in_without_a_restart_but_not_to_others_jobs(
    make_server: Callable[..., Server],
) -> None:
    server = make_server()
    planes = {"plate": np.ones((3, 3), np.float32)}
    with server.client() as client:
        key = client.run(Decompose(fov=toys.DOUBLE), planes, timeout=30).key
    guest = new_keys()
    info = read_connection(server.folder / "config" / "server.json")
    listing = server.folder / "config" / "allowed_clients"
    listing.touch(mode=0o600)
    listing.write_text(f"# machines of the studio\n{guest.public} guest\n")
    with Client(info.endpoint, guest, server_key=info.server_key) as client:
        with pytest.raises(UnknownJob):
            client.result(key, timeout=10)
        # whoever has the planes may ask the same question, and is answered from the store
        np.testing.assert_array_equal(
            client.run(Decompose(fov=toys.DOUBLE), planes, timeout=30).planes["plate_twice"],
            planes["plate"] * 2,
        )
        client.result(key, timeout=10)
    assert len(server.runs()) == 1
    listing.write_text("damaged\n")
    refused_within(Client(info.endpoint, guest, server_key=info.server_key), AccessDenied)
    with server.client() as client:  # the owner is not shut out by it, and the server lives
        client.result(key, timeout=10)


def test_version_skew(shared_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for versions, older in (((PROTOCOL_VERSION + 1,), "server"), ((1,), "client")):
        monkeypatch.setattr("platelight.client.link.SUPPORTED_VERSIONS", versions)
        error = refused_within(shared_server.client(), VersionSkew)
        assert f"Update the Platelight {older}." in str(error)


def test_negotiation() -> None:
    assert version.negotiate((1, 2, 3), (1, 2)) == 2
    with pytest.raises(VersionSkew, match="client speaks protocol none"):
        version.negotiate((), (1,))


def test_a_message_before_hello_is_refused(shared_server: Server) -> None:
    with shared_server.client() as client:
        link = client.connect()
        assert isinstance(link, Link)
        link.send(Watch(1, "0" * 64))
        assert _answer(link).code == "unknown_job"
        link._socket.send(b"\xc1")
        assert _answer(link).code == "malformed"
        link.send(Watch(2, "0" * 64))  # that cost the session
        assert _answer(link).code == "hello_first"


def _answer(link: Link):  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        for message, _ in link.receive(0.1):
            return message
    raise AssertionError("no answer")


def test_keys_are_private_and_made_once(config: Path) -> None:
    pair = load_or_make_keys()
    assert load_or_make_keys() == pair
    path = config / "client.key.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.stat().st_mode) == 0o700
    assert pair.secret not in repr(pair)
    assert [one.name for one in config.iterdir()] == [path.name]


@pytest.mark.parametrize("loosen", ["file", "folder"])
def test_loose_keys_are_refused(config: Path, loosen: str) -> None:
    load_or_make_keys()
    path = config / "client.key.json" if loosen == "file" else config
    path.chmod(path.stat().st_mode | 0o040)
    with pytest.raises(InsecureKeys, match=f"The {loosen} .* can be read by others. Run: chmod"):
        load_or_make_keys()
    with pytest.raises(InsecureKeys):
        Client("tcp://127.0.0.1:1")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"public": "x", "secret": "y"}', "[" * 100_000])
def test_damaged_keys_are_refused(config: Path, content: str) -> None:
    load_or_make_keys()
    (config / "client.key.json").write_text(content)
    with pytest.raises(InsecureKeys):
        load_or_make_keys()


def test_halves_that_differ_are_refused(config: Path) -> None:
    write_private(
        config / "client.key.json", dataclasses.asdict(KeyPair(new_keys().public, new_keys().secret))
    )
    with pytest.raises(InsecureKeys, match="differ"):
        load_or_make_keys()


def test_remembered_servers(config: Path, shared_server: Server) -> None:
    info = read_connection(shared_server.folder / "config" / "server.json")
    remember_server(info.endpoint, info.server_key)
    with Client(info.endpoint) as client, pytest.raises(AccessDenied):  # found it; it does not know this key
        client.status()


def test_connection_file_is_private(shared_server: Server) -> None:
    path = shared_server.folder / "config" / "server.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "secret" not in path.read_text()


def test_no_secret_in_the_log(shared_server: Server) -> None:
    with configured(shared_server.folder / "config"):
        secrets = [load_or_make_keys(name).secret for name in ("client.key.json", "server.key.json")]
    assert not any(secret in shared_server.log for secret in secrets)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what a process has loaded")
def test_the_server_has_the_systems_libsodium_where_there_is_one(shared_server: Server) -> None:
    code = "from platelight.resources import prefer_systems_libsodium as prefer; print(prefer())"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    maps = Path(f"/proc/{shared_server.pid}/maps").read_text(encoding="utf-8")
    systems = [word for word in maps.split() if "libsodium" in word and "pyzmq" not in word]
    assert bool(systems) == (there.strip() != "None")
    told = f"the system's libsodium {there.strip()}" if systems else "pyzmq's libsodium"
    assert f"encrypting with {told}\n" in shared_server.log


def test_only_loopback_is_bound(shared_server: Server) -> None:
    """Read from the kernel's table which addresses the broker and its worker listen on."""
    if not os.path.exists("/proc/net/tcp"):
        pytest.skip("the table is Linux's")
    assert shared_server.process is not None
    with shared_server.client() as client:
        client.status()
    inodes = _sockets(shared_server.process.pid)
    listening = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:
                listening.append(words[1].split(":")[0])
    assert listening == ["0100007F"]


def _sockets(pid: int) -> set[str]:
    links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
    return {match[1] for match in (re.fullmatch(r"socket:\[(\d+)\]", link) for link in links) if match}


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:5599", "tcp://127.9.9.9:1", "tcp://[::1]:5599"])
def test_loopback_needs_no_flag(endpoint: str) -> None:
    check_endpoint(endpoint, False, 0)


@pytest.mark.parametrize(
    "endpoint", ["tcp://0.0.0.0:5599", "tcp://*:5599", "tcp://192.168.1.2:1", "tcp://host:1", "tcp://[::]:1"]
)
def test_beyond_loopback_takes_a_flag_and_a_list(endpoint: str) -> None:
    with pytest.raises(InputError, match="--allow-remote"):
        check_endpoint(endpoint, False, 3)
    with pytest.raises(InputError, match="Nobody"):
        check_endpoint(endpoint, True, 0)
    check_endpoint(endpoint, True, 1)


@pytest.mark.parametrize(
    "endpoint", ["", "127.0.0.1:1", "ipc:///tmp/x", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "tcp://h:1/x"]
)
def test_no_endpoint(endpoint: str) -> None:
    with pytest.raises(InputError, match="is no endpoint"):
        check_endpoint(endpoint, True, 1)


def test_a_server_beyond_loopback_does_not_start(make_server: Callable[..., Server], tmp_path: Path) -> None:
    from platelight.server.serve import main

    with configured(tmp_path / "c"):
        assert main(["--endpoint", "tcp://0.0.0.0:0"]) == 2
        assert main(["--endpoint", "tcp://0.0.0.0:0", "--allow-remote"]) == 2
        assert main(["--endpoint", "tcp://127.0.0.1:0", "--port", "0"]) == 2


def test_a_server_on_ipv6(tmp_path: Path) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = Server(tmp_path, endpoint="tcp://[::1]:0").start()
    try:
        assert re.fullmatch(r"tcp://\[::1\]:[1-9]\d+", server.endpoint)
        with server.client() as client:
            plane = np.ones((3, 3), np.float32)
            result = client.run(Decompose(fov=toys.DOUBLE), {"plate": plane}, timeout=30)
        np.testing.assert_array_equal(result.planes["plate_twice"], 2)
    finally:
        server.stop()


def test_allow_list(tmp_path: Path) -> None:
    path = tmp_path / "allowed_clients"
    path.touch(mode=0o600)
    key = "#" + new_keys().public[1:]
    path.write_text(f"\n{key}  desk of Ada\n  # nobody\n")
    assert read_allowed(path) == {key: "desk of Ada"}
    path.write_text("short\n")
    with pytest.raises(InputError, match="Line 1"):
        read_allowed(path)
    path.chmod(0o644)
    with pytest.raises(InsecureKeys):
        read_allowed(path)


def test_a_store_has_one_server(
    make_server: Callable[..., Server], capsys: pytest.CaptureFixture[str]
) -> None:
    from platelight.server.serve import main

    server = make_server()
    with configured(server.folder / "config"):
        assert main(["--port", "0"]) == 2
    assert "Another server uses the store" in capsys.readouterr().err
