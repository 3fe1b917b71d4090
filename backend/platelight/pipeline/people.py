"""Hair and clothes are rough: what lies about a face, or below it, and has another color than its skin.

SpecularNet takes both for skin, and lamps from the side then lay a white glaze on hair and the sheen of plastic on sleeves. Many
thin cylinders, each of them glossy, look as a rough surface does (Marschner et al., *Light Scattering from Human Hair
Fibers*, 2003, for the wide lobes of one fiber): strands of a gloss g on the light stage are told as √((g² + 1) / 2), 0.74 to
0.81. Cloth is many threads likewise. No network of ours tells hair or cloth; a face tells where they are. What is nearly black may
be glass or leather, and keeps its gloss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from platelight.pipeline.face_form import filled
from platelight.pipeline.faces import OVAL, Face

Array = npt.NDArray[Any]

HAIR, CLOTH = 0.75, 0.7
"""Roughness, at the least."""
ABOUT, ABOVE = 1.05, 1.15  # reach to the sides and above the middle of a face, in its height
CHIN, TOP = 152, 10  # points of a face
LOWEST, FULL = -0.35, 0.0  # below the middle of a face, in its height: no hair, and hair fully
WORN, COLLAR = -0.6, -0.3  # the same: clothes fully, and none
OUTSIDE = (0.02, 0.1)  # of a face's height outside its outline: no hair yet, and hair fully
UNLIKE = (0.25, 0.6)  # how far the logarithm of albedo is from that of skin: as skin, and surely other
DARK = (0.05, 0.1)  # albedo of the brightest channel: maybe not cloth, and cloth


@dataclass(frozen=True)
class Head:
    """Of each pixel (h, w), in heights of the face: how far it is ``along`` its up and ``across``, from its middle.

    ``skin``: what lies within its outline. ``other``: how surely it is not skin, 0 to 1;
    ``beside``: that it is not within the outline. ``height`` is in pixels,
    ``belief`` how far the face itself is believed.
    """

    belief: float
    height: float
    along: Array
    across: Array
    skin: npt.NDArray[np.bool_]
    beside: Array
    other: Array

    @classmethod
    def of(cls, face: Face, paint: Array, cover: Array) -> Head | None:
        """Of log albedo (h, w, 3) and matte (h, w); None where the face is too small to tell."""
        outline = face.points[list(OVAL), :2]
        skin = filled(outline, cover.shape[0], cover.shape[1])
        inside = (skin > 0) & (cover > 0.5)
        up = face.points[TOP, :2] - face.points[CHIN, :2]
        height = float(np.linalg.norm(up))
        if height < 4 or int(inside.sum()) < 16:
            return None
        up = up / height
        y, x = np.mgrid[: cover.shape[0], : cover.shape[1]] + 0.5
        middle = outline.mean(0)
        across = ((x - middle[0]) * -up[1] + (y - middle[1]) * up[0]) / height
        along = ((x - middle[0]) * up[0] + (y - middle[1]) * up[1]) / height
        beside = smooth_step(cv2.distanceTransform(1 - skin, cv2.DIST_L2, 5) / height, *OUTSIDE)
        unlike = np.linalg.norm(paint - np.median(paint[inside], axis=0), axis=-1)
        return cls(face.belief, height, along, across, inside, beside, beside * smooth_step(unlike, *UNLIKE))

    def hair(self, cover: Array, other: Array | None = None) -> Array:
        """How surely each pixel is this face's hair, (h, w); ``other`` in place of its own."""
        away = np.hypot(self.across / ABOUT, self.along / ABOVE)
        return self.spread(
            smooth_step(self.along, LOWEST, FULL)
            * (1 - smooth_step(away, 0.8, 1.0))
            * (self.other if other is None else other),
            cover,
        )

    def spread(self, share: Array, cover: Array) -> Array:
        """Where there are strands and threads, there is hair and cloth between them."""
        sigma = max(1.0, 0.04 * self.height)
        weight = cv2.GaussianBlur(cover, (0, 0), sigma)
        blurred = cv2.GaussianBlur((share * cover).astype(np.float32), (0, 0), sigma)
        return np.asarray(blurred / np.maximum(weight, 1e-3) * self.beside * self.belief, np.float32)

    def doubted(self, share: Array) -> Array:
        """``other`` or ``beside`` as the rest of the picture sees it: what may be no face has no skin to spare."""
        return np.asarray(share + (1 - self.belief) * (1 - share))


def heads_in(albedo: Tensor, matte: Tensor, faces: list[Face]) -> list[Head]:
    """The heads of faces that are large enough to tell.

    Args:
        albedo: (1, 3, h, w), linear. matte: (1, 1, h, w). faces: with points in pixels of this size.
    """
    if not faces:
        return []
    paint = np.log(np.maximum(albedo[0].permute(1, 2, 0).float().cpu().numpy(), 0.01))
    cover = matte[0, 0].float().cpu().numpy()
    return [head for face in faces if (head := Head.of(face, paint, cover)) is not None]


def no_skin(heads: list[Head]) -> Array:
    """How surely each pixel (h, w) lies beside all faces: skin of one in front of another's hair is none."""
    return np.asarray(np.min([head.doubted(head.beside) for head in heads], axis=0))


def hair_over(heads: list[Head], matte: Tensor) -> Array:
    """How surely each pixel (h, w) is anybody's hair."""
    cover = matte[0, 0].float().cpu().numpy()
    hair = np.max([head.hair(cover) for head in heads], axis=0)
    return np.asarray(np.minimum(hair, no_skin(heads)), np.float32)


def with_hair_and_clothes(roughness: Tensor, albedo: Tensor, matte: Tensor, heads: list[Head]) -> Tensor:
    """Roughness (1, 1, h, w) that is at least that of hair where hair is, and of cloth where people wear it.

    Args:
        albedo: (1, 3, h, w), linear. matte: (1, 1, h, w). heads: of this size.
    """
    if not heads:
        return roughness
    cover = matte[0, 0].float().cpu().numpy()
    hair = hair_over(heads, matte)
    # One's clothes may lie behind another's face: skin of any is none.
    other = np.min([head.doubted(head.other) for head in heads], axis=0)
    worn = smooth_step(np.log(np.maximum(albedo[0].amax(0).float().cpu().numpy(), 0.01)), *np.log(DARK))
    cloth = np.max(
        [
            head.spread(
                worn * np.minimum(other, head.other) * (1 - smooth_step(head.along, WORN, COLLAR)), cover
            )
            for head in heads
        ],
        axis=0,
    )
    cloth = np.minimum(cloth, no_skin(heads))
    for share, rough in ((hair, HAIR), (cloth, CLOTH)):
        surely = torch.from_numpy(share.astype(np.float32))[None, None].to(roughness)
        roughness = torch.maximum(roughness, torch.lerp(roughness, torch.full_like(roughness, rough), surely))
    return roughness


def smooth_step(value: Array, low: float, high: float) -> Array:
    at = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(at * at * (3 - 2 * at))


__all__ = [
    "CLOTH",
    "HAIR",
    "Head",
    "hair_over",
    "heads_in",
    "no_skin",
    "smooth_step",
    "with_hair_and_clothes",
]
