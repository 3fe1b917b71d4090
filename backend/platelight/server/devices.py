"""What a worker computes on: a set of processor cores, an accelerator by its index, or the best that is found."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from platelight.protocol.errors import InputError

log = logging.getLogger(__name__)
AUTO = "auto"
_PLAIN = re.compile(r"(cpu|mps|cuda(:\d+)?|[a-z]+)")
_CORES = re.compile(r"cpu:\d+(-\d+)?(\+\d+(-\d+)?)*")


@dataclass(frozen=True)
class Device:
    """One device: ``name`` as it was asked for, ``torch`` as the pipeline knows it, and its cores, if a set."""

    name: str
    torch: str
    cores: frozenset[int] = frozenset()


def parse_devices(names: Sequence[str]) -> tuple[Device, ...]:
    """Return devices of ``auto``, ``cpu``, ``cpu:0-3``, ``cpu:0-1+4-5``, ``cuda``, ``cuda:1`` or ``mps``, each once.

    Raises:
        InputError: a name that is none of these, one that is named twice, or sets of cores that overlap.
    """
    devices = tuple(_parse(name) for name in names)
    if len({device.name for device in devices}) != len(devices):
        raise InputError("A device is named twice.", "Name each device once: a worker has it for itself.")
    taken: set[int] = set()
    for device in devices:
        if taken & device.cores:
            raise InputError(
                f"The cores of '{device.name}' are in another device's set too.", "Give each worker its own."
            )
        taken |= device.cores
    return devices


def _parse(name: str) -> Device:
    if _CORES.fullmatch(name):
        cores = set()
        for span in name.removeprefix("cpu:").split("+"):
            first, _, last = span.partition("-")
            cores |= set(range(int(first), int(last or first) + 1))
        return Device(name, "cpu", frozenset(cores))
    if _PLAIN.fullmatch(name):
        return Device(name, name)
    raise InputError(f"'{name}' is no device.", "Write auto, cpu, cpu:0-3, cuda, cuda:1 or mps.")


def found(device: Device) -> Device:
    """What ``auto`` is on this machine: a GPU that torch can compute on, else the processor; any other device as it is.

    For a worker's own process: torch is imported, which the server does without.
    """
    if device.name != AUTO:
        return device
    import torch

    for name, there in (("cuda", torch.cuda.is_available), ("mps", torch.backends.mps.is_available)):
        if not there():
            continue
        try:
            (torch.ones(1, device=name) + 1.0).item()
        except RuntimeError as error:  # a GPU that this PyTorch has no code for, say
            log.warning("the %s device is passed over: %s", name, str(error).partition("\n")[0])
        else:
            return Device(name, name)
    return Device("cpu", "cpu")


def pin(device: Device) -> int | None:
    """Keep this process to the device's cores; returns how many there are, None where it has no set.

    Raises:
        InputError: the machine has no such core, or the platform cannot pin.
    """
    if not device.cores:
        return None
    try:
        os.sched_setaffinity(0, device.cores)
        kept = os.sched_getaffinity(0)
    except (AttributeError, OSError, ValueError) as error:
        raise InputError(
            f"The device {device.name} cannot be had: {error}.", "Name cores that this machine has."
        ) from error
    return len(kept)
