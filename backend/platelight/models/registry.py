"""Which networks exist, where their weights are, and how they are loaded: safetensors only, verified by sha256."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from platelight.images.atomic import write_bytes
from platelight.models.networks import DiffuseNet, IllumNet, NormalNet, RenderNet, SpecularNet
from platelight.protocol.errors import InputError

NETWORKS: dict[str, type[nn.Module]] = {
    "normal": NormalNet, "illum": IllumNet, "diffuse": DiffuseNet, "specular": SpecularNet, "render": RenderNet,
}  # fmt: skip
FORMAT = "platelight-1"
SHIPPED = Path(__file__).resolve().parent.parent / "weights"


@dataclass(frozen=True)
class WeightsFile:
    """One file of weights: where it is, its sha256, and the notes that training left in its header."""

    name: str
    path: Path
    sha256: str
    notes: dict[str, str]


def digest(path: Path) -> str:
    """The sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(name: str, folder: Path | None = None) -> WeightsFile:
    """Find the weights of a network and verify them against ``manifest.json`` beside them.

    Raises:
        InputError: missing, of another format, or altered.
    """
    folder = folder or SHIPPED
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise InputError(
            f"{path} is missing: there are no weights for {name}.", "Reinstall platelight or train them."
        )
    manifest_path = folder / "manifest.json"
    found = digest(path)
    if manifest_path.is_file():
        expected = json.loads(manifest_path.read_text()).get(name)
        if expected is not None and expected != found:
            raise InputError(
                f"{path} does not match its sha256.", "Reinstall platelight: the file is damaged or altered."
            )
    with safe_open(path, framework="pt") as file:
        notes = dict(file.metadata() or {})
    if notes.get("format") != FORMAT or notes.get("network") != name:
        raise InputError(f"{path} is not a {FORMAT} file of {name}.", "Use weights made by platelight train.")
    return WeightsFile(name, path, found, notes)


def load(name: str, device: torch.device | str = "cpu", folder: Path | None = None) -> nn.Module:
    """A network in evaluation mode, float32, with its shipped (or given) weights."""
    file = describe(name, folder)
    network = NETWORKS[name]()
    with safe_open(file.path, framework="pt") as archive:
        state = {key: archive.get_tensor(key) for key in archive.keys()}  # noqa: SIM118 (not a dict)
    own = network.state_dict()
    if state.keys() != own.keys() or any(state[k].shape != own[k].shape for k in own):
        raise InputError(
            f"{file.path} does not fit this version's {name}.", "Use the weights of this version."
        )
    network.load_state_dict({k: v.to(own[k].dtype) for k, v in state.items()})
    network = network.eval().requires_grad_(False).to(device)
    return channels_last(network)


def channels_last(network: nn.Module) -> nn.Module:
    """The network with its weights laid out for channels-last pictures, which convolve faster."""
    laid: nn.Module = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return laid


def publish(name: str, network: nn.Module, folder: Path, notes: dict[str, Any]) -> Path:
    """Write fp16 weights and enter their sha256 in the folder's manifest."""
    state = {
        k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in network.state_dict().items()
    }
    path = folder / f"{name}.safetensors"
    header = {"format": FORMAT, "network": name, **{k: str(v) for k, v in notes.items()}}
    write_bytes(path, save(state, metadata=header))
    manifest_path = folder / "manifest.json"
    manifest = json.loads(manifest_path.read_text()) if manifest_path.is_file() else {}
    manifest[name] = digest(path)
    write_bytes(manifest_path, (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode())
    return path
