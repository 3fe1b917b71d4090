"""What the platform tells and is told."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

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


_TORCH = """
import resource, sys
from platelight.resources import prepare_torch
if sys.argv[1] == "huge":
    prepare_torch()
import torch
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.ones(16 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _huge_pages_are_for_who_asks() -> bool:
    try:
        return "[madvise]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return False


@pytest.mark.skipif(
    not _huge_pages_are_for_who_asks(), reason="this system gives huge pages to all or to none"
)
def test_torch_takes_huge_pages_where_they_were_preferred() -> None:
    plain = {k: v for k, v in os.environ.items() if k != "THP_MEM_ALLOC_ENABLE"}

    def faults(how: str, **set_by_user: str) -> int:
        command = [sys.executable, "-c", _TORCH, how]
        done = subprocess.run(command, capture_output=True, check=True, env={**plain, **set_by_user})
        return int(done.stdout)

    small = faults("small")
    assert small > 4 * (64 << 20) / 4096 * 0.9
    assert faults("huge") < small / 10
    assert faults("huge", THP_MEM_ALLOC_ENABLE="0") > small / 2


_SPINNING = """
import sys, time
from platelight.resources import prepare_torch
if sys.argv[1] == "calm":
    prepare_torch()
import torch
torch.set_num_threads(2)
some = torch.ones(1 << 17)
some.add_(1.0)
begin = time.process_time()
for _ in range(200):
    some.add_(1.0)
    time.sleep(0.002)
print(time.process_time() - begin)
"""


@pytest.mark.alone
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core: torch has no threads that wait")
def test_torchs_threads_wait_without_spinning() -> None:
    """Processor time of many small steps with pauses between them: threads that spin take a core all along."""
    plain = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")}

    def seconds(how: str, **set_by_user: str) -> float:
        command = [sys.executable, "-c", _SPINNING, how]
        done = subprocess.run(command, capture_output=True, check=True, env={**plain, **set_by_user})
        return float(done.stdout)

    spinning = seconds("as it is")
    assert seconds("calm") < 0.5 * spinning
    assert seconds("calm", OMP_WAIT_POLICY="active") > 0.5 * spinning


_BOUND = """
import zmq
from platelight.resources import prefer_systems_libsodium
print(prefer_systems_libsodium())
print(zmq.curve_keypair()[0].decode())
"""


def bindings(program: str) -> tuple[str, set[str]]:
    """What a program printed, and the libraries whose ``crypto_`` and ``sodium_`` functions libzmq was bound to."""
    environment = {**os.environ, "LD_DEBUG": "bindings", "LD_BIND_NOW": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    found = re.findall(r"binding file \S*libzmq\S* .* to (\S+) .*symbol `(?:crypto|sodium)_", done.stderr)
    return done.stdout, set(found)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="told to the dynamic linker of Linux alone")
def test_zeromq_takes_the_systems_libsodium_where_it_was_preferred() -> None:
    prefer = "from platelight.resources import prefer_systems_libsodium as p; print(p())\n"
    said, preferred = bindings(prefer + _BOUND)
    if said.startswith("None"):
        pytest.skip("this system has no libsodium")
    first, again, _ = said.splitlines()
    assert first == again
    late, shipped = bindings(_BOUND)
    assert late.startswith("None\n")
    assert len(preferred) == len(shipped) == 1
    assert preferred.isdisjoint(shipped)
    assert "libsodium.so" in preferred.pop()


_GAPS = """
import sys
from platelight.resources import give_back_large_blocks, resident_memory
if sys.argv[1] == "given":
    give_back_large_blocks()
def full(size):
    return bytearray(b"x") * size
full(24 << 20)  # by default, pieces of up to this size lie in the heap from now on
before = resident_memory()
blocks = [full(8 << 20) for _ in range(16)]
stay = [(blocks[k], full(1 << 16)) for k in range(1, 16, 2)]
del blocks
print((resident_memory() - before) >> 20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone can be told")
def test_frames_that_went_leave_no_gaps_between_those_that_stay() -> None:
    given, kept = (
        int(subprocess.run([sys.executable, "-c", _GAPS, how], capture_output=True, check=True).stdout)
        for how in ("given", "kept")
    )
    assert given < 80  # the eight that stay are 64 MiB
    assert kept > 120


def test_files_to_spare_are_counted_and_given_back() -> None:
    program = (
        "import os, resource; from platelight.resources import files_to_spare\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "print(files_to_spare(12))\n"
        "before = len(os.listdir('/proc/self/fd'))\n"
        "print(files_to_spare(64), len(os.listdir('/proc/self/fd')) == before)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout
    assert said.split() == ["True", "False", "True"]
