"""Which precision networks run in is told with its reason, and is the one that is used."""

from __future__ import annotations

import pytest
import torch
from platelight.models import precision
from platelight.models.encoder import Depthwise


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


def test_depthwise_gradients_are_of_the_same_convolution() -> None:
    """In bfloat16 they are found apart, in float32: the same sums, for every stride and kernel that the encoder has."""
    torch.manual_seed(0)
    for kernel, stride in ((3, 1), (3, 2), (5, 1), (5, 2)):
        layer = Depthwise(24, kernel, stride)
        x = torch.randn(2, 24, 16, 12)
        found = []
        for half in (False, True):
            given = x.clone().requires_grad_()
            layer.weight.grad = None
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                answer = layer(given)
            assert answer.dtype == (torch.bfloat16 if half else torch.float32)
            answer.float().square().sum().backward()
            assert given.grad is not None
            assert layer.weight.grad is not None
            found.append((given.grad, layer.weight.grad))
        for exact, rounded in zip(*found, strict=True):
            assert rounded.dtype == torch.float32
            assert float((rounded - exact).norm() / exact.norm()) < 0.01


def test_float32_can_be_asked_for() -> None:
    device = torch.device("cpu")
    own = precision.has_bf16(device)
    precision.only_float32()
    try:
        assert not precision.has_bf16(device)
        with precision.half_precision(device):
            assert not torch.is_autocast_enabled("cpu")
    finally:
        precision.only_float32(False)
    assert precision.has_bf16(device) == own
