"""One home on several machines, and several servers of one home: whose the connection file and the store are."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import toys
from conftest import Server, configured, wait_for
from platelight import cli
from platelight.client import Client, ConnectionInfo, read_connection
from platelight.client.keys import check_key, remember_server, server_key_of, write_connection
from platelight.client.processes import lives, this_machine
from platelight.protocol.errors import ConnectionFailed, InputError
from platelight.protocol.requests import Decompose
from platelight.server.gate import ALLOWED, allow
from platelight.server.schema import lock_folder

pytestmark = pytest.mark.alone
PLANE = {"plate": np.ones((3, 3), np.float32)}
KEY = "k" * 40
NOBODY = 2**30  # more than any system numbers its processes


def test_the_file_of_another_machines_server_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "config" / "server.json"
    write_connection(ConnectionInfo("tcp://127.0.0.1:5599", KEY, NOBODY, "elsewhere"), path)
    with pytest.raises(ConnectionFailed, match="is that of a server on elsewhere"):
        read_connection(path)
    with configured(path.parent):
        with pytest.raises(ConnectionFailed, match="is known here"):
            server_key_of("tcp://127.0.0.1:5599")
        remember_server("tcp://127.0.0.1:5599", "r" * 40)
        assert server_key_of("tcp://127.0.0.1:5599") == "r" * 40
    for info in (
        ConnectionInfo("tcp://127.0.0.1:5599", KEY, NOBODY, this_machine()),
        ConnectionInfo("tcp://127.0.0.1:5599", KEY, NOBODY),  # of an earlier version
        ConnectionInfo("tcp://127.0.0.1:5599", KEY, os.getpid(), "this laptop in another network"),
        ConnectionInfo("tcp://192.168.1.2:5599", KEY, NOBODY, "elsewhere"),  # which is reached from here
    ):
        write_connection(info, path)
        assert read_connection(path) == info


def test_processes() -> None:
    assert lives(os.getpid())
    for pid in (NOBODY, 0, -1):
        assert not lives(pid)


def test_a_second_server_leaves_the_file_of_one_that_runs(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    first = make_server()
    file = first.folder / "config" / "server.json"
    second = Server(first.folder, ["--store", str(tmp_path / "store")]).start()
    try:
        assert f"{file} stays that of the server at {first.endpoint}" in second.log
        assert read_connection(file).endpoint == first.endpoint != second.endpoint
    finally:
        assert second.stop() == 0
    with first.client() as client:
        client.run(Decompose(fov=toys.DOUBLE), PLANE, timeout=30)


def test_a_server_takes_over_what_a_dead_one_left_and_leaves_what_is_not_its_own(
    make_server: Callable[..., Server],
) -> None:
    server = make_server()
    file = server.folder / "config" / "server.json"
    gone = read_connection(file)
    server.kill()
    # After the machine has started anew its number may be that of any program.
    write_connection(ConnectionInfo(gone.endpoint, gone.server_key, os.getpid(), this_machine()), file)
    server.endpoint = "tcp://127.0.0.1:0"
    server.start()
    assert read_connection(file).endpoint == server.endpoint
    others = ConnectionInfo("tcp://127.0.0.1:1", gone.server_key, server.pid, "elsewhere")
    write_connection(others, file)
    before = file.read_bytes()
    assert server.stop() == 0
    assert file.read_bytes() == before


def test_a_lock_that_cannot_be_had_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int) -> Callable[..., None]:
        def flock(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        return flock

    for number in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES):
        monkeypatch.setattr(fcntl, "flock", refuse(number))
        with pytest.raises(InputError, match=f"Another server uses the store {tmp_path}"):
            lock_folder(tmp_path)
    monkeypatch.setattr(fcntl, "flock", refuse(errno.ENOLCK))
    with pytest.raises(InputError) as error:
        lock_folder(tmp_path)
    assert error.value.sentence == f"{tmp_path / 'lock'} cannot be locked: No locks available."
    (tmp_path / "other" / "lock").mkdir(parents=True)
    with pytest.raises(InputError) as error:
        lock_folder(tmp_path / "other")
    assert error.value.sentence == f"{tmp_path / 'other' / 'lock'} cannot be opened: Is a directory."


def test_a_server_for_all_addresses_tells_one_to_connect_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    allow(tmp_path / "config" / ALLOWED, KEY, "Ada")
    server = Server(tmp_path, ["--allow-remote"], endpoint="tcp://0.0.0.0:0").start()
    try:
        port = server.endpoint.rpartition(":")[2]
        assert read_connection(tmp_path / "config" / "server.json").endpoint == f"tcp://127.0.0.1:{port}"
        with server.client() as client:
            client.run(Decompose(fov=toys.DOUBLE), PLANE, timeout=30)
        with configured(tmp_path / "config"):
            with Client(f"tcp://127.0.0.1:{port}") as client:
                client.connect()
            for arguments in (["pair"], ["pair", "allow", KEY, "Ada"]):
                assert cli.main(arguments) == 0
                said = capsys.readouterr().out
                assert f"platelight pair trust tcp://HOST:{port} '" in said
                assert "with the name or address of this machine for HOST:\n" in said
    finally:
        server.stop()
    wait_for(lambda: not (tmp_path / "config" / "server.json").exists())


def test_pairing_names_what_others_can_reach(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config"
    for endpoint, shown in (
        ("tcp://192.168.1.2:7000", "tcp://192.168.1.2:7000"),
        ("tcp://0.0.0.0:7000", "tcp://HOST:7000"),
        ("tcp://[::1]:7000", "tcp://HOST:7000"),
    ):
        write_connection(ConnectionInfo(endpoint, KEY, os.getpid(), this_machine()), config / "server.json")
        with configured(config):
            assert cli.main(["pair"]) == 0
        said = capsys.readouterr().out
        assert f"platelight pair trust {shown} '" in said
        assert ("for HOST" in said) == ("HOST:" in shown)


@pytest.mark.parametrize("written", ["'{}'", '"{}"', " '{}' ", "key={}", "{}"])
def test_a_key_may_be_pasted_with_its_quotes(written: str) -> None:
    assert check_key(written.format("0" * 40)) == "0" * 40  # Windows' shell hands single quotes on
