"""The lights that training pictures are lit by: captured HDRIs, their suns taken out as lamps, and lamps alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from platelight.models.networks import LOBES
from platelight.protocol.errors import InputError
from platelight.shading.brdf import ggx_distribution
from platelight.shading.environment import average, directions, resize, sample, solid_angles

ROWS = 32
NEAREST = 0.3  # half the picture over the distance of the nearest lamps
LEVELS = (0.15, 0.35, 0.55, 0.75, 1.0)  # roughness of the prefiltered copies
CLIP = 12.0  # radiance above this many times the mean is a lamp, not sky


@dataclass(frozen=True)
class LightBank:
    """Captured environments, mean radiance 1, at ``ROWS`` rows.

    sky: (E, 3, ROWS, 2 ROWS) without its peaks; levels: (E, 3, L, ROWS, 2 ROWS) prefiltered for GGX;
    sun: (E, 3) irradiance of what was clipped; sun_direction: (E, 3) its centroid.
    """

    sky: Tensor
    levels: Tensor
    sun: Tensor
    sun_direction: Tensor

    def __len__(self) -> int:
        return len(self.sky)

    def to(self, device: torch.device) -> LightBank:
        """The same bank on another device."""
        return LightBank(*(t.to(device) for t in (self.sky, self.levels, self.sun, self.sun_direction)))


def prefilter_matrix(h: int, roughness: float, rows: int = ROWS) -> Tensor:
    """Weights (rows * 2 rows, h * 2h) of a GGX mirror with n = v = r (Karis 2013): filtered = radiance @ matrix.T.

    ``h`` is a multiple of ``rows``: the lobes of a row are one, turned about the vertical by whole columns.
    """
    light = directions(h)
    cosine = torch.einsum("rc,hwc->rhw", directions(rows)[:, 0], light).clamp(-1, 1)
    half = torch.sqrt(((1 + cosine) / 2).clamp_min(0))
    # A texel is wider than a sharp lobe: the lobe is no narrower than the grid can hold.
    alpha = torch.tensor(max(roughness * roughness, 0.6 / h))
    weight = ggx_distribution(half, alpha) * cosine.clamp_min(0) * solid_angles(h)
    weight = weight / weight.sum((1, 2), keepdim=True)
    turned = [weight.roll(column * (h // rows), -1) for column in range(2 * rows)]
    return torch.stack(turned, 1).reshape(2 * rows * rows, 2 * h * h)


class PhongConvolver:
    """Convolves environments with the normalized cos^exponent lobes of ``LOBES``."""

    def __init__(self, rows_in: int, rows_out: int) -> None:
        cosine = (directions(rows_out).reshape(-1, 3) @ directions(rows_in).reshape(-1, 3).T).clamp_min(0)
        weights = [cosine**exponent * solid_angles(rows_in).reshape(1, -1) for exponent in LOBES]
        self.weight = torch.stack([w / w.sum(1, keepdim=True) for w in weights])
        self.rows = rows_out

    def __call__(self, env: Tensor) -> Tensor:
        """(N, 3, h, 2h) -> (N, len(LOBES), 3, rows, 2 rows)."""
        out = torch.einsum("nct,kdt->nkcd", env.flatten(2), self.weight)
        return out.view(*out.shape[:3], self.rows, 2 * self.rows)


def load_bank(folder: Path, exclude: tuple[str, ...] = ()) -> LightBank:
    """Read every ``.hdr`` and ``.exr`` lat-long of a folder but those named in ``exclude``, or what ``pack`` made of them.

    Raises:
        InputError: the folder holds none.
    """
    packed = folder / "lights.safetensors"
    if packed.is_file():
        return LightBank(**{k: v.float() for k, v in load_file(packed).items()})
    skies, suns, where = [], [], []
    for path in sorted([*folder.glob("*.hdr"), *folder.glob("*.exr")]):
        if path.stem in exclude:
            continue
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.ndim != 3:
            raise InputError(
                f"{path} is not a readable HDRI.", "Remove it from the folder or fetch it again."
            )
        rgb = np.ascontiguousarray(pixels[..., 2::-1]).astype(np.float32)
        env = resize(torch.from_numpy(rgb).permute(2, 0, 1)[None], 128)
        env = env / average(env).mean().clamp_min(1e-6)
        excess = (env - CLIP).clamp_min(0)
        weight = solid_angles(128)
        energy = (excess * weight).sum((2, 3))[0]
        centroid = ((excess.sum(1)[0] * weight)[..., None] * directions(128)).sum((0, 1))
        skies.append(env - excess)
        suns.append(energy)
        where.append(centroid / centroid.norm() if centroid.norm() > 1e-4 else torch.tensor([0.0, 1.0, 0.0]))
    if not skies:
        raise InputError(f"{folder} holds no HDRI.", "Give a folder of .hdr or .exr lat-longs.")
    full = torch.cat(skies)
    half = resize(full, 64).flatten(2)
    levels = torch.stack(
        [(half @ prefilter_matrix(64, r).T).unflatten(-1, (ROWS, 2 * ROWS)) for r in LEVELS], 2
    )
    return LightBank(resize(full, ROWS), levels, torch.stack(suns), torch.stack(where))


@dataclass(frozen=True)
class Lighting:
    """What lights a batch of N views.

    env: (N, 3, ROWS, 2 ROWS) the soft part in the camera's frame; levels: (N, 3, L, ROWS, 2 ROWS) prefiltered;
    lamp: (N, K, 3) irradiance of lamps at normal incidence; index: (N, K) which of the view's stored directions;
    near: (N, K) half the picture's side over the lamp's distance, or None where all are far.
    """

    env: Tensor
    levels: Tensor
    lamp: Tensor
    index: Tensor
    near: Tensor | None = None


def _aligning_rotation(sources: Tensor, targets: Tensor) -> Tensor:
    """Rotations (N, 3, 3) about the vertical, then a tilt, that take directions ``sources`` to ``targets``."""

    def frame(d: Tensor) -> Tensor:
        up = torch.tensor([0.0, 1.0, 0.0]).expand_as(d)
        side = torch.linalg.cross(up, d)
        side = torch.where(
            side.norm(dim=1, keepdim=True) < 1e-3, torch.tensor([1.0, 0.0, 0.0]).expand_as(d), side
        )
        side = side / side.norm(dim=1, keepdim=True)
        return torch.stack([side, torch.linalg.cross(d, side), d], 2)

    return frame(targets) @ frame(sources).transpose(1, 2)


def random_lighting(bank: LightBank, stored: Tensor, generator: torch.Generator, lamps: int = 3) -> Lighting:
    """Draw light for views with stored shadow directions (N, 8, 3).

    Three tenths by a captured environment alone, the others by lamps too; half of all in near darkness but for the
    lamps, as on a stage. A captured sun is turned onto a stored direction, so that its shadow is known. The whole is
    white-balanced as a camera would: most of the color of the mean light is divided out. Half of the lamps are near.
    """
    n = len(stored)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    pick = torch.randint(len(bank), (n,), generator=generator)
    index = uniform(n, stored.shape[1]).argsort(1)[:, :lamps]
    towards = stored[torch.arange(n), index[:, 0]]
    towards = towards / towards.norm(dim=1, keepdim=True)
    angle = uniform(n) * 2 * math.pi
    free = torch.zeros(n, 3, 3)
    free[:, 0, 0], free[:, 0, 2] = torch.cos(angle), torch.sin(angle)
    free[:, 2, 0], free[:, 2, 2] = -torch.sin(angle), torch.cos(angle)
    free[:, 1, 1] = 1.0
    sunny = bank.sun[pick].mean(1) > 0.3
    rotation = torch.where(sunny[:, None, None], _aligning_rotation(bank.sun_direction[pick], towards), free)
    grid = directions(ROWS).permute(2, 0, 1)[None]
    turned = torch.einsum(
        "nji,nj...->ni...", rotation, grid.expand(n, -1, -1, -1)
    )  # R^T d: where d came from
    env = sample(bank.sky[pick], turned)
    levels = sample(bank.levels[pick].flatten(1, 2), turned).unflatten(1, (3, len(LEVELS)))
    mode = uniform(n)
    ambient = torch.where(mode > 0.5, 0.01 + 0.22 * uniform(n) ** 1.5, 0.4 + uniform(n))
    tint = torch.exp(0.25 * torch.randn(n, 3, generator=generator))
    scale = ambient[:, None] * tint
    strength = torch.exp(torch.randn(n, lamps, generator=generator) * 0.8 + 0.6)
    strength = strength * (uniform(n, lamps) < torch.tensor([1.0, 0.5, 0.25])[:lamps])
    single = (mode > 0.5) & (uniform(n) < 0.6)  # one lamp in the dark: form is read from it best
    strength[:, 1:] = torch.where(single[:, None], torch.zeros(()), strength[:, 1:])
    strength = torch.where((mode < 0.3)[:, None], torch.zeros(()), strength)
    color = torch.exp(0.3 * torch.randn(n, lamps, 3, generator=generator))
    lamp = strength[..., None] * color
    lamp[:, 0] = torch.where(sunny[:, None], bank.sun[pick] * scale, lamp[:, 0])
    env = env * scale[:, :, None, None]
    mean = average(env).reshape(n, 3) + lamp.sum(1) / (2 * math.pi)
    cast = (mean / mean.mean(1, keepdim=True)).clamp(0.05, 20) ** (0.65 + 0.35 * uniform(n, 1))
    scale, lamp = scale / cast, lamp / cast[:, None]
    near = NEAREST * (2 * uniform(n, lamps) - 1).clamp_min(0)
    near[:, 0] = torch.where(sunny, torch.zeros(()), near[:, 0])
    return Lighting(env / cast[:, :, None, None], levels * scale[:, :, None, None, None], lamp, index, near)


def as_latlong(lighting: Lighting, stored: Tensor, sharpness: float = 300.0) -> Tensor:
    """The whole light as one lat-long (N, 3, ROWS, 2 ROWS), lamps as small bright caps of equal irradiance."""
    d = stored[torch.arange(len(stored))[:, None], lighting.index]
    d = d / d.norm(dim=2, keepdim=True)
    cosine = torch.einsum("nkc,rsc->nkrs", d, directions(ROWS))
    cap = torch.exp(sharpness * (cosine - 1))
    cap = cap / (cap * solid_angles(ROWS)).sum((2, 3), keepdim=True)
    return lighting.env + torch.einsum("nkc,nkrs->ncrs", lighting.lamp, cap)
