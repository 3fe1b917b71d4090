"""What ships is trained, verified and small: measured on a ball that is lit by formula, so no data is needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from platelight.models import registry
from platelight.models.networks import NormalNet, exposure_of
from platelight.pipeline import service
from platelight.protocol.errors import InputError

LIMIT = 36_000_000


def ball(size: int = 128) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A matte ball under one lamp and a little ambient: plate, matte, true normals."""
    c = (torch.arange(size) + 0.5) / size * 2.2 - 1.1
    x, y = c[None, :].expand(size, size), -c[:, None].expand(size, size)
    inside = x * x + y * y < 1
    z = torch.sqrt((1 - x * x - y * y).clamp_min(0))
    normal = torch.stack([x, y, z]) * inside
    light = torch.tensor([0.5, 0.6, 0.62])
    shade = (normal * light.view(3, 1, 1)).sum(0).clamp_min(0) * 0.8 + 0.15
    plate = torch.tensor([0.5, 0.42, 0.36]).view(3, 1, 1) * shade * inside
    return plate[None], inside.float()[None, None], normal[None]


def test_every_network_ships_and_matches_its_manifest() -> None:
    total = 0
    for name in registry.NETWORKS:
        file = registry.describe(name)
        total += file.path.stat().st_size
        assert int(file.notes["pictures"]) > 1000, f"{name} was hardly trained"
        assert (file.path.parent / f"{name}.md").is_file(), f"{name} has no model card"
    assert total <= LIMIT


@torch.no_grad()
def test_normals_of_a_ball() -> None:
    plate, matte, truth = ball()
    net = registry.load("normal")
    assert isinstance(net, NormalNet)
    normal = net.predict(plate * exposure_of(plate, matte), matte)
    cosine = (normal * truth).sum(1).clamp(-1, 1)[matte[:, 0] > 0]
    mean = float(torch.rad2deg(torch.acos(cosine)).mean())
    assert mean < 15, f"{mean:.1f} degrees; a flat normal is about 42 off"


def test_another_folder_of_weights_is_used_when_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    shutil.copytree(registry.SHIPPED, folder)
    network = registry.load("illum")
    with torch.no_grad():
        next(network.parameters()).mul_(1.5)
    registry.publish("illum", network, folder, {})
    service.configure(weights=folder)
    try:
        versions = service.networks().versions
        (folder / "render.safetensors").unlink()
        service.configure()
        service.configure(weights=folder)
        with pytest.raises(InputError, match=r"render\.safetensors is missing"):
            service.networks()
    finally:
        service.configure()
    shipped = service.networks().versions
    assert {name for name in shipped if shipped[name] != versions[name]} == {"illum"}
