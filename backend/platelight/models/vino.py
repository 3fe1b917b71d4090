"""Networks in OpenVINO: converted once, kept on disk, compiled for any size of picture when a precision is first asked for."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from platelight.models import encoder, unet
from platelight.shading.store import default_folder


@functools.cache
def _openvino() -> Any:
    # Where this one is installed, OpenVINO tells its maker of each import and conversion. A studio's machines tell nobody.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@functools.cache
def _core() -> Any:
    return _openvino().Core()


def _file(name: str) -> Path:
    """Where a piece is kept: the name ends in a hash of the code it was converted from and OpenVINO's version."""
    digest = hashlib.blake2b(_openvino().get_version().encode(), digest_size=8)
    for module in (encoder, unet):
        digest.update(Path(str(module.__file__)).read_bytes())
    return default_folder().parent / "networks" / f"{name}-{digest.hexdigest()}.xml"


def _model(piece: nn.Module, example: tuple[Tensor, ...], name: str) -> Any:
    file = _file(name)
    if file.is_file():
        with contextlib.suppress(RuntimeError):  # damaged: made again
            return _core().read_model(file)
    with warnings.catch_warnings(), torch.no_grad(), torch.autocast("cpu", enabled=False):
        warnings.simplefilter("ignore")  # of tracing: sizes are read from tensors, not frozen
        model = _openvino().convert_model(piece, example_input=example)
    with contextlib.suppress(OSError, RuntimeError):  # a cache never stops a job
        _keep(model, file)
        return _core().read_model(file)  # which rounds as the next process will: layers come in another order
    return model


def _keep(model: Any, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        made = Path(folder) / file.name
        _openvino().save_model(model, made, compress_to_fp16=False)
        # The text last: where it is, the numbers are too. Names tell content, so that two writers write the same.
        for suffix in (".bin", ".xml"):
            os.replace(made.with_suffix(suffix), file.with_suffix(suffix))


def converted(
    piece: nn.Module, example: tuple[Tensor, ...], name: str, exact: bool = False
) -> Callable[..., list[Tensor]]:
    """A module of tensors ``(N, C, H, W)`` on the processor, for any N, H and W: a list of float32 tensors.

    Under autocast it reckons in bfloat16, unless ``exact``. Thread-safe, one call at a time: each takes all of torch's threads.
    ``example`` are arguments to trace it with; ``name`` is that of the file it is kept in, and must tell its weights.
    """
    model, lock = _model(piece, example, name), Lock()

    @functools.cache
    def compiled(kind: str, threads: int) -> Any:
        # Unpinned: workers share a machine, and the system knows better which core is free.
        options = {"INFERENCE_PRECISION_HINT": kind, "INFERENCE_NUM_THREADS": threads,
                   "PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}  # fmt: skip
        return _core().compile_model(model, "CPU", options)

    def run(*given: Tensor) -> list[Tensor]:
        kind = "bf16" if torch.is_autocast_enabled("cpu") and not exact else "f32"
        arrays = [tensor.float().contiguous().numpy() for tensor in given]
        with lock:
            network = compiled(kind, torch.get_num_threads())
            answer = network(arrays, share_inputs=True, share_outputs=False)
            return [torch.from_numpy(answer[i]) for i in range(len(network.outputs))]

    return run
