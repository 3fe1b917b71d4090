"""Damage headers, conversations and EXR files at random: ``python tests/wire/fuzz.py [--headers N] [--sequences N] [--exrs N]``.

The suite runs each for a few seconds; without options this runs them at full size (1,000,000, 10,000 and 1,000).
Anything that is neither read nor refused with a sentence ends the program with exit code 1.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import toys
from conftest import Server
from platelight.protocol import messages as m
from platelight.protocol.errors import MalformedMessage, PlatelightError
from platelight.protocol.frames import chunks, describe, pack, unpack_from_client, unpack_from_server
from platelight.protocol.requests import Decompose
from platelight.protocol.version import SUPPORTED_VERSIONS
from test_abuse import Peer, answers
from test_frames import FROM_CLIENT, FROM_SERVER, HASH


def damaged(rng: random.Random, data: bytes, most: int = 4) -> bytes:
    """Return bytes with one to ``most`` of them replaced, cut out or doubled."""
    mutant = bytearray(data)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(mutant))
        action = rng.randrange(3)
        if action == 0:
            mutant[at] = rng.randrange(256)
        elif action == 1:
            mutant[at : at + rng.randint(1, 4)] = b""
        else:
            mutant[at:at] = mutant[at : at + rng.randint(1, 4)]
        mutant = mutant or bytearray(b"\x00")
    return bytes(mutant)


def headers(count: int, seed: int = 1) -> Counter[str]:
    """Damage headers of all kinds; each is read or refused as malformed, by either side. Anything else raises."""
    rng = random.Random(seed)
    whole = [m.encode(one) for one in [*FROM_CLIENT, *FROM_SERVER, m.Chunk(HASH, 0)]]
    seen: Counter[str] = Counter()
    for _ in range(count):
        header = damaged(rng, rng.choice(whole))
        for unpack in (unpack_from_client, unpack_from_server):
            try:
                message, _ = unpack([header])
            except MalformedMessage:
                seen["refused"] += 1
            else:
                seen["read"] += 1
                if m.encode(message) not in whole:
                    seen["read as another message"] += 1
    return seen


def sequences(server: Server, count: int, seed: int = 2) -> Counter[str]:
    """Hold damaged conversations with a live server, which must answer after each and serve at the end.

    Messages are flipped, cut, doubled, swapped, left out, sent twice or out of order.
    """
    rng = random.Random(seed)
    plate = np.random.default_rng(seed).random((16, 400, 3), dtype=np.float32)
    plane = describe("plate", plate)
    piece, data = next(chunks(plane))
    script = [
        [bytes(frame) for frame in frames]
        for frames in (
            pack(m.Hello(SUPPORTED_VERSIONS, "peer", ("mmap", "raw"))),
            pack(m.Submit(1, Decompose(fov=toys.DOUBLE), (plane.info,))),
            pack(m.Place(plane.info.hash)),
            pack(m.Filled(plane.info.hash)),
            pack(piece, data),
            pack(m.Watch(2, plane.info.hash)),
            pack(m.Fetch(plane.info.hash, plane.info.hash, 0)),
            pack(m.Locate(plane.info.hash, plane.info.hash)),
            pack(m.Cancel(plane.info.hash)),
            pack(m.Ask(3)),
        )
    ]
    seen: Counter[str] = Counter()
    peer = Peer(server)
    for number in range(count):
        order = list(script)
        if rng.random() < 0.3:
            rng.shuffle(order)
        for frames in order:
            mutant = list(frames)
            action = rng.randrange(8)
            if action == 0:
                index = rng.randrange(len(mutant))
                mutant[index] = damaged(rng, mutant[index])
            elif action == 1:
                mutant.append(mutant[-1])
            elif action == 2:
                mutant.reverse()
            elif action == 3:
                continue
            elif action == 4:
                peer.socket.send_multipart(mutant)  # and once more below
            peer.socket.send_multipart(mutant)
        seen["conversations"] += 1
        if not answers(peer, 10_000 + number):
            raise AssertionError(f"no answer after conversation {number}: {server.log[-2000:]}")
    peer.close()
    assert server.process is not None
    if server.process.poll() is not None or "could not be handled" in server.log:
        raise AssertionError(server.log[-4000:])
    with server.client() as client:
        result = client.run(Decompose(fov=toys.DOUBLE), {"plate": plate + 1}, timeout=60)
    np.testing.assert_array_equal(result.planes["plate_twice"], (plate + 1) * 2)
    return seen


# ---- EXR files

_READER = """
import resource, sys
from platelight import images
from platelight.protocol.errors import PlatelightError
resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
print("ready", flush=True)
for line in sys.stdin:
    try:
        plate = images.read_plate(line.strip(), "linear")
        print("read", plate.pixels.shape, hash(plate.pixels.tobytes()), flush=True)
    except PlatelightError as error:
        print("refused" if error.exit_code == 2 else "failed", error.sentence, flush=True)
"""


def exr_files(folder: Path, count: int, seed: int = 3) -> Iterator[tuple[str, Path, bool]]:
    """Yield damaged files of every compression: its name, the file, and whether it was cut short."""
    import OpenEXR

    rng = random.Random(seed)
    noise = np.random.default_rng(seed).random((40, 50), dtype=np.float32)
    whole = {}
    for name in ("NO", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "DWAA"):
        header = {"type": OpenEXR.scanlineimage, "compression": getattr(OpenEXR, f"{name}_COMPRESSION")}
        path = folder / f"{name}.exr"
        OpenEXR.File(header, {leaf: noise * (index + 1) for index, leaf in enumerate("RGB")}).write(str(path))
        whole[name] = path.read_bytes()
    for number in range(count):
        name = rng.choice(list(whole))
        cut = rng.random() < 0.25
        data = whole[name]
        path = folder / f"{number}.exr"
        path.write_bytes(data[: rng.randrange(8, len(data))] if cut else damaged(rng, data, 8))
        yield name, path, cut


def exrs(folder: Path, count: int, seed: int = 3) -> Counter[str]:
    """Read damaged EXR files in a process of limited memory; it must neither crash nor hang, nor take a cut file."""
    seen: Counter[str] = Counter()
    child = _reader()
    for name, path, cut in exr_files(folder, count, seed):
        assert child.stdin is not None
        assert child.stdout is not None
        began = time.monotonic()
        child.stdin.write(f"{path}\n")
        child.stdin.flush()
        answer = child.stdout.readline().split()
        path.unlink()
        kind = answer[0] if answer else "crashed"
        seen[kind] += 1
        if time.monotonic() - began > 20:
            seen["hung"] += 1
        if kind == "read" and cut:
            seen[f"cut short and read ({name})"] += 1
        if not answer:
            child = _reader()
    child.kill()
    return seen


def _reader() -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", _READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def main() -> int:
    """Entry."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--headers", type=int, default=1_000_000)
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--exrs", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            if options.headers:
                print("headers", dict(headers(options.headers, options.seed)), flush=True)
            if options.sequences:
                server = Server(Path(folder)).start()
                print("sequences", dict(sequences(server, options.sequences, options.seed)), flush=True)
                server.stop()
            if options.exrs:
                seen = exrs(Path(folder), options.exrs, options.seed)
                print("EXR files", dict(seen), flush=True)
                if set(seen) - {"read", "refused"}:
                    return 1
    except (AssertionError, PlatelightError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
