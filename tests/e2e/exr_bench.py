"""Which compression maps are best written in: bytes and processor seconds of each, and what threads gain.

python tests/e2e/exr_bench.py MAPS.exr [--rounds 5]     # a file made by platelight decompose
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR

CHOICES = ("ZIP", "ZIPS", "PIZ", "ZSTD", "RLE", "NO")


def least(action: Any, rounds: int) -> tuple[float, float]:
    """The least processor and wall seconds of several runs."""
    found = []
    for _ in range(rounds):
        wall, own = time.perf_counter(), time.process_time()
        action()
        found.append((time.process_time() - own, time.perf_counter() - wall))
    return min(own for own, _ in found), min(wall for _, wall in found)


def main() -> None:
    """Print a table for the channels of one file, as halves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with OpenEXR.File(str(given.file), separate_channels=True) as file:
        channels = {name: np.asarray(c.pixels, np.float16) for name, c in file.channels().items()}
    size = sum(c.nbytes for c in channels.values()) / 2**20
    print(f"{len(channels)} channels in halves, {size:.0f} MiB")
    print("| compression | threads | MiB | write, s: processor, wall | read, s: processor, wall |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.exr"
        for threads in (0, 2):
            OpenEXR.set_global_thread_count(threads)
            for name in CHOICES:
                kind = getattr(OpenEXR, f"{name}_COMPRESSION", None)
                if kind is None:
                    continue
                header = {"compression": kind, "type": OpenEXR.scanlineimage}

                def write(header: dict[str, Any] = header) -> None:
                    OpenEXR.File(header, channels).write(str(path))

                def read() -> None:
                    with OpenEXR.File(str(path), separate_channels=True) as file:
                        sum(c.pixels[0, 0] for c in file.channels().values())

                written, loaded = least(write, given.rounds), least(read, given.rounds)
                print(
                    f"| {name} | {threads} | {path.stat().st_size / 2**20:.1f} "
                    f"| {written[0]:.2f}, {written[1]:.2f} | {loaded[0]:.2f}, {loaded[1]:.2f} |"
                )


if __name__ == "__main__":
    main()
