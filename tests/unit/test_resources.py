"""What the platform tells and is told."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys
from platelight.resources import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def turn():
    for _ in range(4):
        blocks = [bytearray(3 << 20) for _ in range(8)]
        for block in blocks:
            block[::4096] = bytes(len(block[::4096]))
turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
turn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone can be told")
def test_memory_that_was_given_back_comes_again_without_new_pages() -> None:
    kept, given = (
        int(subprocess.run([sys.executable, "-c", _PROGRAM, how], capture_output=True, check=True).stdout)
        for how in ("kept", "given")
    )
    assert given > 10_000
    assert kept < given / 20
