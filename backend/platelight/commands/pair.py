"""``platelight pair``: exchange public keys, so that a client on another machine may use a server.

Nothing is sent: each side prints a line for the other to enter, over a channel that both trust.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from platelight.client.keys import (
    CLIENT_KEY,
    SERVER_KEY,
    check_address,
    check_key,
    config_dir,
    forget_server,
    known_servers,
    load_or_make_keys,
    read_connection,
    remember_server,
)
from platelight.client.samehost import is_loopback
from platelight.commands.options import Parser
from platelight.protocol.errors import ConnectionFailed, InputError, InsecureKeys
from platelight.server.gate import ALLOWED, allow, disallow, read_allowed


def build_parser() -> Parser:
    """The parser of the command; without an action it shows this machine's keys and whom they know."""
    parser = Parser(
        prog="platelight pair",
        description="Exchange public keys with a client or a server on another machine.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    client = actions.add_parser("allow", help="on the server's machine: let a client in")
    client.add_argument("key", help="the client's public key, as 'platelight pair' prints it there")
    client.add_argument("name", nargs="?", default="unnamed", help="a name to know it by")
    server = actions.add_parser("trust", help="on the client's machine: keep a server's key")
    server.add_argument("endpoint", help="tcp://host:port")
    server.add_argument("key", help="the server's public key, as 'platelight pair' prints it there")
    forget = actions.add_parser("forget", help="take either back")
    forget.add_argument("which", help="a client's key or name, or a server's endpoint")
    return parser


def main(argv: Sequence[str]) -> int:
    """Carry out one action; returns the exit code.

    Raises:
        InputError: what was given is no key, no endpoint, or not known.
        InsecureKeys: the files concerned can be read by others.
    """
    # one key in 85 begins with a minus, which would read as an option
    guarded = [f"key={word}" if len(word) == 40 and word[0] == "-" else word for word in argv]
    parsed = build_parser().parse_args(guarded)
    actions = {"allow": _allow, "trust": _trust, "forget": _forget}
    actions.get(parsed.action, _show)(parsed)
    return 0


def _allow(parsed: argparse.Namespace) -> None:
    key = check_key(parsed.key)
    allow(config_dir() / ALLOWED, key, parsed.name)
    print(f"Clients with the key {key} ({parsed.name}) are let in, at once.")
    _print_trust("On their machine")


def _trust(parsed: argparse.Namespace) -> None:
    check_address(parsed.endpoint)
    remember_server(parsed.endpoint, check_key(parsed.key))
    print(f"The server at {parsed.endpoint} is known by its key. Use it with --server {parsed.endpoint}.")
    print("On its machine, if that has not been done:")
    print(f"  platelight pair allow {_quoted(load_or_make_keys().public)} NAME")


def _forget(parsed: argparse.Namespace) -> None:
    gone = disallow(config_dir() / ALLOWED, parsed.which.removeprefix("key="))
    if forget_server(parsed.which):
        gone.append(parsed.which)
    if not gone:
        raise InputError(
            f"'{parsed.which}' is neither a client nor a server known here.", "See: platelight pair"
        )
    for name in gone:
        print(f"Forgotten, at once: {name}.")


def _show(parsed: argparse.Namespace) -> None:
    folder = config_dir()
    print("To let this machine's user in elsewhere, run on the server's machine:")
    print(f"  platelight pair allow {_quoted(load_or_make_keys(CLIENT_KEY).public)} NAME")
    _print_trust("To use this machine's server from elsewhere, run on the client's machine")
    path = folder / ALLOWED
    listed = read_allowed(path) if path.exists() else {}
    for key, name in listed.items():
        print(f"let in: {key} {name}")
    for endpoint, key in known_servers().items():
        print(f"known server: {endpoint} {key}")


def _print_trust(lead: str) -> None:
    endpoint = _reached()
    note = ", with the name or address of this machine for HOST" if "//HOST:" in endpoint else ""
    print(f"{lead}{note}:")
    print(f"  platelight pair trust {endpoint} {_quoted(load_or_make_keys(SERVER_KEY).public)}")


def _reached() -> str:
    """Where other machines reach this one's server, as far as it is known here; by which name, they know."""
    try:
        endpoint = read_connection().endpoint
    except (ConnectionFailed, InsecureKeys):
        return "tcp://HOST:5599"
    host, port = check_address(endpoint)
    inside = is_loopback(endpoint) or host in ("0.0.0.0", "::")  # as servers of earlier versions wrote it
    return f"tcp://HOST:{port}" if inside else endpoint


def _quoted(key: str) -> str:
    return f"'{key}'"  # keys hold characters that a shell would read; a quote is none of them
