"""Views of geometry, before they are painted and lit: the bank of ray-cast ones, their cropping, mirroring, stretching."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from platelight.protocol.errors import InputError
from platelight.training.materials import unit
from platelight.training.parts import Part

FLIPPED_SH = {-1: (3, 4, 7), -2: (1, 4, 5)}  # coefficients odd in x, odd in y
LEAN, PEOPLE_LEAN = 0.15, 0.05  # standard deviation of the slope by which bodies are made to lean
BANDS = (1.0, *[2 / 3] * 3, *[0.25] * 5)  # cosine lobe, divided by pi (Ramamoorthi, Hanrahan 2001)


@dataclass(frozen=True)
class Views:
    """Geometry of N views after cropping: see ``raycast`` for the fields; all float32, channels first."""

    normal: Tensor
    rest: Tensor
    part: Tensor
    shadow: Tensor
    transfer: Tensor
    stored: Tensor
    view: Tensor


def mirrored(views: Views, which: Tensor, axis: int = -1) -> Views:
    """The views that ``which`` (N,) says exchanged left and right (axis -1) or top and bottom (axis -2).

    Pictures, directions and coefficients are all exchanged.
    """
    swap = views.view.new_tensor([1.0 if axis == -2 else -1.0, 1.0 if axis == -1 else -1.0, 1.0])
    odd = views.view.new_ones(9)
    odd[list(FLIPPED_SH[axis])] = -1
    other = Views(
        views.normal.flip(axis) * swap.view(1, 3, 1, 1),
        views.rest.flip(axis),
        views.part.flip(axis),
        views.shadow.flip(axis),
        views.transfer.flip(axis) * odd.view(1, 9, 1, 1),
        views.stored * swap,
        views.view.flip(axis) * swap.view(1, 3, 1, 1),
    )

    def choose(name: str) -> Tensor:
        a, b = getattr(other, name), getattr(views, name)
        return torch.where(which.view(-1, *[1] * (a.ndim - 1)), a, b)

    return Views(*(choose(name) for name in Views.__dataclass_fields__))


def turned(transfer: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """The transfer (N, 9, H, W) of surfaces whose normals (N, 3, H, W) change: what is seen of the sky stays, its cosine follows."""
    open_sky = (transfer[:, :1] / 0.282095).clamp(0, 1)
    change = (harmonics(after, 1) - harmonics(before, 1)) * after.new_tensor(BANDS).view(1, 9, 1, 1)
    return transfer + open_sky * change


def deformed(views: Views, by: Tensor) -> Views:
    """The views of bodies deformed by linear maps ``by`` (N, 3, 3) of the camera's frame, (3, 3) for all alike.

    The picture is not resampled: a stretch in its plane is for the caller to cut, and depth may follow what lies in the
    plane (a shear), as points that hid each other along the camera's axis still do. Light deformed as the bodies are
    casts the same shadows; what is seen of the sky is kept, and its cosine follows the normal.
    """
    inverse = torch.linalg.inv(by.expand(len(views.normal), 3, 3))
    normal = unit(torch.einsum("nji,njhw->nihw", inverse, views.normal), dim=1)
    return Views(
        normal,
        views.rest,
        views.part,
        views.shadow,
        turned(views.transfer, views.normal, normal),
        unit(views.stored @ by.transpose(-1, -2), dim=-1),
        unit(torch.einsum("nij,njhw->nihw", by.expand(len(views.view), 3, 3), views.view), dim=1),
    )


def leaning(part: Tensor, generator: torch.Generator) -> Tensor:
    """Shears (N, 3, 3) of depth by what lies in the picture's plane, for views with these parts (N, H, W).

    Things lean in all directions, and outlines and habits must not be all that tells how much: shading does, though only
    as far as paint and light are known (the bas-relief ambiguity: Belhumeur, Kriegman, Yuille 1999). People hardly lean:
    a face tells its pose.
    """
    device = generator.device
    people = (part == Part.SKIN).flatten(1).any(1)
    slope = torch.randn(len(part), 2, generator=generator, device=device)
    shear = torch.eye(3, device=device).repeat(len(part), 1, 1)
    shear[:, 2, :2] = torch.where(people, PEOPLE_LEAN, LEAN)[:, None] * slope
    return shear


def harmonics(directions: Tensor, dim: int = -1) -> Tensor:
    """The nine real spherical harmonics of order 2 at unit directions whose x, y, z run along ``dim``."""
    x, y, z = directions.unbind(dim)
    values = [0.282095 * torch.ones_like(x), 0.488603 * y, 0.488603 * z, 0.488603 * x, 1.092548 * x * y, 1.092548 * y * z,
              0.315392 * (3 * z * z - 1), 1.092548 * x * z, 0.546274 * (x * x - y * y)]  # fmt: skip
    return torch.stack(values, dim)


class Source(Protocol):
    """Where endless views come from: the bank, or a generator of shapes."""

    def draw(self, count: int, size: int, generator: torch.Generator) -> Views:
        """``count`` views of ``size`` pixels on the generator's device."""
        ...


