"""The only door to the code that the extension shares with the backend.

``build_addon.py`` rewrites the imports below to the vendored copy; nothing else in the extension names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from platelight import __version__ as version
from platelight.protocol import errors, requests
from platelight.shading import principled

if TYPE_CHECKING:
    from platelight.client import Client

AccessDenied = errors.AccessDenied
Cancelled = errors.Cancelled
ConnectionFailed = errors.ConnectionFailed
InputError = errors.InputError
JobFailed = errors.JobFailed
PlatelightError = errors.PlatelightError
Decompose = requests.Decompose
Refine = requests.Refine
Relight = requests.Relight
Option = requests.Option
options_of = requests.options_of
principled_from_f0 = principled.principled_from_f0


def connect(endpoint: str) -> Client:
    """A client of the backend at ``endpoint``, or of the local one if empty; use it from one thread.

    Raises:
        PlatelightError: as ``platelight.client`` says.
    """
    from platelight.client import Client  # ZeroMQ loads with the first job, not with Blender

    return Client(endpoint or None)


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


__all__ = [
    "AccessDenied",
    "Cancelled",
    "ConnectionFailed",
    "Decompose",
    "InputError",
    "JobFailed",
    "Option",
    "PlatelightError",
    "Refine",
    "Relight",
    "connect",
    "local_endpoint",
    "options_of",
    "principled_from_f0",
    "version",
]
