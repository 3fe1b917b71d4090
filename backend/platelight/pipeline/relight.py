"""Maps under a new light: the physical render, then the refiner, then the backdrop (design section 1).

At the plate's own size all is done in bands of rows (:mod:`.room`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from platelight.pipeline.decompose import check_cancelled, exposure_over, guide_of
from platelight.pipeline.lamps import lamp_passes
from platelight.pipeline.lights import lights_of, shares
from platelight.pipeline.networks import Networks, in_passes
from platelight.pipeline.resample import Guided, Window, resize, subject_window
from platelight.pipeline.room import UNBOUNDED, Large, Room, clean, put, tensor_of
from platelight.pipeline.shadows import shadowed
from platelight.protocol.errors import InputError
from platelight.protocol.requests import Refine, Relight
from platelight.shading import store
from platelight.shading.environment import expose, rotate, sample
from platelight.shading.integrate import PrefilteredLight, prefilter, shade, view_directions

Pixels = npt.NDArray[np.float32]
Map = npt.NDArray[Any]  # float32, or float16 where memory is bounded
Progress = Callable[[float, str], None]
MAPS = ("foreground", "matte", "normal", "albedo", "roughness", "reflectivity")


@dataclass(frozen=True)
class Relit:
    """diffuse, specular, pbr (H, W, 3), scene-linear, not multiplied by the matte, black where that is 0;
    relit (H, W, 4) premultiplied.
    """

    diffuse: Map
    specular: Map
    pbr: Map
    relit: Map


@dataclass(frozen=True)
class Maps:
    """Maps of one size on their way to a device, band by band, cleaned of what no network may see."""

    planes: dict[str, Map]
    device: torch.device
    bands: list[tuple[int, int]]

    @staticmethod
    def of(planes: dict[str, Map], device: torch.device, room: Room, extra: tuple[str, ...] = ()) -> Maps:
        """Checked maps.

        Raises:
            InputError: one is missing or differs in size.
        """
        found: dict[str, Map] = {}
        optional = ("cavity",) if "cavity" in planes else ()  # older maps have none
        for name in (*MAPS, *extra, *optional):
            if name not in planes:
                raise InputError(f"The map {name} is missing.", "Give all maps of one decomposition.")
            found[name] = planes[name]
            if found[name].shape[:2] != planes["matte"].shape[:2]:
                raise InputError(
                    f"The map {name} has another size than the matte.", "Give all maps of one decomposition."
                )
        height, width = planes["matte"].shape[:2]
        room.half(height, width)  # refuses at once what cannot be done
        return Maps(found, device, room.bands(height, width, device))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.planes["matte"].shape[:2]
        return height, width

    def rows(self, name: str, top: int, bottom: int, columns: slice = slice(None)) -> Tensor:
        """Rows of a map, (1, C, bottom - top, W)."""
        image = tensor_of(self.planes[name][top:bottom, columns], self.device)
        return torch.nan_to_num(image, posinf=0.0, neginf=0.0) if name == "normal" else clean(image)

    def paint(self, top: int, bottom: int) -> Tensor:
        """Rows of what light falls on, (1, 3, bottom - top, W): albedo times cavity, at most 1."""
        albedo = self.rows("albedo", top, bottom)
        return (albedo * self.rows("cavity", top, bottom)).clamp_(0, 1) if "cavity" in self.planes else albedo

    def whole(self) -> dict[str, Tensor]:
        """All maps (1, C, H, W), as they are lit: the albedo has its cavities."""
        height = self.size[0]
        others = (name for name in self.planes if name not in ("albedo", "cavity"))
        return {"albedo": self.paint(0, height), **{name: self.rows(name, 0, height) for name in others}}

    def cut(self, name: str, window: Window, bands: list[tuple[int, int]]) -> Large:
        """A map's part in a window."""
        columns, top = slice(window.left, window.left + window.width), window.top
        channels = 1 if self.planes[name].ndim == 2 else self.planes[name].shape[2]
        return Large(
            lambda a, b: self.rows(name, top + a, top + b, columns),
            (1, channels, window.height, window.width), bands,
        )  # fmt: skip


