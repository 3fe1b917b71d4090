"""A physical render with the shadows that its subject casts onto itself, from the depth map."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from platelight.pipeline.resample import Window, fitted, guided_upsample, resize, subject_window
from platelight.shading import shadow
from platelight.shading.integrate import view_directions
from platelight.shading.visibility import Relief, relief

SOFT_SIDE = 160
"""Long side in pixels of the raster on which soft light is summed."""
KEY_SIDE = 384
"""Long side in pixels of the raster on which lamps cast their shadows."""
THICKNESS = 2.0
"""Thickness of the subject by its distance to the matte's rim: that of a ball or of a limb."""


@dataclass(frozen=True)
class Raster:
    """The subject's window of a frame, with what its shadows are marched over.

    Attributes:
        window: where the subject is.
        cut: matte, normal, depth, roughness and view (1, C, h, w) of the window.
        pixel: width of a pixel at a depth of 1.
        fine: what lamps are marched to on.
        guide: (1, 1, h, w), along whose edges shares are brought to the plate's size.
    """

    window: Window
    cut: dict[str, Tensor]
    pixel: float
    fine: Relief
    guide: Tensor

    def at_pixels(self, image: Tensor, surface: Relief) -> Tensor:
        """An image (1, C, h, w) of the window at the pixels of a relief: (P, C)."""
        size = (surface.inside.shape[0], surface.inside.shape[1])
        return resize(image, size)[0].flatten(1).T[surface.inside.flatten()]

    def grown(self, shares: Tensor) -> Tensor:
        """Shares (P, C) at the pixels of ``fine`` at the window's size: (1, C, h, w) in [0, 1]."""
        inside = self.fine.inside
        known = _median(self.fine.spread(shares, 1.0), inside)
        small = resize(self.guide, (inside.shape[0], inside.shape[1]))
        weight = inside[None, None].to(shares.dtype)
        # A cast shadow's edge is none of depth's, so the filter blurs it by its window: the smallest there is.
        return guided_upsample(known, small, self.guide, weight, radius=1).clamp(0.0, 1.0)


def raster(maps: dict[str, Tensor], fov: float) -> Raster | None:
    """The raster of a frame's maps (1, C, H, W), or None where they hold no subject that shadows could fall on."""
    matte = maps["matte"]
    window = subject_window(matte)
    height, width = matte.shape[-2:]
    cut = {name: window.cut(maps[name]) for name in ("matte", "normal", "depth", "roughness")}
    cut["view"] = window.cut(view_directions(height, width, fov).to(matte.device)[None])
    pixel = 2.0 * math.tan(math.radians(fov) / 2.0) / width
    fine = _relief(cut, fitted((window.height, window.width), KEY_SIDE), pixel)
    if not bool(fine.inside.any()):
        return None
    return Raster(window, cut, pixel, fine, _guide(cut["depth"], cut["matte"]))


@torch.inference_mode()
def shadowed(
    maps: dict[str, Tensor], light: Tensor, fov: float, diffuse: Tensor, specular: Tensor
) -> tuple[Tensor, Tensor]:
    """Diffuse and specular passes (1, 3, H, W) dimmed by what the subject hides from itself.

    Args:
        maps: as for the physical render, and ``depth`` (1, 1, H, W) along −Z in any unit.
        light: (1, 3, h, 2h), as for the physical render.
        fov: horizontal field of view of the whole frame in degrees.

    Memory is bounded by the two rasters, whatever the plate's size.
    """
    found = raster(maps, fov)
    if found is None:
        return diffuse, specular
    cut, fine = found.cut, found.fine
    coarse = _relief(cut, fitted((found.window.height, found.window.width), SOFT_SIDE), found.pixel)
    if not bool(coarse.inside.any()):
        return diffuse, specular
    rest, keys = shadow.split(light)
    sums = shadow.soft(coarse, rest, found.at_pixels(cut["roughness"], coarse))
    scale = sums.diffuse.mean().clamp_min(1e-20) * 1e-6
    left = torch.cat((sums.diffuse_left, sums.specular_left), 1) + scale
    whole = torch.cat((sums.diffuse, sums.specular), 1) + scale
    size = (fine.inside.shape[0], fine.inside.shape[1])
    # Averages of what is inside only, so that the rim is neither bright nor dark.
    spread = resize(coarse.spread(torch.cat((left / whole, sums.specular), 1)), size)
    known = resize(coarse.inside[None, None].to(rest.dtype), size)
    spread = spread / known.clamp_min(1e-3)
    # A finger is solid on the fine raster only: what is not known of it is lit.
    spread[:, :6] = torch.where(known > 1e-3, spread[:, :6], 1.0)
    soft = spread[0].flatten(1).T[fine.inside.flatten()]
    roughness = found.at_pixels(cut["roughness"], fine)
    shares = shadow.shares(fine, rest, keys, soft[:, :6].clamp(0.0, 1.0), soft[:, 6:], roughness)
    passes = torch.cat((diffuse, specular), 1)
    out = found.window.paste(found.window.cut(passes) * found.grown(shares), passes)
    return out[:, :3], out[:, 3:]


def _relief(cut: dict[str, Tensor], size: tuple[int, int], pixel: float) -> Relief:
    """The subject's window at one size; ``pixel`` is the width of the plate's pixel at a depth of 1."""
    matte = cut["matte"]
    weight = matte * (matte > 0.5) * (cut["depth"] > 0.0) + 1e-6
    small = resize(weight, size)
    depth, normal = (resize(cut[name] * weight, size) / small for name in ("depth", "normal"))
    solid = resize(matte, size)
    # A border of nothing: what the frame cuts off is taken to end there.
    mask = np.pad((solid[0, 0] > 0.5).to("cpu", torch.uint8).numpy(), 1)
    rim = torch.from_numpy(cv2.distanceTransform(mask, cv2.DIST_L2, 3)[1:-1, 1:-1].copy())
    step = pixel * cut["matte"].shape[-1] / size[1]
    thickness = rim.to(matte.device)[None, None] * step * THICKNESS * depth
    view = resize(cut["view"], size)
    return relief(depth, thickness, normal, solid, view / view.square().sum(1, keepdim=True).sqrt())


def _median(image: Tensor, inside: Tensor) -> Tensor:
    """Median over 3 x 3 pixels inside: where depth jumps, a pixel between two surfaces is neither, and may be lit."""
    size = inside.shape
    around = F.unfold(image.transpose(0, 1), 3, padding=1)
    solid = F.unfold(inside[None, None].to(image.dtype), 3, padding=1) > 0.5
    own = image[0].flatten(1)[:, None]
    return torch.where(solid, around, own).median(1).values.reshape(1, -1, *size)


def _guide(depth: Tensor, matte: Tensor) -> Tensor:
    """Log depth with a deviation of 1 over the subject: shadows end where depth jumps."""
    z = torch.log(depth.clamp_min(1e-6))
    solid = (matte > 0.5).to(depth.dtype)
    count = solid.sum().clamp_min(1.0)
    mean = (z * solid).sum() / count
    deviation = (((z - mean).square() * solid).sum() / count).clamp_min(1e-8).sqrt()
    return ((z - mean) / deviation).clamp(-4.0, 4.0)
