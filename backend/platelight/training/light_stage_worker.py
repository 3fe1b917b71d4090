"""A child process of ``platelight train light-stage``: reads subjects' numbers, photographs them, answers in lines.

Blender runs here only: one that crashes takes one picture with it, and the parent starts another child.
stdin: one JSON object (the job), then a subject's number a line. stdout: one JSON object a line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def make(job: dict[str, Any], index: int, casting: Any) -> dict[str, Any]:
    """Photograph one subject and write its shard; what to tell the parent."""
    from platelight.training.light_stage_scene import photograph
    from platelight.training.light_stage_store import MAPS, Shard, Store, pack, shard_name

    clock, wall = time.process_time(), time.monotonic()
    subject = casting.draw(job["seed"], index)
    seed = int(np.random.SeedSequence([job["seed"], index]).generate_state(1)[0])
    shot = photograph(subject, job["lamps"], job["size"], job["samples"], seed, job["threads"])
    info = {
        "seed": job["seed"], "subject": index, "family": str(subject.family), "fov": subject.fov,
        "sources": list(subject.sources), "lamps": job["lamps"], "samples": job["samples"],
        "worn": str(subject.worn),
    }  # fmt: skip
    body = pack(Shard(shot.olat, {name: getattr(shot, name) for name in MAPS}, info))
    Store(job["url"]).write(shard_name(index), body)
    return {
        "done": index,
        "family": str(subject.family),
        "bytes": len(body),
        "cpu_s": round(time.process_time() - clock, 2),
        "wall_s": round(time.monotonic() - wall, 2),
    }


def main() -> int:
    """Serve the parent until it closes stdin."""
    # Blender and Cycles write to file descriptor 1 whatever Python does: the answers get a copy of it, they get 2.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    from platelight.protocol.errors import PlatelightError
    from platelight.training.light_stage_subjects import Casting

    job = json.loads(sys.stdin.readline())
    os.environ.setdefault("OMP_NUM_THREADS", str(job["threads"]))
    try:
        casting = Casting(Path(job["data"]) if job["data"] else None)
        for line in sys.stdin:
            print(json.dumps(make(job, int(line), casting)), file=answers)
    except PlatelightError as error:
        print(json.dumps({"error": str(error)}), file=answers)
        return error.exit_code
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # Blender's own exit may hang or crash after all is written
