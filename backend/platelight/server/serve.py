"""Start a server and run it until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import zmq

from platelight.client.keys import (
    SERVER_KEY,
    ConnectionInfo,
    config_dir,
    connection_file,
    load_or_make_keys,
    read_private,
    write_connection,
)
from platelight.protocol.errors import InputError, PlatelightError
from platelight.server.broker import Broker
from platelight.server.config import DEFAULT_ENDPOINT, DEFAULT_JOB, ServeConfig
from platelight.server.gate import ALLOWED, Gate, check_endpoint
from platelight.server.pool import Pool
from platelight.server.store import Store

log = logging.getLogger(__name__)


def serve(config: ServeConfig) -> None:
    """Run a server in this process until SIGTERM or SIGINT; prints ``listening on ENDPOINT`` when ready.

    Jobs under way at the end stay in the store and run again at the next start.

    Raises:
        InputError: the endpoint, the store or the allow-list will not do; nothing was started.
        InsecureKeys: a key file or its folder can be read by others.
    """
    server_keys = load_or_make_keys(SERVER_KEY)
    client_keys = load_or_make_keys()
    stop = threading.Event()
    _stop_on_signals(stop)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with contextlib.ExitStack() as stack:
        stack.callback(context.destroy, linger=0)
        gate = Gate(context, client_keys.public, config_dir() / ALLOWED)
        stack.callback(gate.close)
        check_endpoint(config.endpoint, config.allow_remote, len(gate.listed))
        store = Store(config.store_folder, config.quota_bytes, config.ttl_seconds)
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
        path = config.connection_file or connection_file()
        write_connection(ConnectionInfo(endpoint, server_keys.public, os.getpid()), path)
        stack.callback(_remove_connection, path)
        print(f"listening on {endpoint}", flush=True)
        broker.serve(stop.is_set)
        log.info("stopping")


def _stop_on_signals(stop: threading.Event) -> None:
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())


def _remove_connection(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError, PlatelightError):
        if read_private(path).get("pid") == os.getpid():  # a newer server may have written its own by now
            path.unlink()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``platelight serve``; ``config_of`` reads them."""
    parser.add_argument("--endpoint", default=None, help=f"address to listen on (default {DEFAULT_ENDPOINT})")
    parser.add_argument("--port", type=int, help="listen on this port of 127.0.0.1; 0 takes any free one")
    parser.add_argument("--device", default="cpu", help="what to compute on: cpu or cuda")
    parser.add_argument("--threads", type=int, help="threads a worker may use")
    parser.add_argument("--store", type=Path, help="folder of jobs and results")
    parser.add_argument("--connection-file", type=Path, help="where local clients find this server")
    parser.add_argument("--allow-remote", action="store_true", help="permit an address that others can reach")
    parser.add_argument("--spares", type=int, default=0, help="ready workers kept beside the busy one")
    parser.add_argument("--quota-gib", type=float, default=20.0, help="room for planes and results, in GiB")
    parser.add_argument(
        "--max-queue", type=int, default=64, help="jobs that may wait before the answer is busy"
    )
    parser.add_argument("--job", default=DEFAULT_JOB, help=argparse.SUPPRESS)


def config_of(options: argparse.Namespace) -> ServeConfig:
    """Return the configuration that parsed options ask for. Raises InputError for contradictions."""
    if options.endpoint is not None and options.port is not None:
        raise InputError("--endpoint and --port exclude each other.", "Give one of them.")
    endpoint = options.endpoint or DEFAULT_ENDPOINT
    if options.port is not None:
        endpoint = f"tcp://127.0.0.1:{options.port}"
    return ServeConfig(
        endpoint=endpoint,
        device=options.device,
        threads=options.threads,
        store=options.store,
        connection_file=options.connection_file,
        job=options.job,
        allow_remote=options.allow_remote,
        spares=options.spares,
        quota_bytes=int(options.quota_gib * 1024**3),
        max_queue=options.max_queue,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of ``python -m platelight.server``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="platelight serve", description="Serve Platelight jobs.")
    add_arguments(parser)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s broker %(message)s")
    try:
        serve(config_of(options))
    except PlatelightError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0
