"""What the refiner sees in use: pictures taken apart by the whole pipeline, and their physical render under other lights.

RenderNet mends what the networks before it get wrong, so it must learn from their mistakes as they are in use, after votes,
faces, surfaces and paint. That takes a second a picture, far longer than a training step, so such pictures are made ahead,
each with several target lights, and stored in shards of half floats.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from platelight.images.atomic import write_bytes
from platelight.models.networks import exposure_of, unit_normal
from platelight.pipeline.decompose import decompose
from platelight.pipeline.networks import Networks
from platelight.pipeline.other_light import in_doubt
from platelight.pipeline.relight import physical
from platelight.pipeline.resample import Window
from platelight.pipeline.room import UNBOUNDED, Large
from platelight.pipeline.subject import Maps
from platelight.protocol.errors import Cancelled, InputError
from platelight.protocol.requests import Decompose, Relight, maps_of
from platelight.training.materials import Surface
from platelight.training.pictures import Batch, Maker, Passes

log = logging.getLogger(__name__)

ZOOM = 1.35  # how much larger or smaller pictures are drawn: there are few of them
FREE = 0.25
TINT = 0.25  # spread of the logarithm of a light's color, drawn anew
TARGETS = 4  # lights that each picture is relit by
SHARD = 16  # pictures
BRIGHTEST = 6e4  # of a half float
PLANES = ("plate", "matte", "normal", "albedo", "passes", "target")


def taken_apart(networks: Networks, plate: Tensor, matte: Tensor) -> Maps:
    """The pipeline's maps of a linear picture (3, H, W) with its matte (1, H, W), but for depth and the source light."""
    planes: dict[str, Any] = {}

    def progress(fraction: float, stage: str) -> None:
        if stage == "depth":  # RenderNet sees neither this nor what follows
            raise Cancelled("The maps that the refiner sees are there.")

    pixels = np.ascontiguousarray(plate.permute(1, 2, 0).numpy())
    with contextlib.suppress(Cancelled):
        decompose(
            networks, pixels, Decompose(matte="given"), matte[0].numpy(), progress, lambda: False,
            planes.__setitem__,
        )  # fmt: skip
    return Maps.of(planes, torch.device("cpu"), UNBOUNDED, maps_of(Relight()))


def doubted(diffuse: Tensor, maps: Maps) -> Tensor:
    """A diffuse pass (1, 3, H, W) of whole maps as the refiner gets it."""
    height, width = maps.size
    window, bands = Window(0, 0, height, width), [(0, height)]
    cut = {name: maps.cut(name, window, bands) for name in maps.planes}
    sharp = Large(lambda a, b: diffuse[..., a:b, :], tuple(diffuse.shape), bands)
    return in_doubt(cut, sharp, Large(maps.paint, tuple(diffuse.shape), bands))[0].rows(0, height)


@torch.no_grad()
def rehearsed(networks: Networks, batch: Batch, targets: int) -> dict[str, Tensor]:
    """A batch of N pictures with N * ``targets`` targets as a shard's arrays, exposures normalized as in use; pictures that show
    nothing are left out.

    Returns:
        plate, normal, albedo (N, 3, H, W), matte (N, 1, H, W), passes (N, targets, 6, H, W) (diffuse, specular), target
        (N, targets, 3, H, W), all half floats.
    """
    assert batch.target is not None
    assert batch.target_latlong is not None
    lights = batch.target_latlong.unflatten(0, (-1, targets))
    # A window may have missed its subject.
    there = (batch.matte.flatten(1).amax(1) > 0.5).nonzero()[:, 0]
    rows = []
    for plate, matte, its in zip(batch.plate[there], batch.matte[there], lights[there], strict=True):
        maps = taken_apart(networks, plate * matte, matte)  # before a black backdrop
        whole = maps.whole()
        cover, bare = whole["matte"], whole["foreground"]
        lit = torch.cat([torch.cat(physical(whole, light[None], Relight().fov), 1) for light in its])
        lit[:, :3] = torch.cat([doubted(one, maps) for one in lit[:, :3].split(1)])
        gain = exposure_of(lit[:, :3] + lit[:, 3:], cover.expand(targets, -1, -1, -1))
        rows.append(
            {
                "plate": bare * exposure_of(bare, cover), "matte": cover, "normal": whole["normal"],
                "albedo": maps.rows("albedo", 0, maps.size[0]), "passes": (lit * gain * (cover > 0))[None],
            }
        )  # fmt: skip
    shard = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    shard["target"] = batch.target.unflatten(0, (-1, targets))[there]
    return {name: value.clamp(max=BRIGHTEST).half().contiguous() for name, value in shard.items()}


