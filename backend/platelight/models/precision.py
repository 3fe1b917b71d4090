"""Where bfloat16 is faster than float32: GPUs that multiply it, CPUs with AVX-512 BF16. Elsewhere it is ten times slower."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

import torch


@cache
def _cpu_flags() -> str:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            return next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return ""


_plain = False


def only_float32(on: bool = True) -> None:
    """Have this process run networks in float32 on any device, to measure what bfloat16 costs."""
    global _plain
    _plain = on


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 natively, and may."""
    if _plain:
        return False
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device.type == "cpu" and "avx512_bf16" in _cpu_flags()


def reason(device: torch.device) -> str:
    """Engine and precision that networks run in on a device, and why, in one line."""
    engine = f"PyTorch {torch.__version__} on {device.type}"
    if device.type == "cuda":
        able = "multiplies bfloat16 itself" if has_bf16(device) else "is older than bfloat16"
        return f"{engine}, {'bfloat16' if has_bf16(device) else 'float32'}: this GPU {able}"
    if device.type != "cpu":
        return f"{engine}, float32: bfloat16 has not been measured there"
    if has_bf16(device):
        return f"{engine}, bfloat16: this processor has AVX-512 BF16; networks end, and shading stays, in float32"
    return f"{engine}, float32: this processor lacks AVX-512 BF16, without which bfloat16 is ten times slower"


def half_precision(device: torch.device) -> AbstractContextManager[None]:
    """bfloat16 autocast where it is faster, float32 elsewhere; every network ends in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device))
