"""A plate taken apart: matte, normal, source light, albedo, roughness, reflectivity, depth (design section 1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from platelight.images.sanitize import Counts, sanitize
from platelight.models.cavity import DEEPEST, HIGHEST, cavity
from platelight.models.form import lit_as
from platelight.models.networks import FLOOR, diffuse_shading, exposure_of_sums, luminance
from platelight.pipeline import matting
from platelight.pipeline.depth import integrate_normals
from platelight.pipeline.face_form import faces_in, with_faces
from platelight.pipeline.form import of_a_surface
from platelight.pipeline.gloss import no_brighter_than_seen
from platelight.pipeline.hair import darkened_hair, dulled_hair
from platelight.pipeline.networks import Networks, in_passes, predict_light, predict_normal, read_again
from platelight.pipeline.neutral import GROWN, NEUTRAL
from platelight.pipeline.paint import evened
from platelight.pipeline.people import heads_in, with_hair_and_clothes
from platelight.pipeline.relief import turned_by_shading
from platelight.pipeline.resample import Guided, Window, fov_of, middle_of, resize, subject_window
from platelight.pipeline.room import UNBOUNDED, Large, Room, put, tensor_of, unit
from platelight.pipeline.source_light import fitted
from platelight.protocol.errors import Cancelled, InputError, NoSubjectError
from platelight.protocol.requests import Decompose

# Cameras white-balance their pictures and the training pictures are not balanced, so the networks take part of a
# subject's own color for the light's. Of the cast they see over the whole subject, this share is believed;
# docs/training.md has the figures by which it was chosen.
CAST_TRUST = 0.25
BRIGHT, LARGEST_ALBEDO = 0.98, 0.92  # fresh snow reflects 0.9; the brightest two percent may be glints
DAZZLING = 30.0  # times the square of the mean root: but for a rim on black, nothing lit reaches it
VEIL = 0.03  # of white light, which a rough dielectric (f0 = 0.04) reflects beside its paint
LEAST_LEFT = 1 / 3  # of what is nearly black: its hue is mostly noise
USUAL_BRIGHT, MOST_BRIGHTENED = 0.7, 1.6  # white cloth and paper; dark subjects stay dark

Pixels = npt.NDArray[np.float32]
Map = npt.NDArray[Any]  # float32, or float16 where memory is bounded
Progress = Callable[[float, str], None]
Made = Callable[[str, Map], None]  # takes a map that does not change any more, by its name


def to_tensor(image: Pixels, device: torch.device) -> Tensor:
    """(H, W) or (H, W, C) -> (1, C, H, W)."""
    tensor = torch.from_numpy(np.ascontiguousarray(image, np.float32)).to(device)
    return tensor[None, None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)[None]


def to_image(tensor: Tensor) -> Pixels:
    """(1, C, H, W) -> (H, W, C), or (H, W) for one channel."""
    array: Pixels = np.ascontiguousarray(tensor[0].permute(1, 2, 0).float().cpu().numpy())
    return array[..., 0] if array.shape[-1] == 1 else array


def check_cancelled(cancelled: Callable[[], bool]) -> None:
    """Raise ``Cancelled`` when the user asked for it; called between the stages of a job."""
    if cancelled():
        raise Cancelled("The job was cancelled.")


def find_matte(plate: Pixels, request: Decompose, given: Pixels | None, room: Room) -> tuple[Map, Map]:
    """Matte (H, W) and foreground (H, W, 3) as the request asks."""
    if request.matte == "full":
        alpha = room.empty(*plate.shape[:2])
        alpha[:] = 1.0
        return alpha, plate
    if request.matte == "auto":
        return matting.estimate_matte(plate, room)
    if given is None or given.shape[:2] != plate.shape[:2]:
        raise InputError(
            "The matte is missing or has another size than the plate.", "Give one of the plate's size."
        )
    matte = room.empty(*plate.shape[:2])
    matte[:] = np.clip(np.nan_to_num(given.astype(np.float32)), 0, 1).reshape(plate.shape[:2])
    if float(matte.max()) <= 0.02:
        raise NoSubjectError(
            "The matte is empty: there is no subject.", "Give a matte that is white on the subject."
        )
    return matte, matting.estimate_foreground(plate, matte, room)


def white_balanced(reflectance: Tensor, matte: Tensor) -> tuple[Tensor, Tensor]:
    """Give back to the subject the part of its color that is not believed to be the light's.

    Args:
        reflectance: (1, 3, h, w), the logarithm of albedo over plate.
        matte: (1, 1, h, w).

    Returns:
        The balanced reflectance, and the factor (1, 3, 1, 1) by which the light changes so that their product stays.
    """
    mean = (reflectance * matte).sum((2, 3), keepdim=True) / matte.sum((2, 3), keepdim=True).clamp_min(1e-6)
    unbelieved = (1 - CAST_TRUST) * (mean - mean.mean(1, keepdim=True))
    return reflectance - unbelieved, torch.exp(unbelieved)


def bright_of(albedo: Tensor, matte: Tensor) -> Tensor | None:
    """The largest channel (1, 1, 1, 1) of a subject's bright paint, glints left out, of an albedo (1, 3, h, w); None without a subject."""
    largest = albedo.amax(1, keepdim=True)[matte > 0.5]
    if largest.numel() == 0:
        return None
    return torch.quantile(largest[:: max(1, largest.numel() // 100_000)], BRIGHT).view(1, 1, 1, 1)


def believable(reflectance: Tensor, plate: Tensor, matte: Tensor) -> tuple[Tensor, Tensor]:
    """Set the level of an albedo, which a plate does not tell: it fixes the product of albedo and exposure only.

    Where the brightest paint is darker than things usually are, the albedo is brightened half of the way, by at most
    ``MOST_BRIGHTENED``: the networks' own level is timid. Where more than a glint would reflect more light than falls on
    it, the whole is darkened, as clipping would wash its bright parts out.

    Args:
        reflectance: (1, 3, h, w), the logarithm of albedo over plate. plate (1, 3, h, w), matte (1, 1, h, w).

    Returns:
        The reflectance, and the factor (1, 1, 1, 1) by which the light changes.
    """
    bright = bright_of((plate + FLOOR) * torch.exp(reflectance), matte)
    if bright is None:
        return reflectance, torch.ones_like(matte[..., :1, :1])
    bright = torch.log(bright)
    lift = (0.5 * (math.log(USUAL_BRIGHT) - bright)).clamp(0, math.log(MOST_BRIGHTENED))
    excess = (bright - math.log(LARGEST_ALBEDO)).clamp_min(0)
    change = lift - excess
    return reflectance + change, torch.exp(-change)


def unveiling(veiled: Tensor, matte: Tensor) -> Tensor:
    """The factor (1, 3, h, w) that takes out of paint the light's own color, which what shines adds to it.

    A plate is paint and a veil of reflected light together, and whoever renders the maps adds that veil anew: without this
    a subject is grayer under every light than in the plate. A rough dielectric's veil is about ``VEIL`` of a white paint, whatever the
    light's color. It is taken from each place alone, so that white stays white beside orange; what is
    nearly black keeps ``LEAST_LEFT`` and so its hue. The mean luminance stays, as the level is :func:`believable`'s, unless white
    beside much black would reflect more light than falls on it.

    Args:
        veiled: (1, 3, h, w), linear, plate over light. matte (1, 1, h, w).
    """

    def mean(image: Tensor) -> Tensor:
        return (image * matte).sum((2, 3), keepdim=True) / matte.sum((2, 3), keepdim=True).clamp_min(1e-6)

    veiled = veiled.clamp_min(1e-4)
    # The larger of the two, without a crease.
    paint = ((veiled - VEIL).clamp_min(0) ** 4 + (veiled * LEAST_LEFT) ** 4) ** 0.25
    left = paint / veiled
    level = luminance(mean(veiled)).clamp_min(1e-4) / luminance(mean(veiled * left)).clamp_min(1e-4)
    bright = bright_of(veiled * left, matte)
    if bright is not None:
        level = torch.minimum(level, (LARGEST_ALBEDO / bright).clamp_min(1.0))
    return left * level


def guide_of(plate: Tensor) -> Tensor:
    """The gray guide (1, 1, H, W) along whose edges maps are upsampled: log luminance of the normalized plate."""
    return torch.log(luminance(plate) + 0.02)


@torch.inference_mode()
def decompose(
    networks: Networks,
    pixels: Map,
    request: Decompose,
    matte: Map | None,
    progress: Progress,
    cancelled: Callable[[], bool],
    made: Made,
    room: Room = UNBOUNDED,
) -> Counts:
    """Take a plate (H, W, 3), linear Rec.709, apart, in bands of rows where it is large.

    ``made`` is given each map by its name (design section 1) as soon as it is there: most of them before depth, which keeps
    one core busy only. Maps are (H, W) or (H, W, 3) float32, or half where the room is small and for depth never; ``light`` is
    (h, 2h, 3) in the plate's exposure. What was wrong with the plate's pixels is returned.

    Raises:
        NoSubjectError: the matte is empty.
        InputError: shapes do not fit, or the plate does not fit the room.
        Cancelled: between two stages.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise InputError(f"The plate has the shape {pixels.shape}.", "Give height x width x RGB.")
    height, width = pixels.shape[:2]
    room.half(height, width)  # refuses at once what cannot be done
    pixels, counts = sanitize(pixels)
    progress(0.02, "matting")
    alpha, foreground = find_matte(pixels, request, matte, room)
    check_cancelled(cancelled)
    window = subject_window(torch.from_numpy(alpha)[None, None].to(networks.device))
    plate, cover, gain = normalized(foreground, alpha, window, room, networks.device)
    working = request.working_size

    progress(0.25, "normals")
    normal = predict_normal(networks, plate, cover, working)
    size = (normal.shape[-2], normal.shape[-1])
    small_plate, small_matte = resize(plate, size), resize(cover, size)
    faces = faces_in(plate, cover, size) if request.faces == "on" else []
    normal = with_faces(normal, small_matte, faces)
    check_cancelled(cancelled)

    progress(0.45, "light")
    light = predict_light(networks, plate, cover)
    shading = lit_as(luminance(small_plate), small_matte, normal, diffuse_shading(light, normal))

    progress(0.5, "albedo")

    # The correction is smooth, the plate is not: applied to the plate's own pixels it keeps all texture.
    normal, reflectance = read_again(networks, working, small_plate, small_matte, normal, shading)
    normal = of_a_surface(
        normal, small_matte, fov_of(window, width, request.fov), middle_of(window, (height, width))
    )
    # Paint tells what is shading and so form; form then tells what is paint.
    paint = evened(reflectance, small_plate, small_matte, normal)
    normal = turned_by_shading(normal, paint, small_plate, small_matte)
    reflectance = evened(reflectance, small_plate, small_matte, normal)
    if faces:
        reflectance = darkened_hair(reflectance, small_plate, small_matte, normal, faces)
    reflectance, cast = white_balanced(reflectance, small_matte)
    reflectance, brighter = believable(reflectance, small_plate, small_matte)
    veiled = (small_plate + FLOOR) * torch.exp(reflectance)
    unveil = unveiling(veiled, small_matte)
    # The cavity is told of it: what the veil adds, whoever renders the maps adds anew.
    covered = reflectance
    reflectance, small_albedo = reflectance + torch.log(unveil), (veiled * unveil).clamp(0, 1)
    # The plate is the light on paint and veil together: over the paint alone the light would be of the other color.
    inferred = light.latlong * cast * brighter
    inferred = fitted(inferred, small_plate, small_matte, normal, veiled.clamp(0, 1))
    check_cancelled(cancelled)

    progress(0.65, "specular")

    def finish(p: Tensor, m: Tensor, n: Tensor, a: Tensor) -> Tensor:
        return torch.cat(networks.specular.predict(p, m, F.normalize(n, dim=1), a), 1)

    with networks.half_precision():
        specular = in_passes(finish, working, small_plate, small_matte, normal, small_albedo)
    heads = heads_in(small_albedo, small_matte, faces)
    roughness = with_hair_and_clothes(specular[:, :1], small_albedo, small_matte, heads)
    f0 = dulled_hair(specular[:, 1:], small_matte, heads)
    view = view_through(window, (height, width), request.fov, size).to(normal.device)
    f0 = no_brighter_than_seen(f0, roughness, normal, small_plate, inferred, view)
    check_cancelled(cancelled)

    progress(0.75, "upsampling")
    deep = cavity(covered, small_plate, small_matte, normal)
    fields = torch.cat([normal, reflectance, roughness, f0, deep], 1)
    maps = _grown(fields, small_plate, small_matte, plate, cover, (height, width), window, room)
    check_cancelled(cancelled)
    made("foreground", foreground)
    made("matte", alpha)
    for name, plane in zip(GROWN, maps, strict=True):
        made(name, plane)

    progress(0.85, "depth")
    depth = integrate_normals(maps[0], alpha, request.fov)
    made("depth", depth)
    made("light", to_image(inferred / gain))
    progress(1.0, "done")
    return counts


def view_through(window: Window, frame: tuple[int, int], fov: float, size: tuple[int, int]) -> Tensor:
    """Unit vectors (1, 3, h, w) to the camera from the places of a window of a frame (H, W) that has ``fov`` itself."""
    right, down = middle_of(window, frame)
    # Of the window's width, at a depth of one.
    half = math.tan(math.radians(fov_of(window, frame[1], fov)) / 2)
    x = (torch.arange(size[1]) + 0.5) / size[1] - 0.5 - right
    y = ((torch.arange(size[0]) + 0.5) / size[0] - 0.5) * (window.height / window.width) - down
    down_, right_ = torch.meshgrid(2 * half * y, 2 * half * x, indexing="ij")
    return F.normalize(torch.stack([-right_, down_, torch.ones_like(right_)])[None], dim=1)


def normalized(
    foreground: Map, alpha: Map, window: Window, room: Room, device: torch.device
) -> tuple[Large, Large, Tensor]:
    """The window's plate (1, 3, h, w) as networks expect it, its matte (1, 1, h, w), and the plate's gain (1, 1, 1, 1)."""
    bands = room.bands(window.height, window.width, device)
    columns = slice(window.left, window.left + window.width)

    def rows(image: Map, top: int, bottom: int) -> Tensor:
        return tensor_of(image[window.top + top : window.top + bottom, columns], device)

    cover = Large(lambda a, b: rows(alpha, a, b), (1, 1, window.height, window.width), bands)
    bare = Large(lambda a, b: rows(foreground, a, b), (1, 3, window.height, window.width), bands)
    gain = exposure_over(bare, cover)
    plate = Large(lambda a, b: bare.rows(a, b) * gain, bare.shape, bands)
    return plate, cover, gain


def exposure_over(plate: Large, matte: Large) -> Tensor:
    """``exposure_of`` in bands and at any scale. What glints or shines itself, a lamp in the picture, counts as ``DAZZLING`` times what is
    usual at most; pictures that networks are trained on have no lamps in them."""

    def summed(brightest: float) -> tuple[Tensor, float]:
        """Sums of luminance, its square root and the matte; and the largest luminance."""
        sums, largest = [], 0.0
        for top, bottom, band in plate:
            cover = matte.rows(top, bottom)
            seen = luminance(band.clamp(0, brightest))
            sums.append(torch.cat([seen * cover, seen.sqrt() * cover, cover], 1).sum((0, 2, 3)).double())
            largest = max(largest, float(seen.max()))
        return torch.stack(sums).sum(0), largest

    (total, roots, weight), largest = summed(math.inf)
    dazzling = DAZZLING * float(roots / weight.clamp_min(1e-12)) ** 2
    if largest > dazzling:
        (total, _, weight), _ = summed(dazzling)
    return exposure_of_sums(total, weight).float().view(1, 1, 1, 1)


def _grown(
    fields: Tensor, small_plate: Tensor, small_matte: Tensor, plate: Large, cover: Large,
    size: tuple[int, int], window: Window, room: Room,
) -> tuple[Map, Map, Map, Map, Map]:  # fmt: skip
    """Normal, albedo, roughness, reflectivity and cavity of the plate's size from the window's small fields.

    Outside the subject they are neutral; the change is soft, so that hair has no jagged rim.

    Args:
        fields: (1, 9, h, w): normal, logarithm of albedo over plate, roughness, f0, logarithm of cavity.
    """
    guided = Guided.fit(fields, guide_of(small_plate), small_matte)
    full = (window.height, window.width)
    same = tuple(fields.shape[-2:]) == full
    maps = tuple(room.empty(*size, channels) for channels in (3, 3, 1, 1, 1))
    for one, outside in zip(maps, NEUTRAL, strict=True):
        one[:] = outside
    columns = slice(window.left, window.left + window.width)
    neutral = fields.new_tensor([0, 0, 1, 0, 0, 0, 1, 0.04, 1]).view(1, 9, 1, 1)
    for top, bottom, band in plate:
        found = fields[..., top:bottom, :] if same else guided.rows(guide_of(band), full, top)
        made = torch.cat(
            [
                unit(found[:, :3]),
                ((band + FLOOR) * torch.exp(found[:, 3:6])).clamp(0, 1),
                found[:, 6:7].clamp(0.02, 1),
                found[:, 7:8].clamp(0, 1),
                torch.exp(found[:, 8:].clamp(DEEPEST, HIGHEST)),
            ],
            1,
        )
        made = torch.lerp(neutral, made, (cover.rows(top, bottom) / 0.05).clamp(0, 1))
        parts = (unit(made[:, :3]), made[:, 3:6], made[:, 6:7], made[:, 7:8], made[:, 8:])
        for one, part in zip(maps, parts, strict=True):
            put(one[:, columns], window.top + top, part)
    return maps[0], maps[1], maps[2], maps[3], maps[4]