def make_refiner_set(
    maker_of: Callable[[int], Maker], networks: Networks, out: Path, count: int, first: int = 0
) -> int:
    """Write ``count`` pictures or a few more, a shard at a time, from shard ``first`` on; shards that are there stay.

    Args:
        maker_of: gives what makes pictures by the number of the first shard to be written, so that a run which goes on
            does not make the same ones again.

    Returns:
        How many shards were written.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = {n: out / f"shard-{n:05d}.safetensors" for n in range(first, first + -(-count // SHARD))}
    missing = {number: path for number, path in paths.items() if not path.exists()}
    if not missing:
        return 0
    maker = maker_of(min(missing))
    for path in missing.values():
        shard = rehearsed(networks, maker.batch(SHARD, TARGETS), TARGETS)
        write_bytes(path, save(shard))
        log.info("%s", path.name)
    return len(missing)


class RefinerSet:
    """A maker that draws a set's pictures, each under one of its targets, laid and tinted anew each time.

    Raises:
        InputError: the folder holds no shard, or a shard is not whole.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        paths = sorted(folder.glob("shard-*.safetensors"))
        if not paths:
            raise InputError(f"{folder} holds no shards.", "Make them with: platelight train refiner-set.")
        self.generator = torch.Generator().manual_seed(seed)
        self.shards: list[Any] = []
        self.places: list[tuple[int, int, int]] = []  # shard, row, how many targets
        for path in paths:
            try:
                shard = safe_open(path, framework="pt")
                shape = shard.get_slice("passes").get_shape()  # type: ignore[no-untyped-call]
                shard.get_slice("target")  # type: ignore[no-untyped-call]
            except (SafetensorError, OSError) as error:
                raise InputError(f"{path} is not whole: {error}.", "Delete it and make it again.") from error
            self.places.extend((len(self.shards), row, shape[1]) for row in range(shape[0]))
            self.shards.append(shard)

    def batch(self, count: int, targets: int = 1, held_out: bool = False) -> Batch:
        """``count`` pictures with their passes and one target each, whatever is asked; no other truth, and none are held out."""
        g = self.generator
        chosen = torch.randint(len(self.places), (count,), generator=g).tolist()
        rows: dict[str, list[Tensor]] = {name: [] for name in PLANES}
        for place in chosen:
            shard, row, targets = self.places[place]
            which = int(torch.randint(targets, (), generator=g))
            for name in PLANES:
                kept = self.shards[shard].get_slice(name)
                rows[name].append((kept[row, which] if name in ("passes", "target") else kept[row]).float())
        planes = laid([torch.stack(rows[name]) for name in PLANES], g)
        plate, matte, normal, albedo, passes, target = planes
        # Of the plate's light, and of the other.
        tint = torch.exp(TINT * torch.randn(2, count, 3, 1, 1, generator=g))
        plate, passes, target = plate * tint[0], passes * tint[1].repeat(1, 2, 1, 1), target * tint[1]
        plate, target = (image * exposure_of(image, matte) for image in (plate, target))
        passes = passes * exposure_of(passes[:, :3] + passes[:, 3:], matte)
        nothing = torch.zeros_like(matte)
        surface = Surface(albedo, nothing, nothing, normal, matte, nothing)
        sky = plate.new_zeros(len(plate), 3, 2, 4)
        return Batch(
            plate, matte, surface, sky, nothing, target, None, Passes(normal, albedo, passes[:, :3], passes[:, 3:]),
        )  # fmt: skip


def laid(planes: list[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Planes (N, C, H, W) of pictures, as in ``PLANES``, each turned by quarters, mirrored or not, and a few (``FREE``) by any angle
    and larger or smaller by ``ZOOM``: between pixels a third of the finest detail is lost.
    """
    count = len(planes[0])
    angle, zoom, side, free = torch.rand(4, count, generator=generator)
    angle = torch.where(free < FREE, angle, (angle * 4).floor() / 4) * 2 * math.pi
    zoom = torch.exp((2 * zoom - 1) * math.log(ZOOM) * (free < FREE))
    cosine, sine = torch.cos(angle), torch.sin(angle)
    mirror = torch.where(side < 0.5, 1.0, -1.0)
    # Where a place of the new picture was in the old one, x to the right and y down.
    turn = torch.stack([torch.stack([cosine * mirror, -sine], 1), torch.stack([sine * mirror, cosine], 1)], 1)
    grid = F.affine_grid(
        torch.cat([turn * zoom.view(-1, 1, 1), torch.zeros(count, 2, 1)], 2), list(planes[0].shape), align_corners=False
    )  # fmt: skip
    moved = F.grid_sample(torch.cat(planes, 1), grid, align_corners=False)
    found = list(moved.split([plane.shape[1] for plane in planes], 1))
    down = found[2][:, :2] * found[2].new_tensor([1.0, -1.0]).view(1, 2, 1, 1)
    x, y = torch.einsum("nij,nihw->njhw", turn, down).unbind(1)
    found[2] = unit_normal(torch.stack([x, -y, found[2][:, 2]], 1))
    return found
