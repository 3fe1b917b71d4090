"""Bring your own weights: what another decomposer must offer, and an adapter for the Marigold pipelines of diffusers.

A :class:`Decomposer` is any object with a ``name``, a set of ``quantities`` and a method ``decompose``. It is given a
plate as the pipeline has it (linear Rec.709, before any normalization) and answers in the project's conventions:

=========== ============= ==========================================================================================
normal      (N, 3, H, W)  unit length, camera space: +X right, +Y up, +Z towards the camera
albedo      (N, 3, H, W)  linear Rec.709 in [0, 1]: of the diffuse part, so that metals are dark
roughness   (N, 1, H, W)  perceptual, in [0.05, 1]
f0          (N, 1, H, W)  reflectivity at normal incidence, in [0.01, 1]
=========== ============= ==========================================================================================

Quantities that it does not offer stay None and come from the project's own networks. Marigold's weights (prs-eth,
Apache-2.0 or OpenRAIL, see each model's card) are read from a folder or from diffusers' cache, as safetensors only;
nothing is fetched unless ``fetch`` says so.

Source: Ke et al., "Marigold: Affordable Adaptation of Diffusion-Based Image Generators for Image Analysis", 2025.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from platelight.models.networks import exposure_of, luminance
from platelight.protocol.errors import InputError

DIELECTRIC = 0.04


class Quantity(StrEnum):
    """What a decomposer may tell."""

    NORMAL = "normal"
    ALBEDO = "albedo"
    ROUGHNESS = "roughness"
    F0 = "f0"


@dataclass(frozen=True)
class Maps:
    """Maps of N plates in the conventions of this module; None where the decomposer has no opinion."""

    normal: Tensor | None = None
    albedo: Tensor | None = None
    roughness: Tensor | None = None
    f0: Tensor | None = None

    def over(self, other: Maps) -> Maps:
        """These maps where there are any, else the other's."""
        return replace(other, **{q.value: v for q in Quantity if (v := getattr(self, q.value)) is not None})


@runtime_checkable
class Decomposer(Protocol):
    """Anything that takes plates apart."""

    @property
    def name(self) -> str:
        """What reports call it, with its version or folder."""
        ...

    @property
    def quantities(self) -> frozenset[Quantity]:
        """Which maps ``decompose`` fills."""
        ...

    def decompose(self, plate: Tensor, matte: Tensor) -> Maps:
        """plate (N, 3, H, W) linear Rec.709, matte (N, 1, H, W) in [0, 1] -> maps on the plate's device."""
        ...


def checked(maps: Maps, decomposer: Decomposer, plate: Tensor) -> Maps:
    """The maps, if they keep this module's conventions; what a program from outside gives is not taken on trust.

    Raises:
        InputError: a promised map is missing, or one has another shape, range or length, or is not finite.
    """
    n, _, height, width = plate.shape
    ranges = {
        "normal": (3, -1.0, 1.0),
        "albedo": (3, 0.0, 1.0),
        "roughness": (1, 0.05, 1.0),
        "f0": (1, 0.01, 1.0),
    }
    for quantity, (channels, low, high) in ranges.items():
        value = getattr(maps, quantity)
        if value is None:
            if Quantity(quantity) in decomposer.quantities:
                raise InputError(f"{decomposer.name} gave no {quantity}.", "Use another version of it.")
            continue
        wrong = ""
        if tuple(value.shape) != (n, channels, height, width):
            wrong = f"has shape {tuple(value.shape)}"
        elif not bool(torch.isfinite(value).all()):
            wrong = "holds numbers that are not finite"
        elif float(value.min()) < low - 1e-3 or float(value.max()) > high + 1e-3:
            wrong = f"leaves the range {low:g} to {high:g}"
        elif quantity == "normal" and float((value.norm(dim=1) - 1).abs().max()) > 1e-2:
            wrong = "is not of unit length"
        if wrong:
            raise InputError(f"The {quantity} of {decomposer.name} {wrong}.", "Use another version of it.")
    return maps


def to_display(plate: Tensor, matte: Tensor) -> Tensor:
    """The sRGB-encoded picture in [0, 1] that a network for photographs expects, at a usual exposure."""
    linear = (plate * exposure_of(plate, matte)).clamp(0, 1)
    return torch.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp_min(1e-8) ** (1 / 2.4) - 0.055
    )


def from_display(encoded: Tensor) -> Tensor:
    """sRGB-encoded [0, 1] -> linear."""
    low = encoded.clamp(0, 1)
    return torch.where(low <= 0.04045, low / 12.92, ((low + 0.055) / 1.055) ** 2.4)


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError as error:
        raise InputError("Marigold needs diffusers.", "Install platelight[marigold].") from error
    return diffusers


@dataclass(frozen=True)
class MarigoldSettings:
    """``steps`` of denoising, ``ensemble`` predictions averaged, longest side in pixels (0: the plate's), ``seed``."""

    steps: int = 4
    ensemble: int = 1
    resolution: int = 768
    seed: int = 1


