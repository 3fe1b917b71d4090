"""Checkpoints: network, average, optimizer and counters, in one file or in parts small enough for any transport."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from platelight.images.atomic import write_bytes
from platelight.protocol.errors import InputError

PART = 15 * 2**20  # bytes: many stores and mails take files of up to 16 MiB
NAME = re.compile(r"checkpoint-(\d+)\.(\d+)of(\d+)\.part")
_SHORT = {"avg": torch.float16, "exp_avg": torch.bfloat16, "exp_avg_sq": torch.bfloat16}


class Checkpoint:
    """A run's state in its folder.

    Whole: ``checkpoint.safetensors`` and ``state.json``. Split: ``checkpoint-STEP.KofN.part`` of at most ``PART``
    bytes each, whose concatenation is such a file with the state in its header; averages are kept in fp16 and the
    optimizer's moments in bf16 there, which halves it. What is read is whichever is newer.
    """

    def __init__(self, folder: Path, split: bool = False) -> None:
        self.folder, self.split = folder, split
        self.tensors, self.state = folder / "checkpoint.safetensors", folder / "state.json"

    def save(
        self,
        network: nn.Module,
        average: dict[str, Tensor],
        optimizer: torch.optim.Optimizer,
        state: dict[str, Any],
        beside: dict[str, nn.Module],
    ) -> None:
        """Write everything; ``beside`` are modules that learn with the network (a critic, a head)."""

        def plain(value: Any, short: str = "") -> Tensor:
            tensor = torch.as_tensor(value).detach().cpu()
            if self.split and short in _SHORT and tensor.is_floating_point():
                tensor = tensor.to(_SHORT[short])
            return tensor.contiguous().clone()

        tensors = {f"net.{k}": plain(v) for k, v in network.state_dict().items()}
        tensors |= {f"avg.{k}": plain(v, "avg") for k, v in average.items()}
        for name, module in beside.items():
            tensors |= {f"mod.{name}.{k}": plain(v) for k, v in module.state_dict().items()}
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"opt.{index}.{k}": plain(v, k) for k, v in values.items()}
        data = save(tensors, metadata={"state": json.dumps(state)})
        if not self.split:
            write_bytes(self.tensors, data)
            write_bytes(self.state, json.dumps(state).encode())
            return
        count = -(-len(data) // PART)
        step = int(state["step"])
        written = set()
        for k in range(count):
            path = self.folder / f"checkpoint-{step}.{k + 1}of{count}.part"
            write_bytes(path, data[k * PART : (k + 1) * PART])
            written.add(path)
        for old in self.folder.glob("checkpoint-*.part"):
            if old not in written:
                old.unlink()

    def _read(self) -> bytes | None:
        found: dict[tuple[int, int], dict[int, Path]] = {}
        for path in self.folder.glob("checkpoint-*.part"):
            if match := NAME.fullmatch(path.name):
                step, k, count = map(int, match.groups())
                found.setdefault((step, count), {})[k] = path
        whole = {key: parts for key, parts in found.items() if len(parts) == key[1]}
        if found and not whole:
            raise InputError(
                f"{self.folder} lacks parts of its checkpoint.",
                "Bring all files checkpoint-*.part, or remove them to start anew.",
            )
        best = max(whole, default=None)
        if self.tensors.is_file():
            state = json.loads(self.state.read_text()) if self.state.is_file() else {}
            if best is None or int(state.get("step", 0)) > best[0]:
                return self.tensors.read_bytes()
        if best is None:
            return None
        return b"".join(whole[best][k + 1].read_bytes() for k in range(best[1]))

    def counters(self) -> dict[str, Any]:
        """The state alone; an empty dict where there is nothing."""
        data = self._read()
        return {} if data is None else self._state(data)

    def _state(self, data: bytes) -> dict[str, Any]:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        text = header.get("__metadata__", {}).get("state")
        if text is None:  # written by an earlier version
            if not self.state.is_file():
                return {}
            text = self.state.read_text()
        state: dict[str, Any] = json.loads(text)
        return state

    def load(
        self,
        network: nn.Module,
        average: dict[str, Tensor],
        optimizer: torch.optim.Optimizer,
        beside: dict[str, nn.Module],
    ) -> dict[str, Any]:
        """Restore everything; an empty dict where there is nothing to restore.

        Raises:
            InputError: it is damaged, or of another network.
        """
        data = self._read()
        if data is None:
            return {}
        try:
            tensors = load(data)
            state = self._state(data)
            network.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
        except Exception as error:
            raise InputError(
                f"The checkpoint in {self.folder} is damaged or of another network ({type(error).__name__}).",
                "Remove it, or resume it with the version that wrote it.",
            ) from error
        for key, value in average.items():
            value.copy_(tensors[f"avg.{key}"])
        for name, module in beside.items():
            kept = {
                k.removeprefix(f"mod.{name}."): v for k, v in tensors.items() if k.startswith(f"mod.{name}.")
            }
            with contextlib.suppress(RuntimeError):  # an earlier version kept none, or another shape
                module.load_state_dict(kept)
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("opt."):
                _, index, name = key.split(".")
                slots.setdefault(int(index), {})[name] = value.float()
        optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
        return state