HELD = 2  # views of a shard: those of one subject


class Bank:
    """The shards that ``raycast.make_bank`` wrote, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        shards = sorted(folder.glob("shard-*"))
        if not shards:
            raise InputError(f"{folder} holds no shards.", "Make them with: platelight train geometry.")
        names = ("normal", "rest", "part", "shadow", "transfer", "lights", "fov")
        self.arrays = [
            {name: np.load(shard / f"{name}.npy", mmap_mode="r") for name in names} for shard in shards
        ]
        mixes = [json.dumps(json.loads((shard / "manifest.json").read_text()).get("mix")) for shard in shards]
        # Each kind of mixture is drawn by the square root of its size, so that rare subjects are seen often enough.
        share = torch.tensor([1.0 / math.sqrt(mixes.count(mix)) for mix in mixes])
        self.per_shard = len(self.arrays[0]["fov"])
        self.share = share.repeat_interleave(self.per_shard)
        # The last subject of each shard is never trained on, so that all kinds are held out however a bank grows.
        self.held = (torch.arange(len(self)) % self.per_shard) >= self.per_shard - HELD
        self.size = int(self.arrays[0]["part"].shape[1])

    def __len__(self) -> int:
        return len(self.arrays) * self.per_shard

    def crop(self, indices: Tensor, size: int, generator: torch.Generator) -> Views:
        """Read views and cut a random square of each, resized to ``size``, half of them mirrored."""
        rows: list[Views] = []
        for index in indices.tolist():
            shard, k = divmod(index, self.per_shard)
            rows.append(
                self._one({n: np.array(a[k]) for n, a in self.arrays[shard].items()}, size, generator)
            )
        return Views(*(torch.cat([getattr(r, name) for r in rows]) for name in Views.__dataclass_fields__))

    @staticmethod
    def _coarse(raw: dict[str, npt.NDArray[Any]]) -> tuple[Tensor, Tensor]:
        """Transfer (1, 9, t, t), spread beyond the silhouette from the inside and denoised, and the normals (1, 3, t, t) of its pixels."""
        transfer = torch.from_numpy(raw["transfer"].astype(np.float32)).permute(2, 0, 1)[None]
        seen = (transfer.abs().sum(1, keepdim=True) > 0).float()
        given = torch.from_numpy(raw["normal"].astype(np.float32)).permute(2, 0, 1)[None]
        normal = F.interpolate(given, size=transfer.shape[-2:], mode="area")
        both = F.avg_pool2d(torch.cat([transfer, normal], 1) * seen, 3, 1, 1)
        both = both / F.avg_pool2d(seen, 3, 1, 1).clamp_min(1e-3)
        return both[:, :9], both[:, 9:]

    def _one(self, raw: dict[str, npt.NDArray[Any]], size: int, generator: torch.Generator) -> Views:
        def chance() -> float:
            return float(torch.rand((), generator=generator))

        full = self.size
        part = torch.from_numpy(raw["part"].astype(np.int64))
        ys, xs = torch.nonzero(part, as_tuple=True)
        # Most pictures show the whole subject, as a plate's crop about its matte does; some a part of it.
        if len(ys) == 0 or chance() < 0.25:
            side = int(full * (0.32 + 0.68 * chance()))
            top, left = int((full - side) * chance()), int((full - side) * chance())
        else:
            low, high = torch.stack([ys.min(), xs.min()]), torch.stack([ys.max(), xs.max()])
            side = int(min(full, max(48, float((high - low).max()) * (1.02 + 0.25 * chance()))))
            middle = (low + high) / 2
            top = int(min(max(float(middle[0]) - side / 2 + (chance() - 0.5) * 8, 0), full - side))
            left = int(min(max(float(middle[1]) - side / 2 + (chance() - 0.5) * 8, 0), full - side))
        # Cut wider or higher than the square that it becomes: bodies come out lean or stout.
        lean = math.exp(0.3 * (chance() - 0.5))
        height, width = min(full, round(side * lean)), min(full, round(side / lean))
        top, left = min(top, full - height), min(left, full - width)
        half = np.tan(np.radians(float(raw["fov"])) / 2)
        steps = (torch.arange(size) + 0.5) / size
        vx = ((left + steps * width) / full * 2 - 1) * half
        vy = -((top + steps * height) / full * 2 - 1) * half
        view = unit(
            torch.stack(
                [-vx[None, :].expand(size, size), -vy[:, None].expand(size, size), torch.ones(size, size)]
            ),
            dim=0,
        )

        def cut(values: npt.NDArray[Any], mode: str) -> Tensor:
            image = torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None]
            if mode == "nearest":
                return F.interpolate(image, size=(size, size), mode="nearest")
            return F.interpolate(
                image,
                size=(size, size),
                mode="bilinear",
                align_corners=False,
                antialias=max(height, width) > size,
            )

        window = slice(top, top + height), slice(left, left + width)
        shown = raw["part"][window][..., None]
        parts = cut(shown, "nearest")[:, 0].long()
        bits = (raw["shadow"][window][..., None] >> np.arange(8, dtype=np.uint8)) & 1
        cover = cut(shown > 0, "bilinear").clamp_min(1e-3)
        normal = unit(cut(raw["normal"][window], "bilinear"), dim=1)
        spread, smooth = self._coarse(raw)
        along = ((left + steps * width) / full * 2 - 1, (top + steps * height) / full * 2 - 1)
        grid = torch.stack(torch.meshgrid(*along, indexing="xy"), -1)[None]
        coarse = F.grid_sample(
            torch.cat([spread, smooth], 1), grid, padding_mode="border", align_corners=False
        )
        transfer = turned(coarse[:, :9], unit(coarse[:, 9:], dim=1), normal)
        made = Views(
            normal,
            cut(raw["rest"][window], "nearest"),
            parts,
            (cut(bits, "bilinear") / cover).clamp(0, 1),
            transfer,
            torch.from_numpy(raw["lights"].astype(np.float32))[None],
            view[None],
        )
        # A bank holds few bodies: the same one deeper or flatter, mirrored or upside down is another to a network.
        # Things are as deep as photographed ones: their normals face the camera by 0.67 in the mean, as seen flat by 0.73.
        middle_side = math.sqrt(height * width)
        people = bool((raw["part"] == int(Part.SKIN)).any())
        deep = math.exp(0.4 * (chance() - 0.5) if people else 0.5 * chance())
        stretch = torch.diag(torch.tensor([middle_side / width, middle_side / height, deep]))
        made = deformed(made, leaning(parts, generator) @ stretch)
        for axis, share in ((-1, 0.5), (-2, 0.2)):
            if chance() < share:
                made = mirrored(made, torch.ones(1, dtype=torch.bool), axis)
        return made
