"""The only door to the code that the extension shares with the backend.

``build_addon.py`` rewrites the imports below to the vendored copy; nothing else in the extension names it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from platelight import __version__ as version
from platelight.commands import options, tracks
from platelight.pipeline import neutral
from platelight.protocol import errors, frames, lamps, requests
from platelight.shading import principled

if TYPE_CHECKING:
    from types import ModuleType

    from platelight.client import Client
    from platelight.commands.records import Ledger

AccessDenied = errors.AccessDenied
Cancelled = errors.Cancelled
ConnectionFailed = errors.ConnectionFailed
InputError = errors.InputError
JobFailed = errors.JobFailed
NoSubjectError = errors.NoSubjectError
without_subject = neutral.without_subject
Lamp = lamps.Lamp
MOST_LAMPS = lamps.MOST
MOST_LIGHTS = requests.MOST_LIGHTS
Place = requests.Place
Plane = frames.Plane
PlatelightError = errors.PlatelightError
Parser = options.Parser
add_batch = options.add_batch
add_relight = options.add_relight
positive = options.positive
read_tracks = tracks.read_tracks
Decompose = requests.Decompose
Refine = requests.Refine
Relight = requests.Relight
Option = requests.Option
describe = frames.describe
light_planes = requests.light_planes
maps_of = requests.maps_of
options_of = requests.options_of
principled_from_f0 = principled.principled_from_f0


def connect(endpoint: str) -> Client:
    """A client of the backend at ``endpoint``, or of the local one if empty; use it from one thread.

    Raises:
        PlatelightError: as ``platelight.client`` says.
    """
    from platelight.client import Client  # ZeroMQ loads with the first job, not with Blender

    return Client(endpoint or None)


def sequences() -> ModuleType:
    """What PLATE means on a command line: ``platelight.images.sequence``, which the interface does not need."""
    from platelight.images import sequence

    return sequence


def ledger(folder: Path, command: str, settings: dict[str, Any]) -> Ledger:
    """The records by which a batch knows what is done."""
    from platelight.commands.records import Ledger

    return Ledger(folder, command, settings)


def local_endpoint() -> str:
    """Where the local backend last said that it listens, or "" if it never did.

    Raises:
        PlatelightError: its connection file is damaged or open to others.
    """
    from platelight.client import read_connection

    try:
        return read_connection().endpoint
    except ConnectionFailed:
        return ""


def this_machine() -> str:
    """The name of this computer."""
    from platelight.client import processes

    return processes.this_machine()


def lives(pid: int) -> bool:
    """Whether a process of this user's runs on this computer."""
    from platelight.client import processes

    return processes.lives(pid)


def public_key() -> str:
    """This computer's public key, which a server elsewhere has to know; the pair is made at first need.

    Raises:
        PlatelightError: the key files are damaged or open to others.
    """
    from platelight.client import keys

    return keys.load_or_make_keys().public


def trusted_key(endpoint: str) -> str:
    """The public key that is kept of the server at ``endpoint``, "" if none is.

    Raises:
        PlatelightError: the file of keys is damaged or open to others.
    """
    from platelight.client import keys

    return keys.known_servers().get(endpoint, "")


def trust(endpoint: str, key: str) -> None:
    """Keep a server's public key, in place of an earlier one.

    Raises:
        PlatelightError: no address, no key, or the file cannot be kept.
    """
    from platelight.client import keys

    keys.check_address(endpoint)
    keys.remember_server(endpoint, keys.check_key(key))


def distrust(endpoint: str) -> bool:
    """Forget a server's public key; False when none was kept."""
    from platelight.client import keys

    return keys.forget_server(endpoint)


__all__ = [
    "MOST_LAMPS",
    "AccessDenied",
    "Cancelled",
    "ConnectionFailed",
    "Decompose",
    "InputError",
    "JobFailed",
    "Lamp",
    "NoSubjectError",
    "Option",
    "Parser",
    "Plane",
    "PlatelightError",
    "Refine",
    "Relight",
    "add_batch",
    "add_relight",
    "connect",
    "describe",
    "distrust",
    "ledger",
    "lives",
    "local_endpoint",
    "options_of",
    "positive",
    "principled_from_f0",
    "public_key",
    "read_tracks",
    "sequences",
    "this_machine",
    "trust",
    "trusted_key",
    "version",
    "without_subject",
]
