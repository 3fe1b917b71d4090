"""Maps under a new light: the physical render, then the refiner, then the backdrop (design section 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from platelight.images.sanitize import sanitize
from platelight.models.networks import exposure_of
from platelight.pipeline.decompose import check_cancelled, guide_of, to_image, to_tensor
from platelight.pipeline.lamps import lamp_passes
from platelight.pipeline.networks import Networks, in_passes
from platelight.pipeline.resample import guided_upsample, resize, subject_window
from platelight.pipeline.shadows import shadowed
from platelight.protocol.errors import InputError
from platelight.protocol.requests import Refine, Relight
from platelight.shading import store
from platelight.shading.environment import expose, rotate, sample
from platelight.shading.integrate import prefilter, shade, view_directions

Pixels = npt.NDArray[np.float32]
Progress = Callable[[float, str], None]
MAPS = ("foreground", "matte", "normal", "albedo", "roughness", "reflectivity")


@dataclass(frozen=True)
class Relit:
    """diffuse, specular, pbr (H, W, 3), scene-linear, not multiplied by the matte; relit (H, W, 4) premultiplied."""

    diffuse: Pixels
    specular: Pixels
    pbr: Pixels
    relit: Pixels


def check_maps(planes: dict[str, Pixels], extra: tuple[str, ...] = ()) -> dict[str, Pixels]:
    """Sanitized maps of one size, normals left signed.

    Raises:
        InputError: one is missing or differs in size.
    """
    found: dict[str, Pixels] = {}
    for name in (*MAPS, *extra):
        if name not in planes:
            raise InputError(f"The map {name} is missing.", "Give all maps of one decomposition.")
        image = planes[name]
        if image.shape[:2] != planes["matte"].shape[:2]:
            raise InputError(
                f"The map {name} has another size than the matte.", "Give all maps of one decomposition."
            )
        if name == "normal":
            found[name] = np.nan_to_num(image.astype(np.float32), posinf=0.0, neginf=0.0)
        else:
            found[name] = sanitize(image)[0]
    return found


def check_light(planes: dict[str, Pixels]) -> Pixels:
    """The target light (h, 2h, 3), sanitized."""
    light = planes.get("light")
    if light is None or light.ndim != 3 or light.shape[2] != 3 or light.shape[1] != 2 * light.shape[0]:
        raise InputError(
            "The target light is missing or not a 2:1 lat-long.",
            "Give an HDRI that is twice as wide as high.",
        )
    return sanitize(light)[0]


@torch.inference_mode()
def physical(
    maps: dict[str, Tensor], light: Tensor, fov: float, rotation: float = 0.0, exposure: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The PBR render (diffuse, specular), both (1, 3, H, W), as Cycles' Principled BSDF renders the same maps.

    The light (1, 3, h, 2h) is turned by ``rotation`` degrees and exposed by ``exposure`` stops after it was filtered,
    so that other angles and exposures need not filter it again.
    """
    turned = prefilter(light, store.default()).rotated(rotation).exposed(exposure)
    normal = maps["normal"]
    view = view_directions(normal.shape[-2], normal.shape[-1], fov).to(normal.device)[None]
    shading = shade(
        turned, normal, maps["albedo"], maps["roughness"], maps["reflectivity"], view, layered=True
    )
    return shading.diffuse, shading.specular


@torch.inference_mode()
def refined(
    networks: Networks,
    maps: dict[str, Tensor],
    diffuse: Tensor,
    specular: Tensor,
    strength: float,
    working: int,
) -> Tensor:
    """RenderNet's relit foreground (1, 3, H, W), linear, at the exposure of the physical render."""
    window = subject_window(maps["matte"])
    cut = {name: window.cut(value) for name, value in maps.items()}
    diffuse_cut, specular_cut = window.cut(diffuse), window.cut(specular)
    render = diffuse_cut + specular_cut
    plate = cut["foreground"] * exposure_of(cut["foreground"], cut["matte"])
    gain = exposure_of(render, cut["matte"])

    def correction(p: Tensor, m: Tensor, n: Tensor, a: Tensor, d: Tensor, s: Tensor) -> Tensor:
        out = networks.render.predict(p, m, n, a, d, s)
        return torch.log((out + 1e-4) / (d + s + 1e-4))

    inputs = (plate, cut["matte"], cut["normal"], cut["albedo"], diffuse_cut * gain, specular_cut * gain)
    with networks.half_precision():
        change = in_passes(correction, working, *inputs)
    size = (change.shape[-2], change.shape[-1])
    if size != tuple(plate.shape[-2:]):
        change = guided_upsample(
            change, guide_of(resize(render * gain, size)), guide_of(render * gain), resize(cut["matte"], size)
        )
    relit = render * torch.exp(strength * change)
    # Albedo has no absolute scale in a photograph, so the refiner may change contrast and colour, not exposure.
    relit = relit * (exposure_of(relit, cut["matte"]) / gain)
    return window.paste(relit, diffuse + specular)


