"""How fast a libsodium encrypts as CURVE does: ``python tests/wire/sodium.py [LIBRARY ...]``, without one pyzmq's own.

A library is tried before ``sodium_init``, when it uses plain C, and after, when it has picked code for this processor. The
second is what ZeroMQ gets, and should be the faster. Processor time, so that others on the machine do not matter.
"""

from __future__ import annotations

import ctypes
import sys
import time
from pathlib import Path

import zmq

SIZE = 2**20


def rate(library: ctypes.CDLL) -> float:
    """MiB of the cipher of CURVE (XSalsa20 with Poly1305) in a second of processor time, the best of some runs."""
    message, cipher = ctypes.create_string_buffer(SIZE), ctypes.create_string_buffer(SIZE + 64)
    best = float("inf")
    for _ in range(15):
        began = time.process_time()
        library.crypto_secretbox_easy(cipher, message, ctypes.c_ulonglong(SIZE), bytes(24), bytes(32))
        best = min(best, time.process_time() - began)
    return SIZE / 2**20 / best


def main(paths: list[str]) -> int:
    """Entry."""
    shipped = Path(zmq.__file__).parents[1] / "pyzmq.libs"
    for path in paths or map(str, shipped.glob("libsodium*")):
        library = ctypes.CDLL(path)
        plain = rate(library)
        library.sodium_init()
        print(f"{Path(path).name}: {plain:.0f} MiB/s in plain C, {rate(library):.0f} MiB/s once initialized")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
