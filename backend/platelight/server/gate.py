"""Who may connect: ZeroMQ's authentication requests answered from a list of public keys, and where to listen."""

from __future__ import annotations

import ipaddress
import logging
from pathlib import Path

import zmq
from zmq.utils import z85

from platelight.client.keys import check_address, check_private, write_private_text
from platelight.protocol.errors import InputError, PlatelightError

log = logging.getLogger(__name__)
ALLOWED = "allowed_clients"
DOMAIN = b"platelight"


class Gate:
    """Answers ZAP requests: a key on the list is let in and becomes the peer's user id, all others are refused.

    Args:
        context: the context of the guarded socket; the gate must exist before that socket is bound.
        own: this user's own public key, always let in.
        path: file with one ``z85-key name`` a line (comments begin with ``# ``); read again whenever it changes.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], own: str, path: Path) -> None:
        self._own = own
        self._path = path
        self._stamp = 0
        self._listed: dict[str, str] = {}
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind("inproc://zeromq.zap.01")

    @property
    def listed(self) -> dict[str, str]:
        """Public keys of the file with their names."""
        try:
            stamp = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            self._listed, self._stamp = {}, 0
            return self._listed
        if stamp != self._stamp:
            self._stamp, self._listed = stamp, {}  # should the file be damaged, nobody on it gets in
            self._listed = read_allowed(self._path)
        return self._listed

    def answer(self) -> None:
        """Answer the requests that wait."""
        while self.socket.poll(0):
            frames = self.socket.recv_multipart()
            if len(frames) < 7 or frames[0] != b"1.0" or frames[5] != b"CURVE" or len(frames[6]) != 32:
                self.socket.send_multipart([b"1.0", *frames[1:2], b"400", b"CURVE is required", b"", b""])
                continue
            key: str = z85.encode(frames[6]).decode("ascii")  # type: ignore[no-untyped-call]
            if self.allows(key):
                self.socket.send_multipart([b"1.0", frames[1], b"200", b"OK", key.encode("ascii"), b""])
            else:
                log.warning("refused an unknown key from %s", frames[3].decode("ascii", "replace"))
                self.socket.send_multipart([b"1.0", frames[1], b"400", b"unknown key", b"", b""])

    def allows(self, key: str) -> bool:
        """True when a client with this key may come in, and stay."""
        try:
            return key == self._own or key in self.listed
        except (PlatelightError, OSError, UnicodeDecodeError) as error:
            log.error("the list of clients cannot be used: %s", error)
            return False

    def close(self) -> None:
        """Close the socket."""
        self.socket.close(linger=0)


def read_allowed(path: Path) -> dict[str, str]:
    """Return the keys of an allow-list with their names. Raises InputError at a line that is no key."""
    check_private(path, "file", "600")
    listed: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split(None, 1)
        if (
            not words or words[0] == "#"
        ):  # a key may hold and even begin with a '#', so a comment needs its space
            continue
        if len(words[0]) != 40:
            raise InputError(f"Line {number} of {path} does not begin with a public key of 40 characters.")
        listed[words[0]] = words[1].strip() if len(words) > 1 else "unnamed"
    return listed


def allow(path: Path, key: str, name: str) -> None:
    """Add a client to the list, or give one on it another name; a running server heeds it at once.

    Raises:
        InputError: the name is not one line of text, or the list is damaged.
    """
    if not name.isprintable() or not name.strip():
        raise InputError(f"{name!r} is no name for a client.", "Use one line of text.")
    listed = read_allowed(path) if path.exists() else {}
    _write_allowed(path, {**listed, key: name.strip()})


def disallow(path: Path, which: str) -> list[str]:
    """Take clients of this key or name off the list; returns their names. Raises InputError."""
    listed = read_allowed(path) if path.exists() else {}
    gone = {key: name for key, name in listed.items() if which in (key, name)}
    if gone:
        _write_allowed(path, {key: name for key, name in listed.items() if key not in gone})
    return list(gone.values())


def _write_allowed(path: Path, listed: dict[str, str]) -> None:
    lines = [f"{key} {name}" for key, name in listed.items()]
    write_private_text(path, "\n".join(["# public keys that are let in, each with a name", *lines, ""]))


def check_endpoint(endpoint: str, allow_remote: bool, listed: int) -> None:
    """Refuse an endpoint that other machines reach, unless that was asked for and someone is on the list.

    Raises:
        InputError: no tcp address, or beyond loopback without the flag or with an empty list.
    """
    host, _ = check_address(endpoint)
    if _loopback(host):
        return
    if not allow_remote:
        raise InputError(
            f"{endpoint} can be reached from other machines.", "Listen on 127.0.0.1, or pass --allow-remote."
        )
    if not listed:
        raise InputError(
            f"Nobody but this user could connect to {endpoint}.",
            "Let other machines in first: platelight pair allow KEY NAME.",
        )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, even localhost, may resolve to anything