@torch.inference_mode()
def physical(
    maps: dict[str, Tensor], light: Tensor, fov: float, rotation: float = 0.0, exposure: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The PBR render (diffuse, specular), both (1, 3, H, W), as Cycles' Principled BSDF renders the same maps.

    The light (1, 3, h, 2h) is turned by ``rotation`` degrees and exposed by ``exposure`` stops after it was filtered,
    so that other angles and exposures need not filter it again.
    """
    height, width = maps["normal"].shape[-2:]
    return shaded(maps, _target(light, rotation, exposure), view_directions(height, width, fov))


def _target(light: Tensor, rotation: float, exposure: float) -> PrefilteredLight:
    return prefilter(light, store.default()).rotated(rotation).exposed(exposure)


def shaded(maps: dict[str, Tensor], light: PrefilteredLight, view: Tensor) -> tuple[Tensor, Tensor]:
    """Diffuse and specular (1, 3, h, w) of maps seen from ``view`` (3, h, w)."""
    normal = maps["normal"]
    shading = shade(
        light, normal, maps["albedo"], maps["roughness"], maps["reflectivity"], view.to(normal.device)[None],
        layered=True,
    )  # fmt: skip
    return shading.diffuse, shading.specular


@dataclass(frozen=True)
class Passes:
    """The physical render's two passes as they lie in maps (H, W, 3)."""

    maps: tuple[Map, Map]
    device: torch.device

    def diffuse(self, top: int, bottom: int) -> Tensor:
        """Rows of the diffuse pass, (1, 3, bottom - top, W)."""
        return tensor_of(self.maps[0][top:bottom], self.device)

    def specular(self, top: int, bottom: int) -> Tensor:
        """Rows of the specular pass, (1, 3, bottom - top, W)."""
        return tensor_of(self.maps[1][top:bottom], self.device)


@torch.inference_mode()
def refined(
    networks: Networks, maps: Maps, passes: Passes, out: Map, strength: float, working: int, room: Room
) -> None:
    """RenderNet's relit foreground, linear, at the exposure of the physical render, into ``out`` (H, W, 3 or more).

    ``out`` holds the physical render's sum; what lies outside the subject's window stays.
    """
    window = subject_window(torch.from_numpy(maps.planes["matte"])[None, None].to(maps.device))
    bands = room.bands(window.height, window.width, maps.device)
    columns = slice(window.left, window.left + window.width)
    cut = {name: maps.cut(name, window, bands) for name in ("foreground", "matte", "normal", "albedo")}
    matte, size = cut["matte"], (window.height, window.width)

    def part(rows: Callable[[int, int], Tensor]) -> Large:
        return Large(lambda a, b: rows(window.top + a, window.top + b)[..., columns], (1, 3, *size), bands)

    diffuse, specular = part(passes.diffuse), part(passes.specular)
    render = Large(lambda a, b: diffuse.rows(a, b) + specular.rows(a, b), (1, 3, *size), bands)
    bright, gain = exposure_over(cut["foreground"], matte), exposure_over(render, matte)

    def times(image: Large, factor: Tensor) -> Large:
        return Large(lambda a, b: image.rows(a, b) * factor, image.shape, bands)

    def correction(p: Tensor, m: Tensor, n: Tensor, a: Tensor, d: Tensor, s: Tensor) -> Tensor:
        relit = networks.render.predict(p, m, n, a, d, s)
        return torch.log((relit + 1e-4) / (d + s + 1e-4))

    inputs = (
        times(cut["foreground"], bright), matte, cut["normal"], cut["albedo"], times(diffuse, gain),
        times(specular, gain),
    )  # fmt: skip
    with networks.half_precision():
        change = in_passes(correction, working, *inputs)
    small = (change.shape[-2], change.shape[-1])
    fit = None
    if small != size:
        fit = Guided.fit(change, guide_of(resize(times(render, gain), small)), resize(matte, small))

    def relit(top: int, bottom: int) -> Tensor:
        band = render.rows(top, bottom)
        here = change[..., top:bottom, :] if fit is None else fit.rows(guide_of(band * gain), size, top)
        return band * torch.exp(strength * here)

    # Albedo has no absolute scale in a photograph, so the refiner may change contrast and colour, not exposure.
    result = Large(relit, (1, 3, *size), bands)
    level = exposure_over(result, matte) / gain
    for top, _, band in result:
        put(out[:, columns, :3], window.top + top, band * level)


def _behind(
    maps: Maps, planes: dict[str, Map], backdrop: str, light: Tensor, fov: float
) -> Callable[[int, int], Tensor]:
    """What a backdrop adds to rows ``top`` to ``bottom`` of the premultiplied foreground, (1, 3, bottom - top, W)."""
    height, width = maps.size
    if backdrop == "plate":
        # What the plate shows beside the subject: plate - alpha * foreground is exactly the backdrop's share.
        plate = planes.get("plate", planes["foreground"])
        return lambda a, b: (
            clean(tensor_of(plate[a:b], maps.device))
            - maps.rows("foreground", a, b) * maps.rows("matte", a, b)
        ).clamp_min(0)
    if backdrop == "light":

        def seen(a: int, b: int) -> Tensor:
            rays = -view_directions(height, width, fov, rows=(a, b)).to(maps.device)[None]
            return sample(light, rays) * (1 - maps.rows("matte", a, b))

        return seen
    given = planes.get("backdrop")
    if given is None or given.shape[:2] != maps.size:
        raise InputError(
            "The backdrop is missing or has another size than the plate.", "Give one of the plate's size."
        )
    picture = given[..., :3]
    return lambda a, b: clean(tensor_of(picture[a:b], maps.device)) * (1 - maps.rows("matte", a, b))


def _lit(
    maps: Maps, lights: Tensor | None, request: Relight, progress: Progress, cancelled: Callable[[], bool]
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """First row, diffuse and specular (1, 3, rows, W) of bands under HDRIs and lamps, with shadows where asked."""
    if request.lamps or request.shadows == "on":
        yield 0, *_lit_whole(maps.whole(), lights, request, progress, cancelled)
        return
    assert lights is not None
    targets = _target(lights, request.rotation, request.exposure)
    for top, bottom in maps.bands:
        check_cancelled(cancelled)
        band = {name: maps.rows(name, top, bottom) for name in ("normal", "roughness", "reflectivity")}
        band["albedo"] = maps.paint(top, bottom)
        view = view_directions(*maps.size, request.fov, rows=(top, bottom)).to(maps.device)
        matte = maps.rows("matte", top, bottom)
        if len(lights) == 1:
            yield top, *_shaded_inside(band, matte, targets, view)
            continue
        diffuse = specular = torch.zeros_like(band["albedo"])
        for i, share in enumerate(shares(request.places, maps.size, top, bottom).to(maps.device)):
            # Only where it counts: along a row of lights each pixel is shaded under two of them at most.
            one, other = _shaded_inside(band, matte * share, targets.one(i), view)
            diffuse, specular = diffuse + share * one, specular + share * other
        yield top, diffuse, specular


MOST = 0.8
"""Share of a band above which picking the subject's pixels out costs more than shading all."""


def _shaded_inside(
    maps: dict[str, Tensor], matte: Tensor, light: PrefilteredLight, view: Tensor
) -> tuple[Tensor, Tensor]:
    """As :func:`shaded` where the matte (1, 1, h, w) is, and black where there is no subject to shade."""
    inside = torch.nonzero(matte.flatten() > 0.0).flatten()
    if len(inside) > MOST * matte.numel():
        return tuple((matte > 0.0) * one for one in shaded(maps, light, view))  # type: ignore[return-value]
    out = matte.new_zeros(1, 6, *matte.shape[-2:])
    if len(inside):
        picked = {name: image.flatten(2)[:, :, None, inside] for name, image in maps.items()}
        both = shaded(picked, light, view.flatten(1)[:, None, inside])
        out.flatten(2)[:, :, inside] = torch.cat(both, 1).flatten(2)
    return out[:, :3], out[:, 3:]


def _lit_whole(
    maps: dict[str, Tensor], lights: Tensor | None, request: Relight, progress: Progress,
    cancelled: Callable[[], bool],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The same at once: shadows fall from one band into another."""
    shadows = request.shadows == "on"
    diffuse = specular = torch.zeros_like(maps["foreground"])
    if lights is not None:
        height, width = maps["matte"].shape[-2:]
        counted = shares(request.places or ((0.5, 0.5),), (height, width), 0, height).to(lights.device)
        for share, light in zip(counted, lights.split(1), strict=True):
            check_cancelled(cancelled)
            passes = physical(maps, light, request.fov, request.rotation, request.exposure)
            if shadows:
                check_cancelled(cancelled)
                progress(0.3, "shadows")
                seen = expose(rotate(light, request.rotation), request.exposure)
                passes = shadowed(maps, seen, request.fov, *passes)
            diffuse, specular = diffuse + share * passes[0], specular + share * passes[1]
    if request.lamps:
        check_cancelled(cancelled)
        progress(0.4, "lamps")
        added = lamp_passes(maps, request.lamps, request.distance, request.fov, shadows)
        diffuse, specular = diffuse + added[0], specular + added[1]
    solid = maps["matte"] > 0.0
    return diffuse * solid, specular * solid


@torch.inference_mode()
def relight(
    networks: Networks | None,
    planes: dict[str, Map],
    request: Relight | Refine,
    device: torch.device,
    progress: Progress,
    cancelled: Callable[[], bool],
    room: Room = UNBOUNDED,
) -> Relit:
    """Relight maps, or finish given passes when ``request`` is a ``Refine``.

    ``networks`` may be None for ``pbr_only``.
    """
    needed: tuple[str, ...] = ("diffuse", "specular")
    if isinstance(request, Relight):
        needed = ("depth",) if request.lamps or request.shadows == "on" else ()
    maps = Maps.of(planes, device, room, needed)
    # What gives light: the HDRI, unless passes or lamps do and there is none.
    optional = isinstance(request, Refine) and request.backdrop != "light"
    optional = optional or (isinstance(request, Relight) and bool(request.lamps))
    places = request.places if isinstance(request, Relight) else ()
    has_light = "light" in planes or bool(places) or not optional
    lights = lights_of(planes, places, device) if has_light else torch.zeros(1, 3, 2, 4, device=device)
    progress(0.1, "physical render")
    relit, pbr, diffuse, specular = (room.empty(*maps.size, channels) for channels in (4, 3, 3, 3))
    if isinstance(request, Refine):
        lit: Iterator[tuple[int, Tensor, Tensor]] = (
            (a, maps.rows("diffuse", a, b), maps.rows("specular", a, b)) for a, b in maps.bands
        )
    else:
        lit = _lit(maps, lights if has_light else None, request, progress, cancelled)
    for top, one, other in lit:
        put(diffuse, top, one)
        put(specular, top, other)
        both = one + other
        put(pbr, top, both)
        put(relit[..., :3], top, both)
    check_cancelled(cancelled)
    if networks is not None and not (isinstance(request, Relight) and request.pbr_only):
        progress(0.5, "refining")
        passes = Passes((diffuse, specular), device)
        refined(networks, maps, passes, relit, request.strength, request.working_size, room)
        check_cancelled(cancelled)
    progress(0.9, "compositing")
    behind = None
    light = lights[:1]  # several do not make one picture
    if request.backdrop == "light":
        light = expose(rotate(light, request.rotation), request.exposure)
    if request.backdrop != "none":
        behind = _behind(maps, planes, request.backdrop, light, request.fov)
    for top, bottom in maps.bands:
        matte = maps.rows("matte", top, bottom)
        front = tensor_of(relit[top:bottom, :, :3], device) * matte
        if behind is None:
            put(relit, top, torch.cat([front, matte], 1))
        else:
            put(relit, top, torch.cat([front + behind(top, bottom), torch.ones_like(matte)], 1))
    progress(1.0, "done")
    return Relit(diffuse, specular, pbr, relit)
