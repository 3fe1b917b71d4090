"""Decoding in a small process of its own: a file that crashes its decoder, or fills the memory, costs its frame only.

Within :func:`decoding_apart` pictures are decoded by children of this process, which are kept from file to file. A child
has limits of memory and processor time (:mod:`.apart_child`); pixels come back in a file without a name that is mapped,
not copied. Headers are read here, after a child has read the same without harm. Windows has none of this: there files
are decoded in this process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from platelight.protocol.errors import InputError

log = logging.getLogger(__name__)

POSSIBLE = os.name == "posix" and hasattr(socket, "send_fds")
MESSAGE_BYTES = 1 << 20

Arrays = list[dict[str, npt.NDArray[Any]]]


class Child:
    """One decoding process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        command = [sys.executable, "-m", "platelight.images.apart_child", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),), start_new_session=True,  # Ctrl-C is the parent's to handle
            )  # fmt: skip
        self._socket = ours

    def decode(self, kind: str, path: str) -> Arrays:
        """Arrays of each part of a file.

        Raises:
            InputError: as its decoder says, or because the child died of the file; it is of no further use then.
        """
        try:
            self._socket.sendall(json.dumps([kind, os.fsencode(path).hex()]).encode() + b"\n")
            answer, file = self._receive()
        except OSError as error:
            log.debug("decoding %s: %s", path, error)
            answer, file = None, None
        if answer is None:
            raise self._epitaph(path)
        if file is None:
            raise InputError(answer["sentence"], answer["remedy"])
        try:
            return _mapped(file, answer["parts"])
        finally:
            os.close(file)

    @property
    def alive(self) -> bool:
        """Whether it can decode another file."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def _receive(self) -> tuple[dict[str, Any] | None, int | None]:
        """The child's next answer, and the file of pixels with it; no answer when it died."""
        data, files = b"", list[int]()
        while not data.endswith(b"\n"):
            more, sent, _, _ = socket.recv_fds(self._socket, MESSAGE_BYTES, 1)
            files += sent
            if not more:
                for file in files:
                    os.close(file)
                return None, None
            data += more
        return json.loads(data), (files[0] if files else None)

    def _epitaph(self, path: str) -> InputError:
        """Why it died, as the file's fault."""
        self._socket.close()
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:  # it closed its socket and lives on
            self._process.kill()
            code = self._process.wait()
        if code == -getattr(signal, "SIGXCPU", 0):
            return InputError(f"{path} takes too long to decode.", "Render or export it again.")
        if code == -signal.SIGKILL:
            return InputError(
                f"{path} could not be decoded: its decoder was killed, as when memory runs out.",
                "Free some memory, or give a smaller file.",
            )
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return InputError(
            f"{path} is damaged: it crashes its decoder ({name}).", "Render or export it again."
        )


def _mapped(file: int, parts: list[dict[str, Any]]) -> Arrays:
    """The arrays that a child wrote, in private pages of its file."""
    if os.fstat(file).st_size == 0:
        return [{} for _ in parts]
    pages = mmap.mmap(file, 0, access=mmap.ACCESS_COPY)
    return [
        {
            name: np.frombuffer(pages, kind, math.prod(shape), offset).reshape(shape)
            for name, (kind, shape, offset) in part.items()
        }
        for part in parts
    ]


class Pool:
    """Children, one for each thread that decodes at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Child] = [Child()]  # it starts while the parent has other things to load

    def decode(self, kind: str, path: str) -> Arrays:
        """As :meth:`Child.decode`; the next file gets another child where this one dies."""
        with self._lock:
            child = self._idle.pop() if self._idle else None
        child = child if child is not None and child.alive else Child()
        try:
            return child.decode(kind, path)
        finally:
            if child.alive:
                with self._lock:
                    self._idle.append(child)

    def close(self) -> None:
        """End all children; none may be at work."""
        while self._idle:
            self._idle.pop().close()


_pool: Pool | None = None


def active() -> Pool | None:
    """The children, within :func:`decoding_apart`."""
    return _pool


@contextlib.contextmanager
def decoding_apart() -> Iterator[None]:
    """Decode pictures in children while this lasts, in all threads. Nested ones do nothing."""
    global _pool
    if not POSSIBLE or _pool is not None:
        yield
        return
    pool = _pool = Pool()
    try:
        yield
    finally:
        _pool = None
        pool.close()
