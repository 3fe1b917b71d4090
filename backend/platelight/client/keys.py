"""Key pairs and connection files in the user's config folder: the folder 0700, the files 0600, refused when looser.

The folder is ``PLATELIGHT_CONFIG_DIR`` where set, else the platform's usual place. The few lines that find it
stand here because Blender's Python has no ``platformdirs``.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import struct
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import zmq
from zmq.utils import z85

from platelight.client.processes import lives, this_machine
from platelight.client.samehost import is_loopback
from platelight.protocol.errors import ConnectionFailed, InputError, InsecureKeys

CLIENT_KEY = "client.key.json"
SERVER_KEY = "server.key.json"
CONNECTION = "server.json"
KNOWN_SERVERS = "known_servers.json"


@dataclass(frozen=True)
class KeyPair:
    """A CURVE key pair as z85 text. The secret half stays out of ``repr`` so that no log shows it."""

    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class ConnectionInfo:
    """Where a server listens, the public key it must prove to own, its process and its machine ("": not told)."""

    endpoint: str
    server_key: str
    pid: int = 0
    host: str = ""

    @property
    def elsewhere(self) -> bool:
        """True when the server listens on another machine's loopback address: the file is in a home that both have."""
        # A laptop's name changes with its network, but not who runs on it.
        return self.host not in ("", this_machine()) and is_loopback(self.endpoint) and not lives(self.pid)

    @property
    def runs(self) -> bool:
        """True when the server's process is on this machine and something listens where it does."""
        if self.host != this_machine() or not lives(self.pid):
            return False
        try:
            with socket.create_connection(check_address(self.endpoint), 0.5):
                return True
        except (OSError, InputError):
            return False


def config_dir() -> Path:
    """Return the folder of keys and connection files; nothing is made."""
    override = os.environ.get("PLATELIGHT_CONFIG_DIR")
    if override:
        return Path(override)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home() / "AppData" / "Local"))) / "platelight"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "platelight"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "platelight"


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner can enter, or check that it is one. Raises InsecureKeys."""
    if not path.exists():
        path.mkdir(parents=True, mode=0o700, exist_ok=True)
    check_private(path, "folder", "700")
    return path


def check_private(path: Path, kind: str, mode: str) -> None:
    """Refuse a file or folder that others can read. Raises InsecureKeys with the command that mends it."""
    if os.name != "posix":
        return  # Windows profiles are private to their user by access lists, which these bits do not show
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise InsecureKeys(f"The {kind} {path} belongs to another user.", "Use a folder of your own.")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise InsecureKeys(f"The {kind} {path} can be read by others.", f"Run: chmod {mode} '{path}'")


def write_private(path: Path, content: dict[str, Any]) -> None:
    """Write JSON to a 0600 file in a 0700 folder, complete or not at all."""
    write_private_text(path, json.dumps(content, indent=1))


def write_private_text(path: Path, text: str) -> None:
    """Write text to a 0600 file in a 0700 folder, complete or not at all."""
    private_folder(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def read_private(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file that only its owner can read.

    Raises:
        FileNotFoundError: there is none.
        InsecureKeys: others can read it or its folder, or it holds something else.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    check_private(path.parent, "folder", "700")
    check_private(path, "file", "600")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InsecureKeys(f"The file {path} is damaged: {error}.", "Remove it; it is made anew.") from error
    if not isinstance(content, dict):
        raise InsecureKeys(f"The file {path} is damaged.", "Remove it; it is made anew.")
    return content


def load_or_make_keys(name: str = CLIENT_KEY, folder: Path | None = None) -> KeyPair:
    """Return the key pair of this name in the config folder; make it at first start.

    Two programs that start at once end with the same pair: the first file to arrive wins.
    """
    path = (folder or config_dir()) / name
    if not path.exists():
        public, secret = zmq.curve_keypair()
        _write_once(path, asdict(KeyPair(public.decode("ascii"), secret.decode("ascii"))))
    content = read_private(path)
    try:
        pair = KeyPair(str(content["public"]), str(content["secret"]))
        matches = zmq.curve_public(pair.secret.encode("ascii")).decode("ascii") == pair.public
    except (KeyError, ValueError, zmq.ZMQError) as error:
        raise InsecureKeys(f"The file {path} holds no key pair.", "Remove it; it is made anew.") from error
    if not matches:
        raise InsecureKeys(f"The halves of the key pair in {path} differ.", "Remove it; it is made anew.")
    return pair


def _write_once(path: Path, content: dict[str, Any]) -> None:
    staged = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    write_private(staged, content)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(staged, path)  # unlike a rename, a link never replaces what another process made
    finally:
        staged.unlink()


def connection_file() -> Path:
    """Return the path where a local server tells its endpoint and public key."""
    return config_dir() / CONNECTION


def write_connection(info: ConnectionInfo, path: Path | None = None) -> Path:
    """Write a server's connection file and return its path."""
    path = path or connection_file()
    write_private(path, asdict(info))
    return path


