"""Which precision networks run in is told with its reason, and is the one that is used."""

from __future__ import annotations

import pytest
import torch
from platelight.models import precision


@pytest.mark.parametrize(
    ("flags", "word"), [("flags : avx512f avx512_bf16", "bfloat16"), ("flags : avx2", "float32")]
)
def test_the_reason_is_true(flags: str, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_cpu_flags", lambda: flags)
    device = torch.device("cpu")
    told = precision.reason(device)
    assert told.startswith(f"PyTorch {torch.__version__} on cpu, {word}: this processor ")
    assert "\n" not in told
    with precision.half_precision(device):
        product = torch.ones(4, 4) @ torch.ones(4, 4)
    assert product.dtype == (torch.bfloat16 if word == "bfloat16" else torch.float32)


def test_devices_that_are_not_here_are_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "float32" in precision.reason(torch.device("mps"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert precision.reason(torch.device("cuda")).endswith("float32: this GPU is older than bfloat16")
