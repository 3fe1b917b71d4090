"""``platelight train speed``: how fast pictures are made on a device, and what that moves through memory."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from platelight.images.atomic import atomic_path
from platelight.training.fast import SHARES, Pool, Shapes
from platelight.training.pictures import Batch, Generator
from platelight.training.supply import Ingredients, make_generator, pick_device


class Traffic(TorchDispatchMode):  # type: ignore[misc,unused-ignore]
    """Counts operations, and the bytes that they would read and write if none were fused."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations, self.bytes = 0, 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.is_view:
            return result
        self.operations += 1
        for leaf in tree_leaves((args, kwargs, result)):
            if isinstance(leaf, Tensor):
                # A broadcast axis (stride 0) is read once.
                count = 1
                for extent, stride in zip(leaf.shape, leaf.stride(), strict=True):
                    count *= extent if stride else 1
                self.bytes += count * leaf.element_size()
        return result


def estimate(generator: Generator, count: int) -> dict[str, float]:
    """Operations, and megabytes a picture, of one batch; families in their shares, groups as on a GPU."""
    source = generator.source
    shapes = source.source if isinstance(source, Pool) else source
    assert isinstance(shapes, Shapes)
    total_bytes = total_operations = 0.0
    held = {k: v for k, v in SHARES.items() if k in shapes.names}
    with torch.no_grad(), generator.device:
        for name, share in held.items():
            with Traffic() as traffic:
                shapes.view(name, count, generator.size, generator.generator)
            total_bytes += share / sum(held.values()) * traffic.bytes / count
            total_operations += share / sum(held.values()) * traffic.operations
    reuse = source.reuse if isinstance(source, Pool) else 1
    if isinstance(source, Pool):
        source.owed = -float(count)  # no new view: what is counted is paint, light and camera
    with Traffic() as traffic:
        generator.batch(count)
    return {
        "view_mb": round(total_bytes / 1e6, 1),
        "operations_a_group": round(total_operations),
        "picture_mb": round(traffic.bytes / count / 1e6, 1),
        "operations_a_batch": traffic.operations,
        "reuse": reuse,
    }


def sheet(batch: Batch, path: Path, columns: int = 8) -> None:
    """Pictures above their normals, as a PNG."""
    shown = min(len(batch.plate), columns * 4)
    plate = (batch.plate[:shown].clamp(0, 1).cpu() ** (1 / 2.2)).permute(0, 2, 3, 1).numpy()
    normal = (
        ((batch.surface.normal[:shown] * 0.5 + 0.5) * batch.matte[:shown]).cpu().permute(0, 2, 3, 1).numpy()
    )
    tiles = np.concatenate([plate, normal], 1)
    blank = np.zeros_like(tiles[:1]).repeat(-shown % columns, 0)
    tiles = np.concatenate([tiles, blank])
    rows = [np.concatenate(list(tiles[k : k + columns]), 1) for k in range(0, len(tiles), columns)]
    pixels = (np.concatenate(rows, 0)[..., ::-1] * 255).round().astype(np.uint8)
    with atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), pixels)


def speed(made_of: Ingredients, options: Namespace, seconds: float, picture: Path | None) -> dict[str, Any]:
    """Pictures a second over ``seconds``, after one batch that is not counted; fresh views a second by family."""
    device = pick_device(options.device)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    generator = make_generator(made_of, options.size, options.seed, device)

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    first = generator.batch(options.batch)
    if picture is not None:
        sheet(first, picture)
    began, made = clock(), 0
    work = time.process_time()
    while (now := clock()) - began < seconds:
        generator.batch(options.batch)
        made += options.batch
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "pictures_per_s": round(made / (now - began), 2),
        "pictures_per_cpu_s": round(made / max(time.process_time() - work, 1e-6), 2),
        "size": options.size,
        "batch": options.batch,
    }
    source = generator.source
    if not isinstance(source, Pool) or not isinstance(source.source, Shapes):
        return result
    shapes, each = source.source, {}
    for name in shapes.names:
        count = shapes.group
        with torch.no_grad(), device:
            shapes.view(name, count, options.size, generator.generator)
            began, work = clock(), time.process_time()
            shapes.view(name, count, options.size, generator.generator)
            took = clock() - began if device.type == "cuda" else time.process_time() - work
        each[name] = round(count / max(took, 1e-9), 2)
    result |= {"fresh_views_per_s": each, "reuse": source.reuse}
    if device.type == "cpu":
        result |= estimate(generator, 4)
    return result