def composited(
    foreground: Tensor, matte: Tensor, planes: dict[str, Pixels], backdrop: str, light: Tensor, fov: float
) -> Tensor:
    """Premultiplied RGBA (1, 4, H, W) over the backdrop asked for; alpha is 1 where there is one."""
    front = foreground * matte
    if backdrop == "none":
        return torch.cat([front, matte], 1)
    if backdrop == "plate":
        plate = planes.get("plate", planes["foreground"])
        # What the plate shows beside the subject: plate - alpha * foreground is exactly the backdrop's share.
        own = to_tensor(sanitize(planes["foreground"])[0], matte.device)
        behind = (to_tensor(sanitize(plate)[0], matte.device) - own * matte).clamp_min(0)
        return torch.cat([front + behind, torch.ones_like(matte)], 1)
    if backdrop == "light":
        rays = -view_directions(matte.shape[-2], matte.shape[-1], fov).to(matte.device)[None]
        behind = sample(light, rays)
    else:
        given = planes.get("backdrop")
        if given is None or given.shape[:2] != tuple(matte.shape[-2:]):
            raise InputError(
                "The backdrop is missing or has another size than the plate.", "Give one of the plate's size."
            )
        behind = to_tensor(sanitize(given)[0][..., :3], matte.device)
    return torch.cat([front + behind * (1 - matte), torch.ones_like(matte)], 1)


def _lit(
    maps: dict[str, Tensor], light: Tensor | None, request: Relight, progress: Progress,
    cancelled: Callable[[], bool],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Diffuse and specular passes (1, 3, H, W) of HDRI and lamps, with shadows where asked."""
    shadows = request.shadows == "on"
    diffuse = specular = torch.zeros_like(maps["foreground"])
    if light is not None:
        diffuse, specular = physical(maps, light, request.fov, request.rotation, request.exposure)
        if shadows:
            check_cancelled(cancelled)
            progress(0.3, "shadows")
            seen = expose(rotate(light, request.rotation), request.exposure)
            diffuse, specular = shadowed(maps, seen, request.fov, diffuse, specular)
    if request.lamps:
        check_cancelled(cancelled)
        progress(0.4, "lamps")
        added = lamp_passes(maps, request.lamps, request.distance, request.fov, shadows)
        diffuse, specular = diffuse + added[0], specular + added[1]
    return diffuse, specular


@torch.inference_mode()
def relight(
    networks: Networks | None,
    planes: dict[str, Pixels],
    request: Relight | Refine,
    device: torch.device,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> Relit:
    """Relight maps, or finish given passes when ``request`` is a ``Refine``.

    ``networks`` may be None for ``pbr_only``.
    """
    needed: tuple[str, ...] = ("diffuse", "specular")
    if isinstance(request, Relight):
        needed = ("depth",) if request.lamps or request.shadows == "on" else ()
    maps = {name: to_tensor(image, device) for name, image in check_maps(planes, needed).items()}
    # What gives light: the HDRI, unless passes or lamps do and there is none.
    optional = isinstance(request, Refine) and request.backdrop != "light"
    optional = optional or (isinstance(request, Relight) and bool(request.lamps))
    has_light = "light" in planes or not optional
    light = to_tensor(check_light(planes), device) if has_light else torch.zeros(1, 3, 2, 4, device=device)
    progress(0.1, "physical render")
    if isinstance(request, Refine):
        diffuse, specular = maps["diffuse"], maps["specular"]
    else:
        diffuse, specular = _lit(maps, light if has_light else None, request, progress, cancelled)
    check_cancelled(cancelled)
    result = diffuse + specular
    if networks is not None and not (isinstance(request, Relight) and request.pbr_only):
        progress(0.5, "refining")
        result = refined(networks, maps, diffuse, specular, request.strength, request.working_size)
        check_cancelled(cancelled)
    progress(0.9, "compositing")
    if request.backdrop == "light":
        light = expose(rotate(light, request.rotation), request.exposure)
    relit = composited(result, maps["matte"], planes, request.backdrop, light, request.fov)
    progress(1.0, "done")
    return Relit(to_image(diffuse), to_image(specular), to_image(diffuse + specular), to_image(relit))