class _Marigold:
    """What both adapters share. ``pipeline`` is a loaded pipeline of diffusers."""

    KIND = ""

    def __init__(self, pipeline: Any, settings: MarigoldSettings | None = None, source: str = "") -> None:
        self.pipeline, self.settings = pipeline, settings or MarigoldSettings()
        self.source = source
        self.pipeline.set_progress_bar_config(disable=True)

    @classmethod
    def load(
        cls,
        where: str,
        device: torch.device | str = "cpu",
        settings: MarigoldSettings | None = None,
        fetch: bool = False,
    ) -> Any:
        """Read a pipeline from a folder or diffusers' cache (with ``fetch``, from the network).

        Raises:
            InputError: diffusers is not installed, or there is no such pipeline.
        """
        kind = getattr(_diffusers(), cls.KIND)
        half = torch.device(device).type == "cuda"
        try:
            pipeline = kind.from_pretrained(
                where,
                use_safetensors=True,
                local_files_only=not fetch,
                torch_dtype=torch.float16 if half else torch.float32,
            )
        except (OSError, ValueError) as error:
            raise InputError(
                f"{where} holds no {cls.KIND} as safetensors.",
                "Give the folder of the model, or let it be fetched once.",
            ) from error
        return cls(pipeline.to(device), settings, where)

    @property
    def name(self) -> str:
        return f"{type(self).__name__} {self.source}".strip()

    def _predict(self, plate: Tensor, matte: Tensor) -> Tensor:
        """The pipeline's answer for one plate (1, 3, H, W): (targets, 3, H, W) float32 on the plate's device."""
        device = self.pipeline.device
        s = self.settings
        with torch.no_grad():
            answer = self.pipeline(
                to_display(plate, matte).to(device),
                num_inference_steps=s.steps,
                ensemble_size=s.ensemble,
                processing_resolution=s.resolution,
                match_input_resolution=True,
                generator=torch.Generator(device).manual_seed(s.seed),
                output_type="pt",
            )
        found: Tensor = answer.prediction.float().to(plate.device)
        return found


class MarigoldNormals(_Marigold):
    """``MarigoldNormalsPipeline`` (prs-eth/marigold-normals-v1-1): its axes are the project's own."""

    KIND = "MarigoldNormalsPipeline"
    quantities = frozenset({Quantity.NORMAL})

    def decompose(self, plate: Tensor, matte: Tensor) -> Maps:
        """See :class:`Decomposer`."""
        each = [self._predict(plate[k : k + 1], matte[k : k + 1]) for k in range(len(plate))]
        toward = plate.new_tensor([0.0, 0.0, 1e-4]).view(1, 3, 1, 1)
        return Maps(normal=F.normalize(torch.cat(each) + toward, dim=1))


class MarigoldAppearance(_Marigold):
    """``MarigoldIntrinsicsPipeline`` for appearance (prs-eth/marigold-iid-appearance-v1-1): albedo, roughness, metal.

    Its albedo is a base color: the diffuse part of it is what is no metal, and a metal reflects its base color.
    """

    KIND = "MarigoldIntrinsicsPipeline"
    quantities = frozenset({Quantity.ALBEDO, Quantity.ROUGHNESS, Quantity.F0})
    STACK = ("roughness", "metallicity", None)

    def _targets(self) -> tuple[int, int, tuple[str | None, ...], bool]:
        """Which prediction is the albedo and which holds the material, the material's channels, sRGB albedo or linear."""
        properties = self.pipeline.target_properties or {}
        names = list(properties.get("target_names", ("albedo", "material")))
        held = [k for k, name in enumerate(names) if properties.get(name, {}).get("sub_target_names")]
        material = held[0] if held else 1
        stack = properties.get(names[material], {}).get("sub_target_names", ())
        channels = (
            tuple(stack) if properties else self.STACK
        )  # a pipeline without description has Marigold's own
        if "albedo" not in names or "roughness" not in channels or "metallicity" not in channels:
            raise InputError(
                f"{self.source or 'The pipeline'} predicts {', '.join(names)}, not albedo, roughness and metallicity.",
                "Give Marigold's IID appearance model.",
            )
        encoded = properties.get("albedo", {}).get("prediction_space", "srgb") == "srgb"
        return names.index("albedo"), material, channels, encoded

    def decompose(self, plate: Tensor, matte: Tensor) -> Maps:
        """See :class:`Decomposer`."""
        first, second, channels, encoded = self._targets()
        each = torch.stack([self._predict(plate[k : k + 1], matte[k : k + 1]) for k in range(len(plate))])
        base = from_display(each[:, first]) if encoded else each[:, first].clamp(0, 1)
        where = {name: each[:, second, k : k + 1].clamp(0, 1) for k, name in enumerate(channels)}
        roughness, metal = where["roughness"], where["metallicity"]
        f0 = torch.lerp(torch.full_like(metal, DIELECTRIC), luminance(base), metal)
        return Maps(albedo=base * (1 - metal), roughness=roughness.clamp(0.05, 1), f0=f0.clamp(0.01, 1))


ADAPTERS: dict[str, type[_Marigold]] = {
    "marigold-normals": MarigoldNormals,
    "marigold-appearance": MarigoldAppearance,
}


def open_decomposer(spec: str, device: torch.device | str = "cpu", fetch: bool = False) -> Decomposer:
    """``ADAPTER=FOLDER``, such as ``marigold-normals=models/marigold-normals-v1-1`` -> the decomposer.

    Raises:
        InputError: there is no such adapter or folder.
    """
    kind, _, where = spec.partition("=")
    if kind not in ADAPTERS or not where:
        raise InputError(
            f"{spec} names no decomposer.", f"Give one of {', '.join(ADAPTERS)}, then = and its folder."
        )
    opened: Decomposer = ADAPTERS[kind].load(where, device, fetch=fetch)
    return opened
