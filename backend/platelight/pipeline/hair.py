"""Hair is rough: what lies about a face and has another color than its skin.

SpecularNet takes hair for skin, and lamps from the side then lay a white glaze on it. Many thin cylinders, each of them
glossy, look as a rough surface does (Marschner et al., *Light Scattering from Human Hair Fibers*, 2003, for the wide lobes of
one fiber): strands of a gloss g on the light stage are told as √((g² + 1) / 2), 0.74 to 0.81. No network of ours tells hair; a face
tells where it is.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from platelight.pipeline.face_form import filled
from platelight.pipeline.faces import OVAL, Face

ROUGHNESS = 0.75
ABOUT, ABOVE = 1.05, 1.15  # reach to the sides and above the middle of a face, in its height
CHIN, TOP = 152, 10  # points of a face
LOWEST, FULL = -0.35, 0.0  # below the middle of a face, in its height: no hair, and hair fully
OUTSIDE = (0.02, 0.1)  # of a face's height outside its outline: no hair yet, and hair fully
UNLIKE = (0.25, 0.6)  # how far the logarithm of albedo is from that of skin: as skin, and surely other

Array = npt.NDArray[Any]


def with_hair(roughness: Tensor, albedo: Tensor, matte: Tensor, faces: list[Face]) -> Tensor:
    """Roughness (1, 1, h, w) that is at least that of hair where hair is.

    Args:
        albedo: (1, 3, h, w), linear. matte: (1, 1, h, w). faces: with points in pixels of this size.
    """
    if not faces:
        return roughness
    paint = np.log(np.maximum(albedo[0].permute(1, 2, 0).float().cpu().numpy(), 0.01))
    cover = matte[0, 0].float().cpu().numpy()
    share = np.zeros(cover.shape, np.float32)
    for face in faces:
        np.maximum(share, _hair(face, paint, cover), out=share)
    hair = torch.from_numpy(share)[None, None].to(roughness)
    return torch.maximum(roughness, torch.lerp(roughness, torch.full_like(roughness, ROUGHNESS), hair))


def _hair(face: Face, paint: Array, cover: Array) -> Array:
    """How surely each pixel is a face's hair, (h, w), of log albedo (h, w, 3) and matte (h, w)."""
    outline = face.points[list(OVAL), :2]
    skin = filled(outline, cover.shape[0], cover.shape[1])
    inside = (skin > 0) & (cover > 0.5)
    up = face.points[TOP, :2] - face.points[CHIN, :2]
    height = float(np.linalg.norm(up))
    if height < 4 or int(inside.sum()) < 16:
        return np.zeros(cover.shape, np.float32)
    up = up / height
    y, x = np.mgrid[: cover.shape[0], : cover.shape[1]] + 0.5
    middle = outline.mean(0)
    across = ((x - middle[0]) * -up[1] + (y - middle[1]) * up[0]) / height
    along = ((x - middle[0]) * up[0] + (y - middle[1]) * up[1]) / height
    away = np.hypot(across / ABOUT, along / ABOVE)
    beside = cv2.distanceTransform(1 - skin, cv2.DIST_L2, 5) / height
    unlike = np.linalg.norm(paint - np.median(paint[inside], axis=0), axis=-1)
    share = (
        _smooth(along, LOWEST, FULL) * (1 - _smooth(away, 0.8, 1.0)) * _smooth(beside, *OUTSIDE)
        * _smooth(unlike, *UNLIKE)
    )  # fmt: skip
    # Where there are strands there is hair between them.
    spread = max(1.0, 0.04 * height)
    weight = cv2.GaussianBlur(cover, (0, 0), spread)
    blurred = cv2.GaussianBlur((share * cover).astype(np.float32), (0, 0), spread) / np.maximum(weight, 1e-3)
    return np.asarray(blurred * _smooth(beside, *OUTSIDE), np.float32)


def _smooth(value: Array, low: float, high: float) -> Array:
    at = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(at * at * (3 - 2 * at))