def read_connection(path: Path | None = None) -> ConnectionInfo:
    """Return what a local server wrote.

    Raises:
        ConnectionFailed: none has, or one of another machine whose home this is too.
        InsecureKeys: the file is damaged or open to others.
    """
    path = path or connection_file()
    try:
        content = read_private(path)
    except FileNotFoundError as error:
        raise ConnectionFailed(
            f"No server has written a connection file at {path}.", "Start one with: platelight serve"
        ) from error
    try:
        info = ConnectionInfo(
            str(content["endpoint"]),
            str(content["server_key"]),
            int(content.get("pid", 0)),
            str(content.get("host", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InsecureKeys(f"The file {path} is no connection file.", "Start the server again.") from error
    if info.elsewhere:
        raise ConnectionFailed(
            f"The connection file {path} is that of a server on {info.host}.",
            "Start one here with: platelight serve",
        )
    return info


def remember_server(endpoint: str, server_key: str, folder: Path | None = None) -> None:
    """Keep a server's public key, so that ``--server ENDPOINT`` alone reaches it from now on."""
    path = (folder or config_dir()) / KNOWN_SERVERS
    write_private(path, {**known_servers(folder), endpoint: server_key})


def known_servers(folder: Path | None = None) -> dict[str, str]:
    """Return the public keys of remembered servers by endpoint. Raises InsecureKeys."""
    path = (folder or config_dir()) / KNOWN_SERVERS
    return {str(name): str(key) for name, key in read_private(path).items()} if path.exists() else {}


def forget_server(endpoint: str, folder: Path | None = None) -> bool:
    """Forget a server's public key; False when it was not known."""
    known = known_servers(folder)
    if known.pop(endpoint, None) is None:
        return False
    write_private((folder or config_dir()) / KNOWN_SERVERS, known)
    return True


def server_key_of(endpoint: str, folder: Path | None = None) -> str:
    """Return the public key of a server: a local one's connection file, then the servers remembered.

    Raises:
        ConnectionFailed: the endpoint is not known.
    """
    folder = folder or config_dir()
    with contextlib.suppress(ConnectionFailed):
        info = read_connection(folder / CONNECTION)
        if info.endpoint == endpoint:
            return info.server_key
    key = known_servers(folder).get(endpoint)
    if key is not None:
        return key
    raise ConnectionFailed(
        f"No server at {endpoint} is known here.",
        "Start one with 'platelight serve', or give a remote server's key: platelight pair trust ENDPOINT KEY.",
    )


def check_key(key: str) -> str:
    """Return a public key, less the ``key=`` before it and quotes around it. Raises InputError when the text is none."""
    key = key.strip().strip("'\"").removeprefix("key=")  # Windows' shell leaves what quotes it does not know
    try:
        if len(key) == 40 and len(z85.decode(key.encode("ascii"))) == 32:  # type: ignore[no-untyped-call]
            return key
    except (UnicodeEncodeError, KeyError, ValueError, struct.error):
        pass
    raise InputError(
        f"'{key}' is no public key.",
        "A key is 40 characters, as 'platelight pair' prints; quote it in a shell.",
    )


def check_address(endpoint: str) -> tuple[str, int]:
    """Return host and port of ``tcp://host:port``. Raises InputError."""
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"'{endpoint}' is no endpoint: {error}.", "Write tcp://127.0.0.1:5599.") from error
    if parts.scheme != "tcp" or host is None or port is None or parts.path:
        raise InputError(f"'{endpoint}' is no endpoint.", "Write tcp://127.0.0.1:5599.")
    return host, port
