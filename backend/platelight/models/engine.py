"""What runs the networks: PyTorch layer by layer, PyTorch compiled, or OpenVINO; which of them, and why.

An engine takes the place of a U-Net's two pieces, encoder and decoder; all else stays as it is. Each gives what PyTorch gives
within the rounding of the precision (``tests/unit/test_engine.py``), which is chosen as without it (:mod:`.precision`).
"""

from __future__ import annotations

import importlib.metadata
import logging
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from platelight.models.precision import half_precision
from platelight.models.unet import UNet
from platelight.protocol.errors import InputError
from platelight.shading import fused

LOG = logging.getLogger(__name__)
SIZE = (288, 512)
"""Rows and columns at which engines are compared: the working size of a plate of 16:9."""


class Engine(StrEnum):
    """``AUTO`` leaves the choice to :func:`choose`."""

    AUTO = "auto"
    TORCH = "torch"
    COMPILE = "compile"
    OPENVINO = "openvino"


def _version() -> str | None:
    """OpenVINO's, None where it is not installed; it is not imported."""
    try:
        return importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError:
        return None


def installed() -> bool:
    """Whether OpenVINO is."""
    return _version() is not None


def choose(wanted: Engine, device: torch.device) -> tuple[Engine, str]:
    """The engine for a device, and why in one line.

    Raises:
        InputError: the one asked for is not installed, or does not run there.
    """
    version = _version()
    if wanted is Engine.OPENVINO:
        if device.type != "cpu":
            raise InputError(f"OpenVINO is used on processors only, not on {device}.", "Use --networks auto.")
        if version is None:
            raise InputError(
                "The engine openvino needs the package openvino.",
                "Install it: pip install 'platelight[openvino]', or use --networks torch.",
            )
    if wanted is not Engine.AUTO:
        return wanted, "asked for"
    if device.type == "cuda":
        return Engine.COMPILE, "fewer kernels to start; what does not compile runs as it is"
    if device.type != "cpu":
        return Engine.TORCH, f"no other has been tried on {device.type}"
    if version is not None:
        return (
            Engine.TORCH,
            f"OpenVINO {version} is faster once loaded, but takes 640 MiB more and seconds to load",
        )
    return Engine.TORCH, "OpenVINO, for long runs, is not installed: pip install 'platelight[openvino]'"


class _Piece(nn.Module):
    """A function in the place of a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: Tensor) -> Any:
        return self.function(*given)


class _Decoder(nn.Module):
    """A U-Net's decoder as a module of tensors alone."""

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, *features: Tensor) -> Tensor:
        return self.network.decode(x, list(features))


def equip(network: UNet, engine: Engine, name: str = "network") -> None:
    """Have an engine run a network that is not trained further; ``name`` tells its weights apart from all others."""
    if engine is Engine.TORCH:
        return
    encode: Callable[..., Any]
    decode: Callable[..., Any]
    if engine is Engine.OPENVINO:
        from platelight.models.vino import converted

        x = torch.zeros(1, network.inputs, 64, 96)
        with torch.no_grad():
            features = network.encoder(x)
        # In OpenVINO's bfloat16 an encoder's deepest features drift, and all that is modulated by them by 3 %.
        encode = converted(network.encoder, (x,), f"{name}-encoder", exact=True)
        decoded = converted(_Decoder(network), (x, *features), f"{name}-decoder")

        def decode(x: Tensor, features: Sequence[Tensor]) -> Any:
            return decoded(x, *features)[0]

    else:
        # Sizes are part of what is compiled: a plate has three, and kernels of any size are slower or none.
        encode, decode = (
            fused.guarded("networks run", torch.compile(piece, dynamic=False), piece)
            for piece in (network.encoder.forward, network.decode)
        )
    network.encoder = _Piece(encode)  # type: ignore[assignment]
    vars(network)["decode"] = decode


def compared(network: Callable[[], nn.Module], engine: Engine, device: torch.device) -> tuple[float, float]:
    """Seconds that PyTorch as it is and an engine take for one pass of a network, which is made twice; least of several."""
    plain, other = network(), network()
    assert isinstance(plain, UNet)
    assert isinstance(other, UNet)
    equip(other, engine)
    x = torch.rand(1, plain.inputs, *SIZE, device=device)
    least = [float("inf"), float("inf")]
    with torch.inference_mode(), half_precision(device):
        for turn in range(6):
            for i, one in enumerate((plain, other)):
                began = time.perf_counter()
                one(x)
                if turn:  # the first is for what is made at the first call
                    least[i] = min(least[i], time.perf_counter() - began)
    return least[0], least[1]
