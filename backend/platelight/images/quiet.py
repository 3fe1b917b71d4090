"""Libraries that print instead of raising: their words are collected, not shown."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
from collections.abc import Iterator

_redirect = threading.RLock()


@contextlib.contextmanager
def aloud() -> Iterator[None]:
    """Print within this, and no other thread's :func:`collected_output` swallows it."""
    with _redirect:
        yield


@contextlib.contextmanager
def collected_output() -> Iterator[list[str]]:
    """Keep what a C++ library prints out of the terminal; yields a list that gets the text at the end.

    File descriptors belong to the whole process, so keep the block short: what other threads print during it
    is collected too.
    """
    said: list[str] = []
    printed = io.StringIO()  # some bindings print through Python
    with _redirect, tempfile.TemporaryFile() as sink, contextlib.redirect_stdout(printed):
        saved = [(number, os.dup(number)) for number in (1, 2)]
        try:
            for number, _ in saved:
                os.dup2(sink.fileno(), number)
            yield said
        finally:
            for number, copy in saved:
                os.dup2(copy, number)
                os.close(copy)
            sink.seek(0)
            if text := (sink.read(4096).decode("utf-8", "replace") + printed.getvalue()).strip():
                said.append(text)
