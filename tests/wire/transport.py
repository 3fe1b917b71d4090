"""A 4K frame from process to process by bare sockets and by ZeroMQ: ``python tests/wire/transport.py``, for CURVE.

CURVE is measured with the libsodium of pyzmq's wheel and with the system's, where there is one, as Platelight takes it. In one
message each end waits for the other: the whole frame is encrypted, then sent, then decrypted, in memory that is new each
time. In chunks both ends work at once, in memory that is used again, and what bounds them is one core's cipher.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import zmq

MIB = 2**20
SHAPE = (2160, 3840, 3)
TOTAL = 2160 * 3840 * 3 * 2  # bytes of a 4K RGB half frame
FRAMES = 6


def best(work: Callable[[], object], times: int = FRAMES - 1) -> float:
    """Seconds of the fastest of some runs."""
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return min(spent)


def _send_tcp(port: int) -> None:
    data = memoryview(bytes(TOTAL))
    with socket.create_connection(("127.0.0.1", port)) as one:
        for _ in range(FRAMES):
            one.recv(1)
            one.sendall(data)


def raw_tcp() -> float:
    """Seconds of a frame over a bare socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = multiprocessing.Process(target=_send_tcp, args=(server.getsockname()[1],))
        child.start()
        peer, _ = server.accept()
        buffer = memoryview(bytearray(TOTAL))

        def receive() -> None:
            peer.send(b"x")
            got = 0
            while got < TOTAL:
                got += peer.recv_into(buffer[got:])

        receive()
        spent = best(receive)
        peer.close()
        child.join()
    return spent


def _send_zmq(endpoint: str, chunk: int, keys: tuple[bytes, bytes, bytes] | None) -> None:
    context = zmq.Context()
    one = context.socket(zmq.DEALER)
    if keys is not None:
        one.curve_serverkey, one.curve_publickey, one.curve_secretkey = keys
    one.connect(endpoint)
    data = memoryview(bytes(TOTAL))
    pieces = [data[start : start + chunk] for start in range(0, TOTAL, chunk)]
    one.send(b"ready")
    for _ in range(FRAMES):
        waiting = iter(pieces)
        for piece in waiting:
            one.recv()  # one credit a chunk
            one.send_multipart([b"x" * 100, piece], copy=False)
    one.recv()
    context.destroy(linger=0)


def zmq_frame(chunk: int, curve: bool) -> float:
    """Seconds of a frame in chunks of a size, under a credit of eight."""
    context = zmq.Context()
    server = context.socket(zmq.ROUTER)
    keys = None
    if curve:
        public, secret = zmq.curve_keypair()
        server.curve_server = True
        server.curve_secretkey = secret
        keys = (public, *zmq.curve_keypair())
    port = server.bind_to_random_port("tcp://127.0.0.1")
    child = multiprocessing.Process(target=_send_zmq, args=(f"tcp://127.0.0.1:{port}", chunk, keys))
    child.start()
    identity, _ = server.recv_multipart()
    count = -(-TOTAL // chunk)
    buffer = memoryview(bytearray(TOTAL))

    def receive() -> None:
        asked = min(8, count)
        for _ in range(asked):
            server.send_multipart([identity, b""])
        for number in range(count):
            body = server.recv_multipart(copy=False)[2].buffer
            if asked < count:
                asked += 1
                server.send_multipart([identity, b""])
            buffer[number * chunk : number * chunk + len(body)] = body

    receive()
    spent = best(receive)
    server.send_multipart([identity, b""])
    child.join()
    context.destroy(linger=0)
    return spent


def cipher(library: ctypes.CDLL, size: int = MIB) -> float:
    """Bytes that a libsodium encrypts as CURVE does (XSalsa20 with Poly1305) in a second of one core: the best of some runs."""
    message, out = ctypes.create_string_buffer(size), ctypes.create_string_buffer(size + 64)
    spent = []
    for _ in range(15):
        began = time.process_time()  # others on the machine do not matter
        library.crypto_secretbox_easy(out, message, ctypes.c_ulonglong(size), bytes(24), bytes(32))
        spent.append(time.process_time() - began)
    return size / min(spent)


def _libsodium() -> str:
    """The libsodium that ZeroMQ uses in this process: the first that was loaded."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").split()
    found = dict.fromkeys(word for word in maps if "libsodium" in word)
    return next((path for path in found if "pyzmq" not in path), next(iter(found)))


def _measure() -> None:
    path = _libsodium()
    library = ctypes.CDLL(path)
    library.sodium_init()  # as ZeroMQ does; until then it takes no code for this processor
    library.sodium_version_string.restype = ctypes.c_char_p
    figures = {"version": library.sodium_version_string().decode(), "cipher": cipher(library)}
    for name, chunk in (("one message", TOTAL), ("chunks", MIB)):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        figures[name] = TOTAL / zmq_frame(chunk, True)
        figures[f"{name}, new pages"] = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / FRAMES
    print(json.dumps(figures))


def curve(systems: bool) -> dict[str, float | str] | None:
    """Bytes a second by CURVE, and of one core's cipher; None where the system has no libsodium (or is not Linux)."""
    prefer = (
        "from platelight.resources import prefer_systems_libsodium as p; assert p(), 'none'; "
        if systems
        else ""
    )
    code = f"import sys; sys.path[:0] = {sys.path!r}; {prefer}import transport; transport._measure()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if systems and "AssertionError: none" in done.stderr:
        return None
    assert done.returncode == 0, done.stderr
    figures: dict[str, float | str] = json.loads(done.stdout)
    return figures


def show_curve(show: Callable[[str, float, str], float]) -> None:
    """CURVE with either libsodium."""
    for systems, name in ((False, "pyzmq's libsodium"), (True, "the system's libsodium")):
        if (figures := curve(systems)) is None:
            continue
        bound, one, chunks = (float(figures[key]) for key in ("cipher", "one message", "chunks"))
        kind = f"{name}, {figures['version']}"
        show(f"one core's cipher, {kind}", bound / MIB, "MiB/s")
        for key, value in (("one message", one), ("chunks", chunks)):
            show(f"CURVE, {key}, {kind}", value / MIB, "MiB/s")
            show(
                f"CURVE, {key}, {kind}: receiver's new pages a frame", float(figures[f"{key}, new pages"]), ""
            )
        show(f"CURVE chunked / one core's cipher, {kind}", chunks / bound, "x")
        show(f"CURVE chunked / one message (>= 2.5), {kind}", chunks / one, "x")


if __name__ == "__main__":
    show_curve(lambda name, value, unit: print(f"{name:80} {value:10.2f} {unit}", flush=True) or value)
