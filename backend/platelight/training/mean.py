"""``platelight train mean``: the mean of two versions of a network's weights.

A network trained further from another stays near it, and between the two is often better than either on pictures
unlike those it was trained on (Wortsman et al. 2022, robust fine-tuning of zero-shot models, equation 1).
"""

from __future__ import annotations

from pathlib import Path

import torch

from platelight.models import registry
from platelight.protocol.errors import InputError


def mean(name: str, old: Path, new: Path, share: float, out: Path) -> Path:
    """Publish (1 - share) of the weights in folder ``old`` and ``share`` of those in ``new``; returns the file.

    Raises:
        InputError: a network is missing or altered, or the share is no share.
    """
    if not 0.0 <= share <= 1.0:
        raise InputError(f"{share:g} is no share of a mean.", "Give --share from 0 to 1.")
    notes = registry.describe(name, new).notes
    origins = [registry.describe(name, folder).sha256[:12] for folder in (old, new)]
    network, later = (registry.load(name, folder=folder) for folder in (old, new))
    state, latest = network.state_dict(), later.state_dict()
    with torch.no_grad():
        for key, value in state.items():
            value.lerp_(latest[key], share) if value.is_floating_point() else value.copy_(latest[key])
    told = {key: value for key, value in notes.items() if key not in {"format", "network"}}
    out.mkdir(parents=True, exist_ok=True)
    return registry.publish(
        name, network, out, {**told, "mean": f"{origins[0]} and {share:g} of {origins[1]}"}
    )
