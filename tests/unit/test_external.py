"""Decomposers from outside: what they give is checked, and Marigold's pipelines speak the project's conventions."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from platelight.models.external import (
    Decomposer,
    Maps,
    MarigoldAppearance,
    MarigoldNormals,
    MarigoldSettings,
    Quantity,
    checked,
    from_display,
    open_decomposer,
    to_display,
)
from platelight.protocol.errors import InputError

H, W = 32, 48
CPU = torch.device("cpu")
APPEARANCE = {
    "target_names": ["albedo", "material"],
    "albedo": {"prediction_space": "srgb"},
    "material": {"prediction_space": "stack", "sub_target_names": ["roughness", "metallicity", None]},
}


def plate() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, H, W, generator=g) * 4, torch.ones(2, 1, H, W)


@dataclass
class Answering:
    """In a pipeline's place: gives what it was made with, and remembers what it was shown."""

    answer: torch.Tensor
    target_properties: dict[str, Any] | None = None
    device: torch.device = CPU
    shown: torch.Tensor | None = None

    def set_progress_bar_config(self, **options: object) -> None:
        pass

    def __call__(self, image: torch.Tensor, **options: object) -> SimpleNamespace:
        self.shown = image
        return SimpleNamespace(prediction=self.answer)


def test_display_and_back() -> None:
    linear = torch.linspace(0, 1, 50).view(1, 1, 5, 10).expand(1, 3, -1, -1)
    shown = to_display(linear * 7, torch.ones(1, 1, 5, 10))
    back = from_display(shown)
    seen = back < 0.999  # what is overexposed is lost
    torch.testing.assert_close(back[seen], (linear * 0.5)[seen], atol=2e-3, rtol=1e-2)
    assert float(shown.max()) <= 1.0


def test_normals_are_taken_as_they_are() -> None:
    given = torch.nn.functional.normalize(torch.randn(1, 3, H, W), dim=1)
    pipeline = Answering(given * 0.98)
    adapter = MarigoldNormals(pipeline)
    assert isinstance(adapter, Decomposer)
    picture, matte = plate()
    maps = checked(adapter.decompose(picture, matte), adapter, picture)
    assert maps.normal is not None
    torch.testing.assert_close(maps.normal, given.expand(2, -1, -1, -1), atol=1e-3, rtol=0)
    assert pipeline.shown is not None
    assert float(pipeline.shown.max()) <= 1.0


def test_metals_become_dark_albedo_and_bright_f0() -> None:
    answer = torch.zeros(2, 3, H, W)
    answer[0] = 0.8
    answer[1, 0], answer[1, 1, :, : W // 2] = 0.6, 1.0  # the left half is metal
    adapter = MarigoldAppearance(Answering(answer, APPEARANCE))
    picture, matte = plate()
    maps = checked(adapter.decompose(picture, matte), adapter, picture)
    assert maps.albedo is not None
    assert maps.f0 is not None
    assert maps.roughness is not None
    base = float(from_display(torch.tensor(0.8)))
    assert float(maps.albedo[..., : W // 2].max()) == 0.0
    assert float(maps.albedo[..., W // 2 :].mean()) == pytest.approx(base, abs=1e-4)
    assert float(maps.f0[..., : W // 2].mean()) == pytest.approx(base, abs=1e-4)
    assert float(maps.f0[..., W // 2 :].mean()) == pytest.approx(0.04, abs=1e-5)
    assert float(maps.roughness.mean()) == pytest.approx(0.6, abs=1e-5)


def test_a_model_of_lighting_is_refused() -> None:
    properties = {"target_names": ["albedo", "shading", "residual"]}
    adapter = MarigoldAppearance(Answering(torch.zeros(3, 3, H, W), properties), source="here")
    with pytest.raises(InputError, match="here predicts albedo, shading, residual"):
        adapter.decompose(*plate())


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        (Maps(), "gave no normal"),
        (Maps(normal=torch.ones(2, 3, H, W)), "is not of unit length"),
        (Maps(normal=torch.full((2, 3, H, W), float("nan"))), "not finite"),
        (Maps(normal=torch.zeros(2, 3, H, H)), "has shape"),
        (Maps(normal=torch.full((2, 3, H, W), 3.0)), "leaves the range"),
    ],
)
def test_what_breaks_the_conventions_is_refused(maps: Maps, words: str) -> None:
    adapter = MarigoldNormals(Answering(torch.zeros(1)))
    with pytest.raises(InputError, match=words):
        checked(maps, adapter, plate()[0])


def test_maps_are_filled_up_from_others() -> None:
    one, two = torch.ones(1), torch.zeros(1)
    mixed = Maps(normal=one).over(Maps(normal=two, albedo=two))
    assert mixed.normal is one
    assert mixed.albedo is two
    assert mixed.f0 is None
    assert {q.value for q in Quantity} == {"normal", "albedo", "roughness", "f0"}


@pytest.mark.parametrize("spec", ["marigold-normals", "other=folder", "marigold-normals="])
def test_names_that_are_none_are_told(spec: str) -> None:
    with pytest.raises(InputError, match="names no decomposer"):
        open_decomposer(spec)


def tiny(kind: str, targets: int, **config: object) -> Any:
    """A pipeline of random weights from tiny configurations; nothing is fetched."""
    for package in ("diffusers", "transformers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs platelight[marigold]: {package} is not installed")
    import diffusers

    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, sample_size=32, in_channels=4 + 4 * targets,
        out_channels=4 * targets, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=32,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=[32, 64], in_channels=3, out_channels=3, latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(
        prediction_type="v_prediction", set_alpha_to_one=False, steps_offset=1, clip_sample=False
    )
    pipeline = getattr(diffusers, kind)(
        unet=unet, vae=vae, scheduler=scheduler, text_encoder=None, tokenizer=None, **config
    )
    pipeline.empty_text_embedding = torch.zeros(1, 2, 32)  # what the text encoder says of nothing
    return pipeline


@pytest.mark.slow
def test_marigolds_own_pipelines_run() -> None:
    settings = MarigoldSettings(steps=1, resolution=32)
    picture, matte = plate()
    normals = MarigoldNormals(tiny("MarigoldNormalsPipeline", 1, prediction_type="normals"), settings)
    first = checked(normals.decompose(picture, matte), normals, picture)
    again = normals.decompose(picture, matte)
    assert first.normal is not None
    assert torch.equal(first.normal, again.normal)  # type: ignore[arg-type]
    pipeline = tiny(
        "MarigoldIntrinsicsPipeline", 2, prediction_type="intrinsics", target_properties=APPEARANCE
    )
    appearance = MarigoldAppearance(pipeline, settings)
    maps = checked(appearance.decompose(picture, matte), appearance, picture)
    assert maps.albedo is not None
    assert float(maps.albedo.std()) > 1e-3


@pytest.mark.slow
def test_a_folder_that_holds_no_model_is_told(tmp_path: Path) -> None:
    if importlib.util.find_spec("diffusers") is None:
        with pytest.raises(InputError, match=r"platelight\[marigold\]"):
            open_decomposer(f"marigold-normals={tmp_path}")
        return
    with pytest.raises(InputError, match="holds no MarigoldNormalsPipeline"):
        open_decomposer(f"marigold-normals={tmp_path}")
