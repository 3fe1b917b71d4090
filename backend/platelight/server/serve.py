"""Start a server and run it until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zmq

from platelight.client.keys import (
    SERVER_KEY,
    ConnectionInfo,
    config_dir,
    connection_file,
    load_or_make_keys,
    read_connection,
    write_connection,
)
from platelight.client.processes import this_machine
from platelight.protocol.errors import InputError, PlatelightError
from platelight.resources import prefer_systems_libsodium
from platelight.server.broker import Broker
from platelight.server.config import DEFAULT_ENDPOINT, GIB, ServeConfig, build_config, read_config
from platelight.server.gate import ALLOWED, Gate, check_endpoint
from platelight.server.logs import FORMATS, start_logging
from platelight.server.pool import Pool
from platelight.server.store import Store

log = logging.getLogger(__name__)
_IO_THREADS = 4
_STDIN_VARIABLE = "PLATELIGHT_END_WITH_STDIN"  # set by a program that holds the other end of standard input


def serve(config: ServeConfig) -> None:
    """Run a server in this process until SIGTERM or SIGINT, or the end of standard input where
    ``PLATELIGHT_END_WITH_STDIN`` is set; prints ``listening on ENDPOINT`` when ready.

    At the first signal running jobs get ``drain_seconds`` to finish; at the second, or after that, they are handed
    back to the store and run again at the next start.

    Raises:
        InputError: the endpoint, the store or the allow-list will not do; nothing was started.
        InsecureKeys: a key file or its folder can be read by others.
    """
    server_keys = load_or_make_keys(SERVER_KEY)
    client_keys = load_or_make_keys()
    config.parsed_devices  # noqa: B018  (a wrong name is told before anything is started)
    stopping = _count_signals()
    # several threads, so that an upload being decrypted does not hold up the next client's short message
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(_IO_THREADS)
    with contextlib.ExitStack() as stack:
        stack.callback(context.destroy, linger=0)
        gate = Gate(context, client_keys.public, config_dir() / ALLOWED)
        stack.callback(gate.close)
        check_endpoint(config.endpoint, config.allow_remote, len(gate.listed))
        store = Store(
            config.store_folder, int(config.quota_gib * GIB), config.ttl_seconds,
            int(config.client_quota_gib * GIB),
        )  # fmt: skip
        stack.callback(store.close)
        pool = Pool(config, context, store.folder)
        stack.callback(pool.close)
        broker = Broker(config, store, pool, gate, server_keys.secret, context)
        stack.callback(broker.close)
        try:
            endpoint = broker.bind()
        except zmq.ZMQError as error:
            raise InputError(
                f"Cannot listen on {config.endpoint}: {error}.",
                "Take another --port, or stop the other server.",
            ) from error
        here = ConnectionInfo(_from_here(endpoint), server_keys.public, os.getpid(), this_machine())
        if _tell(here, path := config.connection_file or connection_file()):
            stack.callback(_remove_connection, here, path)
        own = prefer_systems_libsodium()
        log.info("encrypting with %s", f"the system's libsodium {own}" if own else "pyzmq's libsodium")
        print(f"listening on {endpoint}", flush=True)
        broker.serve(stopping)
        log.info("stopped")


def _count_signals() -> Callable[[], int]:
    """Return how many times the process has been asked to stop."""
    asked = 0

    def ask(*_: object) -> None:
        nonlocal asked
        asked += 1

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, ask)
    if os.environ.get(_STDIN_VARIABLE):
        _when_stdin_ends(ask)
    return lambda: asked


def _when_stdin_ends(ask: Callable[[], None]) -> None:
    """Call ``ask`` when the program that started this one is gone, however it ended."""
    # Workers get another input: on Windows they would hang on a pipe that a thread here is reading.
    pipe = os.dup(0)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(pipe, 4096):
                pass
        ask()

    threading.Thread(target=wait, daemon=True).start()


def _from_here(endpoint: str) -> str:
    """Where clients on this machine reach a server that listens on all addresses, which is no address to connect to."""
    return endpoint.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def _tell(own: ConnectionInfo, path: Path) -> bool:
    """Write the connection file, unless it is that of another server that runs here; True when it was written."""
    with contextlib.suppress(PlatelightError):
        other = read_connection(path)
        if other.runs:
            log.warning(
                "%s stays that of the server at %s; for this one give another --connection-file",
                path, other.endpoint,
            )  # fmt: skip
            return False
    write_connection(own, path)
    return True


def _remove_connection(own: ConnectionInfo, path: Path) -> None:
    with contextlib.suppress(FileNotFoundError, PlatelightError):
        # Another server, or another machine's, may have written its own by now.
        if read_connection(path) == own:
            path.unlink()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``platelight serve``; ``config_of`` reads them. What is not given is left to the file."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="TOML file; see docs/deploy.md")
    parser.add_argument("--endpoint", help=f"address to listen on (default {DEFAULT_ENDPOINT})")
    parser.add_argument("--port", type=int, help="listen on this port of 127.0.0.1; 0 takes any free one")
    parser.add_argument(
        "--device", dest="devices", action="append", metavar="D",
        help="what to compute on: auto (a GPU if there is one), cpu, cpu:0-3, cuda, cuda:1, mps; again for a further "
        "worker (default cpu)",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, help="threads a worker may use")
    parser.add_argument("--store", help="folder of jobs and results")
    parser.add_argument("--connection-file", help="where local clients find this server")
    parser.add_argument(
        "--allow-remote", action="store_const", const=True, help="permit an address that others can reach"
    )
    parser.add_argument("--spares", type=int, help="ready workers beside each device's busy one (default 1)")
    parser.add_argument("--quota-gib", type=float, help="room for planes and results, in GiB (default 20)")
    parser.add_argument("--client-quota-gib", type=float, help="of which one client may use (default 10)")
    parser.add_argument("--worker-memory-gib", type=float, help="memory at which a worker is stopped")
    parser.add_argument(
        "--memory", dest="memory_gib", metavar="GIB", type=float, help="memory that a job may take, in GiB"
    )
    parser.add_argument(
        "--networks",
        dest="engine",
        choices=("auto", "torch", "compile", "openvino"),
        help="what runs the networks (default auto)",
    )
    parser.add_argument("--job-seconds", type=float, help="longest time a job may take (default 3600)")
    parser.add_argument(
        "--max-queue", type=int, help="jobs that may wait before the answer is busy (default 64)"
    )
    parser.add_argument(
        "--drain", dest="drain_seconds", metavar="SECONDS", type=float,
        help="at a stop, time for running jobs to finish before they are handed back (default 0)",
    )  # fmt: skip
    parser.add_argument(
        "--log-format", choices=FORMATS, help="text, or json: one object a line (default text)"
    )
    parser.add_argument("--job", help=argparse.SUPPRESS)


def config_of(options: argparse.Namespace) -> ServeConfig:
    """Return the configuration that parsed options and their file ask for.

    Raises:
        InputError: the file cannot be used, a value is out of range, or options contradict each other.
    """
    given: dict[str, Any] = {name: value for name, value in vars(options).items() if value is not None}
    file, port = given.pop("config", None), given.pop("port", None)
    if port is not None:
        if "endpoint" in given:
            raise InputError("--endpoint and --port exclude each other.", "Give one of them.")
        given["endpoint"] = f"tcp://127.0.0.1:{port}"
    return build_config({**(read_config(file) if file is not None else {}), **given})


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of ``python -m platelight.server``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="platelight serve", description="Serve Platelight jobs.")
    add_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        config = config_of(options)
        start_logging(config.log_format, "broker")
        serve(config)
    except PlatelightError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0
