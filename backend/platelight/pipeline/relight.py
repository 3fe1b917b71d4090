"""Maps under a new light: the physical render, then the refiner, then the backdrop (design section 1).

At the plate's own size all is done in bands of rows (:mod:`.room`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from platelight.models.tone import tally, tone
from platelight.pipeline.decompose import check_cancelled, exposure_over, guide_of
from platelight.pipeline.lamps import lamp_passes
from platelight.pipeline.lights import shares
from platelight.pipeline.networks import REFINED_SIDE, Networks, in_passes
from platelight.pipeline.other_light import LEAST, in_doubt, own_detail
from platelight.pipeline.resample import Guided, resize, subject_window
from platelight.pipeline.room import UNBOUNDED, Large, Room, clean, put, tensor_of
from platelight.pipeline.shadows import shadowed
from platelight.pipeline.subject import MOST, Band, Kept, Map, Maps, Target
from platelight.protocol.errors import InputError
from platelight.protocol.requests import Refine, Relight, maps_of
from platelight.shading import parallel
from platelight.shading.environment import enlarged, expose, rotate, sample
from platelight.shading.integrate import shade, view_directions

REFINED = 0.7
"""Share of what is refined in what is returned: the render and what RenderNet makes of it are wrong in ways of their own, and their mean is
less wrong than both (docs/training.md has the figures)."""

Pixels = npt.NDArray[np.float32]
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Relit:
    """diffuse, specular, pbr (H, W, 3), scene-linear, not multiplied by the matte, black where that is 0;
    relit (H, W, 4) premultiplied. Only relit where nothing else was asked for.
    """

    relit: Map
    diffuse: Map | None = None
    specular: Map | None = None
    pbr: Map | None = None

    def planes(self) -> dict[str, Map]:
        """By name, what there is."""
        found = {"diffuse": self.diffuse, "specular": self.specular, "pbr": self.pbr, "relit": self.relit}
        return {name: plane for name, plane in found.items() if plane is not None}


@torch.inference_mode()
def physical(
    maps: dict[str, Tensor], light: Tensor, fov: float, rotation: float = 0.0, exposure: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The PBR render (diffuse, specular), both (1, 3, H, W), as Cycles' Principled BSDF renders the same maps.

    The light (1, 3, h, 2h) is turned by ``rotation`` degrees and exposed by ``exposure`` stops after it was filtered,
    so that other angles and exposures need not filter it again.
    """
    height, width = maps["normal"].shape[-2:]
    view = view_directions(height, width, fov).to(light.device)[None]
    shading = shade(
        Target(light).turned(rotation, exposure), maps["normal"], maps["albedo"], maps["roughness"], maps["reflectivity"],
        view, layered=True,
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


def tally_over(image: Large, matte: Large) -> Tensor:
    """:func:`tone.tally` in bands."""
    return torch.stack([tally(band, matte.rows(top, bottom)) for top, bottom, band in image]).sum(0)


@torch.inference_mode()
def refined(
    networks: Networks, maps: Maps, passes: Passes, out: Map, strength: float, working: int, room: Room
) -> None:
    """RenderNet's relit foreground, linear, into ``out`` (H, W, 3 or more), in the physical render's tone
    (:mod:`platelight.models.tone`), with a part of that render.

    Its diffuse pass is in doubt first, as normals are (:mod:`platelight.shading.doubt`), and of the plate's relief it keeps what holds in
    its light (:mod:`.other_light`); without ``strength`` nothing is changed.

    ``out`` holds the physical render's sum; what lies outside the subject's window stays.
    """
    window = subject_window(torch.from_numpy(maps.planes["matte"])[None, None].to(maps.device))
    bands = room.bands(window.height, window.width, maps.device)
    columns = slice(window.left, window.left + window.width)
    names = ("foreground", "matte", "normal", "albedo", "cavity")
    cut = {name: maps.cut(name, window, bands) for name in names if name in maps.planes}
    matte, size = cut["matte"], (window.height, window.width)

    def part(rows: Callable[[int, int], Tensor]) -> Large:
        return Large(lambda a, b: rows(window.top + a, window.top + b)[..., columns], (1, 3, *size), bands)

    sharp, specular, paint = part(passes.diffuse), part(passes.specular), part(maps.paint)
    diffuse, change = in_doubt(cut, sharp, paint)
    given = Large(lambda a, b: sharp.rows(a, b) + specular.rows(a, b), (1, 3, *size), bands)
    render = Large(lambda a, b: diffuse.rows(a, b) + specular.rows(a, b), (1, 3, *size), bands)
    bright, gain = exposure_over(cut["foreground"], matte), exposure_over(render, matte)

    def times(image: Large, factor: Tensor) -> Large:
        return Large(lambda a, b: image.rows(a, b) * factor, image.shape, bands)

    def correction(p: Tensor, m: Tensor, n: Tensor, a: Tensor, d: Tensor, s: Tensor) -> Tensor:
        relit = networks.render.predict(p, m, n, a, d, s)
        return torch.log((relit + 1e-4) / (d + s + 1e-4))

    seen = times(cut["foreground"], bright)
    inputs = (
        seen, matte, cut["normal"], cut["albedo"], times(diffuse, gain),
        times(specular, gain),
    )  # fmt: skip
    with networks.half_precision():
        field = in_passes(correction, working, *inputs, side=REFINED_SIDE)
    small = (field.shape[-2], field.shape[-1])
    fit = None
    if small != size:
        fit = Guided.fit(field, guide_of(resize(times(render, gain), small)), resize(matte, small))

    def relit(top: int, bottom: int) -> Tensor:
        band = render.rows(top, bottom)
        here = field[..., top:bottom, :] if fit is None else fit.rows(guide_of(band * gain), size, top)
        return torch.lerp(given.rows(top, bottom), band, strength) * torch.exp(strength * here)

    into = out[window.top : window.top + window.height, columns, :3]
    for top, bottom in bands:
        put(into, top, relit(top, bottom))
    made = Large(lambda a, b: tensor_of(into[a:b], maps.device), (1, 3, *size), bands)
    detail = None
    if strength * change.share > LEAST:
        detail = own_detail(seen, times(made, gain), matte, strength * change.share)
    sums = []
    for top, bottom in bands:
        band = made.rows(top, bottom)
        if detail is not None:
            put(into, top, band := band * torch.exp(detail(top, bottom)))
        sums.append(tally(band * gain, matte.rows(top, bottom)))
    # Its tone is known when all of it is.
    level = tone(tally_over(times(given, gain), matte), torch.stack(sums).sum(0))
    for top, bottom in bands:
        mended = tensor_of(into[top:bottom], maps.device) * level
        put(into, top, torch.lerp(given.rows(top, bottom), mended, REFINED))


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
        fine = math.radians(fov) * light.shape[-1] < 2.0 * math.pi * width  # pixels smaller than texels
        radiance = enlarged(light) if fine else functools.partial(sample, light)

        def seen(a: int, b: int) -> Tensor:
            rays = -view_directions(height, width, fov, rows=(a, b)).to(maps.device)[None]
            clear = 1 - maps.rows("matte", a, b)
            open_sky = torch.nonzero(clear.flatten() > 0.0).flatten()
            if len(open_sky) > MOST * clear.numel():
                return radiance(rays) * clear
            # Reading a light costs more than picking out where the subject leaves any of it to be seen.
            shown = torch.zeros_like(rays).flatten(2)
            if len(open_sky):
                shown[:, :, open_sky] = radiance(rays.flatten(2)[:, :, None, open_sky])[:, :, 0]
            return shown.view_as(rays) * clear

        return seen
    given = planes.get("backdrop")
    if given is None or given.shape[:2] != maps.size:
        raise InputError(
            "The backdrop is missing or has another size than the plate.", "Give one of the plate's size."
        )
    picture = given[..., :3]
    return lambda a, b: clean(tensor_of(picture[a:b], maps.device)) * (1 - maps.rows("matte", a, b))


def _lit(
    maps: Maps, target: Target | None, request: Relight, progress: Progress, cancelled: Callable[[], bool],
    kept: Kept | None, summed: bool,
) -> Iterator[tuple[int, tuple[Tensor, ...]]]:  # fmt: skip
    """First row, diffuse and specular (1, 3, rows, W) of bands under HDRIs and lamps, with shadows where asked; maybe ``summed``."""
    if request.lamps or request.shadows == "on":
        lights = target.radiance if target else None
        yield 0, _lit_whole(maps.whole(), lights, request, progress, cancelled)
        return
    assert target is not None
    turned = target.turned(request.rotation, request.exposure)
    known = kept.bands(maps, request.fov) if kept and not request.places else None
    for k, (top, bottom) in enumerate(maps.bands):
        check_cancelled(cancelled)
        if len(target.radiance) == 1:
            band = known[k] if known else Band.of(maps, request.fov, top, bottom)
            yield top, band.under(turned, summed)
            continue
        diffuse = specular = torch.zeros(1, 3, bottom - top, maps.size[1], device=maps.device)
        for i, share in enumerate(shares(request.places, maps.size, top, bottom).to(maps.device)):
            # Only where it counts: along a row of lights each pixel is shaded under two of them at most.
            one, other = Band.of(maps, request.fov, top, bottom, share).under(turned.one(i))
            diffuse, specular = diffuse + share * one, specular + share * other
        yield top, (diffuse, specular)


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


def _seen_light(target: Target | None, request: Relight | Refine, device: torch.device) -> Tensor:
    """The light that a backdrop shows, (1, 3, h, 2h)."""
    if target is None:
        return torch.zeros(1, 3, 2, 4, device=device)
    light = target.radiance[:1]  # several do not make one picture
    if request.backdrop == "light":
        light = expose(rotate(light, request.rotation), request.exposure)
    return light


def _compose(
    into: Map, maps: Maps, top: int, front: Tensor, behind: Callable[[int, int], Tensor] | None
) -> None:
    """Write the premultiplied composite of rows from ``top`` on; ``front`` is (1, 3, rows, W). Threads share the rows."""

    def part(rows: tuple[int, int]) -> None:
        a, b = rows
        matte = maps.rows("matte", top + a, top + b)
        image = front[..., a:b, :] * matte
        if behind is not None:
            image, matte = image + behind(top + a, top + b), torch.ones_like(matte)
        put(into, top + a, torch.cat([image, matte], 1))

    height = front.shape[-2]
    halves = [(0, height // 2), (height // 2, height)] if height > 1 else [(0, height)]
    parallel.each(part, halves, maps.device)


@torch.inference_mode()
def relight(
    networks: Networks | None,
    planes: dict[str, Map],
    request: Relight | Refine,
    device: torch.device,
    progress: Progress,
    cancelled: Callable[[], bool],
    room: Room = UNBOUNDED,
    kept: Kept | None = None,
) -> Relit:
    """Relight maps, or finish given passes when ``request`` is a ``Refine``.

    ``networks`` may be None for ``pbr_only``. ``kept`` makes the same maps cheaper under the next light.
    """
    passes_given = ("diffuse", "specular") if isinstance(request, Refine) else ()
    maps = Maps.of(planes, device, room, (*maps_of(request), *passes_given))
    # What gives light: the HDRI, unless passes or lamps do and there is none.
    optional = isinstance(request, Refine) and request.backdrop != "light"
    optional = optional or (isinstance(request, Relight) and bool(request.lamps))
    places = request.places if isinstance(request, Relight) else ()
    has_light = "light" in planes or bool(places) or not optional
    target = None
    if has_light:
        target = kept.target(planes, places, device) if kept else Target.of(planes, places, device)
    progress(0.1, "physical render")
    finished = networks is None or (isinstance(request, Relight) and request.pbr_only)
    alone = request.composite_only
    summed = alone and finished and isinstance(request, Relight)  # else the refiner reads the passes
    kind = np.float16 if room.half(*maps.size) else np.float32
    # A composite alone travels pixel by pixel; files want it channel by channel.
    relit = room.array((*maps.size, 4), kind) if summed else room.empty(*maps.size, 4)
    passes = () if summed else tuple(room.empty(*maps.size, 3) for _ in range(3))
    behind = None
    if request.backdrop != "none":
        behind = _behind(maps, planes, request.backdrop, _seen_light(target, request, device), request.fov)
    if isinstance(request, Refine):
        lit: Iterator[tuple[int, tuple[Tensor, ...]]] = (
            (a, (maps.rows("diffuse", a, b), maps.rows("specular", a, b))) for a, b in maps.bands
        )
    else:
        lit = _lit(maps, target, request, progress, cancelled, kept, summed)
    for top, found in lit:
        both = functools.reduce(torch.add, found)
        for plane, image in zip(passes, (*found, both), strict=False):
            put(plane, top, image)
        if finished:
            _compose(relit, maps, top, both, behind)
        else:
            put(relit[..., :3], top, both)
    check_cancelled(cancelled)
    if networks is not None and not finished:
        progress(0.5, "refining")
        refined(
            networks,
            maps,
            Passes((passes[0], passes[1]), device),
            relit,
            request.strength,
            request.working_size,
            room,
        )
        check_cancelled(cancelled)
        progress(0.9, "compositing")
        for top, bottom in maps.bands:
            _compose(relit, maps, top, tensor_of(relit[top:bottom, :, :3], device), behind)
    progress(1.0, "done")
    return Relit(relit, *(() if alone else passes))
