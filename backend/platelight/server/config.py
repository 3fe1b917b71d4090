"""What a server is started with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import platelight
from platelight import __version__
from platelight.client.keys import config_dir
from platelight.protocol.messages import Limits

DEFAULT_JOB = "platelight.pipeline.service:run_job"
DEFAULT_ENDPOINT = "tcp://127.0.0.1:5599"


@dataclass(frozen=True)
class ServeConfig:
    """Options of a server.

    Args:
        endpoint: where to listen; port 0 takes any free one. Beyond loopback only with ``allow_remote``.
        device: what the worker computes on: ``cpu`` or ``cuda``; ``cuda:1`` for a certain one.
        threads: threads a worker may use; None leaves it to the pipeline.
        store: folder of jobs and planes; None is ``store`` in the config folder.
        connection_file: where endpoint and public key are told to local clients; None is the config folder's.
        job: dotted name ``module:function`` of what workers run.
        allow_remote: permit an address that other machines can reach.
        spares: ready workers kept beside the busy one, so that a lost one is replaced at once.
        quota_bytes: room for planes; results are evicted oldest first, never those of waiting or running jobs.
        ttl_seconds: how long results are kept after last use.
        job_seconds: wall-clock limit of one job.
        max_queue: jobs waiting at once, after which the answer is ``busy``.
        max_jobs_per_client: unfinished jobs of one key, after which the answer to that key is ``busy``.
        worker_memory: bytes of resident memory at which a worker is stopped; None sets no limit.
    """

    endpoint: str = DEFAULT_ENDPOINT
    device: str = "cpu"
    threads: int | None = None
    store: Path | None = None
    connection_file: Path | None = None
    job: str = DEFAULT_JOB
    allow_remote: bool = False
    spares: int = 0
    quota_bytes: int = 20 * 1024**3
    ttl_seconds: float = 7 * 86400.0
    job_seconds: float = 3600.0
    max_queue: int = 64
    max_jobs_per_client: int = 32
    worker_memory: int | None = None
    limits: Limits = field(default_factory=Limits)

    @property
    def store_folder(self) -> Path:
        """The folder of jobs and planes."""
        return self.store if self.store is not None else config_dir() / "store"


def model_version() -> str:
    """Return a version that changes with the package, its code or its weights; part of every job's key.

    Torch is not needed: the files are hashed as they lie.
    """
    root = Path(platelight.__file__).parent
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".json", ".safetensors", ".tflite", ".npz") and path.is_file():
            digest.update(str(path.relative_to(root)).encode())
            digest.update(path.read_bytes())
    return f"{__version__}+{digest.hexdigest()}"
