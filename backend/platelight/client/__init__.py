"""The client of a Platelight server. Needs numpy, msgspec and pyzmq only, so it runs in Blender's Python."""

from platelight.client.client import Client, Result
from platelight.client.keys import ConnectionInfo, KeyPair, config_dir, load_or_make_keys, read_connection
from platelight.protocol.frames import Plane, describe

__all__ = [
    "Client",
    "ConnectionInfo",
    "KeyPair",
    "Plane",
    "Result",
    "config_dir",
    "describe",
    "load_or_make_keys",
    "read_connection",
]
