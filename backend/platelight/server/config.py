"""What a server is started with: the fields of a TOML file, which the command line's options override."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

import platelight
from platelight import __version__
from platelight.client.keys import config_dir
from platelight.protocol.errors import InputError
from platelight.protocol.messages import Limits
from platelight.resources import machine_memory
from platelight.server.devices import Device, parse_devices

DEFAULT_JOB = "platelight.pipeline.service:run_job"
DEFAULT_ENDPOINT = "tcp://127.0.0.1:5599"
GIB = 1024**3

Number = Annotated[int, Meta(ge=0, le=10_000)]
Positive = Annotated[int, Meta(ge=1, le=10_000)]
Span = Annotated[float, Meta(gt=0.0, le=1e9)]
Room = Annotated[float, Meta(gt=0.0, le=1e6)]


class ServeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a server.

    Args:
        endpoint: where to listen; port 0 takes any free one. Beyond loopback only with ``allow_remote``.
        devices: what workers compute on, one worker each: ``cpu``, ``cpu:0-3`` (that set of cores), ``cuda``,
            ``cuda:1``, ``mps``, or ``auto``: a GPU where torch finds one, else ``cpu``. They share one queue.
        threads: threads a worker may use; None leaves it to the pipeline, or to the size of its set of cores.
        store: folder of jobs and planes; None is ``store`` in the config folder.
        connection_file: where endpoint and public key are told to local clients; None is the config folder's.
        job: dotted name ``module:function`` of what workers run.
        allow_remote: permit an address that other machines can reach.
        spares: ready workers kept beside each device's busy one, so that a lost one is replaced at once.
        quota_gib: room for planes; results are evicted oldest first, never those of waiting or running jobs.
        client_quota_gib: room for the planes of one client's jobs, within that.
        ttl_seconds: how long results are kept after last use.
        job_seconds: wall-clock limit of one job.
        max_queue: jobs waiting at once, after which the answer is ``busy``.
        max_jobs_per_client: unfinished jobs of one key, after which the answer to that key is ``busy``.
        worker_memory_gib: resident memory at which a worker is stopped; None is nine tenths of the machine's.
        memory_gib: memory that a job may take: large plates are worked on in smaller bands, with maps in half floats; what
            does not fit is refused. None leaves it to the machine.
        engine: what runs the networks: auto, torch, compile or openvino.
        drain_seconds: how long a stop waits for running jobs before it hands them back to the store.
        log_format: text for people, or json: one object a line.
        session_seconds: silence after which a client's session, and what it was sending, is dropped.
    """

    endpoint: str = DEFAULT_ENDPOINT
    devices: Annotated[tuple[str, ...], Meta(min_length=1, max_length=32)] = ("cpu",)
    threads: Positive | None = None
    store: Path | None = None
    connection_file: Path | None = None
    job: str = DEFAULT_JOB
    allow_remote: bool = False
    spares: Number = 1
    quota_gib: Room = 20.0
    client_quota_gib: Room = 10.0
    ttl_seconds: Span = 7 * 86400.0
    job_seconds: Span = 3600.0
    max_queue: Positive = 64
    max_jobs_per_client: Positive = 32
    worker_memory_gib: Room | None = None
    memory_gib: Room | None = None
    engine: Literal["auto", "torch", "compile", "openvino"] = "auto"
    drain_seconds: Annotated[float, Meta(ge=0.0, le=86400.0)] = 0.0
    log_format: Literal["text", "json"] = "text"
    session_seconds: Annotated[float, Meta(ge=1.0, le=3600.0)] = 30.0
    limits: Limits = Limits()

    @property
    def store_folder(self) -> Path:
        """The folder of jobs and planes."""
        return self.store if self.store is not None else config_dir() / "store"

    @property
    def worker_memory(self) -> int:
        """Bytes of resident memory at which a worker is stopped."""
        if self.worker_memory_gib is not None:
            return int(self.worker_memory_gib * GIB)
        return int(0.9 * machine_memory())

    @property
    def parsed_devices(self) -> tuple[Device, ...]:
        """The devices, parsed. Raises InputError."""
        return parse_devices(self.devices)


def read_config(path: Path) -> dict[str, Any]:
    """Return the fields of a TOML file, types and ranges checked.

    Raises:
        InputError: it cannot be read, is no TOML, or has a field that is unknown or out of range.
    """
    try:
        content = msgspec.toml.decode(path.read_bytes())
        build_config(content)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no TOML file: {error}.", "See docs/deploy.md for an example.") from error
    except InputError as error:
        raise InputError(f"{path}: {error.sentence}", error.remedy) from error
    assert isinstance(content, dict)
    return content


def build_config(fields: dict[str, Any]) -> ServeConfig:
    """Return the configuration of checked fields. Raises InputError."""
    try:
        return msgspec.convert(fields, ServeConfig, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise InputError(
            f"The server's configuration cannot be used: {error}.", "See docs/deploy.md for the fields."
        ) from error


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str | Path):
        return Path(value).expanduser()
    raise TypeError(f"expected text, got {type(value).__name__}")


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
